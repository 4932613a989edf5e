-- Argument lists, as all builders make them.
local tables = require "base.tables"

local M = {}

---Appends words to an argument list, or others to a list of others.
---@generic T
---@param argv T[]
---@param ... T
function M.add(argv, ...)
  for _, word in ipairs { ... } do argv[#argv + 1] = word end
end

---Goes through the keys of a map in the order of their names: the same build has the same words.
---@param map table<string, any>
---@return fun(list: string[], i?: integer): integer, string
---@return string[]? keys
---@return integer?
function M.sorted(map)
  local keys = tables.keys(map)
  return ipairs(keys)
end

return M
