-- Time zones, read from the machine's tz database (TZif files, RFC 9636): the offset from UTC at a point in time, and
-- when it changes. After a file's last transition its footer's rule goes on (a POSIX TZ text).
local date, sys = require "calendar.date", require "base.sys"

local M = {}

---What a zone's clocks show between two changes.
---@class ZoneKind
---@field offset integer Seconds east of UTC.
---@field name string The abbreviation: "CET", "CEST", "+03".

---@class Zone
---@field name string
---@field private at integer[] When it changes, in order.
---@field private kinds ZoneKind[] What is so after each change.
---@field private first ZoneKind Before the first change.
---@field private rule? ZoneRule What repeats every year after the last change.
local Zone = {}
Zone.__index = Zone

---@class ZoneRule
---@field standard ZoneKind
---@field summer ZoneKind
---@field starts ZoneRuleDay
---@field ends ZoneRuleDay

---@class ZoneRuleDay
---@field form "M"|"J"|"N"
---@field month? integer
---@field week? integer
---@field day integer
---@field time integer Seconds of that day; may be negative or more than a day.

-- ---- POSIX TZ texts ----

local function take(text, at, pattern)
  local first, last, one, two, three = text:find("^" .. pattern, at)
  if first then return last + 1, one, two, three end
end

local function seconds(text, at)
  local next_at, sign, hours, rest = take(text, at, "([+-]?)(%d%d?%d?)([:%d]*)")
  if not next_at then return nil end
  local minutes, more = rest:match("^:(%d%d)"), rest:match("^:%d%d:(%d%d)$")
  local value = (tonumber(hours) or 0) * 3600 + (tonumber(minutes) or 0) * 60 + (tonumber(more) or 0)
  return next_at, (sign == "-" and -value or value) --[[@as integer]]
end

local function kind_name(text, at)
  local next_at, name = take(text, at, "<([%w+-]+)>")
  if next_at then return next_at, name end
  return take(text, at, "(%a+)")
end

local function rule_day(text, at)
  local form, next_at, a, b, c = "M", take(text, at, ",M(%d+)%.(%d+)%.(%d+)")
  if not next_at then
    form, next_at, a = "J", take(text, at, ",J(%d+)")
  end
  if not next_at then
    form, next_at, a = "N", take(text, at, ",(%d+)")
  end
  if not next_at then return nil end
  local time, after = 7200, take(text, next_at, "/")
  if after then
    next_at, time = seconds(text, after)
    if not next_at then return nil end
  end
  return next_at, {
    form = form, month = c and math.tointeger(a), week = math.tointeger(b), day = math.tointeger(c or a), time = time,
  }
end

-- The kind, or the rule with two of them, that a POSIX TZ text says.
local function posix(text)
  local at, name = kind_name(text, 1)
  local west
  if at then
    at, west = seconds(text, at)
  end
  if not at or not west then return nil end
  local standard = { offset = -west, name = name }
  if at > #text then return standard end
  at, name = kind_name(text, at)
  if not at then return nil end
  local summer = { offset = standard.offset + 3600, name = name }
  local after, other = seconds(text, at)
  if after then
    at, summer.offset = after, -other
  end
  local starts, ends
  at, starts = rule_day(text, at)
  if at then
    at, ends = rule_day(text, at)
  end
  if not at or at <= #text then return nil end
  return standard, { standard = standard, summer = summer, starts = starts, ends = ends }
end

-- The wall clock's second on which a rule's day names a change, in a year.
---@param rule ZoneRuleDay
local function moment(rule, year)
  local first = date.days(year, 1, 1)
  local day
  if rule.form == "M" then
    local month, week = assert(rule.month), assert(rule.week)
    first = date.days(year, month, 1)
    day = first + (rule.day - date.weekday(first)) % 7 + (week - 1) * 7 -- 0 and 7 are Sunday
    if day >= first + date.days_in(year, month) then day = day - 7 end
  elseif rule.form == "J" then
    local leap = date.days_in(year, 2) == 29 and rule.day >= 60
    day = first + rule.day - 1 + (leap and 1 or 0)
  else
    day = first + rule.day
  end
  return day * 86400 + rule.time
end

-- ---- TZif files ----

local HEADER <const> = 44

---@return string version
---@return {isut: integer, isstd: integer, leap: integer, times: integer, kinds: integer, chars: integer} counts
local function counts(data, at)
  local magic, version = data:sub(at, at + 3), data:sub(at + 4, at + 4)
  if magic ~= "TZif" then error("it is no TZif file", 0) end
  ---@type integer, integer, integer, integer, integer, integer
  local isut, isstd, leap, times, kinds, chars = (">I4I4I4I4I4I4"):unpack(data, at + 20)
  return version, { isut = isut, isstd = isstd, leap = leap, times = times, kinds = kinds, chars = chars }
end

local function parse(name, data)
  local at, width = 1, 4
  local version, n = counts(data, at)
  if version >= "2" then -- the second block, with 64 bits
    at, width = HEADER + 1 + n.times * 5 + n.kinds * 6 + n.chars + n.leap * 8 + n.isstd + n.isut, 8
    n = select(2, counts(data, at))
  end
  at = at + HEADER
  local changes, after, rule = {}, {}, nil
  local of_kinds, chars = at + n.times * (width + 1), at + n.times * (width + 1) + n.kinds * 6
  local kinds = {}
  for i = 1, n.kinds do
    local offset, _, abbreviation = (">i4I1I1"):unpack(data, of_kinds + (i - 1) * 6)
    kinds[i] = { offset = offset, name = data:match("^[^\0]*", chars + abbreviation) }
  end
  for i = 1, n.times do
    changes[i] = (width == 8 and ">i8" or ">i4"):unpack(data, at + (i - 1) * width)
    after[i] = assert(kinds[data:byte(at + n.times * width + i - 1) + 1])
  end
  local footer = width == 8 and data:match("^\n([^\n]*)\n", chars + n.chars + n.leap * 12 + n.isstd + n.isut)
  local standard
  if footer and footer ~= "" then
    standard, rule = posix(footer)
  end
  return setmetatable({
    name = name, at = changes, kinds = after, first = kinds[1] or standard or error("it has no offset", 0), rule = rule,
  }, Zone)
end

-- ---- zones ----

-- The change of a zone's rule around a time: the last one until then, and the next.
local function by_rule(rule, time, begun)
  local year = date.civil((time + rule.standard.offset) // 86400)
  local before, kind, after = begun, nil, math.huge
  for y = year - 1, year + 1 do
    local starts, ends = moment(rule.starts, y) - rule.standard.offset, moment(rule.ends, y) - rule.summer.offset
    for _, change in ipairs { { starts, rule.summer }, { ends, rule.standard } } do
      if change[1] > time then
        after = math.min(after, change[1])
      elseif change[1] >= before and change[1] > begun then
        before, kind = change[1], change[2]
      end
    end
  end
  return kind, before, after
end

---What a zone's clocks show at a time.
---@param time integer Seconds since 1970.
---@return ZoneKind kind
---@return number from Since when; -math.huge: always.
---@return number till Until when; math.huge: for ever.
function Zone:segment(time)
  local at = self.at
  local low, high = 0, #at -- at[low] <= time
  while low < high do
    local middle = (low + high + 1) // 2
    if at[middle] <= time then low = middle else high = middle - 1 end
  end
  local kind, from, till = self.kinds[low] or self.first, at[low] or -math.huge, at[low + 1] or math.huge
  if self.rule and low == #at then
    local by, since, next_change = by_rule(self.rule, time, from)
    if not by then return kind, from, next_change end
    return by, since, next_change
  end
  return kind, from, till
end

local zones = {} ---@type table<string, Zone>

local function fixed(kind, rule)
  return setmetatable({ name = kind.name, at = {}, kinds = {}, first = kind, rule = rule }, Zone)
end

local function folder() return sys.env "TZDIR" or "/usr/share/zoneinfo" end

-- Zones are asked for by policies: a name leads to no other file.
local function file_of(name)
  if #name > 64 or ("/" .. name):gsub("/%a[%w_+-]*", "") ~= "" then return nil end
  return sys.slurp(folder() .. "/" .. name)
end

-- The bytes of the machine's own zone, or the zone itself.
local function own_zone()
  local named = (sys.env "TZ" or ""):gsub("^:", "")
  if named ~= "" then
    local data = file_of(named)
    if data then return data end
    local kind, rule = posix(named)
    if kind then return fixed(kind, rule) end
  end
  return sys.slurp "/etc/localtime" or fixed { offset = 0, name = "UTC" }
end

local function find(name)
  if not name then return own_zone() end
  return file_of(name) or name == "UTC" and fixed { offset = 0, name = "UTC" } or nil
end

-- The zone that somebody meant: the one with this city, or that differs by a typing mistake.
local function meant(name)
  local known, wanted = {}, name:lower():gsub("[%s-]+", "_")
  for line in ((sys.slurp(folder() .. "/tzdata.zi")) or ""):gmatch "[^\n]+" do
    local candidate = line:match "^Z (%S+)" or line:match "^L %S+ (%S+)"
    if candidate then
      local lower = candidate:lower()
      if lower == wanted or lower:match("[^/]+$") == wanted then return candidate end
      known[#known + 1] = candidate
    end
  end
  return require("base.suggest").closest(name, known)
end

---A zone by its name in the IANA database; the machine's own without one.
---@param name? string "Europe/Berlin", "UTC"
---@return Zone? zone
---@return string? why In words, with the one that was probably meant.
function M.open(name)
  if name == "" then return nil, "a time zone's name is empty" end
  local key = name or ""
  if zones[key] then return zones[key] end
  local data = find(name)
  if not data then
    local other = meant(name --[[@as string]])
    return nil, ("there is no time zone \"%s\"%s"):format(name, other and (": did you mean \"%s\"?"):format(other)
      or not file_of "Europe/Berlin" and ": this machine has no time zones (install tzdata)"
      or ": a zone's name is like \"Europe/Berlin\" or \"UTC\"")
  end
  local ok, zone = true, data
  if type(data) == "string" then
    ok, zone = pcall(parse, key, data)
  end
  if not ok then return nil, ("the time zone \"%s\" cannot be read: %s"):format(key, tostring(zone)) end
  zones[key] = zone
  return zone
end

---@class LocalClock
---@field year integer
---@field month integer 1 to 12.
---@field day integer
---@field hour integer
---@field minute integer
---@field second integer
---@field weekday integer 1 is Monday.
---@field yearday integer 1 is the first of January.
---@field zone string The abbreviation: "CET", "CEST", "+03".
---@field offset integer Seconds east of UTC.

---What the zone's clocks and calendars show.
---@param time number Seconds since 1970.
---@return LocalClock
function Zone:clock(time)
  local whole = math.floor(time)
  local kind = self:segment(whole)
  local shown = whole + kind.offset
  local days, second = shown // 86400, shown % 86400
  local year, month, day = date.civil(days)
  return {
    year = year, month = month, day = day, hour = second // 3600, minute = second // 60 % 60, second = second % 60,
    weekday = date.weekday(days), yearday = days - date.days(year, 1, 1) + 1, zone = kind.name, offset = kind.offset,
  }
end

return M
