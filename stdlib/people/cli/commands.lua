-- The commands of the command line: the program's own, and those that extensions add.
local extensions = require "extensions"

local M = {}

---The names of the commands, in the order of the help.
---@return string[]
function M.names()
  local names = {}
  for i, entry in ipairs(extensions.all "command") do names[i] = entry.name end
  return names
end

---Loads a command's description.
---@param name string
---@return LoadedCommand? nil: there is none of that name
function M.load(name)
  local entry = extensions.get("command", name) --[[@as any]]
  if not entry then return nil end
  local command = entry.load and entry.load() or entry
  return setmetatable({ name = name, flags = command.flags or {}, args = command.args or {} }, { __index = command })
end

return M
