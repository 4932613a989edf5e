-- Words that windows and schedules share: days of the week, times of day, and faults that point into the text.

local M = {}

local DAYS <const> = { "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday" }

M.LONGEST = 256 -- bytes of a window or a schedule

---A fault of a text, raised to whoever reads it (M.read).
---@param text string
---@param at integer Where in the text.
---@param last integer
---@param why string
---@return never
function M.fault(text, at, last, why)
  local part = text:sub(at, last)
  error({ words = part == "" and ("%s at the end of %q"):format(why, text)
    or ("%s: %q at character %d of %q"):format(why, part, at, text) }, 0)
end

---@param word string "Mon", "monday", in any case.
---@return integer? weekday 1 is Monday.
function M.weekday(word)
  local lower = word:lower()
  for i, name in ipairs(DAYS) do
    if lower == name or #lower >= 2 and #lower <= 4 and name:sub(1, #lower) == lower then return i end
  end
end

---The days from one to another, over the end of the week when need be.
---@param into table<integer, true>
---@param first integer
---@param last integer
function M.add_days(into, first, last)
  local day = first
  into[day] = true
  while day ~= last do
    day = day % 7 + 1
    into[day] = true
  end
end

---The day that somebody meant.
---@param word string
---@return string
function M.no_day(word)
  local other = require("base.suggest").closest(word, { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" })
  return "not a day of the week" .. (other and (" (did you mean %s?)"):format(other) or " (Mon, Tue, ... Sun)")
end

---Seconds since midnight of "9", "9:30" or "24:00".
---@param hour string
---@param minute? string
---@return integer? seconds nil: there is no such time.
function M.time_of_day(hour, minute)
  local h, m = math.tointeger(tonumber(hour)), math.tointeger(tonumber(minute or "0"))
  if not h or not m or m > 59 or h * 60 + m > 1440 then return nil end
  return (h * 60 + m) * 60
end

local kept, count = {}, 0

---Reads a text by a parser that raises its faults; what was read before is remembered.
---@generic T
---@param parser fun(text: string): T
---@param text any
---@return T? result
---@return string? why
function M.read(parser, text)
  if type(text) ~= "string" then return nil, "it is a text, not a " .. type(text) end
  local of_parser = kept[parser]
  if of_parser and of_parser[text] then return of_parser[text] end
  if #text > M.LONGEST then return nil, ("it is longer than %d bytes"):format(M.LONGEST) end
  local ok, result = pcall(parser, text)
  if not ok then
    if type(result) == "table" and result.words then return nil, result.words end
    error(result, 0)
  end
  if count >= 256 then kept, count = {}, 0 end -- texts that a policy makes anew at each poll
  kept[parser] = kept[parser] or {}
  kept[parser][text], count = result, count + 1
  return result
end

return M
