-- Clocks and sleep. Durations are seconds; points in time are seconds since 1970.
local core = require "core.time"
local errors = require "errors"

local M = {}

---The wall clock, in seconds since 1970. It may jump: never measure with it.
---@return number seconds
function M.now() return core.now() end

---A clock that never jumps, in seconds from an arbitrary start.
---@return number seconds
function M.monotonic() return core.monotonic() end

---Processor seconds used by this process.
---@return number seconds
function M.cpu() return core.cpu() end

---Waits, while other tasks go on.
---@async
---@param seconds number
function M.sleep(seconds) return core.sleep(seconds) end

---A point in time as RFC 3339 in UTC ("2026-11-23T10:00:00Z").
---@param seconds? number Now when absent.
---@return string text
function M.iso(seconds) return core.iso(seconds or core.now()) end

---Reads RFC 3339 ("2026-11-23T10:00:00.5+01:00").
---@param text string
---@return number? seconds
---@return Err? err
---@return_overload nil, Err
function M.parse_iso(text)
  if type(text) ~= "string" then error("usage: time.parse_iso(text)", 2) end
  local y, mo, d, h, mi, s, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
  local fraction, zone = (rest or ""):match("^(%.?%d*)([Zz+-].*)$")
  local sign, zh, zm = (zone or ""):match("^([+-])(%d%d):(%d%d)$")
  local offset
  if zone == "Z" or zone == "z" then offset = 0 end
  local function number(digits) return assert(math.tointeger(tonumber(digits))) end
  if sign then offset = (number(zh) * 60 + number(zm)) * (sign == "+" and 60 or -60) end
  if not offset or number(mo) > 12 or number(d) > 31 or number(h) > 23 then
    return errors.fail("invalid", "not an RFC 3339 time: " .. text:sub(1, 40), { op = "time.parse_iso" })
  end
  local whole = core.utc(number(y), number(mo), number(d), number(h), number(mi), number(s))
  return whole - offset + (tonumber("0" .. fraction) or 0)
end

-- ---- clocks and calendars of a zone ----

---@return Zone
local function zone_of(name)
  if name ~= nil and type(name) ~= "string" then error("a time zone is a text, such as \"Europe/Berlin\"", 3) end
  local zone, why = require("calendar.zone").open(name)
  return zone or error(why, 3)
end

-- A point in time that a calendar may be asked about.
local function point(at, word)
  if at == nil then return core.now() end
  if type(at) ~= "number" or not (at > -62135596801 and at < 253402300800) then
    error(("usage: %s: a time is seconds since 1970"):format(word), 3)
  end
  return at
end

---What clocks and calendars show in a time zone: year, month, day, hour, minute, second, weekday (1 is Monday),
---yearday, zone ("CET") and offset (seconds east of UTC). An unknown zone is an error that names the one that was
---probably meant.
---@param zone? string "Europe/Berlin"; the machine's own when absent.
---@param at? number Seconds since 1970; now when absent.
---@return LocalClock
---@overload fun(at: number): LocalClock
function M.clock(zone, at)
  if type(zone) == "number" and at == nil then zone, at = nil, zone end
  return zone_of(zone):clock(point(at, "time.clock([zone [, at]])"))
end

---Whether a window is open: "Mon-Fri 9:00-17:00", "Mon-Thu,Sat 9-17, 22:00-02:00" (over midnight),
---"2026-12-20..2027-01-03", "12-24..12-26" (every year), several of them divided by ";", "always" or "never".
---Raises what is wrong in the text.
---@param window string
---@param zone? string "Europe/Berlin"; the machine's own when absent.
---@param at? number Seconds since 1970; now when absent.
---@return boolean open
---@return number? changes When it closes or opens next, in seconds since 1970; nil: never.
function M.within(window, zone, at)
  local calendar = require "calendar.window"
  local read, why = calendar.read(window)
  if not read then error("the window is wrong: " .. why, 2) end
  return calendar.state(read, zone_of(zone), point(at, "time.within(window [, zone [, at]])"))
end

local function scheduled(schedule)
  local read, why = require("calendar.schedule").read(schedule)
  return read or error("the schedule is wrong: " .. why, 3)
end

---The next time that a schedule names: "daily 02:30", "Mon-Fri 8:00, 16:30", "hourly", or cron's five fields
---("30 2 * * *").
---@param schedule string
---@param zone? string "Europe/Berlin"; the machine's own when absent.
---@param after? number Seconds since 1970; now when absent.
---@return number? at Seconds since 1970; nil: not within years.
function M.next(schedule, zone, after)
  local read, point_in_time = scheduled(schedule), point(after, "time.next(schedule [, zone [, after]])")
  return require("calendar.schedule").next(read, zone_of(zone), point_in_time)
end

---The latest time that a schedule named: what a nightly policy takes as its key.
---@param schedule string As of time.next.
---@param zone? string "Europe/Berlin"; the machine's own when absent.
---@param before? number Seconds since 1970; now when absent. A time that is just then counts.
---@return number? at Seconds since 1970; nil: not within years.
function M.last(schedule, zone, before)
  local read, point_in_time = scheduled(schedule), point(before, "time.last(schedule [, zone [, before]])")
  return require("calendar.schedule").last(read, zone_of(zone), point_in_time)
end

---A duration in words for people, whatever its size: "0.05 ms", "850 ms", "12 s", "3 m 20 s", "2 d 4 h".
---@param seconds number
---@return string text
function M.words(seconds)
  if seconds > 0 and seconds < 0.001 then return ("%.2g ms"):format(seconds * 1000) end
  if seconds < 0.9995 then return ("%d ms"):format(math.floor(seconds * 1000 + 0.5)) end
  if seconds < 9.95 then return (("%.1f s"):format(seconds):gsub("%.0 s", " s")) end
  if seconds < 60 then return ("%d s"):format(math.floor(seconds)) end
  local text
  if seconds < 3600 then
    text = ("%d m %d s"):format(seconds // 60, seconds % 60 // 1)
  elseif seconds < 86400 then
    text = ("%d h %d m"):format(seconds // 3600, seconds % 3600 // 60)
  else
    text = ("%.0f d %d h"):format(seconds // 86400, seconds % 86400 // 3600)
  end
  return (text:gsub(" 0 %a$", ""))
end

return M
