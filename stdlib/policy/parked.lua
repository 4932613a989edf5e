-- A run that only waits, for people or for a window: in the journal, through restarts, while others have their turn.
local errors = require "errors"

local M = {}

local LOOK <const> = 3600 -- seconds after which a wait reads the clock again

---Waits until it is judged to have ended. A host that goes down while a run only waits says nothing about the run: the
---attempt does not count until it goes on.
---@async
---@generic T
---@param run Run
---@param judge fun(): T?, number? How it ended, if now; else for how many seconds to wait at most.
---@return T ended
function M.wait(run, judge)
  local journal, parked, turn = run.journal, false, assert(run.steps.turn)
  while true do
    local ended, left = judge()
    if ended then
      if parked then journal:unpark(run.id) end
      return ended
    end
    if not parked then journal:park(run.id) end
    parked = true
    turn:rest(math.min(left or LOOK, LOOK)) -- until a vote or a newer change comes, or its time is over
  end
end

---The error of a run that ends because a newer change waits behind it.
---@param run Run
---@param what string Which wait ends.
---@param target? string
---@return Err
function M.overtaken(run, what, target)
  run.steps.superseded = true
  return errors.new("conflict", "it was withdrawn: something newer took its place",
    { op = what, target = target })
end

return M
