-- JSON (RFC 8259), strict in both directions.
--
-- Whole numbers are Lua integers, 42.0 and 4.2e1 included; a number that fits no 64-bit integer is a float. null
-- is json.null, which is true in a condition and prints as "null". Every list that was read is marked as a list
-- and stays one when it becomes empty. Refused: invalid UTF-8, lone surrogates, NaN and Infinity, hexadecimal and
-- other lenient spellings, duplicate keys, nesting over 64 levels, numbers over 64 bytes.
local core = require "core.json"

local M = {}

---@class JsonNull

---@class JsonDecodeOptions
---@field null_as_nil? boolean null becomes nil: absent in an object, a hole in a list.
---@field max? integer Bytes of text, 8 MiB by default.

---@class JsonEncodeOptions
---@field pretty? boolean Two spaces a level, one member a line.
---@field clean? boolean Invalid UTF-8 becomes U+FFFD; without it, it is an error.
---@field max? integer Bytes of text, 16 MiB by default.

---The null of JSON, YAML and SQLite parameters: compare with `==`.
---@type JsonNull
M.null = core.null

---Reads one JSON text.
---
---    local answer, err = json.decode(body)
---
---@nodiscard
---@param text string
---@param options? JsonDecodeOptions
---@return any value
---@return Err? err Code `invalid` or `too_large`; `err.offset`, `err.line` and `err.column` say where,
---  counted from 1, in bytes.
---@return_overload nil, Err
function M.decode(text, options)
  return core.decode(text, options)
end

---Writes a value canonically: keys sorted by their bytes, no white space, so that equal values give equal text.
---Tables with the keys 1..n are lists, tables with string keys are objects, an empty table is `{}` unless marked.
---Metatables are not asked.
---@nodiscard
---@param value any
---@param options? JsonEncodeOptions
---@return string? text
---@return Err? err Code `invalid` (a function, NaN, a hole, invalid UTF-8, ...) or `too_large`, with the place in
---  the value; a cycle is too deep.
---@return_overload nil, Err
function M.encode(value, options)
  return core.encode(value, options)
end

---Marks a table as a list, so that it is written as `[]` while it is empty.
---@generic T
---@param list? T[] A new table without it.
---@return T[] list
function M.array(list)
  if list == nil then return core.array() end
  return core.array(list)
end

---Whether the value is a table that is marked as a list.
---@param value any
---@return boolean
function M.is_array(value)
  return core.is_array(value)
end

return M
