-- When images of older releases are removed: when a run has ended; and whatever comes of it, nothing else minds.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, sim, task = require "errors", require "fs", require "sim", require "task"
local test, eq, ok = check.test, check.eq, check.ok

-- A host whose world counts the removals; `fails`: each of them raises.
local function stage(fails, options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { removals = 0, world = sim.open(dir.path .. "/world") }
  s.world:push("main", "a")
  s.host = sim.host(s.world, dir.path .. "/state", { engine = options })
  s.host.world.remove_images = function(journal)
    ok(journal.rows)
    s.removals = s.removals + 1
    if fails then error(errors.new("refused", "no container engine listens"), 0) end
    return true
  end
  check.defer(function() pcall(s.host.close, s.host) end)
  return s
end

test("a host that does everything once removes when a run ended, and only then", function()
  local s = stage()
  eq(ok(s.host:once()).ok, true)
  eq(s.removals, 1)
  s = stage(true)
  eq(ok(s.host:once()).ok, true)
  eq(s.removals, 1)
end)

test("a host removes when it begins, and when a run has ended", function()
  for _, fails in ipairs { false, true } do
    local s = stage(fails)
    local running = task.spawn(function() return s.host:run() end)
    check.eventually(function() return s.removals >= 1 end, 20, "the first removal")
    check.eventually(function() return s.world:look().effects[1] end, 20, "a run began")
    local before = s.removals
    check.eventually(function() return s.removals > before or before > 1 end, 20, "a removal after a run")
    s.host:stop(5)
    running:join()
  end
end)

test("a host that may not act any more removes nothing", function()
  local may = true
  local s = stage(false, { fence = function() return may end })
  ok(s.host:poll())
  sim.settle(s.host)
  may = false
  s.host.images:once()
  eq(s.removals, 0)
  ok(s.host.lead.lost)
end)
