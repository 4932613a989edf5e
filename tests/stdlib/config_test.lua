-- Configurations: what is filled in, every fault with its line, and input that nobody should write.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local config = require "config.load"
local fs = require "fs"

local function folder()
  local dir = check.ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  return dir.path
end

local function write(name, text)
  local dir = folder()
  check.ok(fs.write(dir .. "/" .. name, text))
  return dir .. "/" .. name, dir
end

local function load_text(name, text, options)
  local path, dir = write(name, text)
  options = options or {}
  options.scripts = options.scripts or dir .. "/scripts"
  check.ok(fs.mkdir(options.scripts, { parents = true }))
  for _, policy in ipairs { "staging", "production", "rollback" } do
    check.ok(fs.write(("%s/%s.lua"):format(options.scripts, policy), "return {}"))
  end
  local loaded, faults, partial = config.load(path, options)
  return loaded, faults, partial, path
end

local GOOD = [[
return {
  apps = {
    web = {
      source = "https://github.com/team/web.git",
      image = "127.0.0.1:5101/team/web",
      environments = {
        staging = { target = { kind = "docker", ports = { "8081:80" } } },
        production = {
          target = { kind = "docker", ports = { "8082:80" } },
          verify = { { http = "http://127.0.0.1:8082/", within = "1m" } },
        },
      },
    },
  },
}
]]

local function one_fault(faults, path)
  for _, fault in ipairs(faults or {}) do
    if fault.path == path then return fault end
  end
  local all = {}
  for i, fault in ipairs(faults or {}) do all[i] = config.describe(fault) end
  error(("no fault at %s; there are:\n%s"):format(path, table.concat(all, "\n")), 2)
end

-- One change to a good configuration, and what is said about it.
local function faults_of(text, what)
  local loaded, faults = load_text("moontide.lua", text)
  eq(loaded, nil, what)
  return faults
end

local function escaped(text) return (text:gsub("%%", "%%%%")) end

local function faulty(field, value)
  if field == "apps" then return faults_of("return { apps = " .. value .. " }", field) end
  return faults_of(GOOD:gsub("return {", ("return {\n  %s = %s,"):format(field, escaped(value)), 1), field)
end

local function faulty_app(field, value)
  local line = ("\n      %s = %s,"):format(field, escaped(value))
  local text, count = GOOD:gsub(("\n      %s = [^\n]*"):format(field), line, 1)
  if count == 0 then text = GOOD:gsub("    web = {", "    web = {" .. line, 1) end
  return faults_of(text, field)
end

local function faulty_environment(field, value)
  return faults_of(GOOD:gsub("        staging = {", ("        staging = { %s = %s,"):format(field, escaped(value)), 1),
    field)
end

test("a small configuration is filled in with defaults", function()
  local c, faults = load_text("moontide.lua", GOOD)
  ok(c, faults and faults[1] and config.describe(faults[1]))
  eq(c.poll, 30)
  eq(c.state, "/var/lib/moontide")
  eq(c.github.api, "https://api.github.com")
  eq(c.builder.kind, "auto")
  eq(c.retention, { runs = 500, days = 90, images = 5 })
  local web = c.apps.web
  eq(web.name, "web")
  eq(web.source, { url = "https://github.com/team/web.git", github = "team/web" })
  eq(web.branch, "main")
  eq(web.poll, c.poll)
  eq(web.build.timeout, 1800)
  eq(web.dockerfile, "Dockerfile")
  local staging = web.environments.staging
  eq(staging.name, "staging")
  eq(staging.app, "web")
  eq(staging.policy, "staging")
  eq(staging.rollback, "rollback")
  eq(staging.accept, "major")
  eq(staging.watch_for, 300)
  eq(staging.target.name, "web-staging")
  eq(web.environments.production.verify[1], { http = "http://127.0.0.1:8082/", within = 60, every = 1, status = 200 })
  eq({ web.environment_list[1].name, web.environment_list[2].name }, { "staging", "production" })
  eq(c.app_list[1], web)
end)

test("JSON and YAML of the same shape give the same configuration", function()
  local json = [[{
    "poll": "10s",
    "apps": { "web": {
      "source": "git@example.com:team/web.git", "image": "ghcr.io/team/web",
      "environments": { "staging": { "target": { "kind": "command", "apply": ["/bin/true"] } } } } }
  }]]
  local yaml = [[
poll: 10s
apps:
  web:
    source: git@example.com:team/web.git
    image: ghcr.io/team/web
    environments:
      staging:
        target:
          kind: command
          apply: [/bin/true]
]]
  local a, fa = load_text("moontide.json", json)
  local b, fb = load_text("moontide.yaml", yaml)
  ok(a, fa and fa[1] and config.describe(fa[1]))
  ok(b, fb and fb[1] and config.describe(fb[1]))
  for _, c in ipairs { a, b } do c.file, c.dir, c.scripts, c.app_list = nil, nil, nil, nil end
  eq(a, b)
  eq(a.poll, 10)
end)

test("every fault is reported at once, each with its line", function()
  local loaded, faults, _, path = load_text("moontide.lua", [[
return {
  pol = "30s",
  listen = "8420",
  apps = {
    web = {
      source = "ftp://example.com/x",
      branch = "refs/heads/main",
      image = "ghcr.io/Team/web",
      environments = {
        staging = {
          policy = "stagin",
          target = { kind = "dokcer" },
          verify = { { http = "http://x/", within = "1 minute" } },
        },
      },
    },
  },
}
]])
  eq(loaded, nil)
  local lines = {}
  for i, fault in ipairs(faults) do
    eq(fault.file, path)
    lines[i] = ("%s %s"):format(fault.line, fault.path)
  end
  eq(lines, {
    "2 pol", "3 listen", "6 apps.web.source", "7 apps.web.branch", "8 apps.web.image",
    "11 apps.web.environments.staging.policy", "12 apps.web.environments.staging.target.kind",
    "13 apps.web.environments.staging.verify[1].within",
  })
  has(faults[1].suggestion, "poll")
  has(faults[4].suggestion, "main")
  has(faults[5].suggestion, "ghcr.io/team/web")
  has(faults[6].suggestion, "staging")
  has(faults[7].suggestion, "docker")
  has(config.describe(faults[1]), path .. ':2: pol: unknown key "pol" (did you mean poll?)')
end)

test("lines are known in YAML and JSON, too", function()
  local yaml = "poll: fast\napps:\n  web:\n    source: https://h/x.git\n    image: team/web\n    brnch: main\n"
    .. "    environments:\n      staging:\n        target: {kind: docker}\n"
  local _, faults = load_text("moontide.yaml", yaml)
  eq(one_fault(faults, "poll").line, 1)
  eq(one_fault(faults, "apps.web.brnch").line, 6)
  has(one_fault(faults, "apps.web.brnch").suggestion, "branch")
  local json = '{\n  "poll": "fast",\n  "apps": {\n    "web": {\n      "source": 1\n    }\n  }\n}\n'
  _, faults = load_text("moontide.json", json)
  eq(one_fault(faults, "poll").line, 2)
  eq(one_fault(faults, "apps.web.source").line, 5)
  eq(one_fault(faults, "apps.web.image").line, 4)
end)

test("text that does not parse is one fault with its line", function()
  local _, faults = load_text("moontide.lua", "return {\n  apps = = {},\n}")
  eq(#faults, 1)
  eq(faults[1].line, 2)
  _, faults = load_text("moontide.lua", "local x = nil\nreturn { apps = x.y }")
  eq(faults[1].line, 2)
  has(faults[1].message, "index a nil value")
  _, faults = load_text("moontide.yaml", "a: [1,\nb: {")
  eq(#faults, 1)
  ok(faults[1].line)
  _, faults = load_text("moontide.json", "{\n,")
  eq(#faults, 1)
  eq(faults[1].line, 2)
  _, faults = load_text("moontide.lua", "")
  has(faults[1].message, "returns nothing")
  _, faults = load_text("moontide.toml", "")
  has(faults[1].suggestion, ".yaml")
  _, faults = config.load("/nowhere/moontide.lua")
  has(faults[1].message, "does not exist")
  _, faults = load_text("moontide.yaml", "apps:\n  web:\n\tsource: /x\n")
  eq({ faults[1].line, faults[1].message }, { 3, "column 1: a tab: YAML is indented by spaces" })
end)

test("policies in something that is no folder are refused as that", function()
  local dir <close> = ok(require("fs").temp_dir())
  ok(require("fs").write(dir.path .. "/file", ""))
  ok(require("fs").write(dir.path .. "/c.lua", "return { scripts = 'file', apps = {} }"))
  local said = {}
  for _, fault in ipairs(select(2, config.load(dir.path .. "/c.lua"))) do said[#said + 1] = fault.message end
  has(table.concat(said, "\n"), dir.path .. "/file is not a folder")
  ok(require("fs").write(dir.path .. "/c.lua", "return { scripts = 'nowhere', apps = {} }"))
  said = {}
  for _, fault in ipairs(select(2, config.load(dir.path .. "/c.lua"))) do said[#said + 1] = fault.message end
  has(table.concat(said, "\n"), dir.path .. "/nowhere does not exist")
end)

test("values of the wrong type say what they must be", function()
  has(one_fault(faulty("poll", "true"), "poll").message, "must be a duration, not true or false")
  has(one_fault(faulty("retention", "{ runs = 1.5 }"), "retention.runs").message, "whole number")
  has(one_fault(faulty("retention", "{ runs = 1 }"), "retention.runs").message, "between 10")
  has(one_fault(faulty("apps", "{ 'web' }"), "apps[1]").message, "must be named")
  has(one_fault(faulty("builder", "{ kind = 'dcoker' }"), "builder.kind").suggestion, "docker")
  has(one_fault(faulty("builder", "{ command = 'docker' }"), "builder.command").message, "a list of arguments")
  has(one_fault(faulty("github", "'x'"), "github").message, "a table")
end)

test("durations", function()
  local s = require "base.schema"
  for text, seconds in pairs {
    ["30s"] = 30, ["1h30m"] = 5400, ["500ms"] = 0.5, ["2d"] = 172800, ["0.5"] = 0.5, ["1w"] = 604800,
  } do
    eq(s.seconds(text) + 0.0, seconds + 0.0, text)
  end
  eq(s.seconds(5), 5)
  for _, bad in ipairs { "", "s", "5 s", "-5s", "1s ", "s5", "1x", "1h-5m", "0x10", "1e9", ("1s"):rep(40) } do
    eq(s.seconds(bad), nil, bad)
  end
  eq(s.seconds(0 / 0), nil)
  eq(s.seconds(-1), nil)
  eq(s.seconds(math.huge), nil)
  has(one_fault(faulty("poll", '"5 minutes"'), "poll").message, "is not a duration")
  has(one_fault(faulty("poll", "0"), "poll").message, "between")
end)

test("a literal secret is refused and never repeated", function()
  local canary = "MOONCANARY-77"
  for _, value in ipairs {
    ('{ ["h:5000"] = { username = "u", password = "%s" } }'):format(canary),
    ('{ ["h:5000"] = { username = "u", password = { "%s" } } }'):format(canary),
    ('{ ["h:5000"] = { username = "u", password = { env = "%s" } } }'):format(canary),
    ('{ ["h:5000"] = { username = "u", password = { value = "%s" } } }'):format(canary),
  } do
    local faults = faulty("registries", value)
    for _, fault in ipairs(faults) do
      ok(not config.describe(fault):find(canary, 1, true), config.describe(fault))
    end
  end
  local faults = faulty_app("source", ('"https://user:%s@example.com/x.git"'):format(canary))
  local fault = one_fault(faults, "apps.web.source")
  ok(not config.describe(fault):find(canary, 1, true))
  has(fault.suggestion, "credentials")
  faults = faulty("notify", '{ ops = { kind = "slack", url = "https://hooks.slack.com/services/T/B/x" } }')
  has(one_fault(faults, "notify.ops.url").message, "is a secret")
end)

test("secrets must be there, and stay closed until they are revealed", function()
  local dir = folder()
  check.ok(fs.write(dir .. "/password", "hush-hush-1\n"))
  local text = GOOD:gsub("return {", ([[return {
    registries = { ["127.0.0.1:5101"] = { username = "u", password = { file = "%s/password" } } },
    github = { token = { env = "PATH" } },]]):format(dir), 1)
  local c, faults = load_text("moontide.lua", text)
  ok(c, faults and faults[1] and config.describe(faults[1]))
  local password = c.registries["127.0.0.1:5101"].password
  eq(tostring(password), ("[secret file %s/password]"):format(dir))
  ok(not require("base.inspect").text(c.registries):find("hush", 1, true))
  eq(next(password), nil)
  eq(password:reveal(), "hush-hush-1")
  eq(require("log").redact("it is hush-hush-1!"), "it is [redacted]!")
  check.ok(fs.write(dir .. "/password", "hush-hush-2"))
  eq(password:reveal(), "hush-hush-2")
  check.ok(fs.remove(dir .. "/password"))
  check.fails("not_found", password:reveal())
  eq(tostring(c.github.token), "[secret env PATH]")
  check.raises("cannot be changed", function() password.name = "x" end)
  eq(getmetatable(password), "secret")

  has(one_fault(faulty("github", '{ token = { env = "MOONTIDE_UNSET_9" } }'), "github.token.env").message, "not set")
  has(one_fault(faulty("github", '{ token = { file = "no/such" } }'), "github.token.file").message, "does not exist")
  has(one_fault(faulty("github", '{ token = { env = "A", file = "b" } }'), "github.token").message, "nothing else")
  has(one_fault(faulty("registries", '{ h = { username = "u" } }'), "registries.h").message, "no password")
end)

test("image names follow the grammar of registries", function()
  local names = require "config.names"
  for _, good in ipairs {
    "web", "team/web", "127.0.0.1:5000/team/web", "localhost/web", "ghcr.io/a-b/c__d/e.f", "[::1]:5000/x",
    "registry.example.com/a/b/c/d",
  } do eq(names.image(good), nil, good) end
  for _, bad in ipairs {
    "", "/web", "web/", "a//b", "Web", "team/Web", "web:latest", "web@sha256:abc", "-web", "web-", "a..b", "a___b",
    "https://ghcr.io/x", "ghcr.io:99999/x", "ex ample/x", "a/b;c", "a/$(id)", "a/..", ("a"):rep(256), "a\n", "_a",
  } do ok(names.image(bad), bad) end
end)

test("branch names follow git's rules, and no option passes", function()
  local names = require "config.names"
  for _, good in ipairs { "main", "feature/x", "release-1.2", "a;id", "$(id)", "ümlaut" } do
    eq(names.branch(good), nil, good)
  end
  for _, bad in ipairs {
    "-x", "--upload-pack=touch", "a..b", ".a", "a/.b", "a.lock", "a.", "a b", "a~b", "a^", "a:b", "a?", "a*", "a[",
    "a\\b", "@", "a@{b", "/a", "a/", "a//b", "a\127", "refs/heads/x", "refs/tags/x",
  } do ok(names.branch(bad), bad) end
  has(one_fault(faulty_app("branch", '"-x"'), "apps.web.branch").message, "dash")
end)

test("addresses of repositories", function()
  local names = require "config.names"
  for _, good in ipairs {
    "https://example.com/x.git", "http://127.0.0.1:8080/x", "ssh://git@example.com:22/x", "git@example.com:x/y.git",
    "file:///srv/x.git", "/srv/x.git",
  } do eq(names.git_url(good), nil, good) end
  for _, bad in ipairs {
    "-oProxyCommand=x", "ext::sh -c id", "ftp://x/y", "https://", "https://u:p@h/x", "ssh://-oProxy/x",
    "ssh://u:p@h/x", "x", "../x", "git@-h:x", "https://exa mple/x", "file://host/x", "https://h\n/x", "--x@h:y",
  } do ok(names.git_url(bad), bad) end
end)

test("policies, notifiers and accept must exist", function()
  has(one_fault(faulty_environment("policy", '"producton"'), "apps.web.environments.staging.policy").suggestion,
    "production")
  has(one_fault(faulty_environment("rollback", '"none"'), "apps.web.environments.staging.rollback").message,
    "no policy")
  has(one_fault(faulty_environment("notify", '{ "ops" }'), "apps.web.environments.staging.notify[1]").message,
    "no notifier")
  local accept = "apps.web.environments.staging.accept"
  has(one_fault(faulty_environment("accept", '"mayor"'), accept).suggestion, "major")
  has(one_fault(faulty_environment("accept", '"glob:"'), accept).message, "pattern")
  local text = GOOD:gsub("staging = {", 'staging = { rollback = false, accept = "glob:v*",', 1)
  local c = ok(load_text("moontide.lua", text))
  eq(c.apps.web.environments.staging.rollback, false)
end)

test("what only one may have is claimed once", function()
  local text = GOOD:gsub("8082:80", "8081:80")
  local _, faults = load_text("moontide.lua", text)
  local fault = one_fault(faults, "apps.web.environments.production.target.ports[1]")
  has(fault.message, "already taken by apps.web.environments.staging.target.ports[1]")
  eq(fault.line, 9)
  text = GOOD:gsub("staging = {", 'staging = { host = "Web.example.com",')
    :gsub("production = {", 'production = { host = "web.example.com",')
  _, faults = load_text("moontide.lua", text)
  has(one_fault(faults, "apps.web.environments.production.host").message, "already taken")
  text = GOOD:gsub('kind = "docker"', 'kind = "docker", name = "one"')
  _, faults = load_text("moontide.lua", text)
  has(one_fault(faults, "apps.web.environments.production.target.name").message, "already taken")
  text = GOOD:gsub("  apps = {\n(.*)\n  },\n}", function(app)
    return ("  apps = {\n%s\n%s\n  },\n}"):format(app, (app:gsub("web = {", "api = {", 1):gsub("808", "809")))
  end)
  _, faults = load_text("moontide.lua", text)
  has(one_fault(faults, "apps.api.image").message, "already taken by apps.web.image")
end)

test("targets have keys of their own kind", function()
  local text = GOOD:gsub('{ kind = "docker", ports = { "8081:80" } }', '{ kind = "podman", ports = { "1:1" } }', 1)
  local _, found = load_text("moontide.lua", text)
  has(one_fault(found, "apps.web.environments.staging.target.yaml").message, "is missing")
  has(one_fault(found, "apps.web.environments.staging.target.ports").message, "unknown key")
  text = GOOD:gsub('"8081:80"', '"80"', 1)
  _, found = load_text("moontide.lua", text)
  has(one_fault(found, "apps.web.environments.staging.target.ports[1]").suggestion, "8080:80")
end)

test("checks are http or a command, and cannot wait longer than their time", function()
  local at = "apps.web.environments.staging.verify[1]"
  has(one_fault(faulty_environment("verify", "{ {} }"), at).message, "either http, command, metric or job")
  has(one_fault(faulty_environment("verify", '{ { http = "http://x/", command = { "/x" } } }'), at).message, "either")
  has(one_fault(faulty_environment("verify", '{ { command = { "/x" }, status = 200 } }'), at).message, "belong to http")
  has(one_fault(faulty_environment("verify", '{ { http = "http://x/", within = "1s", every = "5s" } }'),
    at .. ".every").message, "longer than within")
  has(one_fault(faulty_environment("verify", '{ { command = { "" } } }'), at .. ".command[1]").message, "program")
end)

test("a Dockerfile cannot lie outside of the checkout", function()
  has(one_fault(faulty_app("dockerfile", '"../Dockerfile"'), "apps.web.dockerfile").message, "leave the checkout")
  has(one_fault(faulty_app("context", '"/etc"'), "apps.web.context").message, "relative")
end)

test("names of apps and environments fit paths and labels", function()
  for _, name in ipairs { "Web", "a b", "-a", "a/b", "..", ("a"):rep(64), "a-" } do
    local _, faults = load_text("moontide.lua", (GOOD:gsub("    web = {", ("    [%q] = {"):format(name), 1)))
    ok(faults and #faults > 0, name)
  end
end)

test("a configuration in Lua has no door to the outside and cannot take the host's time", function()
  for _, code in ipairs {
    "return { x = require 'fs' }", "return { x = io }", "return { x = os.getenv 'HOME' }", "return { x = load }",
    "return { x = debug }", "return { x = _G }", "y = 1 return {}",
  } do
    local _, faults = load_text("moontide.lua", code)
    eq(#faults, 1, code)
  end
  local _, faults = load_text("moontide.lua", "while true do pcall(function() while true do end end) end")
  eq(#faults, 1)
  _, faults = load_text("moontide.lua", "local t = {} for i = 1, math.huge do t[i] = ('x'):rep(1000) .. i end")
  eq(#faults, 1)
  -- What it does to its libraries stays its own.
  load_text("moontide.lua", "string.format = nil table.concat = nil return {}")
  eq(string.format("%d", 1), "1")
  ok(load_text("moontide.lua", GOOD))
end, 120)

test("cyclic, shared and enormous tables end in faults", function()
  local _, faults = load_text("moontide.lua", "local t = {} t.apps = t t.github = t t.notify = t return t")
  ok(#faults > 0 and #faults <= 200)
  _, faults = load_text("moontide.lua",
    "local apps = {} for i = 1, 5000 do apps['a' .. i] = { nope = 1 } end return { apps = apps }")
  eq(#faults, 200)
  _, faults = load_text("moontide.lua",
    "return { apps = setmetatable({}, { __index = function() error 'x' end }) }")
  ok(faults)
  _, faults = load_text("moontide.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\n" .. (function()
    local out, last = {}, "a"
    for i = 1, 9 do
      local name = "b" .. i
      out[i] = ("%s: &%s [%s]"):format(name, name, ("*" .. last .. ","):rep(9))
      last = name
    end
    return table.concat(out, "\n")
  end)())
  ok(#faults > 0)
end)

test("random damage to a configuration gives a configuration or faults, never an error", function()
  math.randomseed(7)
  local pieces = {
    "{", "}", "nil", "true", "0", "-1", "1e999", '"x"', "''", "{1,2}", "{{}}", "'\\0'", ",", "apps", "web", "=",
    "[[x]]", "'" .. ("y"):rep(5000) .. "'", "function() end", "{ env = 1 }", "0/0",
  }
  local seen_good, seen_bad = 0, 0
  local path, dir = write("moontide.lua", GOOD)
  for name in pairs { staging = 1, production = 1, rollback = 1 } do
    check.ok(fs.write(("%s/%s.lua"):format(dir, name), ""))
  end
  for _ = 1, 400 do
    local text = GOOD
    for _ = 1, math.random(1, 3) do
      local at = math.random(#text)
      local stop = math.random(at, math.min(#text, at + math.random(0, 25)))
      text = text:sub(1, at - 1) .. pieces[math.random(#pieces)] .. text:sub(stop + 1)
    end
    check.ok(fs.write(path, text, { sync = false }))
    local good, faults = config.load(path, { scripts = dir })
    if good then
      seen_good = seen_good + 1
    else
      seen_bad = seen_bad + 1
      ok(#faults > 0)
      for _, fault in ipairs(faults) do
        eq(type(fault.message), "string")
        ok(not config.describe(fault):find("%c"), config.describe(fault))
        ok(not fault.message:find("stack traceback", 1, true))
      end
    end
  end
  ok(seen_bad > 50)
end, 240)

test("random YAML and JSON values never raise", function()
  math.randomseed(11)
  local json = require "json"
  local keys = { "apps", "poll", "web", "source", "image", "environments", "staging", "target", "kind", "verify",
    "registries", "password", "env", "file", "notify", "url", "github", "token", "listen", "a.b", "", "x y" }
  local function value(depth)
    local pick = math.random(depth > 5 and 6 or 9)
    if pick == 1 then return math.random(-5, 100000) end
    if pick == 2 then return math.random() < 0.5 end
    if pick == 3 then return keys[math.random(#keys)] end
    if pick == 4 then return json.null end
    if pick == 5 then return "" end
    if pick == 6 then return ("z\27"):rep(math.random(0, 20)) end
    local out = {}
    for i = 1, math.random(0, 5) do
      if pick == 7 then out[i] = value(depth + 1) else out[keys[math.random(#keys)]] = value(depth + 1) end
    end
    return pick == 7 and json.array(out) or out
  end
  local path = write("moontide.json", "{}")
  for _ = 1, 300 do
    local data = { apps = { web = { environments = { staging = value(1) } } } }
    for _ = 1, 6 do data[keys[math.random(#keys)]] = value(0) end
    check.ok(fs.write(path, ok(json.encode(data)), { sync = false }))
    local good, faults = config.load(path)
    ok(good or #faults > 0)
  end
end, 120)

test("the state may be found although the rest is broken", function()
  local _, faults, partial = load_text("moontide.lua", 'return { state = "here", apps = 1 }')
  ok(#faults > 0)
  has(partial.state, "/here")
end)

test("a state folder too deep for its socket is refused", function()
  has(one_fault(faulty("state", ('"/%s"'):format(("d"):rep(100))), "state").message, "too long")
end)

test("relative paths start at the configuration's folder, flags at the current one", function()
  local path, dir = write("moontide.lua", 'return { state = "state/../data", apps = {} }')
  local c = ok(config.load(path))
  eq(c.state, dir .. "/data")
  eq(c.dir, dir)
  c = ok(config.load(path, { state = "/tmp/elsewhere" }))
  eq(c.state, "/tmp/elsewhere")
end)

test("listen is an address and a port", function()
  local c = ok(load_text("moontide.lua", (GOOD:gsub("return {", 'return { listen = "[::1]:8420",', 1))))
  eq(c.listen, { address = "::1", port = 8420 })
  for _, bad in ipairs { "8420", ":8420", "localhost", "1.2.3.4:99999", "1.2.3.4:", "a b:80" } do
    one_fault(faulty("listen", ("%q"):format(bad)), "listen")
  end
end)

test("the reference names every key with its meaning", function()
  local rows = require("config.manual").rows()
  local seen = {}
  for _, row in ipairs(rows) do
    ok(row.doc and row.doc:find("%.$"), row.path .. ": a sentence")
    seen[row.path] = row
  end
  for _, path in ipairs {
    "poll", "apps.APP.source", "apps.APP.environments.ENV.verify[].http", "notify.NAME{kind=slack}.url",
    "apps.APP.environments.ENV.target{kind=docker}.ports", "registries.HOST.password",
  } do ok(seen[path], path) end
  eq(seen.poll.default, '"30s"')
  eq(seen["apps.APP.environments"].required, true)
  has(require("config.manual").markdown(), "| `poll` |")
end)

test("the example in config/ is a configuration", function()
  local dir = folder()
  for _, policy in ipairs { "staging", "production", "rollback" } do
    ok(fs.write(("%s/%s.lua"):format(dir, policy), "return {}"))
  end
  local c, faults = config.load("config/moontide.lua", { scripts = dir })
  ok(c, faults and faults[1] and config.describe(faults[1]))
  eq(c.apps.hello.environments.production.accept, "minor")
  eq(c.app_list[1].environment_list[1].name, "staging")
end)

test("a kubernetes target names a workload of a cluster that is there, and nobody else has it", function()
  local function faults(text)
    local _, found = load_text("moontide.lua", text)
    return found
  end
  local function environment(target, more)
    return (GOOD:gsub('target = %b{}', ("target = { %s }%s"):format(target, more or ""), 1))
  end
  local at = "apps.web.environments.staging."
  has(one_fault(faults(environment 'kind = "kubernetes"'), at .. "target.workload").message, "is missing")
  has(one_fault(faults(environment 'kind = "kubernetes", workload = "pod/web"'), at .. "target.workload").message,
    "is no workload")
  has(one_fault(faults(environment 'kind = "kubernetes", workload = "deployment/web", cluster = "mian"'),
    at .. "target.cluster").message, "there is no cluster")
  has(one_fault(faults(environment('kind = "kubernetes", workload = "deployment/web"',
    ', verify = { { job = "smoke" } }')), at .. "verify[1].job").message, "neither cronjob/NAME nor a manifest")
  has(one_fault(faults(environment('kind = "kubernetes", workload = "deployment/web"',
    ', verify = { { http = "http://x/", namespace = "shop" } }')), at .. "verify[1]").message, "belong to job")
end)

test("a job is looked for where the release runs, and two environments cannot share a workload", function()
  local shop = 'target = { kind = "kubernetes", namespace = "shop", workload = "deployment/web" }'
  local text = GOOD:gsub('target = %b{}', shop .. ', verify = { { job = "cronjob/smoke" } }', 1)
  local loaded = ok(load_text("moontide.lua", text))
  local probe = loaded.apps.web.environments.staging.verify[1]
  eq({ probe.cluster, probe.namespace, probe.within }, { "default", "shop", 600 })
  eq(loaded.apps.web.environments.production.verify[1].within, 60)
  has(one_fault(faults_of(GOOD:gsub('target = %b{}', shop) .. "", "two"),
    "apps.web.environments.production.target.workload").message, "already taken by")
end)

test("several targets have names of their own, and checks name one of them or go for each", function()
  local function faults(targets, more)
    local _, found = load_text("moontide.lua",
      (GOOD:gsub('target = %b{}', ("targets = { %s }%s"):format(targets, more or ""), 1)))
    return found
  end
  local at = "apps.web.environments.staging."
  has(one_fault(faults '{ kind = "docker" }', at .. "targets[1].name").message, "is missing")
  has(one_fault(faults '{ name = "eu", kind = "dokcer" }', at .. "targets[1].kind").suggestion, "docker?")
  has(one_fault(faults '{ name = "eu", kind = "docker" }, { name = "eu", kind = "docker" }', at .. "targets[2].name")
    .message, "already the name of another part")
  has(one_fault(faults('{ name = "eu", kind = "docker" }', ', target = { kind = "docker" }'), at .. "targets").message,
    "does not belong beside `target`")
  local verify = ', verify = { { http = "http://x/", part = "%s" }, { job = "cronjob/smoke" } }'
  local two = [[{ name = "eu", kind = "kubernetes", workload = "deployment/web", namespace = "eu" },
    { name = "us", kind = "docker" }]]
  has(one_fault(faults(two, verify:format "ue"), at .. "verify[1].part").message, "there is no part")
  has(one_fault(faults_of(GOOD:gsub("target = %b{},?", "", 1) .. "", "none"), at .. "target").message, "is missing")
  local text = GOOD:gsub('target = %b{}', ("targets = { %s }%s"):format(two, verify:format "us"), 1)
  local parts = require("targets").parts(ok(load_text("moontide.lua", text)).apps.web.environments.staging)
  eq({ #parts, parts[1].part, parts[1].name, parts[2].target.name }, { 2, "eu", "staging", "web-staging-us" })
  eq({ #parts[1].verify, parts[1].verify[1].cluster, parts[1].verify[1].namespace, #parts[2].verify },
    { 1, "default", "eu", 2 })
end)

test("a fault of a file with a long path has its line", function()
  local dir = require("lab").dir() .. "/" .. ("x"):rep(80)
  require("lab").write(dir .. "/moontide.lua", "return {\n  apps = {\n")
  local loaded, faults = config.load(dir .. "/moontide.lua")
  eq({ loaded, faults[1].line, faults[1].file }, { nil, 3, dir .. "/moontide.lua" })
end)
