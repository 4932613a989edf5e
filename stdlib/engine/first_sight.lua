-- First sight of a place: a host without a journal of it adopts what runs, as the target and the registry show it.
-- The target is asked before any policy is.
--
-- An earlier host may have released there, whose state is lost. Its annotations tell which version that was; newer
-- versions are then changes, although their tags are older than this journal.
local errors, semver = require "errors", require "semver"

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

---Takes what runs at a place into the journal.
---@async
---@param engine table
---@param place Place
---@param with_version boolean Versions matter here.
---@return Running|false|nil running false: nothing runs there.
---@return Err? err
function M.adopt(engine, place, with_version)
  local target, err = engine.world.target(place.config)
  if not target then return nil, err end
  local running
  running, err = target:current()
  if err then return nil, err end
  if not running or not running.digest then return false end
  local ok
  ok, err = identify(engine, place, running, with_version)
  if not ok then return nil, err end
  -- A release's number or a generation beside it was written by a host like this one. This one came later.
  local numbered = math.type(running.release) == "integer" and running.release > 0
  local theirs = math.type(running.generation) == "integer" and running.generation > 0 and running.generation or nil
  if theirs then engine.lead:rise(theirs + 1) end
  engine.journal:adopt {
    app = place.app, environment = place.environment, version = running.version, commit = running.commit,
    digest = running.digest, image = running.image, inherited = theirs ~= nil or numbered, number = running.release,
    reason = theirs and ("left by the host before, %s, generation %d"):format(running.host or "unknown", theirs)
      or numbered and ("left by a host before, its release %d"):format(running.release)
      or "found running at first sight",
  }
  engine:emit {
    event = "note", level = "info", app = place.app, environment = place.environment,
    text = ("adopted what runs: %s"):format(running.version or running.commit or running.digest),
  }
  return running
end

return M
