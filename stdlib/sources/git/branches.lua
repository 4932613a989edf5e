-- Branches by name: lists of them, and patterns that choose some.
local M = {}

---The branches of a snapshot, in the order of their names. The list belongs to the snapshot and is made once.
---@param snapshot GitSnapshot
---@return {branch: string, commit: string}[] list Not to be changed.
function M.list(snapshot)
  if snapshot.branches then return snapshot.branches end
  local list, names = {}, {}
  for name in pairs(snapshot.heads > 0 and snapshot.refs or {}) do
    if name:sub(1, 11) == "refs/heads/" then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do list[i] = { branch = name:sub(12), commit = snapshot.refs[name].commit } end
  snapshot.branches = list
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
