-- What every builder must do, with the real thing: images out of real commits, into real registries.
--
--   local builders = require "lab.builders"
--   builders.tests { "docker", "podman" }
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local errors, fs, hash, http, registry, task, time = require "errors", require "fs", require "hash", require "http",
  require "images.registry", require "task", require "time"
local image = require "images.image"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local M = {}

M.SCRATCH = [[
FROM scratch
COPY . /
HEALTHCHECK CMD ["/app", "--check"]
ENTRYPOINT ["/app"]
]]

-- How each builder is configured in the lab; nil and why when it cannot be here.
M.kinds = {
  docker = function()
    local why = require("lab.docker").unavailable()
    if why then return nil, why end
    return { kind = "docker", socket = lab.docker().socket, network = "host", env = {} }
  end,
  podman = function()
    local why = require("lab.podman").unavailable()
    if why then return nil, why end
    local podman = lab.podman()
    return { kind = "podman", command = { podman.podman }, network = "host", env = podman.env }
  end,
  buildah = function()
    local why = require("lab.podman").unavailable()
    if why then return nil, why end
    local podman = lab.buildah()
    return { kind = "buildah", command = { podman.buildah }, network = "host", env = podman.env }
  end,
  buildkit = function()
    local why = require("lab.buildkit").unavailable()
    if why then return nil, why end
    return require("lab.buildkit").open().builder
  end,
}

local git

-- Everything that image.ensure needs, around one repository and one registry.
function M.world(kind, where, name)
  local builder, why = M.kinds[kind]()
  if not builder then check.skip(why) end
  git = git or lab.git {}
  local source = git:repo(name)
  local registries = {}
  if where.user then
    local file = lab.write(lab.dir("secret") .. "/password", where.password)
    registries[where.host] = {
      host = where.host, username = where.user, ca = where.ca,
      password = require("config.secret").new("file", file),
    }
  end
  local w = { lines = {}, progress = {}, source = source, where = where, work = lab.dir("work") }
  w.cfg = { builder = builder, registries = registries }
  w.app = {
    name = name, image = where.host .. "/team/" .. name, dockerfile = "Dockerfile", context = ".",
    source = { url = source.url }, build = { args = {}, timeout = 60 },
  }
  w.repo = require("sources.git").repository { url = source.url, mirrors = lab.dir("mirrors") }
  w.hooks = {
    output = function(_, line) w.lines[#w.lines + 1] = line end,
    progress = function(text) w.progress[#w.progress + 1] = text end,
  }
  w.registry = registry.repository(w.app.image, w.cfg)
  function w.ensure(commit, options)
    local request = { app = w.app, repo = w.repo, work = w.work, hooks = w.hooks }
    request.commit = commit
    for k, v in pairs(options or {}) do request[k] = v end
    return image.ensure(request, require("engine.world").of(w.cfg))
  end
  function w.config(digest)
    local manifest = ok(w.registry:manifest(digest))
    local answer = ok(http.get(where.url .. "/v2/team/" .. name .. "/blobs/" .. manifest.config.digest,
      where:options()))
    return answer:json().config, manifest
  end
  -- Paths in an image, by listing its layers.
  function w.files(digest)
    local _, manifest = w.config(digest)
    local files = {}
    for i = 2, #manifest.blobs do
      local path = w.work .. "/layer"
      ok(http.get(where.url .. "/v2/team/" .. name .. "/blobs/" .. manifest.blobs[i].digest,
        where:options { sink = path }))
      for line in lab.run({ "tar", "-tf", path }):gmatch("[^\n]+") do files[line:gsub("^%./", "")] = true end
      fs.remove(path)
    end
    return files
  end
  return w
end

-- Nothing of a build stays: neither scratch folders nor files with passwords. What is let go is removed behind the
-- scenes.
function M.nothing_left(w)
  check.eventually(function() return #ok(fs.list(w.work)) == 0 end, 5, "the work folder is empty")
end

local plain

function M.shared()
  plain = plain or lab.registry {}
  return plain
end

-- Processes on this machine whose arguments hold a text.
local function running(text)
  local found = 0
  for _, name in ipairs(ok(fs.list("/proc"))) do
    local line = name:find("^%d+$") and fs.read("/proc/" .. name .. "/cmdline", { max = 65536 })
    if line and line:find(text, 1, true) then found = found + 1 end
  end
  return found
end

-- Those that take a registry with TLS and an authority of its own from our configuration, not from their own.
local TLS = { buildah = true, podman = true }

local function content(kind)
  test(kind .. " builds exactly the commit, once, and pushes it with its labels", function()
    local w = M.world(kind, M.shared(), kind .. "-exact")
    local files = lab.app { version = "one", dockerfile = M.SCRATCH }
    files[".dockerignore"], files["private"], files["shown"] = "private\n", "not for the image\n", "yes\n"
    files["link"] = { link = "/etc/passwd" }
    local commit = w.source:commit(files)
    w.source:commit { ["later"] = "not in that commit\n" }
    w.app.build.args = { WORD = "a b" }
    local first = ok(w.ensure(commit, { version = "v1.0.0" }))
    eq(first.built, true)
    eq(first.image, w.app.image .. "@" .. first.digest)
    eq(w.registry:digest("sha-" .. commit), first.digest)
    local labels = ok(w.registry:labels(first.digest))
    eq(labels["org.opencontainers.image.revision"], commit)
    eq(labels["org.opencontainers.image.version"], "v1.0.0")
    eq(labels["org.opencontainers.image.source"], w.source.url)
    ok(time.parse_iso(labels["org.opencontainers.image.created"]))
    local there = w.files(first.digest)
    for _, path in ipairs { "app", "version", "shown", "link" } do ok(there[path], path .. " is missing") end
    eq({ there.private, there.later, there[".git/"] }, {})
    local config = w.config(first.digest)
    eq(config.Healthcheck.Test, { "CMD", "/app", "--check" })
    ok(#w.lines > 0 and #w.progress > 2, "output and progress were told")
    M.nothing_left(w)

    local again = ok(w.ensure(commit))
    eq(again.built, false)
    eq(again.digest, first.digest)
  end, 120)

  test(kind .. " tells why a build fails, and pushes nothing", function()
    local w = M.world(kind, M.shared(), kind .. "-fails")
    local bad = w.source:commit { ["Dockerfile"] = "FROM scratch\nCOPY missing /\n" }
    local err = fails("failed", w.ensure(bad))
    has(tostring(err):lower(), "missing")
    fails("not_found", w.registry:digest("sha-" .. bad))
    local broken = w.source:commit { ["Dockerfile"] = "FROM scratch\nNONSENSE here\n" }
    err = fails("failed", w.ensure(broken))
    has(tostring(err):lower(), "nonsense")
    M.nothing_left(w)
    fails("not_found", w.registry:tags())
  end, 120)

  test(kind .. " signs in at a registry that asks for it", function()
    local where = lab.registry { auth = "htpasswd", tls = TLS[kind] }
    local w = M.world(kind, where, kind .. "-auth")
    local commit = w.source:commit(lab.app { version = kind, dockerfile = M.SCRATCH })
    local made = ok(w.ensure(commit))
    eq(made.built, true)
    eq(ok(w.ensure(commit)).built, false)
    M.nothing_left(w)
    w.cfg.registries[where.host].password = require("config.secret").new("file",
      lab.write(lab.dir("secret") .. "/password", "wrong-word"))
    local other = w.source:commit { ["version"] = "two\n" }
    fails("unauthorized", w.ensure(other))
    for _, line in ipairs(w.lines) do
      ok(not line:find(where.password, 1, true), "a password in the output")
    end
  end, 120)

  test(kind .. " takes the stage, the folder and the Dockerfile that are configured", function()
    local w = M.world(kind, M.shared(), kind .. "-stage")
    local commit = w.source:commit {
      ["web/build/Image"] = "FROM scratch AS one\nCOPY a /a\nFROM scratch AS two\nCOPY b /b\n",
      ["web/a"] = "a\n", ["web/b"] = "b\n", ["Dockerfile"] = "FROM scratch\n", ["outside"] = "x\n",
    }
    w.app.context, w.app.dockerfile, w.app.build.target = "web", "web/build/Image", "one"
    local made = ok(w.ensure(commit))
    local there = w.files(made.digest)
    eq({ there.a, there.b }, { true })
    w.app.dockerfile, w.app.build.target = "build/Image", nil
    there = w.files(ok(w.ensure(commit, { force = true })).digest)
    eq({ there.b, there.a }, { true })
    -- The same content in another commit is another image: caches know nothing of revisions.
    local same = w.source:commit {}
    w.app.build.target = "one"
    eq(ok(w.ensure(same)).built, true)
  end, 120)
end

local function trouble(kind)
  test(kind .. " ends with its timeout and with its task, and takes its passwords along", function()
    local where = lab.registry { auth = "htpasswd", tls = TLS[kind] }
    local w = M.world(kind, where, kind .. "-late")
    local word = hash.hex(hash.random(6))
    -- The instruction never ends: the app serves until it is stopped.
    local commit = w.source:commit(lab.app { dockerfile = "FROM scratch\nCOPY app mode version /\n"
      .. ('ENV PORT=%d\nRUN ["/app", "%s"]\n'):format(lab.port(), word) })
    w.app.build.timeout = 4
    fails("timeout", w.ensure(commit)) -- the instruction would never end
    M.nothing_left(w)
    check.eventually(function() return running(word) == 0 end, 20, "no process of the build is left")

    w.app.build.timeout = 60
    local handle = task.spawn(function() return w.ensure(commit) end)
    check.eventually(function() return running(word) > 0 end, 20, "the instruction runs")
    local kept = 0
    for path, type in fs.walk(w.work) do
      if type == "file" and path:find("^[^/]*/auth%-[^/]*/%l+%.json$") then
        eq(ok(fs.stat(w.work .. "/" .. path)).mode, 384) -- 0600
        kept = kept + 1
      end
    end
    eq(kept, kind == "docker" and 0 or 1)
    eq(running(where.password), 0)
    eq(running(hash.base64(where.user .. ":" .. where.password)), 0)
    handle:cancel()
    pcall(handle.join, handle, 10)
    check.eventually(function() return running(word) == 0 end, 20, "no process of the build is left")
    M.nothing_left(w)
    fails("not_found", w.registry:digest("sha-" .. commit))
  end, 120)

  test(kind .. " that ends right after the push has not built in vain", function()
    local w = M.world(kind, M.shared(), kind .. "-crash")
    local commit = w.source:commit(lab.app { version = kind, dockerfile = M.SCRATCH })
    local handle = task.spawn(function() return w.ensure(commit) end)
    local digest = check.eventually(function() return (w.registry:digest("sha-" .. commit)) end, 30,
      "the push")
    handle:cancel()
    pcall(handle.join, handle, 10)
    local again = ok(w.ensure(commit))
    eq({ again.built, again.digest }, { false, digest })
    M.nothing_left(w)
  end, 90)

  test(kind .. " that loses the registry on the way to it fails, and goes on when it is back", function()
    local where = lab.registry {}
    local w = M.world(kind, where, kind .. "-lost")
    local commit = w.source:commit(lab.app { version = kind, dockerfile = M.SCRATCH })
    w.app.build.timeout = 8
    -- With the builder's first word: its word of the push may come when the push is over.
    local progress, output = w.hooks.progress, w.hooks.output
    local function lose()
      if where.service:alive() then where:stop() end
    end
    function w.hooks.progress(...)
      lose()
      progress(...)
    end
    function w.hooks.output(...)
      lose()
      output(...)
    end
    local got, err = w.ensure(commit)
    eq(got, nil)
    ok(errors.passing(err) or err.code == "timeout", tostring(err)) -- an engine that still tries when its time is over
    M.nothing_left(w)
    w.hooks.progress, w.hooks.output = progress, output
    where:start()
    w.app.build.timeout = 60
    ok(w.ensure(commit))
    eq(ok(w.ensure(commit)).built, false)
  end, 120)
end

local function base_image(kind)
  test(kind .. " that cannot pull the base image says that this may pass, and builds when it is there", function()
    local bases, w = lab.registry {}, M.world(kind, lab.registry {}, kind .. "-base")
    local root = M.world("docker", bases, kind .. "-root") -- another engine's: this one must not have it
    local base = kind == "docker" and lab.image(bases, { version = kind }).image
      or ok(root.ensure(root.source:commit(lab.app { version = kind, dockerfile = M.SCRATCH }))).image
    local function commit(name, from)
      return w.source:commit(lab.app { version = kind .. name, dockerfile = ("FROM %s\nCOPY app /app\n"):format(from) })
    end
    local away, missing = commit("away", base), commit("missing", bases.host .. "/team/none:1")
    local got, err = w.ensure(missing)
    eq({ got, errors.passing(err) }, { nil, true }, tostring(err))
    bases:stop()
    got, err = w.ensure(away)
    eq({ got, errors.passing(err) }, { nil, true }, tostring(err))
    bases:start()
    ok(w.ensure(away))
    local broken = w.source:commit(lab.app { version = kind .. "-x", dockerfile = "FRM scratch\n" })
    got, err = w.ensure(broken)
    eq({ got, errors.passing(err) }, { nil, false }, tostring(err))
    M.nothing_left(w)
  end, 120)
end

---Registers the tests that every builder passes.
---@param kinds string[]
function M.tests(kinds)
  for _, kind in ipairs(kinds) do
    content(kind)
    trouble(kind)
    base_image(kind)
  end
end

return M
