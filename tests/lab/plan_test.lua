-- moontide plan on real parts: a git server, a registry, a container engine, a host that runs, died, or never was. What
-- it says comes true at the next poll, and it leaves everything as it was, byte by byte.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- looks into the lab's own folders
local check = require "check"
local base, hash, lab = require "lab.base", require "hash", require "lab"
local fs, json, proc = require "fs", require "json", require "proc"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local hosts = require "lab.host"

local CONFIG <const> = [[
local function place(port)
  return {
    target = { kind = "docker", socket = "@SOCKET@", network = "host", stop_timeout = "1s",
      env = { PORT = tostring(port) } },
    verify = { { http = ("http://127.0.0.1:%d/"):format(port), within = "50s", every = "0.1s" } },
  }
end
return {
  poll = "0.3s",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    environments = { staging = place(@STAGING@), production = place(@PRODUCTION@) } } },
}
]]
local DOCKERFILE <const> = "FROM scratch\nCOPY app version mode /\nENTRYPOINT [\"/app\"]\n"

local function fill(text, values)
  return (text:gsub("@(%u+)@", function(name) return values[name] end))
end

-- Every name below a folder, with its bytes' hash and its times.
local function picture(dir)
  if not fs.exists(dir) then return "none" end
  local lines = {}
  for path, kind in fs.walk(dir) do
    local at = dir .. "/" .. path
    local stat = assert(fs.stat(at, { follow = false }))
    local bytes = kind == "file" and hash.sha256(assert(fs.read(at, { max = 256 << 20 }))) or kind
    lines[#lines + 1] = ("%s %s %o %s"):format(path, bytes, stat.mode, stat.mtime)
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

local function stage()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local git, registry, docker = lab.git {}, lab.registry {}, lab.docker()
  local s = { repo = git:repo "web", registry = registry, docker = docker }
  s.host = hosts.new(fill(CONFIG, {
    SOCKET = docker.socket, REGISTRY = registry.host, SOURCE = s.repo.url, STAGING = tostring(base.port()),
    PRODUCTION = tostring(base.port()),
  }))
  -- Everything that there is: state, images, references, containers.
  function s.all()
    local containers = base.run { "docker", "--host", "unix://" .. docker.socket, "ps", "--all", "--no-trunc",
      "--format", "{{.ID}} {{.Image}} {{.State}} {{.Names}}" }
    return {
      state = picture(s.host.state), registry = picture(registry.dir .. "/data"),
      git = picture(s.repo.path), containers = containers,
    }
  end
  -- A plan that must change nothing.
  function s.plan(code, ...)
    local before = s.all()
    local result = s.host:command("plan", ...)
    eq(result.code, code, result.stdout)
    for part, now in pairs(s.all()) do
      if now ~= before[part] then error(("the plan changed %s:\n%s\nwas\n%s"):format(part, now, before[part])) end
    end
    return result.stdout
  end
  function s.data(code, ...) return assert(json.decode(s.plan(code, "-o", "json", ...))) end
  return s
end

local function place(made, name)
  for _, told in ipairs(made.places) do
    if told.environment == name then return told end
  end
end

local function texts(run)
  local list = {}
  for i, step in ipairs(run.steps) do list[i] = step.text end
  return list
end

test("a plan says what a host then does, and changes nothing: before the first one, beside one, after one", function()
  local s = stage()
  local host, repo = s.host, s.repo
  local one = repo:commit(lab.app { version = "one", dockerfile = DOCKERFILE })
  local short = one:sub(1, 7)

  -- No host ever ran.
  local said = s.plan(2)
  has(said, ("+ image of %s would be built by docker"):format(short))
  has(said, "+ tag staging is set to the new image")
  has(said, "web staging (docker): nothing runs there; would run " .. short)
  has(said, "1 change, 1 place unchanged, 0 refused")
  ok(not fs.exists(host.state))

  host:start()
  host:until_("staging", "runs", 60, function(e) return e.state == "idle" and e.current and e.current.commit == one end)
  host.process:kill("STOP") -- it is alive and does nothing: what changes now, the plan changed
  said = s.plan(0)
  has(said, "was handled by run 1")
  has(said, "0 changes, 2 places unchanged, 0 refused")
  eq(place(s.data(0), "staging").outcome, "unchanged")

  repo:tag("v1.0.0", { message = "annotated" })
  repo:tag("other", { message = "annotated" })
  local two = repo:commit(lab.app { version = "two", dockerfile = DOCKERFILE })
  local made = s.data(2)
  eq(made.summary, { changes = 2, unchanged = 0, refused = 0, errors = 0 })
  local staging, production = place(made, "staging").runs[1], place(made, "production").runs[1]
  local live = staging.steps[2].from
  ok(live and live:find("^sha256:%x+$"), "the tag's digest")
  has(texts(staging)[1], ("image of %s would be built by docker"):format(two:sub(1, 7)))
  has(texts(staging)[2], ("tag staging moves from %s to the new image"):format(live:sub(1, 19)))
  has(texts(staging)[3], ("web staging (docker): %s"):format(short))
  eq(texts(production)[1], ("image of %s is in the registry: %s"):format(short, live))
  has(texts(production)[2], "tag v1.0.0 is set to " .. live:sub(1, 19))
  local refused = place(made, "production").decisions[1]
  eq({ refused.subject, refused.verdict, refused.file }, { "other", "refused", "scripts/shared/versions.lua" })
  host.process:kill("CONT")
  host:until_("production", "runs", 60, function(e) return e.current and e.current.version == "v1.0.0" end)
  host:until_("staging", "runs", 60, function(e) return e.state == "idle" and e.current.commit == two end)

  -- It died in the middle of something: its log is all that there is.
  host.process:kill("KILL")
  host.process:wait(10)
  host.process = nil
  repo:reset(one)
  said = s.plan(2, "web", "staging")
  has(said, ("= image of %s is in the registry"):format(short))
  has(said, "1 change, 0 places unchanged, 0 refused")
  local result = host:command("once")
  eq(result.code, 0, result.stdout)
  s.plan(0)
end, 240)

test("what is wrong is told: an unknown app, a broken policy, a git server that is down, a state of others", function()
  local s = stage()
  s.repo:commit(lab.app { version = "one", dockerfile = DOCKERFILE })
  has(s.plan(1, "wep"), "did you mean")
  has(s.plan(1, "web", "stagin"), "did you mean")
  has(s.plan(1, "--polici", "x"), "unknown flag")
  base.write(s.host.dir .. "/staging.lua", "return policy {\n  watch = function() end,\n  rum = 1 }\n")
  has(s.plan(1, "--policy", s.host.dir .. "/staging.lua"), "staging.lua")
  has(s.plan(1, "--policy", s.host.dir .. "/none.lua"), "none.lua")
  base.write(s.host.dir .. "/mine.lua", "return policy {\n  watch = function() return nil, 'closed' end,\n"
    .. "  run = function() end }\n")
  has(s.plan(0, "--policy", "staging=" .. s.host.dir .. "/mine.lua"), "closed")
  local moved = assert(proc.run { "mv", s.repo.path, s.repo.path .. ".gone" })
  eq(moved.code, 0)
  local said = s.host:command("plan")
  eq(said.code, 1, said.stdout)
  has(said.stdout, "2 errors")
end, 120)

local COMMAND <const> = [[
return { poll = "1h", state = "@DIR@/state", scripts = "@DIR@/scripts", apps = { web = { source = "@SOURCE@",
  image = "127.0.0.1:1/web", environments = { live = { policy = "always", rollback = false,
    target = { kind = "command", apply = { "/bin/true" } } } } } } }
]]

-- What it wants is another thing each time that the branch moves; its image is there already, wherever.
local ALWAYS <const> = [[
return policy {
  watch = function(place) return place:head() end,
  run = function(run, head)
    run:release { digest = "sha256:" .. head.commit:rep(2):sub(1, 64), image = "x", commit = head.commit }
  end,
}
]]

local function command_stage()
  local s = { repo = lab.git {}:repo "web" }
  s.host = hosts.new(fill(COMMAND, { SOURCE = s.repo.url }))
  base.write(s.host.dir .. "/scripts/always.lua", ALWAYS)
  return s
end

test("what targets remember in the state folder counts, and is not written again", function()
  local s = command_stage()
  local one = s.repo:commit { a = "one" }
  eq(s.host:command("once").code, 0)
  local two = s.repo:commit { a = "two" }
  local before = picture(s.host.state)
  local result = s.host:command("plan")
  eq(result.code, 2, result.stdout)
  has(result.stdout, ("~ web live (command): %s (sha256:%s) -> %s (sha256:%s)"):format(one:sub(1, 7),
    one:sub(1, 12), two:sub(1, 7), two:sub(1, 12)))
  eq(picture(s.host.state), before)
end)

test("an app whose source is dead hides no other app's plan", function()
  local git = lab.git {}
  local repo, text = git:repo "web", fill(COMMAND, { SOURCE = git.url .. "/web.git" })
  repo:commit { a = "one" }
  local dead = text:match("web = (%b{})"):gsub("/web%.git", "/none.git"):gsub("1/web", "1/dead")
  local host = hosts.new((text:gsub("apps = { ", "apps = { dead = " .. dead:gsub("%%", "%%%%") .. ", ", 1)))
  base.write(host.dir .. "/scripts/always.lua", ALWAYS)
  local result = host:command("plan")
  eq(result.code, 1, result.stdout)
  has(result.stdout, "! dead/live")
  has(result.stdout, "+ web live (command): nothing runs there")
  has(result.stdout, "1 change, 0 places unchanged, 0 refused, 1 error")
end)

test("an edited policy's settings are judged by the configuration, with its lines", function()
  local s = command_stage()
  s.repo:commit { a = "one" }
  local declares = "policy {\n  settings = { soak = { type = \"duration\", required = true } },"
  base.write(s.host.dir .. "/draft.lua", (ALWAYS:gsub("policy {", declares, 1)))
  local result = s.host:command("plan", "--policy", "always=" .. s.host.dir .. "/draft.lua")
  eq(result.code, 1, result.stdout)
  has(result.stdout, "soak")
  has(result.stdout, s.host.config .. ":")
end)

test("who cannot read the state folder is told so, and as whom to plan", function()
  if not base.is_root() then check.skip "only root can be another user" end
  local dir = "/tmp/moontide-plan-" .. base.port()
  check.defer(function() base.run { "rm", "-rf", dir } end)
  base.run { "mkdir", "-m", "755", dir }
  local s = command_stage()
  s.repo:commit { a = "one" }
  eq(s.host:command("once").code, 0)
  base.run { "cp", "-r", s.host.state, s.host.dir .. "/scripts", dir }
  base.run { "chmod", "-R", "a+rX", dir .. "/scripts" }
  base.write(dir .. "/moontide.lua", (fill(COMMAND, { SOURCE = s.repo.url, DIR = dir })), 420)
  local function plan(...)
    local argv = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", require("base.sys").exe(), "plan",
      "--config", dir .. "/moontide.lua", ... }
    argv.stderr = "stdout"
    return assert(proc.run(argv))
  end
  local result = plan()
  eq(result.code, 1, result.stdout)
  has(result.stdout, "the state folder " .. dir .. "/state cannot be read: ")
  has(result.stdout, "plan as the user that the host runs as")
  base.run { "chown", "-R", "65534", dir .. "/state" }
  base.run { "chmod", "-R", "a-w", dir .. "/state" } -- reading is enough
  result = plan()
  eq(result.code, 0, result.stdout)
end)

local PUBLISHES <const> = [[
return { poll = "1h", builder = { kind = "docker", socket = "/nowhere.sock" },
  chart_repositories = { charts = { url = "oci://@REGISTRY@/charts" } },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    publish = { to = "charts", charts = { "chart" }, version = "0.1.{count}" },
    environments = { staging = { target = { kind = "command", apply = { "/bin/true" } } } } } } }
]]

test("charts that would be published: their version is counted in a mirror of the plan's own", function()
  local registry, repo = lab.registry {}, lab.git {}:repo "web"
  local host = hosts.new(fill(PUBLISHES, { REGISTRY = registry.host, SOURCE = repo.url }))
  local chart = "apiVersion: v2\nname: web-chart\nversion: 0.0.0\n"
  repo:commit { ["chart/Chart.yaml"] = chart, a = "1" }
  local two = repo:commit { ["chart/Chart.yaml"] = chart, a = "2" }
  local result = host:command("plan")
  eq(result.code, 2, result.stdout)
  has(result.stdout, ("+ image of %s would be built by docker"):format(two:sub(1, 7)))
  has(result.stdout, ("+ chart web-chart 0.1.2 would be packaged from %s and pushed to oci://%s/charts"):format(
    two:sub(1, 7), registry.host))
  eq({ fs.exists(host.state), picture(registry.dir .. "/data") }, { false, "none" })
end)
