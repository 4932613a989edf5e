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

---@class LocalClock
---@field year integer
---@field month integer 1 to 12.
---@field day integer
---@field hour integer
---@field minute integer
---@field second integer
---@field weekday integer 1 is Monday.
---@field offset integer Seconds east of UTC.

---The machine's local clock at a point in time.
---@param seconds? number
---@return LocalClock
function M.clock(seconds) return core.local_clock(seconds or core.now()) end

---A duration in words for people, whatever its size: "0.05 ms", "850 ms", "12 s", "3 m 20 s", "2 d 4 h".
---@param seconds number
---@return string text
function M.words(seconds)
  if seconds > 0 and seconds < 0.001 then return ("%.2g ms"):format(seconds * 1000) end
  if seconds < 0.9995 then return ("%d ms"):format(math.floor(seconds * 1000 + 0.5)) end
  if seconds < 9.95 then return (("%.1f s"):format(seconds):gsub("%.0 s", " s")) end
  if seconds < 60 then return ("%d s"):format(math.floor(seconds)) end
  if seconds < 3600 then return ("%d m %d s"):format(seconds // 60, seconds % 60 // 1) end
  if seconds < 86400 then return ("%d h %d m"):format(seconds // 3600, seconds % 3600 // 60) end
  return ("%.0f d %d h"):format(seconds // 86400, seconds % 86400 // 3600)
end

return M
