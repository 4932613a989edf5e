-- The handle of a task that a run's policy started: a branch, whose end is waited for in the run's order.
local errors = require "errors"

local M = {}

---What a policy holds of a branch that it started.
---@param turns Branches
---@param branch Branch
---@param started Task
---@param pause fun(seconds: number, list: BranchWait[], need_not: fun(): boolean): boolean Waits at most so long.
---@return Task
function M.handle(turns, branch, started, pause)
  local number = turns.made
  local methods = {}
  function methods.join(_, seconds)
    if not branch.ended then
      if seconds == nil then
        turns:take()
        turns:wait_in(branch.joiners, methods.done)
      elseif not pause(seconds, branch.joiners, methods.done) then
        return errors.fail("timeout", "the task is still running", { op = "task.join" })
      end
    end
    return started:join()
  end
  function methods.cancel() turns:cancel(branch, started) end
  function methods.done() return branch.ended or false end
  function methods.id() return number end
  return setmetatable({}, {
    __index = function(_, name) return methods[name] end,
    __newindex = function() error("a task's handle cannot be changed", 2) end,
    __close = methods.cancel, __metatable = "task",
  })
end

return M
