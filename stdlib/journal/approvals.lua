-- The journal's approvals: what waits for people, who agreed, and how it ended. Methods of the journal.
--
-- An approval is about a name and a digest. A vote is for these bytes: a run that tries again after a failure
-- finds the approval, a run about other bytes asks anew. No is final; a deadline that passed is not.
local time = require "time"
local words = require("journal.words").kept

---@class (partial) Journal
local Approvals = {}

---@class Approval
---@field id integer
---@field run integer
---@field app string
---@field environment string
---@field name string
---@field title string
---@field current? string
---@field new? string
---@field digest? string
---@field votes integer That it takes.
---@field voters string[] In the order of their votes.
---@field state "pending"|"approved"|"rejected"|"expired"|"withdrawn"
---@field by? string Who rejected it.
---@field reason? string
---@field deadline number Seconds since 1970.
---@field at number
---@field changed_at number
---@field archived boolean

local SELECT <const> = [[SELECT id, run, app, environment, name, title, current, new, digest, votes, state, "by",
  reason, deadline, at, changed_at, archived FROM approvals ]]

local function approval(self, row)
  if not row then return nil end
  row.archived, row.voters = row.archived == 1, {}
  for i, vote in ipairs(self:rows("SELECT voter FROM votes WHERE approval = ? ORDER BY at, voter", row.id)) do
    row.voters[i] = vote.voter
  end
  return row
end

---@param id integer
---@return Approval?
function Approvals:approval_by_id(id) return approval(self, self:row(SELECT .. "WHERE id = ?", id)) end

---The newest approval of a name at a place.
---@param app string
---@param environment string
---@param name string
---@param digest? string Only one about these bytes.
---@return Approval?
function Approvals:approval_of(app, environment, name, digest)
  return approval(self, self:row(SELECT .. [[WHERE app = ?1 AND environment = ?2 AND name = ?3
    AND (?4 IS NULL OR digest = ?4) ORDER BY id DESC LIMIT 1]], app, environment, name, digest))
end

---Approvals, the newest first.
---@param query {app?: string, environment?: string, run?: integer, pending?: boolean, limit?: integer}
---@return Approval[]
function Approvals:approvals(query)
  local list = self:rows(SELECT .. [[WHERE (?1 IS NULL OR app = ?1) AND (?2 IS NULL OR environment = ?2)
    AND (?3 IS NULL OR run = ?3) AND (?4 = 0 OR state = 'pending') ORDER BY id DESC LIMIT ?5]],
    query.app, query.environment, query.run, query.pending and 1 or 0, query.limit or 1000)
  for _, row in ipairs(list) do approval(self, row) end
  return list
end

---Whether any run waits for people: part of every status, so it must be cheap when none does.
---@return boolean
function Approvals:anything_pending()
  return self:row("SELECT 1 AS yes FROM approvals WHERE state = 'pending' LIMIT 1") ~= nil
end

---Asks for an approval, unless this very thing was decided before: approved stays approved, rejected stays rejected.
---Call inside a transaction.
---@param request {run: integer, app: string, environment: string, name: string, title: string, current?: string,
---  new?: string, digest?: string, votes: integer, deadline: number}
---@return {id: integer, fresh: boolean}
function Approvals:ask(request)
  local before = self:row(SELECT .. [[WHERE app = ? AND environment = ? AND name = ? AND digest IS ?
    ORDER BY id DESC LIMIT 1]], request.app, request.environment, request.name, request.digest)
  if before and (before.state == "approved" and before.votes >= request.votes or before.state == "rejected") then
    return { id = before.id, fresh = false }
  end
  local now = time.now()
  self:write([[INSERT INTO approvals (run, app, environment, name, title, current, new, digest, votes, state, deadline,
    at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)]],
    request.run, request.app, request.environment, words(request.name), words(request.title), words(request.current),
    words(request.new), request.digest, request.votes, request.deadline, now, now)
  return { id = assert(self:row("SELECT last_insert_rowid() AS id")).id --[[@as integer]], fresh = true }
end

---Ends a pending approval; one that ended already stays as it is.
---@param id integer
---@param state "rejected"|"expired"|"withdrawn"|"approved"
---@param by? string
---@param reason? string
---@return boolean ended By this call.
function Approvals:end_approval(id, state, by, reason)
  return self:synced("approval", function()
    return self:write([[UPDATE approvals SET state = ?, "by" = ?, reason = ?, changed_at = ?
      WHERE id = ? AND state = 'pending']], state, words(by), words(reason), time.now(), id) > 0
  end)
end

---Counts a vote; the one that completes them approves. A second vote of the same voter counts nothing.
---@param id integer
---@param voter string
---@return Approval?
function Approvals:vote(id, voter)
  self:synced("vote", function()
    local now, row = time.now(), self:row(SELECT .. "WHERE id = ?", id)
    if not row or row.state ~= "pending" or row.deadline <= now then return true end
    self:write("INSERT OR IGNORE INTO votes (approval, voter, at) VALUES (?, ?, ?)", id, words(voter), now)
    local votes = self:count("SELECT count(*) AS n FROM votes WHERE approval = ?", id)
    self:write([[UPDATE approvals SET changed_at = ?, state = CASE WHEN ? >= votes THEN 'approved' ELSE state END
      WHERE id = ?]], now, votes, id)
    return true
  end)
  return self:approval_by_id(id)
end

---Changes how many votes a pending approval takes.
---@param id integer
---@param votes integer
function Approvals:require_votes(id, votes)
  self:synced("vote", function()
    self:write([[UPDATE approvals SET votes = ?1, changed_at = ?3, state = CASE WHEN
      (SELECT count(*) FROM votes WHERE approval = ?2) >= ?1 THEN 'approved' ELSE state END
      WHERE id = ?2 AND state = 'pending']], votes, id, time.now())
    return true
  end)
end

---What was approved has been done: the approval is history.
---@param id integer
---@return integer changes
function Approvals:archive_approval(id)
  return self:write("UPDATE approvals SET archived = 1, changed_at = ? WHERE id = ?", time.now(), id)
end

---Takes an approval and its votes out of the journal.
---@param id integer
---@return boolean
function Approvals:forget_approval(id)
  return self:synced("approval", function() return self:write("DELETE FROM approvals WHERE id = ?", id) > 0 end)
end

---Whether a newer change of the place waits behind a run.
---@param run {id: integer, app: string, environment: string}
---@return boolean
function Approvals:overtaken(run)
  return self:row([[SELECT 1 AS yes FROM runs WHERE app = ? AND environment = ? AND kind = 'change'
    AND state = 'queued' AND id > ? LIMIT 1]], run.app, run.environment, run.id) ~= nil
end

---The runs about one thing: those whose key is `key`, or `key` with a counter behind it, in their order.
---@param app string
---@param environment string
---@param key string
---@return {id: integer, key: string, state: RunState, ended_at?: number, error?: string}[]
function Approvals:attempts(app, environment, key)
  return self:rows([[SELECT id, key, state, ended_at, error FROM runs WHERE app = ?1 AND environment = ?2
    AND key >= ?3 AND key < ?3 || '$' AND (key = ?3 OR substr(key, length(?3) + 1, 2) = ' #')
    AND state <> 'superseded' ORDER BY id]], app, environment, key)
end

return Approvals
