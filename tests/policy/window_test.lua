-- Runs that wait for a window of time, in virtual time: through restarts and a clock that is set back, to its opening,
-- to a newer change, to the end of their patience.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, sim, sys, time = require "fs", require "sim", require "base.sys", require "time"
local eq, ok = check.eq, check.ok

local SATURDAY <const> = assert(time.parse_iso("2026-11-28T12:00:00Z"))
sys.virtual_time(SATURDAY)

local DAY <const> = 86400

local function test(name, fn) check.test(name, fn, 1e9) end

local SCRIPT <const> = [[
return policy {
  watch = function(place) return place:head() end,
  run = function(run)
    run:window { "Mon-Fri 9:00-17:00", zone = "Europe/Berlin"%s }
    run:step("the work", {}, function() return "done" end)
  end,
}]]

local function stage(more, script)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.mkdir(dir.path .. "/scripts"))
  for _, name in ipairs { "production", "rollback" } do
    assert(fs.write(("%s/scripts/%s.lua"):format(dir.path, name), assert(fs.read(("scripts/%s.lua"):format(name)))))
  end
  assert(fs.write(dir.path .. "/scripts/staging.lua", script or SCRIPT:format(more or "")))
  local s = { world = sim.open(dir.path .. "/world") }
  s.world:push("main", "a")
  function s.open()
    local host = sim.host(s.world, dir.path .. "/state", { scripts = dir.path .. "/scripts" })
    check.defer(function() pcall(host.close, host) end)
    return host
  end
  return s
end

-- The next Saturday at noon.
local function on_saturday() time.sleep(time.next("Sat 12:00", "UTC", time.now() - 1) - time.now()) end

local function staging(host) return host:status().apps[1].environments[1] end

local function state_of(host, id) return host.journal:run_by_id(id).state end

-- The host dies: what was not recorded has not happened.
local function die(host)
  host.draining = true -- its lanes try nothing more
  for _, lane in pairs(host.lanes) do
    for _, attempt in pairs(lane.runs) do attempt.task:cancel() end
  end
  host.journal:write("UPDATE runs SET state = 'running', ended_at = NULL, error = NULL WHERE id = 1")
  pcall(host.close, host)
end

local function go_on(host)
  host:lane(host:place("web", "staging")):kick()
  sim.settle(host)
end

test("a run waits for its window, says when it opens, and goes on then", function()
  on_saturday()
  local host = stage().open()
  sim.settle(host)
  local env = staging(host)
  eq({ env.state, env.run.state }, { "waiting", "waiting" })
  ok(env.reason:find("waits for its window (Mon-Fri 9:00-17:00 Europe/Berlin), opens at 20", 1, true), env.reason)
  ok(env.reason:find("09:00 CE", 1, true), env.reason)
  ok(host:why("web").environments[1].reason:find("opens at", 1, true))
  time.sleep(DAY)
  eq(state_of(host, 1), "running")
  time.sleep(DAY)
  eq(state_of(host, 1), "done")
  local ended = host.journal:run_by_id(1).ended_at
  eq({ time.clock("Europe/Berlin", ended).weekday, time.clock("Europe/Berlin", ended).hour }, { 1, 9 })
  eq(staging(host).state, "idle")
end)

test("in its window a run does not wait", function()
  on_saturday()
  time.sleep(2 * DAY)
  local host = stage().open()
  sim.settle(host)
  eq(state_of(host, 1), "done")
end)

test("hosts that die while a run waits say nothing about it, and the wait goes on", function()
  on_saturday()
  local s = stage()
  local host = s.open()
  sim.settle(host)
  for _ = 1, 5 do -- as many attempts as would be set aside
    eq({ state_of(host, 1), host.journal:run_by_id(1).attempts, staging(host).state }, { "running", 0, "waiting" })
    die(host)
    host = s.open()
    go_on(host)
  end
  time.sleep(2 * DAY)
  eq({ state_of(host, 1), host.journal:run_by_id(1).attempts }, { "done", 1 })
end)

test("a window that closed while no host was there is waited for anew; one that was open is not", function()
  on_saturday()
  local s = stage()
  local host = s.open()
  sim.settle(host)
  die(host)
  time.sleep(7 * DAY) -- past the whole week
  host = s.open()
  go_on(host)
  eq(state_of(host, 1), "running")
  time.sleep(2 * DAY)
  eq(state_of(host, 1), "done")
end)

test("a clock that is set back makes the wait no longer than the window", function()
  on_saturday()
  local host = stage(', deadline = "3d"').open()
  sim.settle(host)
  local real = time.now
  check.defer(function() time.now = real end)
  time.now = function() return real() - 4 * DAY end -- it is Tuesday again
  local last = time.monotonic() + DAY
  while state_of(host, 1) ~= "done" and time.monotonic() < last do time.sleep(600) end
  eq(state_of(host, 1), "done")
end)

test("its patience is not longer for a clock that is set back", function()
  on_saturday()
  local host = stage(', deadline = "12h"').open()
  sim.settle(host)
  local real = time.now
  check.defer(function() time.now = real end)
  time.now = function() return real() - 7 * DAY end
  time.sleep(0.5 * DAY + 60)
  local run = host.journal:run_by_id(1)
  eq({ run.state, run.error.code }, { "failed", "deadline" })
  ok(run.error.message:find("did not open within 12 h", 1, true), run.error.message)
end)

test("something newer takes the place of what waits", function()
  on_saturday()
  local s = stage()
  local host = s.open()
  sim.settle(host)
  s.world:push("main", "b")
  sim.settle(host)
  eq({ state_of(host, 1), state_of(host, 2) }, { "superseded", "running" })
  time.sleep(2 * DAY)
  eq(state_of(host, 2), "done")
end)

test("a deadline around it ends it, also after a restart, and status does not name it any more", function()
  on_saturday()
  local s = stage(nil, [[
    local task = require "task"
    return policy {
      watch = function(place) return place:head() end,
      run = function(run)
        local fine, err = pcall(task.deadline, "6h", function() run:window { "Mon-Fri 9-17", zone = "UTC" } end)
        run:step("noted", { fine, err.code }, function() return true end)
        run:approval { votes = 1, deadline = "30d" }
      end,
    }]])
  local host = s.open()
  sim.settle(host)
  time.sleep(7 * 3600)
  ok(staging(host).reason:find("waits for approval", 1, true), staging(host).reason)
  die(host)
  host = s.open()
  go_on(host)
  ok(staging(host).reason:find("waits for approval", 1, true), staging(host).reason)
  ok(host:approve { app = "web", by = "ann" })
  sim.settle(host)
  eq(state_of(host, 1), "done")
end)

test("a window that never opens is an error, and what is wrong with one is said at its line", function()
  on_saturday()
  local s = stage(nil, [[return policy {
    watch = function(place)
      local open, words = place:window { "Mon-Fri 9-17", zone = "UTC" }
      assert(not open and words:find("opens at 20", 1, true) and words:find("Mon-Fri 9-17 UTC", 1, true), words)
      assert(place:window "always")
      return place:head()
    end,
    run = function(run)
      for _, wrong in ipairs { 7, {}, { "Mon-Fry 9-17" }, { "Mon", zone = "Mars" }, { "Mon", deadline = "soon" },
        { "Mon", zones = "UTC" } } do
        local fine, why = pcall(run.window, run, wrong)
        assert(not fine and why:find("staging.lua:11: ", 1, true) and why:find("run:window", 1, true), why)
      end
      run:window { "never" }
    end,
  }]])
  local host = s.open()
  sim.settle(host)
  local run = host.journal:run_by_id(1)
  eq({ run.state, run.error.code }, { "failed", "denied" }, run.error.message)
  ok(run.error.message:find("never opens", 1, true), run.error.message)
end)
