-- The handle of a task that a run's policy started: a branch, whose end is waited for in the run's order.
local errors, task = require "errors", require "task"

local M = {}

---Waits for the end of a branch. One that catches whatever ends it is ended by force, wherever it is: who would go on
---next is not known then, so that ends the run.
---@async
---@param steps Steps
---@param branch Branch
---@param started Task
function M.joined(steps, branch, started)
  local _, err = started:join()
  if branch.ended then return end
  if errors.is(err, "cancelled") then
    err = errors.new("cancelled", ("a branch that was cancelled caught that and went on%s; an error with the code "
      .. "\"cancelled\" that pcall gives it must be raised again"):format(err.where and ", at " .. err.where or ""),
      { op = "run", where = err.where })
  end
  steps.over = steps.over or errors.wrap(err)
  if steps.turn then steps.turn:stop("failed", steps.over) end
  error(steps.over, 0)
end

---Sees to it that a branch which does not end by itself ends the run: in a task of its own, which neither the branch's
---end nor the run's limits reach.
---@param steps Steps
---@param branch Branch
---@param started Task
function M.look_after(steps, branch, started)
  task.start({ name = "branch " .. branch.prefix, detached = true }, pcall, M.joined, steps, branch, started)
end

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
