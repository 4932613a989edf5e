-- Which images stay: of each place the last so many releases, what runs in each of its parts, what it would go back to
-- (the good ones before bad ones), and everything that a run under way may still need.
--
-- Everything else of our own repositories may go. What is asked here is the journal alone, each time anew.
local json, reference, time = require "json", require "images.reference", require "time"
local without_credentials = require("base.text").without_credentials

local M = {}

local RECENT <const> = 200 -- releases of a place that are read, and as many of those that did not fail
local GOOD <const> = 2     -- good releases of a place that stay in any case: what runs, and what it goes back to

---@class KeptImages
---@field repositories table<string, {name: string, sources: table<string, true>}> Those that are ours.
---@field digests table<string, table<string, true>> By repository: what stays.
---@field commits table<string, table<string, true>>
---@field known table<string, table<string, true>> By repository: digests that went through this host.
---@field package newest integer The last release that was read.
local Kept = {}
Kept.__index = Kept

local function note(map, repository, value)
  if not value then return end
  map[repository] = map[repository] or {}
  map[repository][value] = true
end

---Whether an image stays.
---@param repository string As reference.canonical gives it.
---@param digest? string
---@param commit? string
---@return boolean
function Kept:has(repository, digest, commit)
  local digests, commits = self.digests[repository], self.commits[repository]
  return digest ~= nil and digests ~= nil and digests[digest] == true
    or commit ~= nil and commits ~= nil and commits[commit] == true
end

-- The repository and the digest of a release. What was found running may name its image in another way; then it is
-- taken for one of its app's own repository.
local function of_image(row, app)
  local own = reference.digest(row.image)
  local image, digest = own and row.image or app and app.image, own or row.digest
  if not image or not digest then return nil end
  return reference.canonical((reference.parts(image))), digest
end

-- The releases of one place, newest first, and what its parts have: those that stay are noted.
local function of_place(kept, rows, held, most, app)
  local parts, bad = {}, {}
  for _, row in pairs(held) do
    local repository, digest = of_image(row, app)
    if repository then
      note(kept.digests, repository, digest)
      note(kept.commits, repository, row.commit)
      note(kept.known, repository, digest)
    end
  end
  for _, row in ipairs(rows) do
    if row.state == "bad" and row.digest then bad[row.digest] = true end
  end
  for _, row in ipairs(rows) do
    local repository, digest = of_image(row, app)
    if repository then
      local key = row.part or ""
      local part = parts[key] or { seen = {}, count = 0, good = 0 }
      parts[key] = part
      local good = (row.state == "live" or row.state == "replaced") and not bad[digest]
      local fresh = not part.seen[digest]
      local stays = part.count < most or row.state == "live" or row.state == "pending" or good and part.good < GOOD
      if stays then
        note(kept.digests, repository, digest)
        note(kept.commits, repository, row.commit_id)
        if fresh then
          part.seen[digest] = true
          part.count = part.count + 1
          if good then part.good = part.good + 1 end
        end
      end
      note(kept.known, repository, digest)
    end
  end
end

-- Whatever a change names may be needed by its run: commits and digests, wherever they stand in it.
local function of_change(kept, repository, text)
  for word in text:gmatch("%x+") do
    if #word == 40 or #word == 64 then
      note(kept.commits, repository, word)
      note(kept.digests, repository, "sha256:" .. word)
    end
  end
end

-- What the images of a journal's runs were.
local function of_steps(rows, each)
  for _, row in ipairs(rows) do
    local made = row.result and json.decode(row.result)
    if type(made) == "table" and type(made.digest) == "string" and type(made.repository) == "string" then
      each(reference.canonical(made.repository), made.digest)
    end
  end
end

-- What runs under way may need.
local function of_unfinished(kept, journal, config)
  for _, run in ipairs(journal:open_runs()) do
    local app = config.apps[run.app]
    if app and app.image then of_change(kept, reference.canonical(app.image), run.change) end
    of_steps(journal:images_of_run(run.id), function(repository, digest) note(kept.digests, repository, digest) end)
  end
end

---Asks the journal for what began after `kept` was made: the same answer, and cheap.
---@param kept KeptImages
---@param journal Journal
---@param config Config
function M.renew(kept, journal, config)
  for _, row in ipairs(journal:releases_after(kept.newest)) do
    local repository, digest = of_image(row, config.apps[row.app])
    if repository then
      note(kept.digests, repository, digest)
      note(kept.commits, repository, row.commit_id)
    end
    kept.newest = math.max(kept.newest, row.id)
  end
  of_unfinished(kept, journal, config)
end

---Asks the journal.
---@async
---@param journal Journal
---@param config Config
---@return KeptImages
function M.of(journal, config)
  local newest = journal:newest_release_id()
  local kept = setmetatable({ repositories = {}, digests = {}, commits = {}, known = {}, newest = newest }, Kept)
  for _, app in ipairs(config.app_list) do
    if app.image then
      local key = reference.canonical(app.image)
      local ours = kept.repositories[key] or { name = app.image, sources = {} }
      kept.repositories[key] = ours
      ours.sources[without_credentials(app.source.url)] = true
    end
  end
  local most = config.retention.images
  for _, place in ipairs(journal:released_places()) do
    of_place(kept, journal:recent_releases(place.app, place.environment, RECENT),
      journal:held(place.app, place.environment), most, config.apps[place.app])
    time.sleep(0) -- others get their turns
  end
  of_unfinished(kept, journal, config)
  return kept
end

---The digests of a repository that runs of this host built or released, as far as the journal goes back.
---@async
---@param kept KeptImages
---@param journal Journal
---@param config Config
---@param repository string
---@return table<string, true>
function M.known(kept, journal, config, repository)
  local known = {}
  for digest in pairs(kept.known[repository] or {}) do known[digest] = true end
  for _, app in ipairs(config.app_list) do
    if app.image and reference.canonical(app.image) == repository then
      of_steps(journal:images_of_app(app.name), function(name, digest)
        if name == repository then known[digest] = true end
      end)
      time.sleep(0)
    end
  end
  return known
end

return M
