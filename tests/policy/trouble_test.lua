-- Trouble of the host's own: a journal on a full disk, clocks that jump, policies that swallow errors, reloads that
-- take things away. Nothing stops for good, nothing is done twice, and nothing counts as done that was not.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, sim, task, time = require "errors", require "fs", require "sim", require "task", require "time"
local test, eq, ok = check.test, check.eq, check.ok

local C = sim.commit

local WATCH <const> = "watch = function(place) return place:head() end,"
local NOTHING <const> = "return policy { watch = function() return nil, 'not in this test' end, run = function() end }"

-- A world and a host; `scripts` are policies of our own.
local function stage(scripts, options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  options = options or {}
  if scripts then
    options.scripts = dir.path .. "/scripts"
    assert(fs.mkdir(options.scripts))
    for name, text in pairs(scripts) do assert(fs.write(options.scripts .. "/" .. name .. ".lua", text)) end
  end
  local s = { world = sim.open(dir.path .. "/world"), dir = dir.path, options = options }
  s.host = sim.host(s.world, dir.path .. "/state", options)
  check.defer(function() pcall(s.host.close, s.host) end)
  function s.settle() sim.settle(s.host) end
  function s.kick() for _, lane in pairs(s.host.lanes) do lane:kick() end end
  function s.reopen()
    s.host:close()
    s.host = sim.host(s.world, dir.path .. "/state", options)
  end
  function s.last() return s.host.journal:run_by_id(s.host.journal:row("SELECT max(id) AS id FROM runs").id) end
  return s
end

-- Makes the n-th call of a journal's method, and those after it, fail as on a full disk; returns what mends it.
local function full_disk(s, method, n)
  local calls, broken, real = 0, true, s.host.journal[method]
  s.host.journal[method] = function(...)
    calls = calls + 1
    if broken and calls >= n then error(errors.new("full", "the disk is full", { op = "store.transaction" }), 0) end
    return real(...)
  end
  return function() broken = false end
end

test("a run whose journal cannot be written waits, goes on when it can, and loses nothing", function()
  for _, case in ipairs {
    { "begin", 1 }, { "intend", 1 }, { "intend", 2 }, { "outcome", 1 }, { "outcome", 3 }, { "value", 2 },
    { "finish", 1 },
  } do
    local s = stage()
    local what = case[1] .. " " .. case[2]
    local mend = full_disk(s, case[1], case[2])
    s.world:push("main", "a")
    s.settle()
    for _ = 1, 5 do -- more often than crashes are forgiven
      s.kick()
      s.settle()
    end
    ok(s.last().state == "queued" or s.last().state == "running", what)
    mend()
    s.kick()
    s.settle()
    eq({ s.last().state, s.world:running("staging").commit }, { "done", C "a" }, what)
    local rollouts = 0
    for _, line in ipairs(s.world:effects()) do rollouts = rollouts + (line:find("roll out", 1, true) and 1 or 0) end
    eq(rollouts, 1, what)
  end
end)

test("a policy cannot swallow that its journal is full", function()
  local s = stage { production = NOTHING, staging = [[
    return policy { ]] .. WATCH .. [[
      run = function(run)
        pcall(run.step, run, "one", {}, function() return 1 end)
        pcall(run.step, run, "two", {}, function() return 2 end)
      end }]] }
  s.world:push("main", "a")
  local mend = full_disk(s, "intend", 1)
  s.settle()
  eq(s.last().state, "running")
  mend()
  s.kick()
  s.settle()
  eq(s.last().state, "done")
  eq(#s.host.journal:steps(s.last().id), 2)
end)

test("a policy that swallows the end of its host is parked and not done", function()
  local s = stage { production = NOTHING, staging = [[
    local fs = require "fs"
    return policy { ]] .. WATCH .. [[
      run = function(run)
        pcall(run.sleep, run, 0.3)
        run:log("slept")
      end }]] }
  s.world:push("main", "a")
  local running = task.spawn(function() return s.host:run() end)
  check.eventually(function() return s.host.journal:row("SELECT 1 AS x FROM steps") end)
  s.host:stop(0)
  running:join()
  s.host = sim.host(s.world, s.dir .. "/state", s.options)
  eq(s.last().state, "running")
  sim.settle(s.host)
  s.host:lane(s.host:place("web", "staging")):kick()
  sim.settle(s.host)
  eq(s.last().state, "done")
end)

test("a clock that is set back holds up neither a retry nor a sleep", function()
  local real, shift = time.now, 0
  check.defer(function() time.now = real end)
  time.now = function() return real() + shift end
  local s = stage { production = NOTHING, staging = [[
    return policy { ]] .. WATCH .. [[
      run = function(run) run:sleep(0.3) run:step("end", {}, function() return 1 end) end }]] }
  s.world:push("main", "a")
  assert(s.host:poll())
  check.eventually(function() return s.host.journal:row("SELECT 1 AS x FROM steps") end)
  shift = -365 * 86400
  check.eventually(function() return s.last().state == "done" end, 3)
  s.host.journal:write("UPDATE runs SET state = 'queued', not_before = ?", time.now() + 365 * 86400)
  s.kick()
  check.eventually(function() return s.last().state == "done" end, 3)
end)

test("what waits for an app that a reload took away stays undone", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local gone = sim.config(s.dir .. "/state", s.options)
  gone.apps, gone.app_list = {}, {}
  local real = s.host.world.ensure_image
  s.host.world.ensure_image = function(request)
    if request.commit == C "b" then
      s.world:push("main", "c")
      check.eventually(function() return #s.host:poll("web").changes > 0 end)
      s.host.load = function() return gone end
      assert(s.host:reload())
    end
    return real(request)
  end
  s.world:push("main", "b")
  s.settle()
  eq(s.world:running("staging").commit, C "b") -- what was under way is finished
  eq(s.last().state, "queued")
end)

test("a release under way when its run is ended from outside is taken back like any that failed", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local real = s.host.world.target
  s.host.world.target = function(...)
    local target = real(...)
    target.wait = function(_, request)
      if s.world:running("staging").commit == C "b" and request.digest == s.world:running("staging").digest then
        error(errors.new("cancelled", "somebody ended it"), 0)
      end
      return true
    end
    return target
  end
  s.world:push("main", "b")
  s.settle()
  eq(s.host.journal:row("SELECT count(*) AS n FROM releases WHERE state = 'pending'").n, 0)
  eq(s.world:running("staging").commit, C "a")
end)

test("secrets in what sources, policies and failures say reach no file of the state", function()
  local canary = "MOONCANARY-4f1d0a"
  require("log").secret(canary)
  local s = stage {
    production = [[return policy { watch = function(place)
      place:refuse("v1", "the server said MOON" .. "CANARY-4f1d0a") error("failed with MOON" .. "CANARY-4f1d0a")
    end, run = function() end }]],
    staging = [[return policy {
      watch = function()
        local canary = "MOON" .. "CANARY-4f1d0a"
        return { key = "k " .. canary, title = "t " .. canary, x = canary }
      end,
      run = function(run)
        pcall(run.step, run, "call", {}, function() error("inside MOON" .. "CANARY-4f1d0a") end)
        run:log(("x"):rep(3990) .. "MOON" .. "CANARY-4f1d0a")
        error("outside MOON" .. "CANARY-4f1d0a")
      end }]],
  }
  s.world:push("main", "a")
  for _ = 1, 3 do s.settle() end
  eq(s.last().state, "failed")
  eq(s.host.journal:row("SELECT count(*) AS n FROM runs").n, 1) -- the key that was handled is known again
  local shown = require("json").encode {
    s.host:status(), s.host:why("web"), s.host:history {}, s.host:run_log(s.last().id, 0),
  }
  ok(not shown:find("MOONCANARY-4", 1, true), shown)
  s.host:close()
  for path in fs.walk(s.dir .. "/state") do
    local text = fs.read(s.dir .. "/state/" .. path, { max = 64 << 20 })
    ok(not text or not text:find("MOONCANARY-4", 1, true), path)
  end
end)

test("a policy file that cannot be read is a fault, and not the program's own policy in its place", function()
  local s = stage { staging = NOTHING }
  assert(fs.mkdir(s.options.scripts .. "/production.lua")) -- there, and not readable
  local result, err = s.host:reload()
  check.fails("invalid", result, err)
  check.has(err.faults[1].file, "production.lua")
end)

test("subjects that come and go forever take neither memory nor disk forever", function()
  local s = stage { staging = NOTHING, production = [[
    local n = 0
    return policy { run = function() end, watch = function(place)
      n = n + 1
      for i = 1, 400 do place:refuse(("v%d.%d"):format(n, i), "no") end
      return nil, "nothing"
    end }]] }
  s.world:push("main", "a")
  for _ = 1, 8 do assert(s.host:poll()) end
  local subjects = 0
  for _ in pairs(s.host.said["web/production/production"].said) do subjects = subjects + 1 end
  ok(subjects <= 1500, subjects)
  s.host.journal:forget { runs = 500, days = 90 }
  local rows = s.host.journal:row("SELECT count(*) AS n FROM decisions WHERE environment = 'production'").n
  ok(rows <= 2300, rows)
end)

test("what failed is remembered when its age alone would let it go", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:trouble("b", "check")
  s.world:trouble("c", "check")
  s.world:push("main", "b")
  s.world:tag("v1.1.0", "b")
  s.settle()
  s.world:push("main", "c")
  s.world:tag("v1.2.0", "c")
  s.settle()
  s.host.journal:write("UPDATE runs SET ended_at = 1")
  s.host.journal:write("UPDATE releases SET at = 1 WHERE state <> 'live'")
  s.host.journal:forget { runs = 500, days = 90 }
  local rollouts = #s.world:effects()
  s.settle()
  eq(#s.world:effects(), rollouts)
  eq(s.world:running("production").version, "v1.0.0")
end)

test("once and stop do not end before people were told", function()
  for _, way in ipairs { "once", "run" } do
    local s = stage()
    local told = {}
    s.host.world.notify = function(_, message)
      time.sleep(0.3)
      told[#told + 1] = message.text
      return true
    end
    s.world:push("main", "a")
    if way == "once" then
      ok(s.host:once())
    else
      local running = task.spawn(function() return s.host:run() end)
      check.eventually(function() return s.host.journal:row("SELECT 1 AS x FROM runs WHERE state = 'done'") end)
      s.host:stop(1)
      running:join()
    end
    eq(#told, 1, way)
  end
end)

test("a reload while a poll is under way leaves nothing of the old configuration behind", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local old = s.host.config.apps.web
  s.options.poll = 1800
  assert(s.host:reload())
  local new = s.host.config.apps.web
  ok(old ~= new)
  local seen = {}
  s.host.world.repository = function(app)
    seen[#seen + 1] = app
    local function nothing() end
    return {
      expire = nothing, expect = nothing, refs = function() return errors.fail("refused", "not in this test") end,
    }
  end
  s.host.world.repository(old) -- what a poll that began before asks
  s.host.world.repository(new)
  ok(seen[1] == old and seen[2] == new)
  eq((require("engine.poller").poll(s.host, old)), {})
end)

test("an accepted change runs although what was decided cannot be written", function()
  local s = stage()
  s.world:push("main", "a")
  local mend = full_disk(s, "decide", 1)
  check.raises("full", function() assert(s.host:poll()) end)
  check.eventually(function() return s.world:running("staging") end)
  mend()
end)

test("checks that the configuration gained or lost while the host was down do not stop a run", function()
  local s = stage()
  s.world:push("main", "a")
  local first = true
  s.host.world.verify = function()
    if first then
      first = false
      s.host.journal.outcome = function() error(errors.new("full", "the disk is full", { op = "store.run" }), 0) end
    end
    return true
  end
  s.settle()
  eq(s.last().state, "running")
  s.host.journal.outcome = nil
  for _, environment in ipairs(s.host.config.apps.web.environment_list) do environment.verify = {} end
  s.kick()
  s.settle()
  eq(s.last().state, "done", s.last().error and s.last().error.message)
end)

-- What the target answers, one after the other, before it works.
local function target_weather(s, word, codes)
  local real, asked = s.host.world.target, 0
  s.host.world.target = function(...)
    local target = real(...)
    local works = target[word]
    target[word] = function(self, request)
      asked = asked + 1
      local code = codes[asked]
      if code then return errors.fail(code, "the target says " .. code) end
      return works(self, request)
    end
    return target
  end
end

test("a target that cannot be reached for a moment is asked again, and nothing is taken back", function()
  for _, word in ipairs { "apply", "wait" } do
    local s = stage()
    target_weather(s, word, { "refused", "reset" })
    s.world:push("main", "a")
    s.settle()
    eq(s.host:history({ app = "web", environment = "staging" }).runs[1].state, "done")
    eq(s.world:running("staging").commit, sim.commit "a")
  end
end)

-- Lets what waits for its next try be tried at once.
local function try_now(s)
  s.host.journal:synced("test", function()
    return s.host.journal:write("UPDATE runs SET not_before = 0 WHERE state = 'queued' AND not_before > 0")
  end)
  s.settle()
  s.kick()
  s.settle()
end

local function states(s, environment)
  local list = {}
  for i, r in ipairs(s.host:history({ app = "web", environment = environment or "staging" }).runs) do
    list[i] = r.policy .. " " .. r.state
  end
  return list
end

local function codes(n, code)
  local list = {}
  for i = 1, n do list[i] = code end
  return list
end

test("a release whose target stays out of reach waits, for ever if need be, and goes out when that is over", function()
  for _, word in ipairs { "apply", "wait" } do
    for _, code in ipairs { "refused", "timeout", "busy", "dns" } do
      local s = stage()
      s.world:push("main", "a")
      s.settle()
      s.host.patience = 0
      target_weather(s, word, codes(8, code))
      s.world:push("main", "b")
      s.settle()
      for _ = 1, 7 do
        eq(states(s)[1], "staging queued", word .. " " .. code)
        local status = s.host:status().apps[1].environments[1]
        eq(status.state, "waiting")
        ok(status.retry_at)
        check.has(status.reason, "the target says " .. code)
        try_now(s)
      end
      eq(states(s)[1], "staging queued")
      try_now(s)
      eq(s.world:running("staging").commit, C "b")
      eq(s.host:status().apps[1].environments[1].current.commit, C "b")
      for _, state in ipairs(states(s)) do ok(state:find("^staging"), "nothing was taken back: " .. state) end
      eq(s.host.journal:known_bad("web", "staging", s.world:running("staging").digest), nil)
      check.eventually(function()
        local told = 0
        for _, text in ipairs(s.world:messages()) do told = told + (text:find("^waits: ") and 1 or 0) end
        return told == 1
      end, 10, "people hear once that it waits")
    end
  end
end)

test("a target that is out of reach after failed checks makes nothing bad", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.host.patience = 0
  s.world:push("main", "b")
  s.world:trouble("b", "check")
  local check_it, away = s.host.world.verify, false
  s.host.world.verify = function(...)
    away = true
    return check_it(...)
  end
  local real = s.host.world.target
  s.host.world.target = function(...)
    local target = real(...)
    local current = target.current
    function target.current()
      if away then return errors.fail("refused", "the engine is not there") end
      return current()
    end
    return target
  end
  s.settle()
  eq(states(s)[1], "staging queued")
  away, s.host.world.verify = false, check_it
  s.world:trouble("b", nil)
  try_now(s)
  eq({ s.world:running("staging").commit, states(s)[1] }, { C "b", "staging done" })
end)

test("what cannot be built now is built later; what fails for good names the command that tries again", function()
  local s = stage()
  local real, fault = s.host.world.ensure_image, errors.new("failed", "no base image", { passing = true })
  s.host.world.ensure_image = function(request)
    if fault then return nil, fault end
    return real(request)
  end
  s.world:push("main", "a")
  s.settle()
  for _ = 1, 7 do try_now(s) end
  eq(states(s)[1], "staging queued")
  fault = errors.new("exit", "the build ended with status 1")
  try_now(s)
  eq(states(s)[1], "staging failed")
  local status = s.host:status().apps[1].environments[1]
  check.has(status.reason, "'moontide retry web staging' tries again")
  check.eventually(function()
    return table.concat(s.world:messages(), "\n"):find("'moontide retry web staging' tries again", 1, true)
  end, 10, "people are told")
  local log = ok(s.host:run_log(s.last().id, 0))
  check.has(log.entries[#log.entries].text, "'moontide retry web staging' tries again")
end)

test("what never ran is not taken back, and what ran before is still watched", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  target_weather(s, "apply", { "denied" })
  s.world:push("main", "b")
  s.settle()
  eq(states(s), { "staging failed", "staging done" })
  eq(s.host.journal:known_bad("web", "staging", s.host.journal:newest_release("web", "staging").digest), nil)
  s.world:trouble("a", "later")
  s.settle()
  eq(states(s)[1], "rollback done")
  check.eventually(function()
    return table.concat(s.world:messages(), "\n"):find("no earlier release to go back to", 1, true)
  end, 10, "the rollback ends")
end)

-- How many looks in a row find the target unwell, before it is well again.
local function unwell(s, looks)
  local real = s.host.world.target
  s.host.world.target = function(...)
    local target = real(...)
    local current = target.current
    function target.current(self)
      local look = table.remove(looks, 1)
      if look == "away" then return errors.fail("refused", "the engine is not there") end
      if look == "gone" then return nil end
      local now = current(self)
      if look == "exited" and now then now.healthy, now.state = false, "exited" end
      return now
    end
    return target
  end
end

test("one look or two that find it unwell take nothing back; three in a row while the target answers do", function()
  for _, case in ipairs {
    { { "exited" }, "staging done" }, { { "gone", "exited" }, "staging done" },
    { { "exited", "away", "exited", "exited", "away", "gone" }, "staging done" },
    { { "exited", "gone", "exited" }, "rollback done" },
  } do
    local s = stage()
    s.world:push("main", "a")
    s.settle()
    s.world:push("main", "b")
    s.settle()
    unwell(s, case[1])
    s.settle()
    s.settle()
    eq(states(s)[1], case[2], table.concat(case[1], " "))
  end
end)

test("a look that finds something unwell is soon followed by the next, whatever the poll's interval", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  s.host.health_checks.every = 1
  unwell(s, { "exited", "exited", "exited" })
  ok(s.host:poll())
  local said = {}
  for _, d in ipairs(s.host:why("web", "staging").decisions) do said[#said + 1] = d.reason end
  check.has(table.concat(said, "\n"), "in 1 of 3 observations")
  check.eventually(function() return states(s)[1] == "rollback done" end, 30, "it is taken back without another poll")
end)

test("what somebody else did to a place meanwhile is not taken back, and the next push goes out", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  target_weather(s, "wait", { "conflict" })
  s.world:push("main", "b")
  s.settle()
  local runs = s.host:history({ app = "web", environment = "staging" }).runs
  eq({ #runs, runs[1].policy, runs[1].state }, { 2, "staging", "failed" })
  s.settle()
  eq(#s.host:history({ app = "web", environment = "staging" }).runs, 2, "also not by the next poll")
  s.world:push("main", "c")
  s.settle()
  eq(s.world:running("staging").commit, C "c")
end)

test("a refusal names the line of the rule", function()
  local s = stage()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:tag("nightly", "a")
  s.world:tag("v1.2.0", "a")
  s.settle()
  s.world:tag("v1.1.0", "a")
  s.settle()
  local lines, text = {}, assert(fs.read("scripts/shared/versions.lua"))
  for line in (text .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  local found = {}
  for _, d in ipairs(s.host:why("web", "production").decisions) do
    if d.subject then found[d.subject] = d.file == "scripts/shared/versions.lua" and lines[d.line] end
  end
  check.has(found["v1.0.0"], "it was there before Moontide")
  check.has(found.nightly, "not a version")
  check.has(found["v1.1.0"], "place:refuse(tag.name, reason)")
end)

test("a script's own error is called so, with its line and its traceback, in watch and in run", function()
  local s = stage {
    staging = [[
local function inner(place) local x = place.name.nothing.there return x end
return policy { watch = function(place) local x = inner(place) return x end, run = function() end }]],
    production = [[
local function deep(x) error("no such " .. x) end
return policy {
  watch = function() return { key = "one" } end,
  run = function(run) deep("luck") run:log("never") end,
}]],
    rollback = NOTHING,
  }
  s.world:push("main", "a")
  s.settle()
  local found
  for _, d in ipairs(s.host:why("web", "staging").decisions) do found = d.verdict == "error" and d or found end
  eq(found.line, 1)
  ok(not found.reason:find("internal", 1, true), found.reason)
  check.has(found.traceback, "staging.lua:2:")
  local last = s.last()
  eq({ last.state, last.error.code }, { "failed", "script" })
  check.has(last.error.message, "production.lua:1: no such luck")
  local said = {}
  for _, entry in ipairs(ok(s.host:run_log(last.id, 0)).entries) do said[#said + 1] = entry.text end
  check.has(table.concat(said, "\n"), "production.lua:4:")
end)

-- What the notifiers heard of outages so far.
local function heard(s)
  s.host.outages:tell()
  local list = {}
  for _, text in ipairs(s.world:messages()) do
    if text:find(" since 20", 1, true) or text:find("that is over", 1, true) then list[#list + 1] = text end
  end
  return list
end

test("a source that cannot be read for some minutes is told once, and once that it is over", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:source_down(true)
  for _ = 1, 3 do
    ok(s.host:poll())
    eq(#heard(s), 0, "a moment is nothing")
  end
  s.host.outages.after = 0
  for _ = 1, 3 do
    ok(s.host:poll())
    eq(#heard(s), 1)
  end
  check.has(heard(s)[1], "web: its source cannot be read since 20")
  check.has(heard(s)[1], "nobody listens there")
  for _ = 1, 2 do
    s.reopen()
    s.host.outages.after = 0
    ok(s.host:poll())
    eq(#heard(s), 1, "a host that starts again does not tell it again")
  end
  s.reopen()
  s.world:source_down(false)
  for _ = 1, 3 do
    ok(s.host:poll())
    eq(#heard(s), 2)
  end
  check.has(heard(s)[2], "that is over")
  s.reopen()
  ok(s.host:poll())
  eq({ #heard(s), s.host.journal:outages() }, { 2, {} })
end)

test("a policy that fails at each poll is told once; a channel that is away hears of it later", function()
  local s = stage {
    staging = "return policy { watch = function(place) error('out of luck') end, run = function() end }",
    production = NOTHING, rollback = NOTHING,
  }
  s.world:push("main", "a")
  s.host.outages.after = 0
  local notify, away = s.host.world.notify, true
  s.host.world.notify = function(...)
    if away then return errors.fail("refused", "the channel is away") end
    return notify(...)
  end
  ok(s.host:poll())
  eq(#heard(s), 0)
  away = false
  for _ = 1, 3 do eq(#heard(s), 1) end
  check.has(heard(s)[1], "web staging: the policy staging fails since 20")
  check.has(heard(s)[1], "out of luck")
  assert(fs.write(s.options.scripts .. "/staging.lua", NOTHING))
  assert(s.host:reload())
  ok(s.host:poll())
  for _ = 1, 3 do eq(#heard(s), 2) end
  check.has(heard(s)[2], "that is over")
end)

local function environment(s, name)
  for _, e in ipairs(s.host:status().apps[1].environments) do
    if e.name == name then return e end
  end
end

local function problems(s, name)
  local list = {}
  for i, problem in ipairs(environment(s, name).problems or {}) do list[i] = problem.kind .. ": " .. problem.text end
  return table.concat(list, "\n")
end

-- Status asks a target anew.
local function later(s) s.host:app_state("web").targets = nil end

test("status shows what the target says now", function()
  local s = stage { rollback = NOTHING }
  s.world:push("main", "a")
  s.settle()
  eq({ environment(s, "staging").state, environment(s, "staging").healthy }, { "idle", true })
  eq(problems(s, "staging"), "")
  local found = s.world:running("staging")
  later(s)
  s.world:put("staging", nil)
  eq({ environment(s, "staging").state, environment(s, "staging").healthy }, { "unhealthy", false })
  check.has(problems(s, "staging"), "stopped or removed")
  later(s)
  s.world:put("staging", found)
  s.world:trouble("a", "later")
  eq({ environment(s, "staging").state, environment(s, "staging").healthy }, { "unhealthy", false })
  later(s)
  s.world:trouble("a", nil)
  eq(environment(s, "staging").state, "idle")
  later(s)
  local real = s.host.world.target
  s.host.world.target = function(...)
    local target = real(...)
    target.current = function() return errors.fail("refused", "the engine does not listen") end
    return target
  end
  eq({ environment(s, "staging").state, environment(s, "staging").healthy }, { "unreachable", nil })
  check.has(problems(s, "staging"), "the engine does not listen")
end)

-- An engine of 500 places with something live at each; `current` answers for them.
local function many_places(current)
  local targets_now, kept, config = require "engine.current", {}, { app_list = {} }
  for n = 1, 250 do
    config.app_list[n] = { name = "app" .. n, environment_list = { { name = "staging" }, { name = "production" } } }
  end
  local engine = { config = config, journal = { live = function() return { at = 1 } end } }
  function engine.app_state(_, name)
    kept[name] = kept[name] or {}
    return kept[name]
  end
  local world = { target = function(name) return { current = function() return current(name) end } end }
  function engine.place(_, app, name) return { config = app .. "/" .. name, world = world } end
  -- How many answered, and what is said of the others.
  return function()
    local answered, said = 0, {}
    targets_now.look(engine)
    for _, app in ipairs(config.app_list) do
      for _, each in ipairs(app.environment_list) do
        local seen = assert(kept[app.name].targets[each.name])
        if seen.running then answered = answered + 1 else said[seen.err.message] = (said[seen.err.message] or 0) + 1 end
      end
    end
    return answered, said
  end
end

test("status asks the targets of 500 environments, so many at once, and not again for a moment", function()
  local now, most, asked = 0, 0, 0
  local look = many_places(function()
    now, asked = now + 1, asked + 1
    most = math.max(most, now)
    time.sleep(0.001)
    now = now - 1
    return { digest = "sha256:1" }
  end)
  eq({ look() }, { 500, {} })
  ok(most > 1 and most <= 32, most)
  eq(asked, 500)
end)

test("status says which of many targets did not answer, and which were not asked: those come first later", function()
  local targets_now, asked = require "engine.current", {}
  local before = targets_now.ALL_WITHIN
  check.defer(function() targets_now.ALL_WITHIN = before end)
  targets_now.ALL_WITHIN = 1
  local look = many_places(function(name)
    asked[#asked + 1] = name
    time.sleep(86400)
  end)
  local _, said = look()
  eq(said, {
    ["it does not answer within 3 s"] = 32,
    ["it was not asked: others took the 1 s of this look, and it comes first in the next"] = 468,
  })
  local first = {}
  for _, name in ipairs(asked) do first[name] = true end
  asked = {}
  look()
  eq(#asked, 32)
  for _, name in ipairs(asked) do ok(not first[name], name) end
end)

test("status shows a policy that fails, with its line, also when no host runs", function()
  local s = stage {
    staging = "return policy { watch = function(place) error('out of luck') end, run = function() end }",
    production = NOTHING, rollback = NOTHING,
  }
  s.world:push("main", "a")
  s.settle()
  eq(environment(s, "staging").state, "error")
  check.has(problems(s, "staging"), "policy: the policy staging fails: ")
  check.has(problems(s, "staging"), "staging.lua:1: out of luck")
  local offline = require("journal.view").status(s.host.journal, s.host.config)
  check.has(offline.apps[1].environments[1].problems[1].text, "out of luck")
end)

test("status shows a head that was taken back, and what waits behind something else", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:trouble("b", "check")
  s.world:push("main", "b")
  s.settle()
  local e = environment(s, "staging")
  eq({ e.state, e.current.commit }, { "reverted", C "a" })
  check.has(problems(s, "staging"), "main at " .. C("b"):sub(1, 7) .. " was taken back: the check got status 500")
  assert(s.host:hold { app = "web", environment = "staging", by = "ann" })
  s.world:push("main", "c")
  s.settle()
  eq(environment(s, "staging").state, "held")
  check.has(problems(s, "staging"), "waits: main at " .. C("c"):sub(1, 7))
end)

test("status shows settings of the target that are not applied yet, until they are", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  eq(problems(s, "staging"), "")
  local config = s.host.config.apps.web.environments.staging
  config.target = { kind = "command", env = { PORT = "1" }, ports = { "80:80" }, timeout = 5 }
  check.has(problems(s, "staging"), "configuration: not applied yet: env, ports")
  assert(s.host:release { app = "web", environment = "staging", what = C "a", by = "ann" })
  s.settle()
  eq(problems(s, "staging"), "")
end)
