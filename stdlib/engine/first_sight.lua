-- First sight of a place: a host without a journal of it adopts what runs, as the target and the registry show it.
-- The target is asked before any policy is.
--
-- An earlier host may have released there, whose state is lost. Its annotations tell which version that was; newer
-- versions are then changes, although their tags are older than this journal.
local errors, semver, targets = require "errors", require "semver", require "targets"

local M = {}

local REVISION <const> = "org.opencontainers.image.revision"
local MOST_TAGS <const> = 20 -- versions whose digest is asked for

-- The git tags that may be the version that runs, newest first, at most so many. Nearly every tag of a long list is
-- compared once.
local function candidates(tags, commit)
  local list = {}
  for _, tag in ipairs(tags) do
    local version = (not commit or tag.commit == commit) and semver.tag(tag.name)
    local at = #list
    while version and at > 0 and semver.compare(version, list[at].version) > 0 do at = at - 1 end
    if version and at < MOST_TAGS then
      table.insert(list, at + 1, { name = tag.name, commit = tag.commit, version = version })
      list[MOST_TAGS + 1] = nil
    end
  end
  return list
end

local function missing(value, err) return value == nil and err ~= nil and not errors.is(err, "not_found") end

-- The version whose image tag points at what runs: without it, an older one might be taken for a newer one.
local function find_version(engine, place, running, where)
  local tags, err = engine.world.repository(place.app_config):tags()
  if not tags then return nil, err end
  for _, tag in ipairs(candidates(tags, running.commit)) do
    local digest
    digest, err = where:digest(tag.name)
    if missing(digest, err) then return nil, err end
    if digest == running.digest then
      running.version, running.commit = tag.name, tag.commit
      break
    end
  end
  return true
end

-- Asks the registry for what the target does not show.
local function identify(engine, place, running, with_version)
  local app = place.app_config
  local known = running.commit and (running.version or not with_version)
  if known or app.follows ~= "git" or not running.digest then return true end
  if running.image and not running.image:find(app.image, 1, true) then return true end -- another's image
  local problem = engine:app_state(app.name).error
  if problem then return nil, problem end
  local where = engine.world.registry(app.image)
  if not running.commit then
    local labels, err = where:labels(running.digest)
    if missing(labels, err) then return nil, err end
    running.commit = labels and labels[REVISION]
  end
  if with_version and not running.version then return find_version(engine, place, running, where) end
  return true
end

-- What runs in each part, and which of it is the place's release: parts are released in their order, so the last one
-- has what all have, and those before it may be ahead.
local function look(engine, place)
  local found, last = {}, nil ---@type {part?: string, running: Running}[], Running?
  for _, part in ipairs(targets.parts(place.config)) do
    local target, err = engine.world.target(part)
    if not target then return nil, err end
    local running
    running, err = target:current()
    if err then return nil, err end
    if running and running.digest then
      last = running
      found[#found + 1] = { part = part.part, running = running }
    end
  end
  return found, last
end

-- A release's number or a generation beside it was written by a host like this one. This one came later.
local function adopt(engine, place, running, more)
  local numbered = math.type(running.release) == "integer" and running.release > 0
  local theirs = math.type(running.generation) == "integer" and running.generation > 0 and running.generation or nil
  if theirs then engine.lead:rise(theirs + 1) end
  engine.journal:adopt {
    app = place.app, environment = place.environment, version = running.version, commit = running.commit,
    digest = running.digest, image = running.image, inherited = theirs ~= nil or numbered, number = running.release,
    reason = theirs and ("left by the host before, %s, generation %d"):format(running.host or "unknown", theirs)
      or numbered and ("left by a host before, its release %d"):format(running.release)
      or "found running at first sight",
    only = more.only, parts = more.parts,
  }
  engine:emit {
    event = "note", level = "info", app = place.app, environment = place.environment,
    text = ("adopted what runs%s: %s"):format(more.only and " in the part " .. more.only or "",
      running.version or running.commit or running.digest),
  }
end

---Takes what runs at a place into the journal. What runs in some of its parts only is a canary there.
---@async
---@param engine table
---@param place Place
---@param with_version boolean Versions matter here.
---@return Running|false|nil running false: nothing runs there.
---@return Err? err
function M.adopt(engine, place, with_version)
  local found, last = look(engine, place)
  if not found then return nil, last --[[@as Err]] end
  if not last then return false end
  local parts, others = {}, {}
  for _, here in ipairs(found) do
    if here.running.digest == last.digest then parts[#parts + 1] = here.part else others[#others + 1] = here end
    local ok, err = identify(engine, place, here.running, with_version)
    if not ok then return nil, err end
  end
  adopt(engine, place, last, { parts = parts })
  for _, here in ipairs(others) do adopt(engine, place, here.running, { only = here.part, parts = { here.part } }) end
  return last
end

return M
