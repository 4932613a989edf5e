-- The commands approve and reject, from every interface. A vote is in the journal before it is reported. Methods of the
-- engine.
local actions, errors = require "engine.actions", require "errors"

---@class (partial) EngineState
local Approvals = {}

-- The one approval that an act is about.
local function pending(self, act)
  local list, err = actions.places_of(self, act)
  if not list then return nil, err end
  local found = {}
  for _, p in ipairs(list) do
    for _, a in ipairs(self.journal:approvals { app = p.app, environment = p.environment, pending = true }) do
      if not act.what or act.what == a.name or act.what == a.new then found[#found + 1] = a end
    end
  end
  local about = { op = "approval", target = act.app }
  if #found == 0 then
    return errors.fail("conflict", ("nothing of %s waits for approval"):format(act.app), about)
  elseif #found > 1 then
    local names = {}
    for i, a in ipairs(found) do names[i] = a.environment .. " " .. a.name end
    return errors.fail("invalid", "several approvals wait, say which one: " .. table.concat(names, ", "), about)
  end
  return found[1]
end

-- Wakes the run that waits for an approval, and emits an event of its outcome.
local function tell(self, approval, words)
  self:emit {
    event = "note", level = "info", app = approval.app, environment = approval.environment, run = approval.run,
    text = ("%s %s"):format(approval.name, words),
  }
  local app = self.config.apps[approval.app]
  if app and app.environments[approval.environment] then
    self:lane(self:place(approval.app, approval.environment)):rouse()
  end
end

---@param query {app?: string, environment?: string, pending?: boolean, limit?: integer}
---@return Approval[]
function Approvals:approvals(query) return self.journal:approvals(query) end

---@param id integer
---@return Approval?
function Approvals:approval(id) return self.journal:approval_by_id(id) end

---Votes for an approval that waits.
---@param approval Approval
---@param by string
---@return Approval approval As it is now.
function Approvals:vote(approval, by)
  local voted = assert(self.journal:vote(approval.id, by))
  tell(self, voted, ("has %d of %d votes, %s voted"):format(#voted.voters, voted.votes, by))
  return voted
end

---Rejects an approval that waits; that is final.
---@param approval Approval
---@param by string
---@param reason? string
function Approvals:turn_down(approval, by, reason)
  self.journal:end_approval(approval.id, "rejected", by, reason)
  tell(self, approval, ("rejected by %s%s"):format(by, reason and ": " .. reason or ""))
end

---Puts an approval away; one that waits is withdrawn.
---@param approval Approval
function Approvals:archive_approval(approval)
  if approval.state == "pending" then self.journal:end_approval(approval.id, "withdrawn", nil, "archived") end
  self.journal:archive_approval(approval.id)
  tell(self, approval, "is archived")
end

---@param approval Approval
function Approvals:forget_approval(approval)
  self.journal:forget_approval(approval.id)
  tell(self, approval, "is deleted")
end

---Changes how many votes the approvals that wait at a place need.
---@param app string
---@param environment string
---@param votes integer
function Approvals:require_votes(app, environment, votes)
  for _, a in ipairs(self.journal:approvals { app = app, environment = environment, pending = true }) do
    self.journal:require_votes(a.id, votes)
    tell(self, a, ("needs %d votes now"):format(votes))
  end
end

---Votes for what waits for approval.
---@param act Act
---@return Approval? approval
---@return Err? err conflict: nothing waits.
---@return_overload nil, Err
function Approvals:approve(act)
  local found, err = pending(self, act)
  if not found then return nil, err end
  return self:vote(found, act.by)
end

---Rejects what waits for approval; that is final.
---@param act Act
---@return Approval? approval
---@return Err? err conflict: nothing waits.
---@return_overload nil, Err
function Approvals:reject(act)
  local found, err = pending(self, act)
  if not found then return nil, err end
  self:turn_down(found, act.by, act.reason)
  return self.journal:approval_by_id(found.id)
end

return Approvals
