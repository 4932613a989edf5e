-- Fails each allocation of a primitive in turn: the n-th alone, then the n-th and all after it.
--
-- Whatever the primitive answers is fine, as long as it answers: nothing may crash, leak or hang, and the next
-- call must work. The sanitizers of the fault build see what Lua cannot.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local fs, sys, time = require "fs", require "base.sys", require "time"

local M = {}

local function descriptors()
  return #assert(fs.list "/proc/self/fd")
end

-- What was let go may still be on its way out, or wait for the collector, whose turn comes with garbage.
local function settled(want)
  local last = time.monotonic() + 10
  while descriptors() > want do
    if time.monotonic() > last then return false end
    local garbage = {}
    for i = 1, 20000 do garbage[i] = { i } end
    time.sleep(#garbage > 0 and 0.02 or 0)
  end
  return true
end

---Runs `call` again and again until it gets through without meeting the planned failure.
---@async
---@param name string
---@param call fun(): any must be true when nothing fails
function M.run(name, call)
  assert(call(), name .. " fails by itself")
  time.sleep(0.05)
  local before, points = descriptors(), 0
  for _, onwards in ipairs { false, true } do
    local n = 0
    repeat
      n = n + 1
      sys.fail_allocations(n, onwards)
      pcall(call)
      local left = sys.fail_allocations(0, false)
      points = points + 1
      local ok, value = pcall(call)
      assert(ok and value, ("%s does not recover from allocation %d (%s)"):format(name, n, tostring(value)))
    until left > 0 or n > 5000
  end
  assert(settled(before), ("%s leaks descriptors: %d, then %d"):format(name, before, descriptors()))
  print(("ok %s: %d points"):format(name, points))
end

return M
