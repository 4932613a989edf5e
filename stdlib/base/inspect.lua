-- Values as text that a person can read, and that Lua can read back where that is possible.
--
-- Keys are sorted, so that two prints can be compared. Depth, width and the number of values are capped,
-- cycles are named, and nothing of the value's own code runs except __tostring of objects: printing must
-- never wait or fail.

local foul = require("base.text").foul

local M = {}

---@class InspectOptions
---@field depth? integer levels of tables (default 6)
---@field width? integer columns up to which a table stays on one line (default 80)
---@field items? integer values in all (default 1000)
---@field text? integer bytes shown of one string (default 4096)

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch("%a+") do KEYWORDS[word] = true end

local SHORT = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

---Makes text safe to show on one line: UTF-8 stays readable, control bytes, stray bytes and characters
---that hide or turn the direction of the line (names lie that way) become Lua escapes.
---@param text string
---@return string
function M.printable(text)
  local out = text:gsub('[%c\127]', function(c) return SHORT[c] or ("\\x%02x"):format(c:byte()) end)
  if not utf8.len(out) then
    local clean, at = {}, 1
    while at <= #out do
      local length, bad = utf8.len(out, at)
      clean[#clean + 1] = out:sub(at, length and #out or bad --[[@as integer]] - 1)
      if length then break end ---@cast bad integer
      clean[#clean + 1] = ("\\x%02x"):format(out:byte(bad))
      at = bad + 1
    end
    out = table.concat(clean)
  end
  return (out:gsub("[\194-\244][\128-\191]+", function(c)
    local code = utf8.codepoint(c)
    -- Joiners are legal in a text; in a name on a terminal they make two names look the same.
    return (foul(code) or code >= 0x200b and code <= 0x200d) and ("\\u{%x}"):format(code) or nil
  end))
end

---Quotes a string as Lua source, on one line.
---@param text string
---@param limit? integer bytes to show
---@return string
function M.quote(text, limit)
  local rest = limit and #text > limit and #text - limit or 0
  if rest > 0 then
    text = text:sub(1, limit)
    -- Not in the middle of a character.
    local _, bad = utf8.len(text)
    if bad and #text - bad < 4 then
      rest = rest + #text - bad + 1
      text = text:sub(1, bad - 1)
    end
  end
  local out = M.printable((text:gsub('["\\]', "\\%0")))
  return '"' .. out .. '"' .. (rest > 0 and (" .. <%d more bytes>"):format(rest) or "")
end

local function number(n)
  if math.type(n) == "integer" then return ("%d"):format(n) end
  if n ~= n then return "0/0" end
  if n == math.huge then return "math.huge" end
  if n == -math.huge then return "-math.huge" end
  local short = ("%.14g"):format(n)
  if tonumber(short) ~= n then short = ("%.17g"):format(n) end
  return short:find("[%.eE]") and short or short .. ".0"
end

local ORDER = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return (ORDER[ta] or 9) < (ORDER[tb] or 9) end
  if ta == "number" or ta == "string" then return a < b end
  if ta == "boolean" then return a and not b end
  return false
end

local Printer = {}
Printer.__index = Printer

-- What an object says of itself. A locked metatable hides __tostring, but tostring() still finds it; the
-- default "name: 0x55..." is no words, only its name is.
local function own_words(value)
  local ok, words = pcall(tostring, value)
  if not ok or type(words) ~= "string" then return nil, type(value) end
  local name = words:match("^([%w_. -]+): %(?0?x?%w+%)?$")
  if name and #words - #name <= 20 and (words:find(": 0x%x+$") or words:find("nil", 1, true)) then return nil, name end
  return M.printable(words)
end

---@private
function Printer:key(key, indent)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") and not KEYWORDS[key] then return key end
  return "[" .. self:value(key, indent, true) .. "]"
end

---@private
function Printer:table(value, indent)
  if self.open[value] then return "<cycle>" end
  if next(value) == nil then return "{}" end
  if #indent // 2 >= self.depth then return "{...}" end
  self.open[value] = true
  local inner = indent .. "  "
  local parts, count = {}, rawlen(value)
  local seen = 0
  for i = 1, count do
    local item = rawget(value, i)
    if item == nil or self.left <= 0 then break end
    seen = i
    parts[#parts + 1] = self:value(item, inner)
  end
  local keys, more = {}, 0
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= seen) then
      if #keys < 10000 then keys[#keys + 1] = key else more = more + 1 end
    end
  end
  table.sort(keys, before)
  for i, key in ipairs(keys) do
    if self.left <= 0 then
      more = more + #keys - i + 1
      break
    end
    parts[#parts + 1] = self:key(key, inner) .. " = " .. self:value(rawget(value, key), inner)
  end
  if more > 0 then parts[#parts + 1] = ("<%d more>"):format(more) end
  self.open[value] = nil
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #line + #indent <= self.width and not line:find("\n", 1, true) then return line end
  return "{\n" .. inner .. table.concat(parts, ",\n" .. inner) .. ",\n" .. indent .. "}"
end

---@private
function Printer:value(value, indent, flat)
  self.left = self.left - 1
  local kind = type(value)
  if kind == "string" then return M.quote(value, self.text) end
  if kind == "number" then return number(value) end
  if kind == "nil" or kind == "boolean" then return tostring(value) end
  local words, name = own_words(value)
  if kind == "table" and not flat and (not words or getmetatable(value) == nil) then
    return self:table(value, indent)
  end
  return "<" .. (words or name) .. ">"
end

---Prints a value.
---@param value any
---@param options? InspectOptions
---@return string
function M.text(value, options)
  options = options or {}
  local printer = setmetatable({
    depth = options.depth or 6,
    width = options.width or 80,
    left = options.items or 1000,
    text = options.text or 4096,
    open = {},
  }, Printer)
  return printer:value(value, "")
end

return M
