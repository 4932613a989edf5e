-- The word of policies about approvals.
local M = { place = {}, run = {} }

---Waits until enough people agree; a restart of the host does not begin the wait again. Raises "denied" when somebody
---rejects it, "deadline" when nobody comes in time; ends as superseded when something newer is waiting.
---@async
---@param run Run
---@param request ApprovalRequest
function M.run.approval(run, request)
  if type(request) ~= "table" or type(request.id) ~= "string" or math.type(request.votes) ~= "integer" then
    error("usage: run:approval { id =, votes = [, deadline =, title =, digest =, from =, to =] }", 3)
  end
  if request.votes > 0 then require("approval").wait(run, request) end
end

return M
