-- The docker target with a real engine and a real registry: releases, what goes wrong with them, and interruptions.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local app, lab = require "lab.app", require "lab"
local errors, fs, json, task, time =
  require "errors", require "fs", require "json", require "task", require "time"
local secret = require "config.secret"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local missing = require("lab.docker").unavailable()
local registry ---@type LabRegistry

local IMAGES = {} -- pushed once, by what they are made of
local function image(options)
  local key = json.encode(options)
  IMAGES[key] = IMAGES[key] or lab.image(registry, options)
  return IMAGES[key]
end

-- A place for one test: its own engine state and port. `more` goes into the target's configuration.
local function place(more, verify)
  if missing then check.skip(missing) end
  local docker, port = lab.docker(), lab.port()
  registry = registry or lab.registry {}
  check.defer(function() docker:clear() end)
  local config = {
    kind = "docker", socket = docker.socket, network = "host", env = { PORT = tostring(port) }, ports = {},
    volumes = {}, labels = {}, restart = "unless-stopped", stop_timeout = 2, timeout = 10,
  }
  for k, v in pairs(more or {}) do config[k] = v end
  local environment = { name = "staging", app = "web", verify = verify or { {} }, target = config }
  local cfg = { registries = {}, state = lab.dir("state") }
  local p = { docker = docker, port = port, config = config, environment = environment, cfg = cfg }
  function p.again() return require("targets").open(environment, require("engine.world").of(cfg)) end
  p.target = p.again()
  return p
end

local function request(img, release, more)
  local r = {
    image = img.image, digest = img.digest, commit = img.commit, version = "v1." .. release, release = release,
  }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

local function put(p, img, release, more)
  local r = request(img, release, more)
  ok(p.target:apply(r))
  ok(p.target:wait(r))
  ok(p.target:settle(r))
  return r
end

local function answers(p, text)
  check.eventually(function() return app.ask(p.port) == "hello " .. text .. "\n" end, 5, text .. " answers")
end

-- "web-staging-2 running, web-staging-1 exited"
local function containers(p)
  local list = {}
  for i, c in ipairs(p.docker:containers()) do list[i] = c.name .. " " .. c.state end
  table.sort(list, function(a, b) return tonumber(a:match("%d+")) > tonumber(b:match("%d+")) end)
  return table.concat(list, ", ")
end

local function policy(p, name)
  return ok(p.docker:call("GET", ("/containers/%s/json"):format(name))).HostConfig.RestartPolicy.Name
end

test("a release runs, the next one replaces it, and the one before is kept", function()
  local p = place()
  local one, two, three = image { version = "one" }, image { version = "two" }, image { version = "three" }
  eq({ p.target:current() }, {})
  put(p, one, 1)
  answers(p, "one")
  eq(p.target:current(), {
    digest = one.digest, commit = one.commit, version = "v1.1", image = one.image, state = "running", release = 1,
  })
  ok(p.target:apply(request(one, 1))) -- asked again: nothing changes
  eq(containers(p), "web-staging-1 running")
  put(p, two, 2)
  answers(p, "two")
  eq(containers(p), "web-staging-2 running, web-staging-1 exited")
  eq({ policy(p, "web-staging-2"), policy(p, "web-staging-1") }, { "unless-stopped", "no" })
  put(p, three, 3)
  eq(containers(p), "web-staging-3 running, web-staging-2 exited")
end)

test("a rollback starts the kept container again, as it was, in a moment", function()
  local p = place()
  local one, two = image { version = "one" }, image { version = "two" }
  put(p, one, 1)
  put(p, two, 2)
  local id = p.docker:call("GET", "/containers/web-staging-1/json").Id
  p.config.env = { PORT = tostring(p.port), NEW = "since then" }
  local started = time.monotonic()
  put(p, one, 3, { restored = true })
  print(("    docker rollback: %.3f s"):format(time.monotonic() - started))
  answers(p, "one")
  eq(p.docker:call("GET", "/containers/web-staging-3/json").Id, id, "the very container")
  eq({ p.target:current().release, policy(p, "web-staging-3") }, { 3, "unless-stopped" })
  eq(containers(p), "web-staging-3 running, web-staging-2 exited")
end)

test("a container that an earlier release labelled is known, kept, and brought back", function()
  local p = place()
  local one, two = image { version = "one" }, image { version = "two" }
  put(p, one, 1)
  local engine = require("containers.engine").open(p.docker.socket)
  local body = ok(require("containers.spec").describe(p.environment, request(one, 1)))
  local old = {}
  for key, value in pairs(body.Labels) do old[key:gsub("^moontide%.dev/", "moontide.")] = value end
  body.Labels = old
  ok(engine:call("DELETE", "/containers/web-staging-1?force=1"))
  local id = ok(ok(engine:call("POST", "/containers/create?name=web-staging-1", body)):json()).Id
  ok(engine:call("POST", "/containers/web-staging-1/start"))
  local cfg = {} ---@type any Of a host that was upgraded.
  for key, value in pairs(p.cfg) do cfg[key] = value end
  p.target = require("targets").open(p.environment, require("engine.world").of(cfg))
  eq(p.target:current(), {
    digest = one.digest, commit = one.commit, version = "v1.1", image = one.image, state = "running", release = 1,
  })
  put(p, two, 2)
  answers(p, "two")
  eq(containers(p), "web-staging-2 running, web-staging-1 exited")
  put(p, one, 3, { version = "v1.1", restored = true })
  answers(p, "one")
  eq(p.docker:call("GET", "/containers/web-staging-3/json").Id, id, "the very container")
end)

test("the same digest again is the same container, unless the configuration or the version changed", function()
  local p = place()
  local one = image { version = "one" }
  put(p, one, 1, { version = "v7" })
  local id = p.docker:call("GET", "/containers/web-staging-1/json").Id
  put(p, one, 2, { version = "v7" })
  eq(p.docker:call("GET", "/containers/web-staging-2/json").Id, id)
  p.config.env = { PORT = tostring(p.port), GREETING = "hello" }
  put(p, one, 3, { version = "v7" })
  eq(p.docker:call("GET", "/containers/web-staging-3/json").Id ~= id, true)
  put(p, one, 4, { version = "v8" })
  eq(p.target:current().version, "v8")
  eq(containers(p), "web-staging-4 running, web-staging-3 exited")
end)

test("where nothing is fought for, the old one runs until the new one is well", function()
  local p = place { network = "none" }
  local one, sick = image { version = "one", health = true }, image { version = "sick", mode = "sick", health = true }
  put(p, one, 1)
  eq(p.target:current().healthy, true)
  ok(p.target:apply(request(sick, 2)))
  eq(containers(p), "web-staging-2 running, web-staging-1 running")
  local err = fails("unhealthy", p.target:wait(request(sick, 2)))
  has(err.message, "its health check says unhealthy")
  has(err.message, "mode sick")
  eq(containers(p), "web-staging-2 running, web-staging-1 running")
  put(p, one, 3, { restored = true })
  eq(containers(p), "web-staging-3 running, web-staging-2 exited")
end)

test("a health check that stays silent is not well in time", function()
  local p = place()
  local r = request(image { version = "slow", mode = "slow 30", health = { Retries = 99 } }, 1)
  ok(p.target:apply(r))
  r.timeout = 5
  has(fails("unhealthy", p.target:wait(r)).message, "it did not become healthy in 5 s; it said: version slow")
end)

test("a restart loop is seen, with the container's last words", function()
  local p = place({}, {})
  put(p, image { version = "one" }, 1)
  local r = request(image { version = "bad", mode = "crash" }, 2)
  ok(p.target:apply(r))
  local err = fails("unhealthy", p.target:wait(r))
  has(err.message, "it restarts again and again, exit status 1; it said: ")
  has(err.message, "fatal: this release cannot start")
  put(p, image { version = "one" }, 3, { restored = true })
  answers(p, "one")
  eq(containers(p), "web-staging-3 running, web-staging-2 exited")
end)

test("one that ends soon after it listened is seen where nothing else looks", function()
  local p = place({ restart = "no" }, {})
  local r = request(image { version = "late", mode = "late 1" }, 1)
  ok(p.target:apply(r))
  has(fails("unhealthy", p.target:wait(r)).message, "it is exited with exit status 14")
  eq({ p.target:current() }, {})
end)

test("a port that somebody else has is told in the release's own words", function()
  local p = place()
  local function handler() return { status = 204 } end
  local other = require("serve").listen { address = "127.0.0.1", port = p.port, handler = handler }
  check.defer(function() other:close() end)
  local r = request(image { version = "one" }, 1)
  ok(p.target:apply(r))
  has(fails("unhealthy", p.target:wait(r)).message, "listen: Address already in use")
end)

test("only configured ports fight", function()
  local p = place()
  local function exclusive(config)
    for k, v in pairs(config) do p.config[k] = v end
    return p.target:exclusive()
  end
  eq(exclusive { network = "host", ports = {} }, true)
  eq(exclusive { network = "web", ports = {} }, false)
  eq(exclusive { network = "web", ports = { "127.0.0.1:8080:80" } }, true)
end)

test("what cannot even start leaves the old one running", function()
  local p = place()
  put(p, image { version = "one" }, 1)
  p.config.command = { "x" }
  p.config.volumes = { "/no/such/folder/../../proc/version:/app" } -- not a program
  local err = fails("unhealthy", p.target:apply(request(image { version = "two" }, 2)))
  has(err.message, "it cannot start")
  has(err.message, "what ran before runs again")
  answers(p, "one")
  eq(p.target:current().release, 1)
  p.config.volumes, p.config.command = {}, nil
  put(p, image { version = "two" }, 3)
  answers(p, "two")
  eq(containers(p), "web-staging-3 running, web-staging-1 exited")
end)

test("an image that the registry lacks leaves what runs alone", function()
  local p = place()
  put(p, image { version = "one" }, 1)
  local digest = "sha256:" .. ("0"):rep(64)
  local _, err = p.target:apply { image = registry.host .. "/team/web@" .. digest, digest = digest, release = 2 }
  has(ok(err).message, "manifest unknown")
  answers(p, "one")
  eq(containers(p), "web-staging-1 running")
end)

test("what somebody removed by hand comes again: the container, the kept one, their images", function()
  local p = place()
  local one, two = image { version = "one" }, image { version = "two" }
  put(p, one, 1)
  p.docker:call("DELETE", "/containers/web-staging-1?force=1")
  eq({ p.target:current() }, {})
  has(fails("unhealthy", p.target:wait(request(one, 1))).message, "somebody removed it")
  ok(p.target:settle(request(one, 1)))
  put(p, one, 1)
  answers(p, "one")
  put(p, two, 2)
  p.docker:call("DELETE", "/containers/web-staging-1?force=1")
  ok(p.docker:call("DELETE", "/images/" .. one.image .. "?force=1"))
  put(p, one, 3, { restored = true })
  answers(p, "one")
  eq(containers(p), "web-staging-3 running, web-staging-2 exited")
end)

test("a container that goes while it is waited for is gone, not a mystery", function()
  local p = place()
  local r = request(image { version = "slow", mode = "slow 30", health = { Retries = 99 } }, 1)
  ok(p.target:apply(r))
  local waiting = task.spawn(function() return p.target:wait(r) end)
  time.sleep(0.3)
  p.docker:call("DELETE", "/containers/web-staging-1?force=1")
  has(fails("unhealthy", waiting:join()).message, "somebody removed it")
end)

test("settle removes nothing while the released container does not run", function()
  local p = place()
  put(p, image { version = "one" }, 1)
  put(p, image { version = "two" }, 2)
  p.docker:call("POST", "/containers/web-staging-2/stop?t=1")
  ok(p.target:settle(request(image { version = "two" }, 2)))
  eq(containers(p), "web-staging-2 exited, web-staging-1 exited")
end)

test("a name that belongs to somebody else is left to them", function()
  local p = place()
  local one = image { version = "one" }
  put(p, one, 1)
  ok(p.docker:call("POST", "/containers/create?name=web-staging-2", { json = { Image = one.image } }))
  local err = fails("conflict", p.target:apply(request(image { version = "two" }, 2)))
  has(err.message, "web-staging-2 is taken by a container that is not ours")
  answers(p, "one")
end)

test("an engine that is down is said so; one that comes back is waited for", function()
  local p = place { timeout = 1 }
  p.config.socket = p.cfg.state .. "/nobody.sock"
  local t = p.again()
  has(fails("refused", t:current()).message, "no container engine listens on " .. p.config.socket)
  local said
  local hooks = { progress = function(text) said = text end, output = function() end }
  local r = request(image { version = "one" }, 1, { hooks = hooks })
  fails("refused", t:apply(r))
  has(said, "waiting for the container engine")
  p.config.timeout = 10
  local applying = task.spawn(function() return t:apply(r) end)
  time.sleep(0.3)
  t.engine.socket = p.docker.socket
  ok(applying:join())
  ok(t:wait(r))
end)

test("an engine that goes down and comes back while a release is waited for is no fault of the release", function()
  local p = place()
  local r = request(image { version = "one" }, 1)
  ok(p.target:apply(r))
  local inspect, looks = p.target.engine.inspect, 0
  function p.target.engine.inspect(...)
    looks = looks + 1
    if looks > 10 and looks <= 20 then return errors.fail("refused", "no container engine listens") end
    local details, err = inspect(...)
    if details and looks <= 10 then -- as it stops its containers before it answers no more
      details.State.Running, details.State.Status, details.State.ExitCode = false, "exited", 15
    end
    return details, err
  end
  ok(p.target:wait(r))
  ok(looks > 20)
end)

test("a container that stays stopped while the engine answers is seen", function()
  local p = place { restart = "no" }
  local r = request(image { version = "one" }, 1)
  ok(p.target:apply(r))
  ok(p.docker:call("POST", "/containers/web-staging-1/stop?t=1"))
  has(fails("unhealthy", p.target:wait(r)).message, "it is exited with exit status")
end)

test("secrets of its environment reach the container and no error", function()
  local dir = lab.dir("secret")
  lab.write(dir .. "/token", "canary-of-docker\n")
  local p = place()
  p.config.env.TOKEN = secret.new("file", dir .. "/token")
  put(p, image { version = "one" }, 1)
  local env = p.docker:call("GET", "/containers/web-staging-1/json").Config.Env
  table.sort(env)
  has(table.concat(env, " "), "TOKEN=canary-of-docker")
  p.config.user = "canary-of-docker" -- the engine repeats this one
  local err = fails("unhealthy", p.target:apply(request(image { version = "two" }, 2)))
  eq(json.encode(errors.plain(err)):find("canary", 1, true), nil)
  p.config.env.TOKEN = secret.new("file", dir .. "/gone")
  fails("not_found", p.target:apply(request(image { version = "two" }, 3)))
  ok(fs.remove(dir .. "/token"))
end)

-- ---- interruptions ----

test("a container whose creation was still under way when we looked is ours", function()
  local p = place()
  local call = p.target.engine.call
  function p.target.engine.call(self, method, path, ...)
    if path:find("/containers/create", 1, true) then ok(call(self, method, path, ...)) end
    return call(self, method, path, ...)
  end
  put(p, image { version = "one" }, 1)
  eq(containers(p), "web-staging-1 running")
end)

-- Walks from one release to the next; the n-th call of the Engine API takes effect, and then the host dies.
local function interrupted(p, r, n)
  local t, calls = p.again(), 0
  local call = t.engine.call
  function t.engine.call(...)
    if calls >= n then error({ killed = true }, 0) end
    local answer, err = call(...)
    calls = calls + 1
    if calls == n then error({ killed = true }, 0) end
    return answer, err
  end
  local finished, why = pcall(function()
    ok(t:apply(r))
    ok(t:wait(r))
    ok(t:settle(r))
  end)
  if not finished and not (type(why) == "table" and why.killed) then error(why, 0) end
  return finished
end

-- One interruption after the other, at the first call, at the second, ..., until a walk is over before it comes.
local function sweep(p, restored)
  local quick = { Interval = 100000000 }
  local one, two = image { version = "one", health = quick }, image { version = "two", health = quick }
  put(p, one, 1)
  put(p, two, 2)
  local release, n, from, to = 2, 0, two, one
  while true do
    n, release = n + 1, release + 1
    local r = request(to, release, { restored = restored or nil })
    if not restored then p.docker:call("DELETE", "/images/" .. to.image .. "?force=1") end -- so that it is pulled
    local finished = interrupted(p, r, n)
    p.target = p.again()
    local now = p.target:current()
    if now then eq(now.digest == to.digest or now.digest == from.digest, true, "after call " .. n) end
    eq(now ~= nil or p.target:exclusive(), true, "without a reason to stop it first, something always runs")
    ok(p.target:apply(r)) -- the host is back, and walks the way again
    ok(p.target:wait(r))
    ok(p.target:settle(r))
    now = ok(p.target:current())
    eq({ now.digest, now.release }, { to.digest, release }, "after call " .. n)
    eq(containers(p), ("web-staging-%d running, web-staging-%d exited"):format(release, release - 1),
      "after call " .. n)
    eq(policy(p, "web-staging-" .. release), "unless-stopped")
    if finished then break end
    from, to = to, from
  end
  print(("    %d interruptions"):format(n - 1))
  return n
end

for _, case in ipairs {
  { "a new container where ports fight", "host", false }, { "a kept container where ports fight", "host", true },
  { "a new container beside the old one", "none", false }, { "a kept container beside the old one", "none", true },
} do
  test("killed after any call of the Engine API, the way ends right: " .. case[1], function()
    local p = place { network = case[2] }
    ok(sweep(p, case[3]) > 8)
  end, 240)
end

-- ---- a state folder that is lost or new ----

test("what a host of another state left running is made this release's as it is, whatever its number", function()
  local p = place()
  local one = image { version = "one" }
  put(p, one, 7, { version = "v1" })
  local id = p.docker:containers()[1].id
  eq(p.target:current().release, 7)
  local r = request(one, 2, { version = "v1" })
  ok(p.target:wait(r)) -- also before it bears the new number
  put(p, one, 2, { version = "v1" })
  eq(containers(p), "web-staging-2 running")
  eq(p.docker:containers()[1].id, id)
  answers(p, "one")
end)

test("a number that a running container of another state bears takes nothing from it", function()
  for _, network in ipairs { "host", "none" } do
    local p = place { network = network }
    local one, two = image { version = "one" }, image { version = "two" }
    local bad = image { version = "bad", mode = "crash" }
    put(p, one, 2)
    local id = p.docker:containers()[1].id
    ok(p.target:apply(request(bad, 2)))
    fails("unhealthy", p.target:wait(request(bad, 2)))
    local again = put(p, one, 3, { restored = true })
    eq({ p.target:current().digest, p.target:current().release }, { one.digest, again.release })
    eq(p.docker:containers()[1].id == id or p.docker:containers()[2].id == id, true, "the same container as before")
    put(p, two, 4)
    eq(p.target:current().digest, two.digest)
  end
end)

test("a canary is a second container of its environment: it goes out first, and comes back alone", function()
  if missing then check.skip(missing) end
  local docker, ports = lab.docker(), { lab.port(), lab.port() }
  registry = registry or lab.registry {}
  check.defer(function() docker:clear() end)
  local list = {}
  for i, name in ipairs { "canary", "rest" } do
    list[i] = { name = name, target = {
      kind = "docker", name = "web-staging-" .. name, socket = docker.socket, network = "host",
      env = { PORT = tostring(ports[i]) }, ports = {}, volumes = {}, labels = {}, restart = "unless-stopped",
      stop_timeout = 2, timeout = 10,
    } }
  end
  local images = {}
  for _, name in ipairs { "a", "b", "c", "d" } do
    images[require("sim").commit(name)] = image { version = name, mode = name == "d" and "crash" or nil }
  end
  require("fixture.canary").story { targets = list, image = function(commit) return images[commit] end }
  local names = {}
  for _, c in ipairs(docker:containers()) do
    if c.state == "running" then names[#names + 1] = c.name:match "^web%-staging%-(%a+)%-%d+$" end
  end
  table.sort(names)
  eq(names, { "canary", "rest" })
  eq({ (app.ask(ports[1])), (app.ask(ports[2])) }, { "hello c\n", "hello c\n" })
end)
