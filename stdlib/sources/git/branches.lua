-- Branches by name: lists of them, and patterns that choose some.
local M = {}

---The branches of a snapshot, in the order of their names.
---@param snapshot GitSnapshot
---@return {branch: string, commit: string}[]
function M.list(snapshot)
  if snapshot.heads == 0 then return {} end
  local list = {}
  for name, ref in pairs(snapshot.refs) do
    if name:sub(1, 11) == "refs/heads/" then list[#list + 1] = { branch = name:sub(12), commit = ref.commit } end
  end
  table.sort(list, function(a, b) return a.branch < b.branch end)
  return list
end

---Whether a name matches a pattern: `*` is any text, also with slashes, `?` any one byte.
---@param pattern string
---@param name string
---@return boolean
function M.matches(pattern, name)
  local p, n, star, from = 1, 1, nil, 1
  while n <= #name do
    local c = pattern:byte(p)
    if c == 42 then -- *
      star, from, p = p, n, p + 1
    elseif c and (c == 63 or c == name:byte(n)) then
      p, n = p + 1, n + 1
    elseif star then
      from = from + 1
      p, n = star + 1, from
    else
      return false
    end
  end
  return pattern:find("^%**$", p) ~= nil
end

return M
