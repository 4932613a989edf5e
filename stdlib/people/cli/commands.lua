-- The commands of the command line: which there are, and the module of each, cli/NAME.lua, loaded when it is asked for.
local M = {}

--- The commands, in the order of the help.
M.names = {
  "run", "once", "check", "status", "history", "why", "logs", "rollback", "release", "retry", "cancel", "apply",
  "destroy", "hold", "unhold", "approve", "reject", "exec", "repl", "version", "help",
}

--- Loads a command's description.
---@param name string
---@return LoadedCommand? nil: there is none of that name
function M.load(name)
  for _, known in ipairs(M.names) do
    if known == name then
      local command = require("people.cli." .. name)
      command.name = name
      command.flags = command.flags or {}
      command.args = command.args or {}
      return command
    end
  end
  return nil
end

return M
