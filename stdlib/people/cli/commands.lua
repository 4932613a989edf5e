-- The commands of the command line: which there are, and where each is described, loaded when it is asked for.
local M = {}

-- Orders to the running host are in verbs.lua; every other command is a file of its own.
local VERBS <const> = {
  rollback = true, release = true, retry = true, cancel = true, apply = true, destroy = true, hold = true,
  unhold = true, approve = true, reject = true,
}

---The commands, in the order of the help.
M.names = {
  "run", "once", "check", "status", "history", "why", "logs", "rollback", "release", "retry", "cancel", "apply",
  "destroy", "hold", "unhold", "approve", "reject", "exec", "repl", "version", "help",
}

---Loads a command's description.
---@param name string
---@return LoadedCommand? nil: there is none of that name
function M.load(name)
  for _, known in ipairs(M.names) do
    if known == name then
      local command = VERBS[name] and require("people.cli.verbs")[name] or require("people.cli." .. name)
      command.name = name
      command.flags = command.flags or {}
      command.args = command.args or {}
      return command
    end
  end
  return nil
end

return M
