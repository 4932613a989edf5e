-- Schedules: "daily 02:30", "Mon-Fri 8:00, 16:30", "hourly", and the five fields of cron ("30 2 * * *").
--
-- A time of day that the clock leaves out is made up for when the clock goes on; one that comes twice counts once. A
-- schedule for each hour ("*" hours) goes by what has passed instead: nothing is made up for, and each time counts.
local date, words = require "calendar.date", require "calendar.words"

local M = {}

---@class Schedule
---@field times integer[] Seconds of the day, in order.
---@field days? table<integer, true> Of the week.
---@field dates? table<integer, true> Of the month.
---@field months? table<integer, true>
---@field either boolean A day of the week or of the month is enough.
---@field each_hour boolean

local FAR <const> = 9 * 366 * 86400 -- 29 February may be eight years away

local MONTHS <const> = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8, sep = 9, oct = 10,
  nov = 11, dec = 12 }

-- ---- reading ----

---@type {name: string, [1]: integer, [2]: integer}[]
local FIELDS <const> = {
  { name = "a minute", 0, 59 }, { name = "an hour", 0, 23 }, { name = "a day of the month", 1, 31 },
  { name = "a month", 1, 12 }, { name = "a day of the week", 0, 7 },
}

local function field_value(field, index, word)
  local value = math.tointeger(tonumber(word:match("^%d+$")))
  if not value and index == 4 then value = MONTHS[word:lower()] end
  if not value and index == 5 then value = words.weekday(word) end
  if value and value >= field[1] and value <= field[2] then return value end
end

-- The set of a field's values, from `at` in the text.
local function read_field(text, at, last, index)
  local field = FIELDS[index] --[[@as {name: string, [1]: integer, [2]: integer}]]
  local set = {}
  local function wrong(from, to, why) words.fault(text, from, to, why) end
  for from, item, to in (text:sub(at, last) .. ","):gmatch("()([^,]*)(),") do
    from, to = at + from - 1, at + to - 2
    local range, step = item:match("^([^/]+)/(%d+)$")
    range = range or item
    local first, second = range:match("^(%w+)%-(%w+)$")
    local low = field_value(field, index, first or range)
    local high = second and field_value(field, index, second) or nil
    if range == "*" then
      low, high = field[1], index == 5 and 6 or field[2]
    elseif not second then
      high = step and field[2] or low
    end
    if not low or not high then
      wrong(from, to, ("not %s (%d-%d)"):format(field.name, field[1], field[2]))
    end
    ---@cast low integer
    if index == 5 and high < low then high = high + 7 end -- Fri-Mon
    if high < low or tonumber(step) == 0 then wrong(from, to, "nothing is meant by this") end
    for value = low, high, math.tointeger(tonumber(step or 1)) do set[value] = true end
  end
  return set
end

local function possible(schedule)
  if schedule.either or not schedule.dates then return true end
  for month = 1, 12 do
    if not schedule.months or schedule.months[month] then
      for day = 1, date.days_in(2000, month) do
        if schedule.dates[day] then return true end
      end
    end
  end
  return false
end

local function cron(text)
  local fields, starred = {}, {}
  for at, word, stop in text:gmatch("()(%S+)()") do
    local index = #fields + 1
    if index > 5 then words.fault(text, at, stop - 1, "cron has five fields") end
    fields[index], starred[index] = read_field(text, at, stop - 1, index), word:sub(1, 1) == "*"
  end
  if #fields < 5 then
    words.fault(text, 1, #text, "cron has five fields: minute, hour, day of the month, month, day of the week")
  end
  local days, times = {}, {}
  for day in pairs(fields[5]) do days[(day + 6) % 7 + 1] = true end
  for hour = 0, 23 do
    for minute = 0, 59 do
      if fields[2][hour] and fields[1][minute] then times[#times + 1] = (hour * 60 + minute) * 60 end
    end
  end
  local schedule = {
    times = times, days = days, dates = fields[3], months = fields[4], either = not starred[3] and not starred[5],
    each_hour = starred[2],
  }
  if not possible(schedule) then words.fault(text, 1, #text, "no month has such a day") end
  return schedule
end

local function read_days(text, last)
  local days, at = {}, 1
  local word = text:sub(1, last):match("^%s*(%a*)%s*$")
  if word == "" or word == "daily" then return nil end
  while at <= last do
    local from, stop, one, two = text:find("^%s*(%a+)%s*%-%s*(%a+)", at)
    if not from then
      from, stop, one = text:find("^%s*(%a+)", at)
    end
    if not from then words.fault(text, at, last, "not a day of the week (Mon, Tue, ... Sun) or daily") end
    ---@cast stop integer
    ---@cast one string
    local first, second = words.weekday(one), words.weekday((two or one) --[[@as string]])
    if not first or not second then
      local wrong = not first and one or two --[[@as string]]
      words.fault(text, text:match("^%s*()", at), stop, words.no_day(wrong) .. " or daily")
    end
    words.add_days(days, first, second)
    at = text:match("^%s*,?%s*()", stop + 1)
  end
  return days
end

local function parse(text)
  if text:find("^%s*hourly%s*$") then return cron "0 * * * *" end
  if text:find("^%s*[%d*]+%S*%s") or text:find("^%s*%*") then return cron(text) end
  local begin = text:find("%d")
  if not begin then
    words.fault(text, 1, #text,
      "a schedule is like \"daily 02:30\", \"Mon-Fri 8:00, 16:30\", \"hourly\" or \"30 2 * * *\"")
  end
  local schedule = { times = {}, either = false, each_hour = false, days = read_days(text, begin - 1) }
  for from, item, to in (text:sub(begin) .. ","):gmatch("%s*()([^,]-)()%s*,") do
    local hour, minute = item:match("^(%d%d?):(%d%d)$")
    local time = hour and words.time_of_day(hour, minute)
    if not time or time == 86400 then
      words.fault(text, begin + from - 1, begin + to - 2, "not a time of day, such as 02:30")
    end
    schedule.times[#schedule.times + 1] = time
  end
  table.sort(schedule.times)
  return schedule
end

---Reads a schedule.
---@param text any
---@return Schedule? schedule
---@return string? why It points to the place in the text.
function M.read(text) return words.read(parse --[[@as fun(text: string): Schedule]], text) end

-- ---- asking ----

local function on_day(schedule, day)
  local _, month, of_month = date.civil(day)
  if schedule.months and not schedule.months[month] then return false end
  local of_week = not schedule.days or schedule.days[date.weekday(day)] or false
  local in_month = not schedule.dates or schedule.dates[of_month] or false
  if schedule.either then return of_week or in_month end
  return of_week and in_month
end

---The first time that it names after the wall clock showed `from`, before it shows `last`.
---@param schedule Schedule
---@param from integer
---@param last integer
---@return integer? shown
local function named(schedule, from, last)
  for day = (from + 1) // 86400, (last - 1) // 86400 do
    if on_day(schedule, day) then
      for _, second in ipairs(schedule.times) do
        local shown = day * 86400 + second
        if shown >= last then return nil end
        if shown > from then return shown end
      end
    end
  end
end

---The next time after another.
---@param schedule Schedule
---@param zone Zone
---@param after number Seconds since 1970.
---@param limit? integer Looks no further.
---@return integer? time nil: not until then, or not within years.
function M.next(schedule, zone, after, limit)
  local at = math.floor(after)
  limit = limit or at + FAR
  local _
  local kind, start, till = zone:segment(at)
  local from = at + kind.offset
  if start ~= -math.huge and not schedule.each_hour then -- what the clock shows again has been
    ---@cast start integer
    from = math.max(from, start + zone:segment(start - 1).offset - 1)
  end
  while true do
    local last = math.min(till, limit + 1) --[[@as integer]]
    local shown = named(schedule, from, last + kind.offset)
    if shown then return shown - kind.offset end
    if till > limit then return nil end
    local before, begin = kind.offset, till --[[@as integer]]
    kind, _, till = zone:segment(begin)
    from = begin + kind.offset - 1
    if not schedule.each_hour then
      if named(schedule, begin + before - 1, begin + kind.offset) then return begin end -- it was left out
      from = math.max(from, begin + before - 1)
    end
  end
end

---The last time until another: the latest one that is not after it.
---@param schedule Schedule
---@param zone Zone
---@param before number Seconds since 1970.
---@return integer? time nil: not within years.
function M.last(schedule, zone, before)
  local high = math.floor(before)
  local low = high - FAR
  local found
  while high > low do -- the next one after `low` is not too late
    local middle = found and (low + high) // 2 or low
    local time = M.next(schedule, zone, middle, math.floor(before))
    if time then
      found, low = time, time
    elseif not found then
      return nil
    else
      high = middle
    end
  end
  return found
end

return M
