-- Poll schedules as keel reads them: "@every 1m30s", "@hourly", and cron lines whose first field is the second.
--
--     schedule.parse("0 */5 * * * *"):next(time.now())   --> when the next fifth minute begins
--
-- Five fields are second, minute, hour, day and month; a sixth is the weekday. A day is right when the day of the month
-- or the weekday says so; when one of the two fields begins with a star ("*", "*/2"), both must. All in UTC.
local errors, time = require "errors", require "time"

local M = {}

---@class KeelSchedule
---@field text string
---@field every? number Seconds, of "@every"; else the fields below.
---@field private fields? table<string, table<integer, boolean>|{any: boolean}>
local Schedule = {}
Schedule.__index = Schedule

local UNITS <const> = { ns = 1e-9, us = 1e-6, ["µs"] = 1e-6, ["μs"] = 1e-6, ms = 1e-3, s = 1, m = 60, h = 3600 }
local MONTHS <const> = "jan feb mar apr may jun jul aug sep oct nov dec"
local DAYS <const> = "sun mon tue wed thu fri sat"
local FIELDS <const> = {
  { "second", 0, 59 }, { "minute", 0, 59 }, { "hour", 0, 23 }, { "day", 1, 31 }, { "month", 1, 12, MONTHS, 1 },
  { "weekday", 0, 6, DAYS, 0 },
}
local WORDS <const> = {
  ["@yearly"] = "0 0 0 1 1 *", ["@annually"] = "0 0 0 1 1 *", ["@monthly"] = "0 0 0 1 * *",
  ["@weekly"] = "0 0 0 * * 0", ["@daily"] = "0 0 0 * * *", ["@midnight"] = "0 0 0 * * *", ["@hourly"] = "0 0 * * * *",
}

-- These texts are untrusted annotations: none takes long to parse, and none makes a number that is too
-- large to sleep or to print.
local MAX_TEXT <const>, LONGEST_EVERY <const> = 256, 366 * 86400

local function fail(text, why)
  return errors.fail("invalid", ("%q is not a schedule: %s"):format(text:sub(1, 60), why), { op = "keel.schedule" })
end

---A duration as Go writes it: "1h30m", "1.5h", "90s". Never less than a second, in whole seconds.
---@param text string
---@return number? seconds
local function duration(text)
  local total, rest = 0, text:gsub("^%+", "") ---@type number, any
  if rest == "" then return nil end
  while rest ~= "" do
    local number, unit, after = rest:match("^([%d.]+)([^%d.]+)(.*)$")
    local value = number and tonumber(number)
    if not value or not UNITS[unit] then return nil end
    total, rest = total + value * UNITS[unit], after
  end
  return math.max(1, total // 1)
end

local function number_of(word, names, first)
  if word:find("^%d+$") then return #word <= 4 and math.tointeger(tonumber(word)) or nil end
  if not names or #word ~= 3 then return nil end
  local at = names:find(word:lower(), 1, true)
  return at and (at - 1) % 4 == 0 and (at - 1) // 4 + first or nil
end

-- "*", "5", "1-5", "*/15", "10-40/10", and lists of them.
local function field(text, low, high, names, first)
  local allowed = {}
  if not text:find("[^,]") then return nil end
  for part in text:gmatch("[^,]+") do
    local range, step = part:match("^([^/]+)/(%d+)$")
    range = range or part
    if range:find("/", 1, true) then return nil end
    local from, to
    if range == "*" or range == "?" then
      from, to, allowed.any = low, high, true -- with a step, too: the cron library that keel uses keeps the star
    else
      local a, b = range:match("^(%w+)%-(%w+)$")
      from = number_of(a or range, names, first)
      to = b and number_of(b, names, first) or not b and (step and high or from) or nil
    end
    local by = step and #step <= 4 and math.tointeger(tonumber(step)) or 1
    if not from or not to or from < low or to > high or from > to or by < 1 then return nil end
    for n = from, to, by do allowed[n] = true end
  end
  return allowed
end

local LENGTHS <const> = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- Whether there is a day on which it is due: 30 February never comes.
local function comes(fields)
  if not fields.day.any and not fields.weekday.any then return true end -- a weekday is enough
  for month in pairs(fields.month) do
    for day = 1, LENGTHS[month] or 0 do
      if fields.day[day] then return true end
    end
  end
  return false
end

---Reads a schedule.
---@param text string
---@return KeelSchedule?
---@return Err? err invalid
---@return_overload nil, Err
function M.parse(text)
  if type(text) ~= "string" then error("usage: schedule.parse(text)", 2) end
  if #text > MAX_TEXT then return fail(text, "it is too long") end
  local line = text:match("^%s*(.-)%s*$") ---@cast line string
  local every = line:match("^@every%s+(%S+)$")
  if every then
    local seconds = duration(every)
    if not seconds then return fail(text, ("%q is no duration"):format(every:sub(1, 30))) end
    if seconds > LONGEST_EVERY then return fail(text, "that is longer than a year") end
    return setmetatable({ text = line, every = seconds }, Schedule)
  end
  local spec = WORDS[line]
  if not spec and line:sub(1, 1) == "@" then return fail(text, "there is no such word") end
  local parts = {} ---@type string[]
  for part in (spec or line):gmatch("%S+") do parts[#parts + 1] = part end
  if #parts < 5 or #parts > 6 then return fail(text, ("it has %d fields and needs 5 or 6"):format(#parts)) end
  parts[6] = parts[6] or "*"
  local fields = {}
  for i, rule in ipairs(FIELDS) do
    local allowed = field(parts[i], rule[2], rule[3], rule[4], rule[5])
    if not allowed then return fail(text, ("%q is no %s"):format(parts[i]:sub(1, 30), rule[1])) end
    fields[rule[1]] = allowed
  end
  if not comes(fields) then return fail(text, "no month of those has such a day, so it never comes") end
  return setmetatable({ text = line, fields = fields }, Schedule)
end

local function day_of(days) -- days since 1970 to year, month, day (proleptic Gregorian, eras of 400 years)
  local z = days + 719468
  local era = z // 146097
  local doe = z - era * 146097
  local yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
  local doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
  local mp = (5 * doy + 2) // 153
  local month = mp < 10 and mp + 3 or mp - 9
  return month, doy - (153 * mp + 2) // 5 + 1
end

local function right_day(fields, days)
  local month, day = day_of(days)
  if not fields.month[month] then return false end
  local by_day, by_week = fields.day[day], fields.weekday[(days + 4) % 7]
  if fields.day.any or fields.weekday.any then return by_day and by_week end
  return by_day or by_week
end

local LONGEST <const> = 366 * 41 -- days to look ahead: 29 February on one weekday comes every 28 years, once after 40

---The first moment after another at which the schedule is due.
---@param after number Seconds since 1970.
---@return number at
function Schedule:next(after)
  if self.every then return after + self.every end
  local fields = assert(self.fields)
  local start = math.floor(after) + 1
  local days, second_of_day = start // 86400, start % 86400
  for day = days, days + LONGEST do
    if right_day(fields, day) then
      local from = day == days and second_of_day or 0
      for hour = from // 3600, 23 do
        local first_minute = hour == from // 3600 and from % 3600 // 60 or 0
        for minute = fields.hour[hour] and first_minute or 60, 59 do
          local first_second = hour * 60 + minute == from // 60 and from % 60 or 0
          for second = fields.minute[minute] and first_second or 60, 59 do
            if fields.second[second] then return day * 86400 + hour * 3600 + minute * 60 + second end
          end
        end
      end
    end
  end
  error("a schedule that was read is due some day")
end

---How often to check whether it is due, in seconds.
---@return number seconds
function Schedule:interval()
  if self.every then return self.every end
  local now = time.now()
  local first = self:next(now)
  return math.max(1, math.min(60, (self:next(first) - first) // 2))
end

return M
