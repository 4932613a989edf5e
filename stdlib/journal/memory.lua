-- What the journal remembers beside runs: tags, the shape of repositories, holds and decisions; and how it forgets.
-- Methods of the journal.
local time = require "time"
local words = require("journal.words").kept

---@class (partial) Journal
local Memory = {}

---Known tags in the order of their names, a piece at a time: a repository may have any number of them.
---@param app string
---@param after string The last name of the piece before; "" for the first.
---@param limit integer
---@return {name: string, commit_id: string, first_sight: integer, gone: integer, at: number}[]
function Memory:tags(app, after, limit)
  return self:rows([[SELECT name, commit_id, first_sight, gone, at FROM tags WHERE app = ? AND name > ? ORDER BY name
    LIMIT ?]], app, after, limit)
end

---Remembers of known tags whether the repository still lists them.
---@param app string
---@param names string[]
---@param gone boolean
function Memory:mark_tags(app, names, gone)
  self:lazily("snapshot", function()
    for _, name in ipairs(names) do
      self:write("UPDATE tags SET gone = ? WHERE app = ? AND name = ?", gone and 1 or 0, app, name)
    end
    return true
  end)
end

---When a tag was first seen.
---@param app string
---@param name string
---@return number? at nil: never.
function Memory:tag_seen(app, name)
  local row = self:row("SELECT at FROM tags WHERE app = ? AND name = ?", app, name)
  return row and row.at
end

---Remembers a piece of the new tags, and with the last one the shape of the repository, in one transaction.
---@param app string
---@param shape? {branch: string, head?: string, tags: integer}
---@param tags {name: string, commit: string}[] New ones.
---@param first_sight boolean
function Memory:remember_repository(app, shape, tags, first_sight)
  self:lazily("snapshot", function()
    for _, tag in ipairs(tags) do
      self:write("INSERT OR IGNORE INTO tags (app, name, commit_id, first_sight, at) VALUES (?, ?, ?, ?, ?)",
        app, tag.name, tag.commit, first_sight and 1 or 0, time.now())
    end
    if not shape then return true end
    self:write([[INSERT INTO snapshots (app, branch, head, tags, at) VALUES (?1, ?2, ?3, ?4, ?5)
      ON CONFLICT DO UPDATE SET branch = ?2, head = ?3, tags = ?4, at = ?5]],
      app, shape.branch, shape.head, shape.tags, time.now())
    return true
  end)
end

---How the repository looked last.
---@param app string
---@return {branch: string, head?: string, tags: integer, at: number}? snapshot
function Memory:snapshot(app) return self:row("SELECT branch, head, tags, at FROM snapshots WHERE app = ?", app) end

---Who holds a place, and why.
---@param app string
---@param environment string
---@return {by: string, reason?: string, at: number}? hold
function Memory:hold_of(app, environment)
  return self:row([[SELECT "by", reason, at FROM holds WHERE app = ? AND environment = ?]], app, environment)
end

---Holds a place; the first hold stays.
---@param app string
---@param environment string
---@param by string
---@param reason? string
---@return integer changes
function Memory:hold(app, environment, by, reason)
  return self:synced("hold", function()
    return self:write([[INSERT OR IGNORE INTO holds (app, environment, "by", reason, at) VALUES (?, ?, ?, ?, ?)]],
      app, environment, words(by), words(reason), time.now())
  end)
end

---@param app string
---@param environment string
---@return integer changes
function Memory:unhold(app, environment)
  return self:synced("hold", function()
    return self:write("DELETE FROM holds WHERE app = ? AND environment = ?", app, environment)
  end)
end

---Appends decisions (those that differ from what was said before).
---@param list Decision[]
function Memory:decide(list)
  self:lazily("decision", function()
    for _, d in ipairs(list) do
      self:write([[INSERT INTO decisions (app, environment, policy, subject, verdict, reason, file, line, at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)]],
        d.app, d.environment, d.policy, words(d.subject or ""), d.verdict, words(d.reason), d.file, d.line, d.at)
    end
    return true
  end)
end

---Whether the same was decided of the same subject before, whatever was said of it in between.
---@param d Decision
---@return boolean
function Memory:decided_before(d)
  return self:row([[SELECT 1 AS yes FROM decisions WHERE app = ? AND environment = ? AND policy = ? AND subject = ?
    AND verdict = ? AND reason = ? LIMIT 1]], d.app, d.environment, d.policy, words(d.subject), d.verdict,
    words(d.reason)) ~= nil
end

---The latest decision for every subject of a policy.
---@param app string
---@param environment string
---@param policy string
function Memory:last_decisions(app, environment, policy)
  return self:rows([[SELECT subject, verdict, reason, file, line, at FROM decisions WHERE id IN
    (SELECT max(id) FROM decisions WHERE app = ? AND environment = ? AND policy = ? GROUP BY subject)]],
    app, environment, policy)
end

-- ---- retention ----

---Forgets decisions of a place beyond the newest and the last of each subject.
---@param app string
---@param environment string
function Memory:forget_decisions(app, environment)
  require("journal.retention").forget_decisions(self, app, environment)
end

---Forgets what retention allows.
---@param keep {runs: integer, days: integer}
---@return integer[] forgotten Ids of the runs (their log files can go too).
function Memory:forget(keep) return require("journal.retention").forget(self, keep) end

return Memory
