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

test("a time zone's clock is read from the machine's database, and a wrong name leads nowhere", function()
  local c = time.clock("Europe/Berlin", 1785000000)
  eq({ c.year, c.month, c.day, c.hour, c.minute, c.second, c.weekday, c.yearday, c.zone, c.offset },
    { 2026, 7, 25, 19, 20, 0, 6, 206, "CEST", 7200 })
  eq(time.clock("UTC", 0.9).second, 0)
  eq(time.clock("UTC", -0.5).year, 1969)
  raises("did you mean \"Europe/Berlin\"", time.clock, "berlin")
  raises("did you mean \"America/New_York\"", time.clock, "New York")
  raises("did you mean \"Europe/Berlin\"", time.clock, "Europe/Berln")
  for _, name in ipairs {
    "", "/etc/passwd", "../../../etc/passwd", "Europe/../../../../etc/passwd", "Europe/Berlin\0", "tzdata.zi", "Europe",
    ("A/"):rep(1000), "%s%n", "./UTC",
  } do
    raises("time zone", time.clock, name)
  end
  raises("time zone is a text", time.clock, {})
  for _, at in ipairs { 1e300, -1e300, 0 / 0, "soon" } do raises("seconds since 1970", time.clock, "UTC", at) end
end)

test("a window says when it is open, and until when", function()
  local function at(text) return assert(time.parse_iso(text)) end
  local function state(window, when)
    local open, changes = time.within(window, "Europe/Berlin", at(when))
    return { open, changes and time.iso(changes) }
  end
  eq(state("Mon-Fri 9:00-17:00", "2026-11-27T10:00:00+01:00"), { true, "2026-11-27T16:00:00Z" })
  eq(state("mon-fri 9-17", "2026-11-27T17:00:00+01:00"), { false, "2026-11-30T08:00:00Z" })
  eq(state("Mon-Thu,Sat 9-17, 22:00-02:00", "2026-11-27T01:59:59+01:00"), { true, "2026-11-27T01:00:00Z" })
  eq(state("Mon-Thu 9-17, Fri 9-15", "2026-11-27T15:30:00+01:00"), { false, "2026-11-30T08:00:00Z" })
  eq(state("2026-12-20..2027-01-03", "2027-01-03T23:59:59+01:00"), { true, "2027-01-03T23:00:00Z" })
  eq(state("12-24..12-26", "2026-12-27T00:00:00+01:00"), { false, "2027-12-23T23:00:00Z" })
  eq(state("12-24..01-02 Sat,Sun 10-12", "2026-12-27T11:00:00+01:00"), { true, "2026-12-27T11:00:00Z" })
  eq(state("02-29..02-29", "2026-12-27T11:00:00+01:00"), { false, "2028-02-28T23:00:00Z" })
  eq(state("Sun 2:00-3:00", "2026-03-29T01:59:00+01:00"), { false, "2026-04-05T00:00:00Z" }, "an hour that is left out")
  eq(state("always", "2026-11-27T10:00:00Z"), { true })
  eq(state("never", "2026-11-27T10:00:00Z"), { false })
end)

test("what is wrong with a window or a schedule is pointed to", function()
  for text, why in pairs {
    ["Mon-Fry 9-17"] = '(did you mean Fri?): "Mon-Fry" at character 1', ["Mon-Fri 9-25"] = '"9-25" at character 9',
    ["Mon-Fri 9"] = "a window ends, too", ["12-24"] = "12-24..12-24, or 12:00-24:00",
    ["Mon Tue 9-17"] = "needs a comma",
    ["2026-02-30"] = "no such date", [""] = "is missing", ["Mon,"] = "is missing", ["9am-5pm"] = "0:00 to 24:00",
    ["9-9"] = "is empty", ["2027-01-01..2026-01-01"] = "ends before it begins", [("Mon,"):rep(100)] = "longer than",
    ["Mon-Fri 9:7-17"] = "no such time", ["Mon-Fri 9-17 %n"] = "not a day", ["\255"] = "not a day",
  } do
    raises(why, time.within, text, "UTC")
  end
  raises("it is a text", time.within, nil, "UTC")
  for text, why in pairs {
    ["nightly"] = "a schedule is like", ["daily 25:00"] = '"25:00" at character 7', ["* * * *"] = "five fields",
    ["* * * * * *"] = "five fields", ["60 * * * *"] = "a minute (0-59)", ["0 0 30 2 *"] = "no month has such a day",
    ["Mun 9:00"] = "did you mean Mon", ["*/0 * * * *"] = "nothing is meant", ["Mon"] = "a schedule is like",
  } do
    raises(why, time.next, text, "UTC")
    raises(why, time.last, text, "UTC")
  end
end)

test("a schedule names the next time and the last one", function()
  local at = assert(time.parse_iso("2026-11-29T12:00:00+01:00")) -- a Sunday
  local function both(schedule)
    local after, before = time.next(schedule, "Europe/Berlin", at), time.last(schedule, "Europe/Berlin", at)
    return { after and time.iso(after), before and time.iso(before) }
  end
  eq(both "daily 02:30", { "2026-11-30T01:30:00Z", "2026-11-29T01:30:00Z" })
  eq(both "30 2 * * *", both "daily 02:30")
  eq(both "Mon-Fri 8:00, 16:30", { "2026-11-30T07:00:00Z", "2026-11-27T15:30:00Z" })
  eq(both "12:00", { "2026-11-30T11:00:00Z", "2026-11-29T11:00:00Z" }, "just then counts as the last one")
  eq(both "hourly", { "2026-11-29T12:00:00Z", "2026-11-29T11:00:00Z" })
  eq(both "0 0 29 2 *", { "2028-02-28T23:00:00Z", "2024-02-28T23:00:00Z" })
  eq(both "0 9 1,15 * Fri", { "2026-12-01T08:00:00Z", "2026-11-27T08:00:00Z" }, "a day of either kind, as cron has it")
end)
