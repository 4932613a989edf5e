-- The image of Moontide itself, run as a cluster would run it.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, lab = require "check", require "lab"
local fs, json, proc = require "fs", require "json", require "proc"
local box = require "image.box"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

test("the image runs read-only, without capabilities, as nobody", function()
  local result = box.run { "version" }
  eq(result.code, 0, result.output)
  has(result.output, "moontide ")
  result = box.run { "run", "--config", "/nonexistent.lua" }
  eq(result.code, 2, result.output) -- it is moontide that complains, in its own words
  has(result.output, "/nonexistent.lua")
  local inspected = ok(box.docker():call("GET", "/images/" .. box.name .. "/json"))
  eq(inspected.Config.User, "65534:65534")
  eq(inspected.Config.Entrypoint, { "/usr/bin/moontide" })
  ok(inspected.Size < 40e6, ("%d bytes"):format(inspected.Size))
  print(("# image: %.1f MB, archive compressed %.1f MB"):format(inspected.Size / 1e6,
    ok(fs.stat(box.folder .. "/image.tar")).size / 1e6))
end, 900)

test("it has no shell, no script, and nothing with more rights", function()
  local files = box.files()
  local shells = { sh = 1, bash = 1, dash = 1, ash = 1, busybox = 1, ksh = 1, zsh = 1, perl = 1, python3 = 1, env = 1 }
  for path, kind in pairs(files) do
    eq(shells[path:match("[^/]+$")], nil, path)
    if kind == "file" then
      local full = box.folder .. "/root/" .. path
      ok(not (ok(fs.read(full, { length = 2 })):find("^#!")), path .. " is a script")
      eq(ok(fs.stat(full)).mode & 3072, 0, path) -- 06000
    end
  end
  for _, shell in ipairs { "/bin/sh", "sh", "/bin/bash" } do
    local started, why = pcall(box.start, { entrypoint = { shell }, "-c", "exit 0" })
    eq(started, false)
    has(tostring(why), shell)
  end
end, 120)

test("the loader finds every library of every program and library in it", function()
  box.docker()
  local root, objects = box.folder .. "/root", 0
  local loader = "/lib64/ld-linux-x86-64.so.2"
  for path, kind in pairs(box.files()) do
    local elf = kind == "file" and ok(fs.read(root .. "/" .. path, { length = 4 })) == "\127ELF"
    if elf and not path:find("/ld%-linux") then
      local result = ok(proc.run { "chroot", root, loader, "--list", "/" .. path, env = {}, timeout = 10 })
      ok(result.ok and not result.stdout:find("not found", 1, true), path .. ": " .. result.stdout .. result.stderr)
      objects = objects + 1
    end
  end
  ok(objects > 20, objects)
  for _, program in ipairs { { "/usr/bin/git", "--version" }, { "/usr/bin/ssh", "-V" } } do
    local result = box.run { entrypoint = { program[1] }, program[2] }
    eq(result.code, 0, result.output)
  end
end, 120)

test("it tells where everything in it comes from", function()
  local files, doc = box.files(), "usr/share/doc/"
  local text = ok(fs.read(box.folder .. "/root/" .. doc .. "moontide/packages.spdx.json"))
  local list = ok(json.decode(text)).packages
  ok(#list > 30, #list)
  for _, package in ipairs(list) do eq(files[doc .. package.name .. "/copyright"], "file", package.name) end
  eq({ files["usr/share/zoneinfo/Europe/Berlin"], files["usr/share/zoneinfo/tzdata.zi"] }, { "file", "file" })
  -- Authorities of the package only, none that this machine trusts besides.
  local bundle = ok(fs.read(box.folder .. "/root/etc/ssl/certs/ca-certificates.crt", { max = 1 << 20 }))
  local _, count = bundle:gsub("BEGIN CERTIFICATE", "")
  eq(count, #ok(fs.list("/usr/share/ca-certificates/mozilla")))
end, 60)

test("git, names, TLS and a writable state work inside", function()
  local git = lab.git {}
  local source = git:repo("app")
  local commit = source:commit { ["file"] = "text\n" }
  local secure = lab.registry { tls = true }
  local dir = lab.dir("inside")
  lab.write(dir .. "/ca.pem", ok(fs.read(secure.ca)), 420)
  lab.write(dir .. "/script.lua", ([[
local fs, http = require "fs", require "http"
local repo = require("sources.git").repository { url = %q, mirrors = "/var/lib/moontide/mirrors" }
assert(repo:fetch(%q))
assert(repo:archive(%q, { to = "/tmp/context.tar" }))
print("archived " .. assert(fs.stat("/tmp/context.tar")).size)
assert(http.get("https://localhost:%s/v2/", { ca = "/in/ca.pem" }))
local answer, err = http.get("https://localhost:%s/v2/")
print("stranger " .. tostring(answer) .. " " .. tostring(err and err.code))
local written, why = fs.write("/usr/bin/other", "x")
print("root " .. tostring(written) .. " " .. tostring(why and why.code))
]]):format(source.url, commit, commit, secure.host:match("%d+$"), secure.host:match("%d+$")), 420)
  lab.run { "chmod", "-R", "a+rX", dir }
  local result = box.run { "exec", "/in/script.lua", binds = { dir .. ":/in:ro" } }
  eq(result.code, 0, result.output)
  has(result.output, "archived ")
  has(result.output, "stranger nil tls")
  has(result.output, "root nil ")
end, 120)

test("the Dockerfile's own last stage makes the same image", function()
  local docker = box.docker()
  local text = ok(fs.read("config/Dockerfile")):match("\n(FROM scratch\n.*)$")
  local context = lab.dir("context")
  lab.run { "cp", "-a", box.folder .. "/root", box.folder .. "/empty", context }
  lab.write(context .. "/Dockerfile", (text:gsub("%-%-from=build ", ""):gsub("/image/", "/")))
  lab.run { "tar", "-C", context, "-cf", context .. ".tar", "." }
  local answer = ok(require("http").request {
    method = "POST", url = "http://docker/v1.41/build?t=moontide:dockerfile&q=1", unix = docker.socket, timeout = 120,
    headers = { ["Content-Type"] = "application/x-tar" }, body_file = context .. ".tar",
  })
  eq(answer.status, 200, answer.body)
  local ours = ok(docker:call("GET", "/images/" .. box.name .. "/json")).Config
  local theirs, why = docker:call("GET", "/images/moontide:dockerfile/json")
  theirs = ok(theirs, tostring(why) .. answer.body).Config
  for _, key in ipairs { "User", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts" } do
    eq(ours[key], theirs[key], key)
  end
  table.sort(ours.Env)
  table.sort(theirs.Env)
  eq(ours.Env, theirs.Env)
  for key, value in pairs(theirs.Labels) do eq(ours.Labels[key], value, key) end
end, 180)

test("the same commit makes the same bytes", function()
  box.docker()
  local before = ok(require("hash").sha256_file(box.folder .. "/image.tar"))
  lab.run { "make", "-s", "image", "IMAGE=" .. box.name, "ENGINE=none", timeout = 300 }
  eq(require("hash").sha256_file(box.folder .. "/image.tar"), before)
end, 300)
