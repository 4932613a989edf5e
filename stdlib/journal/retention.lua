-- What the journal forgets. Place by place, in pieces, so that no other task waits for it long.
-- Methods of the journal.
local schema, time = require "journal.schema", require "time"

---@class (partial) Journal
local Retention = {}

local TRIES <const> = 5         -- the last of each change, besides the first
local PIECE <const> = 200       -- runs in one transaction
local DECISIONS <const> = 200   -- of each place, besides the last of each subject
local SUBJECTS <const> = 2000   -- more than the policies of one place say at once
local RELEASES <const> = 50     -- of each place that stay whatever their age
local POLICIES <const> = 200    -- texts that stay; finding those that no run names costs a look at every run

-- Age alone forgets no failure: what failed or was taken back is not tried again because of it.
local OLD_RUNS <const> = ([[SELECT id FROM runs WHERE app = ?1 AND environment = ?2
  AND state NOT IN ('queued', 'running')
  AND (id <= coalesce((SELECT id FROM runs WHERE app = ?1 AND environment = ?2 AND LAST_TRY
      ORDER BY id DESC LIMIT 1 OFFSET ?3), 0)
    OR first IS NOT NULL AND id < (SELECT id FROM runs later WHERE later.first = runs.first
      ORDER BY id DESC LIMIT 1 OFFSET ?6)
    OR ended_at < ?4 AND state NOT IN ('failed', 'quarantined', 'diverged', 'cancelled')
    AND id NOT IN (SELECT run FROM releases WHERE app = ?1 AND environment = ?2 AND run IS NOT NULL
      AND state IN ('bad', 'failed')))
  AND id NOT IN (SELECT run FROM watches WHERE app = ?1 AND environment = ?2 AND run IS NOT NULL)
  AND id NOT IN (SELECT run FROM releases WHERE app = ?1 AND environment = ?2 AND run IS NOT NULL
    AND state IN ('live', 'pending'))
  LIMIT ?5]]):gsub("LAST_TRY", schema.LAST_TRY)

local OLD_DECISIONS <const> = [[DELETE FROM decisions WHERE app = ?1 AND environment = ?2
  AND id NOT IN (SELECT id FROM decisions WHERE app = ?1 AND environment = ?2 ORDER BY id DESC LIMIT ?3)
  AND id NOT IN (SELECT max(id) FROM decisions WHERE app = ?1 AND environment = ?2 GROUP BY policy, subject
    ORDER BY max(id) DESC LIMIT ?4)]]

local OLD_APPROVALS <const> = [[DELETE FROM approvals WHERE app = ?1 AND environment = ?2 AND state <> 'pending'
  AND changed_at < ?3 AND run NOT IN (SELECT id FROM runs)]]

local OLD_RELEASES <const> = [[DELETE FROM releases WHERE app = ?1 AND environment = ?2
  AND state NOT IN ('live', 'pending', 'canary') AND at < ?3 AND (run IS NULL OR run NOT IN (SELECT id FROM runs))
  AND (state = 'unfinished' OR id NOT IN (SELECT id FROM releases WHERE app = ?1 AND environment = ?2
    AND state <> 'unfinished' ORDER BY id DESC LIMIT ?4))]]

local function forget_decisions(journal, app, environment)
  journal:write(OLD_DECISIONS, app, environment, DECISIONS, SUBJECTS)
end

---Forgets decisions of a place beyond the newest, and the last of each subject.
---@param app string
---@param environment string
function Retention:forget_decisions(app, environment)
  self:lazily("forget", function()
    forget_decisions(self, app, environment)
    return true
  end)
end

-- One piece of one place; the ids of the runs.
local function piece(journal, app, environment, keep)
  local before, ids = time.now() - keep.days * 86400, {}
  local runs = journal:rows(OLD_RUNS, app, environment, keep.runs, before, PIECE, TRIES - 1)
  journal:lazily("forget", function()
    for i, row in ipairs(runs) do
      ids[i] = row.id
      journal:write("DELETE FROM runs WHERE id = ?", row.id)
    end
    forget_decisions(journal, app, environment)
    journal:write(OLD_RELEASES, app, environment, before, RELEASES)
    journal:write(OLD_APPROVALS, app, environment, before)
    return true
  end)
  return ids
end

---Forgets ended runs beyond the newest `keep.runs` of each place or older than `keep.days`, never one that a kept
---release or watch names, and what else grows. Others get their turns between the pieces.
---@param keep {runs: integer, days: integer}
---@return integer[] forgotten Ids of the runs (their log files can go too).
function Retention:forget(keep)
  local forgotten = {}
  for _, place in ipairs(self:rows("SELECT DISTINCT app, environment FROM watches")) do
    local ids
    repeat
      ids = piece(self, place.app, place.environment, keep)
      table.move(ids, 1, #ids, #forgotten + 1, forgotten)
    until #ids < PIECE
  end
  if self:count("SELECT count(*) AS n FROM policies") > POLICIES then
    self:write([[DELETE FROM policies WHERE hash NOT IN
      (SELECT policy_hash FROM runs WHERE policy_hash IS NOT NULL)]])
  end
  return forgotten
end

return Retention
