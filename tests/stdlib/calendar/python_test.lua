-- Clocks, windows and schedules against Python's zoneinfo, over all zones and many years, the hours in which clocks
-- change above all.
local check = require "check"
local json, proc, sys, time = require "json", require "proc", require "base.sys", require "time"
local test, eq = check.test, check.eq

local SEED <const> = sys.env "SEED" or tostring(math.floor(time.now()))

local answers

-- What Python says; asked once.
local function python()
  if not answers then
    local told = assert(proc.run {
      "python3", "tests/fixture/calendar.py", SEED, "400", timeout = 300, max_output = 64 << 20,
    })
    answers = assert(json.decode(assert(proc.check(told)).stdout))
  end
  return answers
end

local function about(case) return json.encode(case) .. " SEED=" .. SEED end

test("clocks show what Python's show", function()
  for _, case in ipairs(python().clocks) do
    local c = time.clock(case.zone, case.at)
    eq({ c.year, c.month, c.day, c.hour, c.minute, c.second, c.weekday, c.yearday, c.zone, c.offset }, case.want,
      about(case))
  end
end)

test("windows open and close when the wall clock says so", function()
  for _, case in ipairs(python().windows) do
    local open, changes = time.within(case.window, case.zone, case.at)
    eq(open, case.open, about(case))
    local change = case.change ~= json.null and case.change or nil
    if change or changes and changes < case.at + 86400 then eq(changes, change, about(case)) end
  end
end)

test("schedules name a time once, also when clocks change", function()
  for _, case in ipairs(python().schedules) do
    eq(time.next(case.schedule, case.zone, case.at), case.next, "next " .. about(case))
    eq(time.last(case.schedule, case.zone, case.at), case.last, "last " .. about(case))
  end
end)
