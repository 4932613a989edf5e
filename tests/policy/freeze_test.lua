-- A freeze holds everything: changes wait until it is thawed or its time is over, also over a restart.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, handover, journals, sim, task = require "fs", require "hosts.handover", require "journal", require "sim",
  require "task"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local function stage(options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { dir = dir.path, world = sim.open(dir.path .. "/world") }
  function s.open()
    s.host = sim.host(s.world, s.dir .. "/state", options)
    check.defer(function() pcall(s.host.close, s.host) end)
    return s.host
  end
  function s.running() return (s.host.journal:live("web", "staging") or {}).commit end
  function s.said(host)
    for _, d in ipairs(ok(host:why("web", "staging")).decisions) do
      if d.policy == "staging" then return d end
    end
  end
  return s
end

local function texts(host)
  local found = {}
  for _, event in ipairs(host:events({}).events) do found[#found + 1] = event.text end
  return table.concat(found, "\n")
end

test("changes wait everywhere while all is frozen, and go on after thaw", function()
  local s = stage()
  local host = s.open()
  s.world:push("main", "a")
  sim.settle(host)
  eq(s.running(), sim.commit "a")
  local freeze = ok(host:freeze { by = "ann", reason = "the audit" })
  eq({ freeze.by, freeze.reason, freeze.frozen }, { "ann", "the audit", true })
  s.world:push("main", "b")
  host:poll()
  eq({ s.said(host).verdict, s.said(host).reason:match ", .*" }, { "held", ", frozen by ann" })
  sim.settle(host)
  eq(s.running(), sim.commit "a")
  local status = host:status()
  eq(status.freeze.reason, "the audit")
  eq({ status.apps[1].environments[1].state, status.apps[1].environments[1].reason },
    { "held", "frozen by ann: the audit" })
  eq(host:health().frozen, "frozen by ann")
  local metrics = require("people.control.metrics").text(host:metrics())
  has(metrics, "moontide_frozen 1")
  has(metrics, 'moontide_held{app="web",environment="staging"} 0')
  local _, err = host:unhold { app = "web", by = "ann" }
  has(err.message, "it is not held; everything is frozen: 'moontide thaw' ends that")
  eq(ok(host:thaw { by = "bob" }).by, "ann")
  sim.settle(host)
  eq(s.running(), sim.commit "b")
  _, err = host:thaw { by = "bob" }
  eq(err.code, "conflict")
  has(texts(host), "frozen by ann: the audit")
  has(texts(host), "thawed by bob")
  local told = table.concat(s.world:messages(), "\n")
  has(told, "the audit")
  has(told, "thawed by bob")
end)

test("what is held by itself stays held after a thaw, and a hold may be made while all is frozen", function()
  local s = stage()
  local host = s.open()
  ok(host:freeze { by = "ann" })
  ok(host:hold { app = "web", environment = "staging", by = "bob" })
  s.world:push("main", "a")
  sim.settle(host)
  ok(host:thaw { by = "ann" })
  sim.settle(host)
  eq(s.running(), nil)
  ok(host:unhold { app = "web", environment = "staging", by = "bob" })
  sim.settle(host)
  eq(s.running(), sim.commit "a")
end)

test("rollbacks that policies ask for, and people's orders, pass a freeze", function()
  local s = stage()
  local host = s.open()
  for _, name in ipairs { "a", "b" } do
    s.world:push("main", name)
    sim.settle(host)
  end
  ok(host:freeze { by = "ann" })
  s.world:trouble("b", "later")
  sim.settle(host)
  eq(s.running(), sim.commit "a")
  ok(host:release { app = "web", environment = "staging", what = sim.commit "b", by = "ann" })
  sim.settle(host)
  ok(host.journal:newest_run() >= 3)
end)

test("a freeze outlives the host, and ends by itself when its time is over", function()
  local s = stage()
  local host = s.open()
  ok(host:freeze { by = "ann", seconds = 3600 })
  local first = host.journal:freeze_of().till
  ok(host:freeze { by = "bob", reason = "longer", seconds = 7200 })
  ok(host.journal:freeze_of().till > first + 3000)
  host:close()
  host = s.open()
  s.world:push("main", "a")
  host:poll()
  has(s.said(host).reason, ", frozen by bob until ")
  sim.settle(host)
  eq(s.running(), nil)
  host.journal:write("UPDATE holds SET till = ? WHERE app = ''", require("time").now() - 1)
  local ending = task.spawn(host.end_freezes, host)
  check.eventually(function() return host.journal:freeze_of() == nil end)
  sim.settle(host)
  eq(s.running(), sim.commit "a")
  has(texts(host), "thawed: its time was over: frozen by bob until ")
  ending:cancel()
  local _, err = host:freeze { by = "ann", seconds = 0 }
  eq(err.code, "invalid")
end)

test("policies see a freeze", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/staging.lua", [[return policy { run = function() end, watch = function(place)
    local freeze = place:frozen()
    return nil, freeze and ("frozen by %s: %s, %s"):format(freeze.by, freeze.reason, freeze.till) or "not frozen"
  end }]]))
  local s = stage { scripts = dir.path }
  local host = s.open()
  s.world:push("main", "a")
  host:poll()
  eq(s.said(host).reason, "not frozen")
  ok(host:freeze { by = "ann", reason = "the audit" })
  host:poll()
  eq(s.said(host).reason, "frozen by ann: the audit, nil")
end)

test("a host that takes over takes the freeze over, too", function()
  local s = stage()
  local host = s.open()
  ok(host:freeze { by = "ann", reason = "the audit", seconds = 3600 })
  host.journal:hold("web", "production", "bob")
  local text = handover.write(host.journal, "the other state")
  local other = ok(journals.open(s.dir .. "/other"))
  check.defer(function() other:close() end)
  other.generation_before = function() return 0 end
  local config = host.config
  config.state = s.dir .. "/other"
  assert(fs.mkdir(config.state, { parents = true }))
  handover.take(other, config, { [handover.KEY] = text })
  local freeze = ok(other:freeze_of())
  eq({ freeze.by, freeze.reason, freeze.till }, { "ann", "the audit", host.journal:freeze_of().till })
  eq(other:own_hold("web", "production").by, "bob")
end)
