-- What cannot be interrupted: the host ends with a line that names it, the next one knows, and after three such ends
-- that policy alone is not asked any more.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, policy, proc, sim = require "fs", require "policy.load", require "proc", require "sim"
local sys, time = require "base.sys", require "time"
local task = require "task"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- Keys with such a stride share their place in a table: growing it is quadratic, inside of one instruction.
local ENDLESS <const> = "local t = {} for i = 1, 5000000 do t[i * ((1 << 18) - 1)] = i end\n"
local NOTHING <const> = "return policy { watch = function() return nil, 'nothing here' end, run = function() end }"
local FINE <const> = "return policy { watch = function() return { key = 'x' } end, run = function() end }"
local STUCK <const> = "return policy { run = function() end, watch = function()\n" .. ENDLESS .. "end }"

local function stage(scripts)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { dir = dir.path, scripts = dir.path .. "/scripts", state = dir.path .. "/state" }
  assert(fs.mkdir(s.scripts))
  function s.write(name, text) assert(fs.write(s.scripts .. "/" .. name .. ".lua", text)) end
  for name, text in pairs(scripts) do s.write(name, text) end
  s.world = sim.open(s.dir .. "/world")
  s.world:push("main", "a")
  assert(fs.write(s.dir .. "/life.lua", [[
    local world, state, scripts = ...
    local sim = require "sim"
    local host = sim.host(sim.open(world), state, { scripts = scripts })
    assert(host:once())
    host:close()
  ]]))
  assert(fs.write(s.dir .. "/sim.lua", assert(fs.read("tests/sim.lua"))))
  s.argv = { sys.exe(), "exec", s.dir .. "/life.lua", s.dir .. "/world", s.state, s.scripts }
  function s.open()
    s.host = sim.host(s.world, s.state, { scripts = s.scripts })
    check.defer(function() pcall(s.host.close, s.host) end)
    return s.host
  end
  return s
end

-- A host in a process of its own that is killed as soon as it has noted, as a whole, which policy keeps it; on a busy
-- machine it may note something else before.
local function dies(s, signal)
  local function noted()
    local text = fs.read(s.state .. "/asked")
    return text and text:find("\n[wl]%l+\t[^\n]*\t%x+$") and (fs.stat(s.state .. "/asked") or {}).mtime
  end
  local before = noted()
  local child <close> = assert(proc.spawn(s.argv))
  local last = time.monotonic() + 100
  while not noted() or noted() == before do
    ok(time.monotonic() < last, "nothing was noted")
    ok(not child:wait(0.01), "it ended by itself")
  end
  child:kill(signal)
  child:wait()
end

-- What was said of the staging policy last.
local function verdict(host)
  for _, decision in ipairs(ok(host:why("web", "staging")).decisions) do
    if decision.policy == "staging" then return decision end
  end
end

local function said(host)
  local found = {}
  for _, event in ipairs(host:events({}).events) do found[#found + 1] = event.text end
  return table.concat(found, "\n")
end

test("a watch that took three hosts with it is suspended until its text changes, and all else goes on", function()
  local s = stage { staging = STUCK, production = FINE }
  for _, signal in ipairs { "KILL", "SEGV", "KILL" } do dies(s, signal) end
  local finished = assert(proc.run { s.argv[1], s.argv[2], s.argv[3], s.argv[4], s.argv[5], s.argv[6], timeout = 100 })
  eq(finished.code, 0, finished.stderr)
  local host = s.open()
  eq(host.last_end, nil) -- the one before told it
  local row = host.journal:run_by_id(1)
  eq({ row.environment, row.state }, { "production", "done" })
  local told = {}
  for _, text in ipairs(s.world:messages()) do
    if text:find("suspended", 1, true) then told[#told + 1] = text end
  end
  eq(#told, 1)
  has(told[1], "policy staging is suspended: the host ended 3 times while it was asked; moontide retry web staging")
  local status = host:status().apps[1].environments
  has(status[1].suspended, "policy staging is suspended")
  eq(status[2].suspended, nil)
  host:poll()
  eq(verdict(host).verdict, "error")
  has(verdict(host).reason, "moontide retry web staging")
  s.write("staging", NOTHING)
  assert(host:reload())
  host:poll()
  eq(verdict(host).reason, "nothing here")
  eq(host:status().apps[1].environments[1].suspended, nil)
end, 300)

test("retry lifts a suspension", function()
  local s = stage { staging = STUCK, production = NOTHING }
  for _ = 1, 3 do dies(s, "KILL") end
  local host = s.open() -- would not come back if it asked
  host:tell_last_end()
  has(said(host), "the host before ended while it worked on asking the policy staging")
  host:poll()
  host:close()
  s.write("staging", NOTHING)
  host = s.open()
  host.journal:write("UPDATE ends SET hash = ?", host.policies.staging.hash) -- as if this text had done it
  host:close()
  host = s.open()
  host:poll()
  has(verdict(host).reason, "suspended")
  local _, err = host:retry { app = "web", environment = "staging", by = "ann" }
  has(err.message, "nothing here") -- it was asked
  host:poll()
  eq(verdict(host).reason, "nothing here")
end, 300)

test("a policy whose loading took three hosts with it is not loaded; the others are, and retry loads it", function()
  local s = stage { staging = ENDLESS .. NOTHING, production = FINE }
  for _ = 1, 3 do dies(s, "KILL") end
  local host = s.open()
  sim.settle(host)
  eq(host.journal:run_by_id(1).state, "done")
  has(host:status().apps[1].environments[1].suspended, "while it was loaded")
  has(verdict(host).reason, "moontide retry")
  s.write("staging", NOTHING)
  assert(host:reload())
  host:poll()
  eq(verdict(host).reason, "nothing here")
end, 300)

test("an end more than a day ago, and one with another text, say nothing", function()
  local s = stage { staging = NOTHING, production = NOTHING }
  local journal = s.open().journal
  local unit = { kind = "watch", app = "web", environment = "staging", policy = "staging", hash = "a" }
  eq({ journal:ended(unit), journal:ended(unit) }, { 1, 2 })
  journal:write("UPDATE ends SET at = at - 90000")
  eq(journal:ended(unit), 1)
  unit.hash = "b"
  eq({ journal:ended(unit), journal:ended(unit) }, { 1, 2 })
  eq(#journal:suspensions(), 0)
  eq(journal:ended(unit), 3)
  journal:write("UPDATE ends SET at = at - 90000")
  eq(#journal:suspensions(), 1) -- for good
end)

test("the loop that is kept ends the host with a line that names it, and so does a check", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/moontide.lua", ENDLESS .. "return { apps = {} }"))
  assert(fs.mkdir(dir.path .. "/scripts"))
  assert(fs.write(dir.path .. "/scripts/staging.lua", ENDLESS .. NOTHING))
  assert(fs.write(dir.path .. "/fine.lua", ([[return { state = %q, scripts = %q, apps = { web = {
    source = "http://127.0.0.1:1/web.git", image = "127.0.0.1:1/web",
    environments = { staging = { rollback = false, target = { kind = "docker" } } } } } }]]):format(
    dir.path .. "/state", dir.path .. "/scripts")))
  local function checked(file)
    return function() return assert(proc.run { sys.exe(), "check", "--config", dir.path .. file, timeout = 280 }) end
  end
  local ends = task.all { checked "/moontide.lua", checked "/fine.lua" }
  eq({ ends[1].code, ends[2].code }, { 75, 75 }, ends[1].stderr .. ends[2].stderr)
  has(ends[1].stderr, "worked on the configuration " .. dir.path .. "/moontide.lua; this host ends")
  has(ends[2].stderr, "worked on loading the policy staging (" .. dir.path .. "/scripts/staging.lua); this host ends")
  eq(fs.exists(dir.path .. "/state"), false)
end, 300)

test("what a slice was asked is noted only when it lasts", function()
  local s = stage { staging = NOTHING, production = NOTHING }
  local host = s.open()
  host:poll()
  eq(fs.exists(s.state .. "/asked"), false)
  eq(policy.ask(host.policies.staging, host:place("web", "staging"), 5), nil)
end)
