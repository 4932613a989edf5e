-- What sources showed: tags, with the commit that each had when it was first seen, and the last snapshot of
-- repositories. Methods of the journal.
local time = require "time"

---@class (partial) Journal
local Tags = {}

---Known tags in the order of their names, a piece at a time: a repository may have any number of them.
---@param app string
---@param after string The last name of the piece before; "" for the first.
---@param limit integer
---@return {name: string, commit_id: string, first_sight: integer, gone: integer, at: number}[]
function Tags:tags(app, after, limit)
  return self:rows([[SELECT name, commit_id, first_sight, gone, at FROM tags WHERE app = ? AND name > ? ORDER BY name
    LIMIT ?]], app, after, limit)
end

---Remembers of known tags whether the repository still lists them.
---@param app string
---@param names string[]
---@param gone boolean
function Tags:mark_tags(app, names, gone)
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
function Tags:tag_seen(app, name)
  local row = self:row("SELECT at FROM tags WHERE app = ? AND name = ?", app, name)
  return row and row.at
end

---Remembers a piece of the new tags, and with the last one the snapshot of the repository, in one transaction.
---@param app string
---@param snapshot? {branch: string, head?: string, tags: integer}
---@param tags {name: string, commit: string}[] New ones.
---@param first_sight boolean
function Tags:remember_repository(app, snapshot, tags, first_sight)
  self:lazily("snapshot", function()
    for _, tag in ipairs(tags) do
      self:write("INSERT OR IGNORE INTO tags (app, name, commit_id, first_sight, at) VALUES (?, ?, ?, ?, ?)",
        app, tag.name, tag.commit, first_sight and 1 or 0, time.now())
    end
    if not snapshot then return true end
    self:write([[INSERT INTO snapshots (app, branch, head, tags, at) VALUES (?1, ?2, ?3, ?4, ?5)
      ON CONFLICT DO UPDATE SET branch = ?2, head = ?3, tags = ?4, at = ?5]],
      app, snapshot.branch, snapshot.head, snapshot.tags, time.now())
    return true
  end)
end

---The last snapshot of the repository.
---@param app string
---@return {branch: string, head?: string, tags: integer, at: number}? snapshot
function Tags:snapshot(app) return self:row("SELECT branch, head, tags, at FROM snapshots WHERE app = ?", app) end

return Tags
