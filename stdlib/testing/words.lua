-- The words of test files: equal, has, raises and commit; `test`, `everywhere` and `explore` register tests.
local errors, inspect, sys = require "errors", require "base.inspect", require "base.sys"

local M = {}

local SHOWN <const> = { depth = 6, width = 100, items = 200, text = 1000 }

---A value as text.
---@param value any
---@return string
function M.show(value) return inspect.text(value, SHOWN) end

local show = M.show

local function fail(message, fields)
  fields = fields or {}
  fields.where = sys.script_line()
  error(errors.new("script", message, fields), 0)
end

-- Where two values first differ, as a path into them; nil: they are the same.
local function difference(a, b, path, seen)
  if rawequal(a, b) or type(a) ~= "table" and a == b then return nil end
  if type(a) ~= "table" or type(b) ~= "table" then return path end
  if seen[a] == b then return nil end
  seen[a] = b
  local keys = {}
  for k in next, a do keys[#keys + 1] = k end
  for k in next, b do
    if rawget(a, k) == nil then keys[#keys + 1] = k end
  end
  table.sort(keys, function(x, y) return tostring(x) < tostring(y) end)
  for _, k in ipairs(keys) do
    local step = type(k) == "string" and k:find("^[%a_][%w_]*$") and "." .. k or ("[%s]"):format(show(k))
    local found = difference(rawget(a, k), rawget(b, k), path .. step, seen)
    if found then return found end
  end
end

---Fails unless both are equal, tables by what is in them.
---@param got any What there is.
---@param expected any What there should be.
---@param what? string What it is about, for the message.
function M.equal(got, expected, what)
  local path = difference(got, expected, "", {})
  if not path then return end
  local message = (what and what .. ": " or "") .. "this is not what was expected"
  if path ~= "" then message = ("%s; it first differs at %s"):format(message, path) end
  fail(message, { got = show(got), expected = show(expected) })
end

---Fails unless a text, or one text of a list, holds a part.
---@param text? string|string[] Without a text there is no part.
---@param part string
function M.has(text, part)
  if type(part) ~= "string" then error("usage: has(text or list of texts, part)", 2) end
  for _, line in ipairs(type(text) == "table" and text or { text }) do
    if type(line) == "string" and line:find(part, 1, true) then return end
  end
  fail("the part is not in it", { got = show(text), expected = show(part) })
end

---Fails unless fn(...) raises a text that holds a part.
---@param part string
---@param fn fun(...)
---@param ... any Given to fn.
---@return string raised
function M.raises(part, fn, ...)
  if type(part) ~= "string" or type(fn) ~= "function" then error("usage: raises(part, fn, ...)", 2) end
  local results = table.pack(pcall(fn, ...))
  if results[1] then fail("nothing was raised", { expected = show(part) }) end
  local raised = errors.clean(results[2]).message
  if not raised:find(part, 1, true) then
    fail("something else was raised", { got = show(raised), expected = show(part) })
  end
  return raised
end

return M
