-- Line coverage: which lines are code, how often they ran, and what tools make of it.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check, coverage, fs, proc, sys, task = require "check", require "testing.coverage", require "fs", require "proc",
  require "base.sys", require "task"
local test, eq, has = check.test, check.eq, check.has

local TEXT <const> = [[
-- a comment
local M = {}
local function never()
  return 1
end
function M.sum(list)
  local sum = 0
  for _, n in ipairs(list) do
    if n > 10 then
      sum = sum - 1
    else
      sum = sum + n
    end
  end
  return sum
end
M.table = {
  a = 1,
  b = function()
    return never()
  end,
}
return M
]]

sys.cover() -- for the whole file: it is never turned off

test("lines of code are counted exactly, also in slices that the watchdog ends and in other tasks", function()
  local module = sys.compile(TEXT, "@sum.lua", _G)()
  for _ = 1, 200000 do module.sum { 1, 2 } end
  local other <close> = task.start({ cpu = 60 }, function()
    for _ = 1, 200000 do module.sum { 1, 2 } end
    return true
  end)
  check.ok(other:join())
  local found = coverage.of("sum.lua", TEXT, sys.covered()["sum.lua"])
  eq(found.lines, {
    [2] = 1, [4] = 0, [6] = 1, [7] = 400000, [8] = 1200000, [9] = 800000, [10] = 0, [12] = 800000, [15] = 400000,
    [17] = 1, [18] = 1, [20] = 0, [23] = 1,
  })
  eq({ found.total, found.covered, found.missed }, { 13, 10, { "4", "10", "20" } })
end)

test("ranges join lines that were missed one after the other", function()
  local found = coverage.of("x.lua", "local a = 1\n\nlocal b = 2\n-- c\nlocal d = 3\nlocal e = 4\n", { [5] = 1 })
  eq(found.missed, { "1-3", "6" })
  eq(coverage.of("x.lua", "not lua", {}), nil)
  eq(coverage.of("x.lua", "-- nothing", {}).total, 0)
end)

test("lines of the program are not counted", function()
  for file in pairs(sys.covered()) do check.ok(not file:find("^stdlib/"), file) end
end)

test("a tracefile that genhtml reads", function()
  local dir <close> = check.ok(fs.temp_dir())
  check.ok(fs.write(dir.path .. "/a.lua", TEXT))
  local found = coverage.of(dir.path .. "/a.lua", TEXT, { [2] = 1, [6] = 1, [7] = 2 })
  local text = coverage.lcov { check.ok(found) }
  has(text, ("SF:%s/a.lua\nDA:2,1\nDA:4,0\n"):format(dir.path))
  has(text, "LF:13\nLH:3\nend_of_record\n")
  if not proc.run { "genhtml", "--version" } then check.skip "genhtml is not installed" end
  check.ok(fs.write(dir.path .. "/a.info", text))
  local result = check.ok(proc.run { "genhtml", "-o", dir.path .. "/html", dir.path .. "/a.info", stderr = "stdout" })
  check.ok(result.ok, result.stdout)
  has(result.stdout, "23.1% (3 of 13 lines)")
end)
