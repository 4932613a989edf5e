-- The journal's releases: what runs where, what ran before, and what proved bad. Methods of the journal.
local time = require "time"
local words = require("journal.words").kept

---@class Journal
local Releases = {}

local RELEASE = [[SELECT id, app, environment, run, version, commit_id AS "commit", digest, image, state, adopted,
  restored, reason, at FROM releases ]]

---The release that runs here, as the target reported it.
---@param app string
---@param environment string
function Releases:live(app, environment)
  return self:row(RELEASE .. "WHERE app = ? AND environment = ? AND state = 'live' ORDER BY id DESC LIMIT 1",
    app, environment)
end

---The newest release of any state.
---@param app string
---@param environment string
function Releases:newest_release(app, environment)
  return self:row(RELEASE .. "WHERE app = ? AND environment = ? ORDER BY id DESC LIMIT 1", app, environment)
end

---Whether anything was ever released or adopted here. What another host told of does not count.
---@param app string
---@param environment string
---@return boolean
function Releases:touched(app, environment)
  return self:row("SELECT 1 AS yes FROM releases WHERE app = ? AND environment = ? AND adopted <> 3 LIMIT 1", app,
    environment) ~= nil
end

---Why a digest is bad here, if it is.
---@param app string
---@param environment string
---@param digest string
---@return string? reason
function Releases:known_bad(app, environment, digest)
  local row = self:row(RELEASE .. "WHERE app = ? AND environment = ? AND digest = ? AND state = 'bad' LIMIT 1", app,
    environment, digest)
  return row and (row.reason or "bad")
end

---Why a commit, or that commit as a version, was taken back by a host before this state, if it was.
---@param app string
---@param environment string
---@param commit string
---@param version? string
---@return string? reason
function Releases:taken_back_before(app, environment, commit, version)
  local row = self:row(RELEASE .. [[WHERE app = ? AND environment = ? AND commit_id = ? AND version IS ? AND adopted = 3
    AND state = 'bad' LIMIT 1]], app, environment, commit, version)
  return row and (row.reason or "it was bad")
end

---@param id integer
---@return table? release
function Releases:release_by_id(id) return self:row(RELEASE .. "WHERE id = ?", id) end

---The last release before `id` that was good and is another digest.
---@param app string
---@param environment string
---@param id integer
---@param digest? string
function Releases:good_before(app, environment, id, digest)
  return self:row(RELEASE .. [[WHERE app = ? AND environment = ? AND id < ? AND state IN ('live', 'replaced')
    AND digest IS NOT ? AND digest NOT IN (SELECT digest FROM releases WHERE app = ?1 AND environment = ?2
    AND state = 'bad' AND digest IS NOT NULL) ORDER BY id DESC LIMIT 1]], app, environment, id, digest)
end

---Adds a release row. Call inside a transaction of the journal.
---@param r table
---@return integer id
function Releases:add_release(r)
  self:write([[INSERT INTO releases (app, environment, run, version, commit_id, digest, image, state, adopted,
    restored, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)]],
    r.app, r.environment, r.run, r.version, r.commit, r.digest, r.image, r.state or "pending",
    r.handed and 3 or r.inherited and 2 or r.adopted and 1 or 0, r.restored and 1 or 0, words(r.reason), time.now())
  return self:row("SELECT last_insert_rowid() AS id").id
end

---Sets the state of a release; making one live replaces the live one before it. Call inside a transaction.
---@param id integer
---@param state string
---@param reason? string
function Releases:set_release(id, state, reason)
  local r = self:release_by_id(id)
  if state == "live" then
    self:write([[UPDATE releases SET state = 'replaced' WHERE app = ? AND environment = ? AND state = 'live'
      AND id <> ?]], r.app, r.environment, id)
  end
  -- What a person cancelled was put back, but nothing says that it is bad.
  if state == "bad" and r.state == "cancelled" then return id end
  self:write([[UPDATE releases SET state = ?1, reason = coalesce(?2, reason),
    at = CASE WHEN ?1 = 'live' THEN ?4 ELSE at END WHERE id = ?3]], state, words(reason), id, time.now())
  return id
end

---The release that a host before this state was put there, when the target could tell.
---@param app string
---@param environment string
function Releases:inherited(app, environment)
  return self:row(RELEASE .. "WHERE app = ? AND environment = ? AND adopted = 2 ORDER BY id DESC LIMIT 1",
    app, environment)
end

---At first sight: what already runs is taken as it is.
---@param r table `inherited`: a host like this one put it there.
function Releases:adopt(r)
  return self:synced("adopt", function()
    r.state, r.adopted = "live", true
    return self:add_release(r)
  end)
end

return Releases
