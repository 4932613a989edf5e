-- Clocks, sleep, and times as text.
local check = require "check"
local task, time = require "task", require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

test("sleep waits at least as long as it says, and lets others run", function()
  local started, other = time.monotonic(), false
  task.spawn(function() other = true end)
  time.sleep(0.05)
  ok(time.monotonic() - started >= 0.049)
  eq(other, true)
  time.sleep(0)
  time.sleep(-1)
  raises("number expected", time.sleep, "soon")
end)

test("a thousand sleepers wake in order", function()
  local order, all, together, begun = {}, {}, task.signal(), 0
  for i = 1, 1000 do
    all[i] = task.spawn(function()
      begun = begun + 1
      together:wait()
      time.sleep(i % 10 / 5)
      order[#order + 1] = i % 10
    end)
  end
  check.eventually(function() return begun == 1000 end)
  together:notify()
  for _, t in ipairs(all) do t:join() end
  for i = 2, 1000 do ok(order[i] >= order[i - 1]) end
end)

test("a cancelled sleep ends at once", function()
  local t = task.spawn(time.sleep, 1000)
  time.sleep(0.01)
  t:cancel()
  fails("cancelled", t:join(100))
end)

test("times are written and read as RFC 3339", function()
  eq(time.iso(0), "1970-01-01T00:00:00Z")
  eq(time.iso(1700000000), "2023-11-14T22:13:20Z")
  eq(time.parse_iso("2023-11-14T22:13:20Z"), 1700000000)
  eq(time.parse_iso("2023-11-14T23:13:20.25+01:00"), 1700000000.25)
  eq(time.parse_iso("2023-11-14t22:13:20z"), 1700000000)
  for _, text in ipairs {
    "", "yesterday", "2023-11-14", "2023-13-14T00:00:00Z", "2023-11-14T25:00:00Z", "2023-11-14T00:00:00",
    ("9"):rep(1000),
  } do
    fails("invalid", time.parse_iso(text))
  end
  raises("year out of range", time.iso, 1e15)
end)

test("durations are said in words", function()
  eq({ time.words(0.0123), time.words(2.34), time.words(59), time.words(200), time.words(7300), time.words(200000) },
    { "12 ms", "2.3 s", "59 s", "3 m 20 s", "2 h 1 m", "2 d 7 h" })
end)

test("the clocks go forward", function()
  local a, b = time.monotonic(), time.now()
  time.sleep(0.01)
  ok(time.monotonic() > a and time.now() > b and time.cpu() > 0)
  eq(time.clock(0).year == 1970 or time.clock(0).year == 1969, true)
end)
