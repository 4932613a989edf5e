-- Windows of time: "Mon-Fri 9:00-17:00", "22:00-02:00", "2026-12-20..2027-01-03", "always", "never".
--
-- A window is open while the wall clock of its zone shows a time that one of its rules names. So the clock's own
-- changes need no rule: an hour that is left out opens nothing, one that comes twice counts twice.
local date, words = require "calendar.date", require "calendar.words"

local M = {}

---@class WindowRule
---@field days? table<integer, true> Of the week; nil: each.
---@field dates? {first: integer, last: integer, yearly: boolean}[] Days since 1970, or month * 100 + day.
---@field times? {first: integer, last: integer}[] Seconds of the day; over a day: until then on the next.

---@class Window
---@field rules WindowRule[]
---@field marks integer[] The seconds of a day on which it may open or close.
---@field far integer For how many days from now a change is looked for.

local WEEKS <const> = 29 -- days in which a weekly window has shown all that it does
local YEARS <const> = 9 * 366 -- 29 February may be eight years away
local MOST <const> = 32 -- rules, and times in one

-- ---- reading ----

-- The tokens: days, dates, times, each a range; and what separates them.
local PATTERNS <const> = {
  { "dates", "(%d%d%d%d%-%d%d?%-%d%d?)%s*%.%.%s*(%d%d%d%d%-%d%d?%-%d%d?)" },
  { "dates", "(%d%d?%-%d%d?)%s*%.%.%s*(%d%d?%-%d%d?)" },
  { "dates", "(%d%d%d%d%-%d%d?%-%d%d?)" },
  { "times", "(%d%d?:?%d*)%s*%-%s*(%d%d?:?%d*)" },
  { "days", "(%a+)%s*%-%s*(%a+)" },
  { "days", "(%a+)" },
}

---@return {kind: "days"|"dates"|"times", at: integer, last: integer, from: string, to: string}
local function token_at(text, at)
  for _, pattern in ipairs(PATTERNS) do
    local first, last, one, two = text:find("^" .. pattern[2], at)
    if first and not text:find("^[%w:.-]", last --[[@as integer]] + 1) then
      return { kind = pattern[1], at = at, last = last, from = one, to = two or one }
    end
  end
  local _, last = text:find("^[^%s,;]+", at)
  local part = text:sub(at, last)
  local why = "not a day, a date or a time"
  if part:find("^%d%d?:%d%d$") or part:find("^%d%d?$") then
    why = "a window ends, too: write 9:00-17:00"
  elseif part:find("[ap]m", 1) then
    why = "times are written from 0:00 to 24:00"
  elseif part:find("%.%.") then
    why = "dates are written 2026-12-20..2027-01-03, or 12-24..12-26 for every year"
  end
  return words.fault(text, at, last or at, why) --[[@as any]]
end

local function read_days(text, token, rule)
  local first, last = words.weekday(token.from), words.weekday(token.to)
  if not first or not last then
    words.fault(text, token.at, token.last, words.no_day(not first and token.from or token.to))
  end
  ---@cast first integer
  ---@cast last integer
  rule.days = rule.days or {}
  words.add_days(rule.days, first, last)
end

-- A day's number; month * 100 + day when every year has it.
local function read_date(text, token, part)
  local y, m, d = part:match("^(%d%d%d%d)%-(%d%d?)%-(%d%d?)$")
  local month, day = part:match("^(%d%d?)%-(%d%d?)$")
  local year = math.tointeger(tonumber(y or 2000)) --[[@as integer]] -- a leap year
  month, day = math.tointeger(tonumber(m or month)), math.tointeger(tonumber(d or day))
  if not month or not day or month < 1 or month > 12 or day < 1 or day > date.days_in(year, month) then
    words.fault(text, token.at, token.last, "there is no such date")
  end
  ---@cast month integer
  ---@cast day integer
  return y and date.days(year, month, day) or month * 100 + day, y == nil
end

local function read_dates(text, token, rule)
  local first, yearly = read_date(text, token, token.from)
  local last = read_date(text, token, token.to)
  if not yearly and last < first then words.fault(text, token.at, token.last, "it ends before it begins") end
  rule.dates = rule.dates or {}
  table.insert(rule.dates, { first = first, last = last, yearly = yearly })
end

local function read_times(text, token, rule)
  local function time(part)
    local hour, minute = part:match("^(%d%d?)$"), nil
    if not hour then
      hour, minute = part:match("^(%d%d?):(%d%d)$")
    end
    return hour and words.time_of_day(hour, minute)
      or words.fault(text, token.at, token.last, "there is no such time of day")
  end
  local first, last = time(token.from), time(token.to)
  if first == 86400 or first == last then
    words.fault(text, token.at, token.last, "it is empty; a whole day needs no time")
  end
  if last < first then last = last + 86400 end
  rule.times = rule.times or {}
  table.insert(rule.times, { first = first, last = last })
end

local READ <const> = { days = read_days, dates = read_dates, times = read_times }

-- "12-24" at the beginning of a rule may be a day of the year or a time.
local function unclear(text, token)
  local month, day = text:sub(token.at, token.last):match("^(%d%d)%-(%d%d)$")
  if not month or tonumber(month) < 1 or tonumber(month) > 12 or tonumber(day) < 1 or tonumber(day) > 31 then return end
  words.fault(text, token.at, token.last, ("it may be a date or a time: write %s..%s, or %s:00-%s:00"):format(token.from
    .. "-" .. token.to, token.from .. "-" .. token.to, month, day))
end

-- Splits a text into rules. A comma goes on with a list of the same kind; before another kind it begins another rule.
local function rules_of(text)
  local rules, rule, kind, at = {}, {}, nil, 1
  local separator = ";" ---@type string?
  while true do
    at = text:match("^%s*()", at)
    if at > #text then break end
    local token = token_at(text, at)
    if separator == ";" or separator == "," and token.kind ~= kind then
      if token.kind == "times" then unclear(text, token) end
      rule = {}
      rules[#rules + 1] = rule
    end
    local goes_on = separator == nil and rule[token.kind]
    READ[token.kind](text, token, rule)
    if goes_on then words.fault(text, token.at, token.last, "a list needs a comma before this") end
    kind, at, separator = token.kind, token.last + 1, nil
    local _, last, found = text:find("^%s*([,;])", at)
    if last then at, separator = last + 1, found end
  end
  if #rules == 0 or separator then words.fault(text, #text + 1, #text, "a day, a date or a time is missing") end
  return rules
end

local function measures(window)
  local seen, marks, far = { [0] = true }, { 0 }, WEEKS
  local function mark(second)
    if not seen[second] then marks[#marks + 1], seen[second] = second, true end
  end
  for _, rule in ipairs(window.rules) do
    for _, t in ipairs(rule.times or {}) do
      mark(t.first)
      mark(t.last % 86400)
    end
    if rule.dates then far = YEARS end
  end
  table.sort(marks)
  window.marks, window.far = marks, far
  return window
end

local function parse(text)
  local word = text:match("^%s*(%a+)%s*$")
  word = word and word:lower()
  if word == "never" then return measures { rules = {} } end
  if word == "always" then return measures { rules = { {} } } end
  local rules = rules_of(text)
  local most = #rules
  for _, rule in ipairs(rules) do most = math.max(most, #(rule.times or {}), #(rule.dates or {})) end
  if most > MOST then words.fault(text, 1, #text, ("more than %d of a kind"):format(MOST)) end
  return measures { rules = rules }
end

---Reads a window.
---@param text any
---@return Window? window
---@return string? why It points to the place in the text.
function M.read(text) return words.read(parse, text) end

-- ---- asking ----

local function on_day(rule, day)
  if rule.days and not rule.days[date.weekday(day)] then return false end
  if not rule.dates then return true end
  local _, month, of_month = date.civil(day)
  local yearly = month * 100 + of_month
  for _, d in ipairs(rule.dates) do
    local first, last, asked = d.first, d.last, d.yearly and yearly or day
    if first <= last and first <= asked and asked <= last then return true end
    if first > last and (asked >= first or asked <= last) then return true end -- over the end of the year
  end
  return false
end

-- Whether it is open when the wall clock shows this: seconds since 1970, as if there were no zones.
local function is_open(window, shown)
  local day, second = shown // 86400, shown % 86400
  for _, rule in ipairs(window.rules) do
    local today = on_day(rule, day)
    if not rule.times and today then return true end
    for _, t in ipairs(rule.times or {}) do
      if today and t.first <= second and second < t.last then return true end
      if second < t.last - 86400 and on_day(rule, day - 1) then return true end
    end
  end
  return false
end

-- The first change of the wall clock's own after `from`, until `last`.
local function changed(window, state, from, last)
  for day = from // 86400, last // 86400 do
    for _, mark in ipairs(window.marks) do
      local shown = day * 86400 + mark
      if shown > from and shown < last and is_open(window, shown) ~= state then return shown end
    end
  end
end

---Whether a window is open, and when that changes next.
---@param window Window
---@param zone Zone
---@param time number Seconds since 1970.
---@return boolean open
---@return number? changes When it closes or opens next; nil: not within years.
function M.state(window, zone, time)
  local at = math.floor(time)
  local kind, _, till = zone:segment(at)
  local from, limit = at + kind.offset, at + window.far * 86400
  local state = is_open(window, from)
  while true do
    local shown = changed(window, state, from, math.min(till, limit) + kind.offset)
    if shown then return state, shown - kind.offset end
    if till >= limit then return state, nil end
    local start = till --[[@as integer]]
    kind, _, till = zone:segment(start)
    from = start + kind.offset
    if is_open(window, from) ~= state then return state, start end
  end
end

return M
