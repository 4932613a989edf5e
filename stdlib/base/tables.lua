-- What Lua's table library has not: sorted keys, membership, equality.
local M = {}

---The keys of a table, sorted; they are all strings, or all numbers.
---@generic K
---@param t? table<K, any>
---@return K[]
function M.keys(t)
  local keys = {}
  for key in pairs(t or {}) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

---@param list? any[]
---@param value any
---@return boolean
function M.contains(list, value)
  for _, item in ipairs(list or {}) do
    if item == value then return true end
  end
  return false
end

---Whether two values are the same, or tables that hold the same.
---@param a any
---@param b any
---@return boolean
function M.equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not M.equal(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

---A copy that shares its values with the table.
---@generic T
---@param value T
---@return T
function M.shallow(value)
  local fresh = {}
  for k, v in next, value do fresh[k] = v end
  return fresh
end

---A copy, tables in it too, without metatables.
---@generic T
---@param value T
---@return T
function M.copy(value)
  if type(value) ~= "table" then return value end
  local fresh = {}
  for k, v in next, value do fresh[k] = M.copy(v) end
  return fresh
end

return M
