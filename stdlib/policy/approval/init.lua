-- Waiting for people, as run:approval does: a run that needs votes waits in the journal, through restarts, until they
-- have come, it is rejected, its deadline is over, or a newer change supersedes it.
local errors, parked, time = require "errors", require "policy.parked", require "time"

local M = {}

---What an approval waits for, for status and why.
---@param approval Approval
---@return string words
function M.words(approval)
  local got = #approval.voters
  return ("waits for approval (%d of %d votes) until %s; 'moontide approve %s %s' agrees"):format(got, approval.votes,
    time.iso(approval.deadline), approval.app, approval.environment)
end

-- How a pending approval ends by itself, if now; else for how long to wait.
local function judge(journal, run, approval)
  if not approval then return "withdrawn" end -- it was deleted
  if approval.state ~= "pending" then return approval.state end
  local left = approval.deadline - time.now()
  if left <= 0 then
    journal:end_approval(approval.id, "expired")
  elseif journal:overtaken(run.row) then
    journal:end_approval(approval.id, "withdrawn", nil, "something newer took its place")
  else
    return nil, left
  end
  return journal:approval_by_id(approval.id).state -- a vote may have been faster
end

-- Waits for the end of an approval. What ended it is in the journal before this returns.
local function await(run, id)
  return parked.wait(run, function() return judge(run.journal, run, run.journal:approval_by_id(id)) end)
end

-- The error of an approval that did not come.
local function refusal(run, id, ended)
  local approval = run.journal:approval_by_id(id)
  local about = { op = "approval", target = approval and approval.name }
  if ended == "rejected" then
    local by = approval and approval.by or "somebody"
    local reason = approval and approval.reason and ": " .. approval.reason or ""
    return errors.new("denied", ("rejected by %s%s"):format(by, reason), about)
  elseif ended == "expired" then
    return errors.new("deadline", ("its deadline passed with %d of %d votes"):format(approval and #approval.voters or 0,
      approval and approval.votes or 0), about)
  end
  return parked.overtaken(run, about.op, about.target)
end

---@class ApprovalRequest
---@field id string What people approve: "deployment/shop/web:1.2.4".
---@field votes integer That it takes.
---@field deadline? Seconds From now on; a day by default.
---@field title? string One line for people.
---@field digest? string The bytes that it is about.
---@field from? string What runs.
---@field to? string What would follow it.

---Waits until people agree. Raises when they do not.
---@async
---@param run Run
---@param request ApprovalRequest
function M.wait(run, request)
  local journal, row = run.journal, run.row
  local name = request.id
  local asked = run.steps:value("approval", { id = name, votes = request.votes, digest = request.digest }, function()
    return journal:ask {
      run = run.id, app = run.app, environment = run.environment, name = name, title = request.title or row.title,
      current = request.from, new = request.to, digest = request.digest, votes = request.votes,
      deadline = time.now() + (request.deadline or 86400),
    }
  end, true)
  if asked.fresh then
    run:notify("%s needs %d vote%s: moontide approve %s %s", request.title or row.title, request.votes,
      request.votes == 1 and "" or "s", run.app, run.environment)
  end
  local ended = run.steps:await("approved", { approval = asked.id }, function() return await(run, asked.id) end)
  if ended ~= "approved" then error(refusal(run, asked.id, ended), 0) end
  run:log("%s is approved", name)
end

return M
