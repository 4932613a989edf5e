-- Durable runs: what a killed host does when it comes back, seen through policies of our own in a simulated world.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sim, sys, time = require "fs", require "proc", require "sim", require "base.sys", require "time"
local errors = require "errors"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local function stage(scripts)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local folder = dir.path .. "/scripts"
  assert(fs.mkdir(folder))
  for name, text in pairs(scripts) do assert(fs.write(folder .. "/" .. name .. ".lua", text)) end
  local s = { dir = dir.path, scripts = folder, world = sim.open(dir.path .. "/world"), options = { scripts = folder } }
  s.world:push("main", "a")
  function s.open()
    s.host = sim.host(s.world, s.dir .. "/state", s.options)
    return s.host
  end
  function s.last(n)
    local journal = s.host.journal
    return journal:run_by_id(n or journal:row("SELECT max(id) AS id FROM runs WHERE environment = 'staging'").id)
  end
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  return s
end


local NOTE <const> = [[
local fs = require "fs"
local function note(_, line) fs.append("notes", line .. "\n") end
]]

-- A host that settles this folder in a process of its own; killed at a pass when `kill` is given.
local function life(s, kill)
  local script = s.dir .. "/life.lua"
  assert(fs.write(script, [[
    local world, state, scripts = ...
    local sim = require "sim"
    local host = sim.host(sim.open(world), state, { scripts = scripts })
    local result = assert(host:once())
    return result.ok and 0 or 1
  ]]))
  assert(fs.write(s.dir .. "/sim.lua", assert(fs.read("tests/sim.lua"))))
  return assert(proc.run { sys.exe(), "exec", script, s.dir .. "/world", s.dir .. "/state", s.scripts,
    env = { MOONTIDE_KILLPOINT = kill or "" }, timeout = 60, stderr = "stdout" })
end

local function notes(s)
  local list = {}
  for line in (fs.read(s.dir .. "/state/files/web/notes") or ""):gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

local WAIT <const> = "watch = function(place) return place:head() end,"
local LOGS <const> = "return policy { " .. WAIT .. " run = function(run) run:log('%s') end }"
local NOTHING <const> = "return policy { watch = function() return nil, 'not in this test' end, run = function() end }"

local function killable()
  if sys.killpoint == nil then return false end
  local probe = assert(proc.run { sys.exe(), "exec", "tests/probe_kill.lua", env = { MOONTIDE_KILLPOINT = "probe:1" } })
  return probe.signal == "SIGKILL"
end

test("finished steps answer from the journal, the interrupted one is performed again", function()
  if not killable() then check.skip("this build has no kill points") end
  local s = stage { production = NOTHING, staging = NOTE .. [[
    return policy { ]] .. WAIT .. [[
      run = function(run)
        local one = run:step("one", {}, function() note(0, "one") return "result one" end)
        local two = run:step("two", { one }, function(attempt) note(0, "two " .. attempt) return "result two" end)
        run:step("three", { two }, function() note(0, "three " .. two) return true end)
      end }]] }
  eq(life(s, "outcome.before:2").signal, "SIGKILL") -- the second step's effect happened, its outcome is not recorded
  eq(notes(s), { "one", "two 1" })
  eq(life(s).code, 0)
  eq(notes(s), { "one", "two 1", "two 2", "three result two" })
end)

test("a run finishes with the text it started with, also when the policy was edited meanwhile", function()
  if not killable() then check.skip("this build has no kill points") end
  local script = function(word) return NOTE .. [[
    return policy { ]] .. WAIT .. [[
      run = function(run)
        local _, message = pcall(function() error("with a position") end)
        run:step("first", { message }, function() return 1 end)
        run:step("second", {}, function() note(0, "]] .. word .. [[") return 1 end)
      end }]] end
  local s = stage { production = NOTHING, staging = script "old text" }
  eq(life(s, "intent.after:2").signal, "SIGKILL")
  assert(fs.write(s.scripts .. "/staging.lua", script "new text"))
  eq(life(s).code, 0)
  eq(notes(s), { "old text" })
end)

test("a run keeps the edition of the words that it began with; the next one has the present one", function()
  if not killable() then check.skip("this build has no kill points") end
  local s = stage { production = NOTHING, staging = NOTE .. [[
    return policy { ]] .. WAIT .. [[
      run = function(run) run:step("first", {}, function() return 1 end) end }]] }
  eq(life(s, "intent.after:1").signal, "SIGKILL")
  local db = assert(require("store").open(s.dir .. "/state/journal.db"))
  assert(db:exec("UPDATE runs SET edition = 1"))
  db:close()
  eq(life(s).code, 0)
  s.open()
  eq({ s.last().state, s.last().edition }, { "done", 1 })
  s.world:push("main", "b")
  sim.settle(s.host)
  eq({ s.last().state, s.last().edition }, { "done", require("policy.steps").EDITION })
end)

test("what crashes the host three times is set aside, and the other environment goes on", function()
  if not killable() then check.skip("this build has no kill points") end
  local s = stage {
    staging = [[return policy { ]] .. WAIT .. [[
      run = function(run) run:step("poison", {}, function() return 1 end) end }]],
    production = [[return policy {
      watch = function() return { key = "x" } end, run = function(run) run:log("fine") end }]],
  }
  for _ = 1, 3 do eq(life(s, "intent.after:1").signal, "SIGKILL") end
  eq(life(s).code, 1)
  s.open()
  eq(s.last(1).state == "quarantined" or s.last(2).state == "quarantined", true)
  local status = s.host:status().apps[1]
  eq({ status.environments[1].state, status.environments[2].state }, { "quarantined", "idle" })
  s.world:push("main", "b")
  sim.settle(s.host)
  eq(s.last().state, "done")
end)

test("an orderly stop parks a run: it does not count as a crash and goes on where it was", function()
  local s = stage { production = NOTHING, staging = NOTE .. [[
    return policy { ]] .. WAIT .. [[
      run = function(run)
        run:step("one", {}, function() note(0, "one") return 1 end)
        run:sleep(6)
        run:step("two", {}, function() note(0, "two") return 1 end)
      end }]] }
  for _ = 1, 4 do
    local host = s.open()
    local running = require("task").spawn(function() return host:run() end)
    time.sleep(0.1)
    host:stop(0)
    running:join()
  end
  s.open()
  eq({ s.last().state, s.last().attempts <= 1 }, { "running", true })
  s.host:close()
  eq(life(s).code, 0)
  eq(notes(s), { "one", "two" })
end)

test("a look at everything once ends when it is stopped, and parks what it waits for", function()
  local s = stage { production = NOTHING, staging = [[
    return policy { ]] .. WAIT .. [[ run = function(run) run:sleep(3600) end }]] }
  local host = s.open()
  local looking = require("task").spawn(function() return host:once() end)
  check.eventually(function() return host.journal:row("SELECT 1 AS n FROM steps WHERE name = 'sleep'") ~= nil end)
  host:stop(0)
  local result = ok(looking:join())
  eq({ result.ok, #result.runs, result.runs[1].state }, { false, 1, "running" })
  s.open()
  eq({ s.last().state, s.last().attempts }, { "running", 0 })
end)

test("a host that dies while a run sleeps long costs the run no attempt; a short nap does", function()
  for seconds, attempts in pairs { [3600] = 0, [30] = 1 } do
    local s = stage { production = NOTHING, staging = NOTE .. [[
      return policy { ]] .. WAIT .. [[ run = function(run) run:sleep(]] .. seconds .. [[) end }]] }
    local host = s.open()
    local running = require("task").spawn(function() return host:run() end)
    check.eventually(function() return host.journal:row("SELECT 1 AS n FROM steps WHERE name = 'sleep'") ~= nil end)
    check.eventually(function() return s.last().attempts == attempts end)
    host:stop(0)
    running:join()
    s.open()
    eq({ s.last().state, s.last().attempts }, { "running", 0 })
  end
end)

test("a step that does not match the journal stops the run as diverged, whatever pcall says", function()
  if not killable() then check.skip("this build has no kill points") end
  local s = stage { production = NOTHING, staging = NOTE .. [[
    return policy { ]] .. WAIT .. [[
      run = function(run)
        local text = fs.read("n")
        local n = tonumber(text or 0)
        run:step("count", {}, function() fs.write("n", tostring(n + 1)) return n end)
      end }]] }
  -- Make it differ behind the journal's back: the recorded arguments of the step are edited.
  eq(life(s, "intent.after:2").signal, "SIGKILL")
  local db = assert(require("store").open(s.dir .. "/state/journal.db"))
  assert(db:run("UPDATE steps SET args = '{\"edited\":1}' WHERE path = '1'"))
  db:close()
  eq(life(s).code, 1)
  s.open()
  eq(s.last().state, "diverged")
  has(s.last().error.message, "step 1 was")
end)

test("the clock, random numbers and sleeps of a run are the recorded ones", function()
  local s = stage { production = NOTHING, staging = [[
    local time = require "time"
    return policy { ]] .. WAIT .. [[
      run = function(run)
        local a, b = time.now(), math.random(1, 1000000)
        run:step("see", { a, b, os.time() }, function() return { a, b } end)
      end }]] }
  s.open()
  sim.settle(s.host)
  eq(s.last().state, "done")
  local names = {}
  for _, step in ipairs(s.host.journal:steps(s.last().id)) do names[#names + 1] = step.name end
  eq(names, { "time.now", "random", "time.now", "step see" })
end)

test("parallel branches have paths of their own", function()
  local s = stage { production = NOTHING, staging = [[
    local task = require "task"
    return policy { ]] .. WAIT .. [[
      run = function(run)
        local got = run:all {
          function() run:sleep(0.02) return run:step("left", {}, function() return "l" end) end,
          function() return run:step("right", {}, function() return "r" end) end,
        }
        local t = task.spawn(function() return run:step("third", {}, function() return "t" end) end)
        run:step("end", { got[1] .. got[2] .. t:join() }, function() return true end)
      end }]] }
  s.open()
  sim.settle(s.host)
  eq(s.last().state, "done", s.last().error and s.last().error.message)
  local paths = {}
  for _, step in ipairs(s.host.journal:steps(s.last().id)) do paths[step.path] = step.name end
  eq(paths, {
    ["1.1"] = "sleep", ["1.2"] = "step left", ["2.1"] = "step right", ["3.1"] = "step third", ["4"] = "step end",
  })
end)

local REFUSED <const> = [[
    local errors = require "errors"
    return policy { ]] .. WAIT .. [[
      run = function(run)
        run:step("call", {}, function() error(errors.new("refused", "nobody listens"), 0) end)
      end }]]

test("a passing failure is tried again with backoff, a lasting one is not", function()
  local s = stage { production = NOTHING, staging = REFUSED }
  s.open()
  sim.settle(s.host)
  eq({ s.host.journal:run_by_id(1).state, s.host.journal:run_by_id(2).state }, { "failed", "queued" })
  local status = s.host:status().apps[1].environments[1]
  eq(status.state, "waiting")
  ok(status.retry_at > time.now() + 5)
end)

test("what is tried again and again is one line of the history, says so, and pushes out no other run", function()
  local s = stage { production = NOTHING, staging = LOGS:format "x" }
  s.open()
  for i = 1, 9 do
    s.world:push("main", "c" .. i)
    sim.settle(s.host)
  end
  assert(fs.write(s.scripts .. "/staging.lua", REFUSED))
  ok(s.host:reload())
  s.world:push("main", "refused")
  sim.settle(s.host)
  local first = s.last().first or s.host:history({}).runs[1].first
  for try = 2, 12 do
    s.host.journal:write("UPDATE runs SET not_before = 0 WHERE state = 'queued'")
    s.host:lane(s.host:place("web", "staging")):kick()
    sim.settle(s.host)
    eq(s.host:history({}).runs[1].tries, try)
  end
  local runs = s.host:history({ limit = 100 }).runs
  eq({ #runs, runs[1].first, runs[1].state, runs[2].state }, { 10, first, "queued", "done" })
  has(runs[1].error.message, "nobody listens")
  for _, d in ipairs(s.host:why("web", "staging").decisions) do
    if d.subject == nil and d.verdict == "unchanged" then
      has(d.reason, ("was handled by run %d, which is tried again: "):format(first))
    end
  end
  eq(#s.host.journal:forget { runs = 10, days = 90 }, 7) -- of thirteen tries the first and the last five stay
  eq(#s.host:history({ limit = 100 }).runs, 10)
end)

test("secrets of the world do not reach the journal", function()
  local s = stage { production = NOTHING, staging = [[
    return policy { ]] .. WAIT .. [[
      run = function(run)
        local canary = "MOON" .. "CANARY-"
        run:step("call", { password = canary .. "arg", plain = canary .. "known" }, function()
          return canary .. "known"
        end)
      end }]] }
  require("log").secret("MOONCANARY-known")
  s.open()
  sim.settle(s.host)
  eq(s.last().state, "done")
  s.host:close()
  for _, name in ipairs { "journal.db", "journal.db-wal" } do
    local text = fs.read(s.dir .. "/state/" .. name, { max = 64 << 20 })
    ok(not text or not text:find("MOONCANARY", 1, true), name)
  end
  s.host = nil
end)

test("a newer journal is refused with a clear word, and left alone", function()
  local s = stage { staging = NOTHING, production = NOTHING }
  s.open()
  s.host.journal.db:exec("PRAGMA user_version = 999")
  s.host:close()
  s.host = nil
  local config = sim.config(s.dir .. "/state", s.options)
  local host, err = require("engine").open {
    config = config, world = s.world:world(), load = function() return config end,
  }
  eq(host, nil)
  check.fails("unsupported", host, err)
  has(err.message, "newer Moontide")
end)

test("a second host on the same state is refused", function()
  local s = stage { staging = NOTHING, production = NOTHING }
  s.open()
  local config = sim.config(s.dir .. "/state", s.options)
  local result = assert(proc.run { sys.exe(), "exec", "tests/probe_lock.lua", s.dir .. "/state" })
  eq(result.stdout, "busy\n")
  ok(config)
end)

test("what is kept for an app that a reload takes away is dropped", function()
  local s = stage { staging = LOGS:format("a"), production = NOTHING }
  local host = s.open()
  sim.settle(host)
  ok(next(host.lanes))
  while next(host.lanes) and host.lanes["web/staging"].active do time.sleep(0.01) end
  local load = host.load
  host.load = function()
    local config = load()
    config.apps, config.app_list = {}, {}
    return config
  end
  assert(host:reload())
  eq({ next(host.lanes), next(host.said), next(host.app_states), next(host.places) }, {})
  host.load = load
  assert(host:reload())
  s.world:push("main", "b")
  sim.settle(host)
  eq(s.last().state, "done")
end)

test("reload swaps all or nothing", function()
  local s = stage { production = NOTHING, staging = LOGS:format "one" }
  s.open()
  sim.settle(s.host)
  local before = s.host.policies.staging.hash
  assert(fs.write(s.scripts .. "/staging.lua", "return policy { watch = "))
  local result, err = s.host:reload()
  eq(result, nil)
  ok(errors.is(err, "invalid"))
  has(err.faults[1].file, "staging.lua")
  ok(err.faults[1].line)
  eq(s.host.policies.staging.hash, before)
  assert(fs.write(s.scripts .. "/staging.lua", LOGS:format "two"))
  result = ok(s.host:reload())
  eq(result.changed, { "policy staging changed" })
end)

test("retention forgets old runs and their logs, and nothing that is needed", function()
  local s = stage { production = NOTHING, staging = LOGS:format "x" }
  s.open()
  for i = 1, 15 do
    s.world:push("main", "c" .. i)
    sim.settle(s.host)
  end
  local forgotten = s.host.journal:forget { runs = 10, days = 90 }
  eq(#forgotten, 5)
  eq(#s.host:history({ app = "web", limit = 100 }).runs, 10)
end)

