-- Environments with several targets: released one after another, as a canary, taken back, adopted, killed in between.
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sim, sys = require "fs", require "proc", require "sim", require "base.sys"
local test, eq, has = check.test, check.eq, check.has

local C = sim.commit
local NOTHING <const> = "return policy { watch = function() return nil, 'not in this test' end, run = function() end }"
local CANARY <const> = [[return policy {
  watch = function(place) return place:head() end,
  run = function(run, head)
    local image = run:image(head.commit)
    run:release(image, { part = "eu" })
    %s
    run:release(image)
  end }]]

local function stage(options, scripts)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { dir = dir.path, world = sim.open(dir.path .. "/world"), options = options or {} }
  s.options.parts = s.options.parts or { "eu", "us" }
  if scripts then
    s.options.scripts = dir.path .. "/scripts"
    assert(fs.mkdir(s.options.scripts))
    for name, text in pairs(scripts) do assert(fs.write(("%s/%s.lua"):format(s.options.scripts, name), text)) end
  end
  function s.open()
    s.host = sim.host(s.world, s.dir .. "/state", s.options)
    return s.host
  end
  function s.settle() sim.settle(s.host) end
  function s.commits()
    local list = {}
    for i, part in ipairs(s.options.parts) do
      local running = s.world:running("staging:" .. part)
      list[i] = running and running.commit
    end
    return list
  end
  function s.rollouts()
    local list = {}
    for _, line in ipairs(s.world:effects()) do
      local part, commit = line:match("^roll out web/staging:(%w+) (%S+)$")
      if part then list[#list + 1] = part .. " " .. commit end
    end
    return list
  end
  function s.status() return s.host:status().apps[1].environments[1] end
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  return s
end

test("a release goes to each part in order, is live when all have it, and each part says what it has", function()
  local s = stage()
  s.world:push("main", "a")
  s.open()
  s.settle()
  eq(s.rollouts(), { "eu a", "us a" })
  local env = s.status()
  eq({ env.state, env.current.commit, #env.parts, env.problems }, { "idle", C "a", 2, nil })
  eq({ env.parts[1].name, env.parts[1].commit, env.parts[2].commit, env.healthy }, { "eu", C "a", C "a", true })
  s.world:put("staging:us", { digest = "sha256:" .. ("0"):rep(64), image = "other/thing" })
  s.host:app_state("web").targets = nil
  env = s.status()
  eq(env.state, "changed")
  has(env.reason, "part us: something else runs there: other/thing")
end)

test("a hold stops a release between two parts, and it goes on when that ends", function()
  local s = stage()
  s.world:push("main", "a")
  local simulated, held = s.world.world, false
  function s.world.world(self)
    local openers = simulated(self)
    local verify = openers.verify
    function openers.verify(list, request, ...)
      if request.part == "eu" and not held then
        held = true
        assert(s.host:hold { app = "web", environment = "staging", by = "ann", reason = "look first" })
      end
      return verify(list, request, ...)
    end
    return openers
  end
  local host = s.open()
  local running = require("task").spawn(function() return host:run() end)
  check.eventually(function() return s.status().state == "held" end)
  eq(s.rollouts(), { "eu a" })
  assert(host:unhold { app = "web", environment = "staging", by = "ann" })
  check.eventually(function() return s.status().current ~= nil end)
  eq(s.rollouts(), { "eu a", "us a" })
  host:stop(0)
  running:join()
end)

test("an order takes every part down, and apply brings all of them up again", function()
  local s = stage()
  s.world:push("main", "a")
  s.open()
  s.settle()
  assert(s.host:destroy { app = "web", environment = "staging", by = "ann" })
  s.settle()
  eq({ s.commits()[1], s.commits()[2], s.status().current, s.status().parts[1].digest }, {})
  assert(s.host:apply { app = "web", environment = "staging", by = "ann" })
  s.settle()
  eq({ s.commits(), s.status().parts[2].commit }, { { C "a", C "a" }, C "a" })
end)

test("a part that was left with something else than the rest is told", function()
  local s = stage()
  s.world:push("main", "a")
  s.open()
  s.settle()
  local journal = s.host.journal
  journal:synced("test", function()
    local id = journal:add_release {
      app = "web", environment = "staging", commit = C "b", digest = "sha256:b", image = "x", only = "eu",
      state = "unfinished",
    }
    return journal:give(id, "eu", "live")
  end)
  s.world:put("staging:eu", { digest = "sha256:b", commit = C "b", image = "x" })
  s.host:app_state("web").targets = nil
  has(s.status().reason, "part eu: it has not what the rest has")
  local metrics = {}
  for _, metric in ipairs(s.host:metrics()) do
    for _, sample in ipairs(metric.samples) do
      if sample.labels.part == "eu" then metrics[metric.name] = sample.value end
    end
  end
  eq({ metrics.moontide_part_canary, metrics.moontide_part_healthy }, { 0, 1 })
end)

test("a part that fails stops there, and the rollback restores every part that got the new image", function()
  local s = stage { parts = { "eu", "us", "ap" } }
  s.world:push("main", "a")
  s.open()
  s.settle()
  s.world:trouble("b", "check in us")
  s.world:push("main", "b")
  s.settle()
  eq(s.commits(), { C "a", C "a", C "a" })
  local done = s.rollouts()
  eq({ table.unpack(done, 4) }, { "eu b", "us b", "eu a", "us a" })
  has(s.world:messages()[#s.world:messages()], "part us: the check got status 500")
  eq(s.status().current.commit, C "a")
end)

test("a canary goes to one part, is no release of the environment yet, and the rest follows in the same run", function()
  local s = stage(nil, { production = NOTHING, staging = CANARY:format "run:sleep(3600)" })
  s.world:push("main", "a")
  s.open()
  local host = s.host
  local running = require("task").spawn(function() return host:run() end)
  check.eventually(function() return host.journal:canary("web", "staging") ~= nil end)
  check.eventually(function() return host.journal:row("SELECT 1 AS n FROM steps WHERE name = 'sleep'") ~= nil end)
  local env = host:why("web", "staging").environments[1]
  eq({ env.current, env.parts[1].canary, env.parts[2].commit, s.commits()[2] }, { nil, true, nil, nil })
  has(env.problems[1].text, "a canary is out: " .. C "a":sub(1, 7) .. " in the part eu since ")
  host:stop(0)
  running:join()
end)

test("after its canary a release goes to the rest only", function()
  local s = stage(nil, { production = NOTHING, staging = CANARY:format "" })
  s.world:push("main", "a")
  s.open()
  s.settle()
  eq(s.rollouts(), { "eu a", "us a" })
  eq({ s.status().current.commit, s.status().parts[1].canary, s.status().problems }, { C "a", nil, nil })
end)

test("a canary that fails, or whose run ends before the rest has it, goes back to what the rest runs", function()
  for how, ends in pairs {
    ["fails its checks"] = "", ["is given up"] = "if head.commit == '" .. C "b" .. "' then return end",
    ["is found wanting"] = "if head.commit == '" .. C "b" .. "' then error('the numbers are bad') end",
  } do
    local s = stage(nil, {
      production = NOTHING, staging = CANARY:format(ends), rollback = fs.read "scripts/rollback.lua",
    })
    s.world:push("main", "a")
    s.open()
    s.settle()
    if how == "fails its checks" then s.world:trouble("b", "check in eu") end
    s.world:push("main", "b")
    s.settle()
    eq({ how, table.unpack(s.commits()) }, { how, C "a", C "a" })
    eq({ table.unpack(s.rollouts(), 3) }, { "eu b", "eu a" })
    eq({ s.status().current.commit, s.status().parts[1].commit }, { C "a", C "a" })
    s.world:push("main", "c")
    s.settle()
    eq(s.commits(), { C "c", C "c" })
  end
end)

test("a canary that turns unhealthy while its run waits is taken back, and the run goes no further", function()
  local s = stage(nil, {
    production = NOTHING, staging = CANARY:format("if head.commit == '" .. C "b" .. "' then run:sleep(3600) end"),
    rollback = fs.read "scripts/rollback.lua",
  })
  s.world:push("main", "a")
  s.open()
  s.settle()
  s.world:push("main", "b")
  local host = s.host
  local running = require("task").spawn(function() return host:run() end)
  check.eventually(function() return host.journal:canary("web", "staging") ~= nil end)
  s.world:trouble("b", "later")
  check.eventually(function()
    host:poll_soon("web")
    return host.journal:run_by_id(2).state ~= "running"
  end, 20)
  check.eventually(function() return s.commits()[1] == C "a" end)
  eq({ host.journal:run_by_id(2).state, table.unpack(s.commits()) }, { "superseded", C "a", C "a" })
  host:stop(0)
  running:join()
end)

test("an order to roll back takes a canary back", function()
  local s = stage(nil, {
    production = NOTHING, staging = CANARY:format("if head.commit == '" .. C "b" .. "' then run:sleep(3600) end"),
    rollback = fs.read "scripts/rollback.lua",
  })
  s.world:push("main", "a")
  s.open()
  s.settle()
  s.world:push("main", "b")
  local host = s.host
  local running = require("task").spawn(function() return host:run() end)
  check.eventually(function() return host.journal:canary("web", "staging") ~= nil end)
  assert(host:rollback { app = "web", environment = "staging", by = "ann" })
  check.eventually(function() return s.commits()[1] == C "a" end)
  check.eventually(function() return host.journal:canary("web", "staging") == nil end)
  host:stop(0)
  running:join()
end)

test("an environment with one target has no parts to name", function()
  local s = stage({ parts = {} }, { production = NOTHING, staging = CANARY:format "" })
  s.world:push("main", "a")
  s.open()
  s.settle()
  local run = s.host.journal:run_by_id(1)
  eq({ run.state, run.error.message }, { "failed", "web staging has no part eu" })
end)

test("at first sight parts are adopted: the last one is the release, what is ahead of it a canary", function()
  local s = stage()
  local function running(name)
    return { digest = "sha256:" .. require("hash").sha256("image of " .. C(name)), commit = C(name), image = "x" }
  end
  s.world:push("main", "a")
  s.world:put("staging:eu", running "b")
  s.world:put("staging:us", running "a")
  s.open()
  local place = s.host:place("web", "staging")
  assert(require("engine.first_sight").adopt(s.host, place, false))
  local env = s.status()
  eq({ env.current.commit, env.parts[1].commit, env.parts[1].canary, env.parts[2].commit },
    { C "a", C "b", true, C "a" })
  s.world:push("main", "c")
  s.settle()
  eq(s.commits(), { C "c", C "c" })
end)

local function digest(n) return "sha256:" .. C("n" .. n):rep(2):sub(1, 64) end

test("an image that some part runs is kept", function()
  local s = stage(nil, { production = NOTHING, staging = CANARY:format "" })
  s.world:push("main", "a")
  s.open()
  s.settle()
  local journal = s.host.journal
  for n = 1, 12 do
    journal:synced("test", function()
      local id = journal:add_release {
        app = "web", environment = "staging", commit = C("n" .. n), digest = digest(n),
        image = "registry.invalid/team/web", state = "failed",
      }
      journal:give(id, "us", n == 1 and "live" or "pending")
      if n > 1 then journal:write("DELETE FROM parts WHERE release = ?", id) end
      return true
    end)
  end
  local config = s.host.config
  config.retention.images = 2
  local kept = require("images.removal.keep").of(journal, config)
  local image = "registry.invalid/team/web"
  eq({ kept:has(image, digest(1)), kept:has(image, digest(2)) }, { true, false })
end)

test("killed at any moment of a release to two parts, the end is the same, and nothing is done twice", function()
  if sys.killpoint == nil then check.skip("this build has no kill points") end
  local kills, ended = 0, false
  for _, point in ipairs { "intent.before", "intent.after", "effect.after", "outcome.before", "outcome.after",
    "value.before", "value.after", "finish.before" } do
    for n = 1, 40 do
      local s = stage(nil, { production = NOTHING, staging = CANARY:format "" })
      s.world:push("main", "a")
      local script = s.dir .. "/life.lua"
      assert(fs.write(s.dir .. "/sim.lua", assert(fs.read("tests/sim.lua"))))
      assert(fs.write(script, [[
        local world, state, scripts = ...
        local sim = require "sim"
        local host = sim.host(sim.open(world), state, { scripts = scripts, parts = { "eu", "us" } })
        return assert(host:once()).ok and 0 or 1
      ]]))
      local function life(kill)
        return assert(proc.run { sys.exe(), "exec", script, s.dir .. "/world", s.dir .. "/state", s.options.scripts,
          env = { MOONTIDE_KILLPOINT = kill or "" }, timeout = 60, stderr = "stdout" })
      end
      ended = life(("%s:%d"):format(point, n)).signal ~= "SIGKILL"
      if ended then break end
      kills = kills + 1
      local second = life()
      eq({ point, n, second.code, second.code ~= 0 and second.stdout or "" }, { point, n, 0, "" })
      eq({ point, n, table.concat(s.rollouts(), ",") }, { point, n, "eu a,us a" })
    end
    eq({ point, ended }, { point, true })
  end
  check.ok(kills > 10)
end)
