-- The journal's releases: what runs where, what ran before, and which are bad. Methods of the journal.
--
-- A place may have several images (a workload with two repositories): then each release names its
-- containers, its part of the place, and what ran before, what it replaces and what it goes back to are of that part.
local json, time = require "json", require "time"
local reference = require "images.reference"
local words = require("journal.words").kept

---@class (partial) Journal
local Releases = {}

local RELEASE = [[SELECT id, app, environment, run, version, commit_id AS "commit", digest, image, state, adopted,
  restored, reason, part, only, settings, at FROM releases ]]

---@class ReleasePart What a release is about; neither: all that its place has.
---@field containers? string[]
---@field init_containers? string[]

local function sorted(list)
  if not list or #list == 0 then return nil end
  list = table.move(list, 1, #list, 1, {})
  table.sort(list)
  return list
end

-- The text of a part, the same for the same containers.
local function part_of(about)
  local containers, init_containers = sorted(about.containers), sorted(about.init_containers)
  if not containers and not init_containers then return nil end
  return (assert(json.encode { containers = containers, init_containers = init_containers }))
end

-- A row as others see it: with its containers.
local function read(row)
  if row and row.part then
    local part = assert(json.decode(row.part))
    row.containers, row.init_containers = part.containers, part.init_containers
  end
  return row
end

-- Whether two releases are about some container both.
local function touch(a, b)
  local names = {}
  for _, of in ipairs { a, b } do
    if not of.containers and not of.init_containers then return true end
  end
  for _, list in ipairs { a.containers or {}, a.init_containers or {} } do
    for _, name in ipairs(list) do names[name] = true end
  end
  for _, list in ipairs { b.containers or {}, b.init_containers or {} } do
    for _, name in ipairs(list) do
      if names[name] then return true end
    end
  end
  return false
end

local function repository(image) return image and (reference.parts(image)) end

-- Whether a release is about the same as another; those from before parts were written are known by their repository.
local function same_part(row, part, image)
  if row.part == part then return true end
  return row.part == nil and part ~= nil and row.image ~= nil and repository(row.image) == repository(image)
end

---The release that runs here, as the target reported it.
---@param app string
---@param environment string
---@param about? ReleasePart The one that runs in one of these containers.
function Releases:live(app, environment, about)
  for _, row in ipairs(self:rows(RELEASE .. [[WHERE app = ? AND environment = ? AND state = 'live'
    ORDER BY id DESC]], app, environment)) do
    if not about or touch(read(row), about) then return read(row) end
  end
end

---Whether an image was ever put, found, or failed here: then it is no surprise that it runs.
---@param app string
---@param environment string
---@param about ReleasePart
---@param image string
---@param digest string
---@return boolean
function Releases:knows(app, environment, about, image, digest)
  local part = part_of(about)
  for _, row in ipairs(self:rows(RELEASE .. "WHERE app = ? AND environment = ? AND digest = ?", app, environment,
    digest)) do
    if row.state == "bad" or row.state == "failed" or same_part(row, part, image) then return true end
  end
  return false
end

---How what runs here came back, or was put here by a person, if it was: it holds until the source moves on from there.
---So does what is being put here by an order now.
---@param app string
---@param environment string
---@return {run: integer, title?: string, by?: string, at: number, version?: string, commit?: string, digest?: string}?
function Releases:gone_back(app, environment)
  local order = self:row([[SELECT id AS run, title, "by", queued_at AS at FROM runs WHERE app = ? AND environment = ?
    AND kind <> 'change' AND state IN ('queued', 'running') ORDER BY id DESC LIMIT 1]], app, environment)
  if order then return order end
  local live = self:live(app, environment)
  local run = live and live.run and self:row([[SELECT kind, "by", queued_at FROM runs WHERE id = ?]], live.run)
  if not run or live.restored == 0 and (run.kind == "change" or not run.by) then return nil end
  return {
    run = live.run, by = run.by, at = run.queued_at, version = live.version, commit = live.commit, digest = live.digest,
  }
end

---The release that a run is putting out now, to all or as a canary; not one that a rollback puts back.
---@param app string
---@param environment string
function Releases:on_its_way(app, environment)
  return read(self:row(RELEASE .. [[WHERE app = ? AND environment = ? AND state IN ('pending', 'canary')
    AND restored = 0
    AND run IN (SELECT id FROM runs WHERE state = 'running' AND kind <> 'rollback') ORDER BY id DESC LIMIT 1]],
    app, environment))
end

---The newest release, but for what is unfinished: one that a transient error stopped is neither good nor bad, and
---is retried.
---@param app string
---@param environment string
function Releases:newest_release(app, environment)
  return read(self:row(RELEASE .. [[WHERE app = ? AND environment = ? AND state <> 'unfinished'
    ORDER BY id DESC LIMIT 1]], app, environment))
end

---The newest release when it is one that a transient error stopped on its way.
---@param app string
---@param environment string
function Releases:stopped_on_its_way(app, environment)
  local row = self:row(RELEASE .. "WHERE app = ? AND environment = ? ORDER BY id DESC LIMIT 1", app, environment)
  return row and row.state == "unfinished" and read(row) or nil
end

---Whether another release went out after this one, or is on its way. What failed on its way is none.
---@param app string
---@param environment string
---@param id integer
---@return boolean
function Releases:followed(app, environment, id)
  local about = self:release_by_id(id)
  for _, row in ipairs(self:rows(RELEASE .. [[WHERE app = ? AND environment = ? AND id > ?
    AND state IN ('pending', 'live')]], app, environment, id)) do
    if not about or touch(read(row), about) then return true end
  end
  return false
end

---Whether anything was ever released or adopted here. Releases handed over by another host do not count.
---@param app string
---@param environment string
---@return boolean
function Releases:touched(app, environment)
  return self:row("SELECT 1 AS yes FROM releases WHERE app = ? AND environment = ? AND adopted <> 3 LIMIT 1", app,
    environment) ~= nil
end

---Since when a digest runs here without another one between.
---@param app string
---@param environment string
---@param digest string
---@return Wall? since
function Releases:runs_since(app, environment, digest)
  local row = self:row([[SELECT min(at) AS since FROM releases WHERE app = ?1 AND environment = ?2 AND digest = ?3
    AND state IN ('live', 'replaced') AND id > (SELECT coalesce(max(id), 0) FROM releases WHERE app = ?1
      AND environment = ?2 AND digest <> ?3 AND state NOT IN ('pending', 'unfinished', 'failed', 'superseded'))]],
    app, environment, digest)
  return row and row.since
end

---The newest release of a commit here that was live and is not bad.
---@param app string
---@param environment string
---@param commit string
---@return table? release
---@return string? reason Why there is none.
function Releases:released(app, environment, commit)
  local reason
  for _, row in ipairs(self:rows(RELEASE .. [[WHERE app = ? AND environment = ? AND commit_id = ?
    ORDER BY id DESC]], app, environment, commit)) do
    if row.state == "live" or row.state == "replaced" then return read(row) end
    if row.state == "bad" or row.state == "failed" then
      return nil, ("it failed there: %s"):format(row.reason or row.state)
    end
    if not reason and (row.state == "pending" or row.state == "canary" or row.state == "unfinished") then
      reason = "it is on its way there"
    end
  end
  return nil, reason or "it was not released there"
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
function Releases:release_by_id(id) return read(self:row(RELEASE .. "WHERE id = ?", id)) end

---The last release before `id` that was good, of the same part, and is another digest.
---@param app string
---@param environment string
---@param id integer
---@param digest? string
function Releases:good_before(app, environment, id, digest)
  local bad = self:release_by_id(id)
  for _, row in ipairs(self:rows(RELEASE .. [[WHERE app = ? AND environment = ? AND id < ?
    AND state IN ('live', 'replaced') AND digest IS NOT ? AND digest NOT IN (SELECT digest FROM releases
    WHERE app = ?1 AND environment = ?2 AND state = 'bad' AND digest IS NOT NULL) ORDER BY id DESC]],
    app, environment, id, digest)) do
    if not bad or same_part(row, bad.part, bad.image) then
      row.part = row.part or bad and bad.part
      return read(row)
    end
  end
end

---Adds a release row. Call inside a transaction of the journal.
---@param r table
---@return integer id
function Releases:add_release(r)
  self:write([[INSERT INTO releases (id, app, environment, run, version, commit_id, digest, image, state, adopted,
    restored, reason, part, only, settings, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)]],
    r.id, r.app, r.environment, r.run, r.version, r.commit, r.digest, r.image, r.state or "pending",
    r.handed and 3 or r.inherited and 2 or r.adopted and 1 or 0, r.restored and 1 or 0, words(r.reason), part_of(r),
    r.only, r.settings, time.now())
  return assert(self:row("SELECT last_insert_rowid() AS id")).id
end

---Sets the state of a release; making one live replaces what was live in its containers. Call inside a transaction.
---@param id integer
---@param state string
---@param reason? string
function Releases:set_release(id, state, reason)
  local r = assert(self:release_by_id(id))
  if state == "live" then
    self:lift(r)
    for _, other in ipairs(self:rows(RELEASE .. [[WHERE app = ? AND environment = ? AND state = 'live' AND id <> ?]],
      r.app, r.environment, id)) do
      if touch(read(other), r) then self:write("UPDATE releases SET state = 'replaced' WHERE id = ?", other.id) end
    end
    -- A canary ends with that: the rest has it now, or it has what the rest runs.
    self:write([[UPDATE releases SET state = CASE digest WHEN ?3 THEN 'replaced' ELSE 'superseded' END
      WHERE app = ?1 AND environment = ?2 AND state = 'canary']], r.app, r.environment, r.digest)
  end
  if state == "canary" then
    self:write([[UPDATE releases SET state = 'superseded' WHERE app = ? AND environment = ? AND state = 'canary'
      AND only = ? AND id <> ?]], r.app, r.environment, r.only, id)
  end
  -- What a person cancelled was put back, but nothing says that it is bad.
  if state == "bad" and r.state == "cancelled" then return id end
  self:write([[UPDATE releases SET state = ?1, reason = coalesce(?2, reason),
    at = CASE WHEN ?1 IN ('live', 'canary') THEN ?4 ELSE at END WHERE id = ?3]], state, words(reason), id, time.now())
  return id
end

---Notes that a part of an environment is given a release, or has it. Call inside a transaction.
---@param release integer
---@param part string
---@param state "pending"|"live" pending: it may run there, or what ran before.
---@return true
function Releases:give(release, part, state)
  self:write([[INSERT INTO parts (release, part, state, at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET state = ?3, at = ?4]], release, part, state, time.now())
  return true
end

---@class PartHeld: Release What a part was given last.
---@field part string
---@field given "pending"|"live"
---@field since Wall

---What each part of an environment with several targets was given last.
---@param app string
---@param environment string
---@return table<string, PartHeld> held By part; empty with a single target.
function Releases:held(app, environment)
  local held = {}
  for _, row in ipairs(self:rows([[SELECT p.part AS name, p.state AS given, p.at AS since, max(p.release) AS id, r.run,
    r.version, r.commit_id AS "commit", r.digest, r.image, r.state, r.adopted, r.settings, r.at
    FROM parts p JOIN releases r ON r.id = p.release WHERE r.app = ? AND r.environment = ? GROUP BY p.part]],
    app, environment)) do
    held[row.name] = row
  end
  return held
end

---Forgets what runs at a place, and in its parts: it was taken down. Call inside a transaction.
---@param app string
---@param environment string
---@param run integer
---@return integer|false release That was live.
function Releases:taken_down(app, environment, run)
  self:write("DELETE FROM parts WHERE release IN (SELECT id FROM releases WHERE app = ? AND environment = ?)", app,
    environment)
  local live, canary = self:live(app, environment), self:canary(app, environment)
  if canary then self:set_release(canary.id, "superseded", "taken down by run " .. run) end
  return live and self:set_release(live.id, "replaced", "taken down by run " .. run) or false
end

---The canary that is out: in one part only, where it proved itself.
---@param app string
---@param environment string
function Releases:canary(app, environment)
  return read(self:row(RELEASE .. "WHERE app = ? AND environment = ? AND state = 'canary' ORDER BY id DESC LIMIT 1",
    app, environment))
end

---What a person put out and what proved itself is not bad any more, whatever it was called before. Call inside a
---transaction.
---@param r table The release.
function Releases:lift(r)
  self:write([[UPDATE releases SET state = 'lifted' WHERE app = ?1 AND environment = ?2 AND digest = ?3
    AND state = 'bad' AND EXISTS (SELECT 1 FROM runs WHERE id = ?4 AND kind <> 'change' AND "by" IS NOT NULL)]],
    r.app, r.environment, r.digest, r.run)
end

---The release that a host before this state was put there, when the target shows it.
---@param app string
---@param environment string
function Releases:inherited(app, environment)
  return self:row(RELEASE .. [[WHERE app = ? AND environment = ? AND adopted = 2 AND only IS NULL
    ORDER BY id DESC LIMIT 1]], app, environment)
end

local MOST_ADOPTED <const> = 1 << 30

---At first sight: what already runs is taken as it is. It keeps the number that a host before this state gave it, and
---later ones are above: targets know things by that number.
---@param r table `inherited`: a host like this one put it there; `number`: the one it bears.
function Releases:adopt(r)
  return self:synced("adopt", function()
    r.state, r.adopted = "pending", true
    local n = r.number
    r.id = math.type(n) == "integer" and n > 0 and n <= MOST_ADOPTED and not self:release_by_id(n) and n or nil
    local id = self:add_release(r)
    for _, part in ipairs(r.parts or {}) do self:give(id, part, "live") end
    return self:set_release(id, r.only and "canary" or "live")
  end)
end

---@param app string
---@return {id: string}[] commits That were ever released or found.
function Releases:released_commits(app)
  return self:rows("SELECT DISTINCT commit_id AS id FROM releases WHERE app = ? AND commit_id IS NOT NULL", app)
end

---The versions that releases of a digest had.
---@param digest string
---@return {version: string}[]
function Releases:versions_of_digest(digest)
  return self:rows("SELECT DISTINCT version FROM releases WHERE digest = ? AND version IS NOT NULL", digest)
end

---@return integer id Of the newest release; 0 when there is none.
function Releases:newest_release_id() return assert(self:row("SELECT coalesce(max(id), 0) AS id FROM releases")).id end

---@param id integer
---@return {id: integer, app: string, commit_id?: string, digest?: string, image?: string}[]
function Releases:releases_after(id)
  return self:rows("SELECT id, app, commit_id, digest, image FROM releases WHERE id > ?", id)
end

---@return {app: string, environment: string}[] places Where something was released.
function Releases:released_places() return self:rows("SELECT DISTINCT app, environment FROM releases") end

---The newest releases of a place, and as many of those that did not fail: however many failed since, what runs and what
---it would go back to are among these.
---@param app string
---@param environment string
---@param most integer
---@return table[] releases
function Releases:recent_releases(app, environment, most)
  return self:rows([[
    SELECT * FROM (SELECT id, commit_id, digest, image, state, part FROM releases
      WHERE app = ?1 AND environment = ?2 ORDER BY id DESC LIMIT ?3)
    UNION SELECT * FROM (SELECT id, commit_id, digest, image, state, part FROM releases
      WHERE app = ?1 AND environment = ?2 AND state IN ('live', 'pending', 'replaced') ORDER BY id DESC LIMIT ?3)
    ORDER BY id DESC]], app, environment, most)
end

---The newest releases that proved bad.
---@param most integer
---@return table[] releases
function Releases:bad_releases(most)
  return self:rows([[SELECT app, environment, version, commit_id AS "commit", digest,
    substr(reason, 1, 100) AS reason FROM releases WHERE state = 'bad' ORDER BY id DESC LIMIT ?]], most)
end

return Releases
