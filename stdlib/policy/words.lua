-- Words of policies that live in a room of their own. Such a room has a module ROOM/words.lua that gives
-- { place = { name = fn(place, ...) }, run = { name = fn(run, ...) } }; it is loaded with the program, so it requires
-- what is big only when a word is called.
local M = {}

local ROOMS <const> = { "policy.approval", "extensions.charts", "extensions.helmsman", "extensions.keel" }

---Adds the words of the rooms to those of a place or a run.
---@param kind "place"|"run"
---@param methods table<string, function>
---@return table<string, function> methods The same table.
function M.add(kind, methods)
  for _, room in ipairs(ROOMS) do
    for name, method in pairs(require(room .. ".words")[kind] or {}) do
      assert(not methods[name], name)
      methods[name] = method
    end
  end
  return methods
end

return M
