-- The charts that an app follows, as its policies see them: what runs, and what there is beyond it.
local bundle, errors, semver, version = require "extensions.charts.bundle", require "errors", require "semver",
  require "extensions.charts.version"
local short = require("base.text").short

local M = {}

local MAX_SHOWN <const> = 20 -- versions of one chart that a policy gets

---@class FollowedChart What a policy gets of one chart.
---@field name string
---@field accept string How it is followed here.
---@field current? {version: string, digest?: string} What runs.
---@field gone boolean What runs is in the repository no more.
---@field versions CandidateVersion[] Newest first: all that may follow, and what is newer and may not.

---@class CandidateVersion
---@field version string
---@field digest? string Of the first that may follow; of the others when the repository's list has it.
---@field allowed boolean
---@field reason string
---@field changed boolean The version that runs, with other bytes.
---@field deprecated boolean
---@field created? string

-- How a chart is followed in an environment.
local function accept_of(chart, environment)
  local own = chart.accept
  if type(own) == "table" then own = own[environment.name] end
  return own or environment.accept
end

-- The charts of an app by name, so that everything happens in one order.
local function sorted(app)
  local list = {}
  for _, chart in pairs(app.charts) do list[#list + 1] = chart end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function shown(entry, allowed, reason)
  return {
    version = entry.version, digest = entry.digest, allowed = allowed, reason = reason, changed = false,
    deprecated = entry.deprecated == true, created = entry.created,
  }
end

-- The version that runs, as the repository has it now: only when its bytes are others.
local function changed(entry, current, digest, rule)
  if not digest or not current.digest or digest == current.digest then return nil end
  local found = shown(entry, rule.exact ~= nil, ("its digest was %s and is %s"):format(short(current.digest),
    short(digest)))
  if not found.allowed then found.reason = "a published version must not change: " .. found.reason end
  found.digest, found.changed = digest, true
  return found
end

-- How a version stands to the one that runs: above 0 is newer, also when nothing runs.
local function order_of(entry, current)
  local running = current and semver.tag(current.version)
  return running and semver.compare(assert(semver.tag(entry.version)), running) or 1
end

-- One chart: asks its repository, and says of each version that matters what it is.
local function look(place, chart, current)
  local world, options = place.world, { interval = place.app_config.poll }
  local accept = accept_of(chart, place.config)
  local rule, err = version.rule(accept)
  if not rule then return nil, err end
  local repo = world.charts(chart.repository)
  local list
  list, err = repo:versions(chart.chart, options)
  if not list then return nil, err end
  local found = {
    name = chart.name, accept = accept, current = current, gone = current ~= nil, versions = {},
  }
  -- Where the version that runs stands in the list, or would stand, the looking ends: nothing goes down by itself,
  -- but when the rule speaks of other versions than that one.
  local first, settled = true, current ~= nil and version.fits(rule, current.version)
  for _, entry in ipairs(list) do
    local candidate
    local same, order = current and entry.version == current.version, order_of(entry, current)
    if settled and order < 0 then break end
    if same then
      local digest
      digest, err = repo:digest(chart.chart, entry, options)
      if err then return nil, err end
      found.gone, candidate = false, changed(entry, current, digest, rule)
    else
      local allowed, reason = version.allows(rule, current and current.version, entry.version,
        place.config.match_prerelease)
      if allowed or order > 0 then candidate = shown(entry, allowed, reason) end
    end
    if candidate and #found.versions < MAX_SHOWN then
      if candidate.allowed and first then
        candidate.digest, err = repo:digest(chart.chart, entry, options)
        if err then return nil, err end
        first = false
      end
      table.insert(found.versions, candidate)
    end
  end
  return found
end

-- What runs at a place, by the charts' names.
local function running(place)
  local current = place:current()
  return current and (bundle.read(current.image or "") or bundle.read(current.version or "")) or {}
end

---The charts that the app of a place follows.
---@async
---@param place Place
---@return FollowedChart[]? charts
---@return Err? err
---@return_overload nil, Err
function M.all(place)
  if not place.app_config.charts then
    return errors.fail("invalid", place.app .. " follows no charts: name them in its `charts`", { op = "charts" })
  end
  local now, list = running(place), {}
  for i, chart in ipairs(sorted(place.app_config)) do
    local part = now[chart.name]
    local found, err = look(place, chart, part and { version = part.version, digest = part.digest })
    if not found then return nil, err end
    list[i] = found
  end
  return list
end

-- What is held back of two charts as one.
local function together(a, b)
  if not a or not b then return a or b end
  local names = table.move(a.names, 1, #a.names, 1, {})
  return {
    complaint = a.complaint .. ", " .. b.complaint, names = table.move(b.names, 1, #b.names, #names + 1, names),
    count = a.count + b.count, since = math.min(a.since, b.since),
    till = a.till and b.till and math.max(a.till, b.till),
  }
end

---Asks the repositories of an app's charts, so that its policies find the answers.
---@async
---@param app AppConfig
---@param world World
---@return true? ok
---@return Err? err
---@return Held? held Versions that a repository lists no more, and that count as there for now.
function M.poll(app, world)
  local held
  for _, chart in ipairs(sorted(app)) do
    local list, err = world.charts(chart.repository):versions(chart.chart, { interval = app.poll })
    if not list then return nil, err end
    held = together(held, (list --[[@as ChartVersions]]).held)
  end
  return true, nil, held
end

---Makes the next observation ask the repositories.
---@param app AppConfig
---@param world World
function M.expire(app, world)
  for _, chart in pairs(app.charts or {}) do world.charts(chart.repository):expire() end
end

-- The part of a bundle for one chart that a person named, or that stays as it is.
local function part_of(place, chart, wanted, now)
  local options = { interval = place.app_config.poll }
  local repo = place.world.charts(chart.repository)
  local list, err = repo:versions(chart.chart, options)
  if not list then return nil, err end
  if not wanted and now then return now end
  for _, entry in ipairs(list) do
    local fits = entry.version == wanted
    if not wanted then
      fits = version.allows(assert(version.rule(accept_of(chart, place.config))), nil, entry.version)
    end
    if fits then
      local digest
      digest, err = repo:digest(chart.chart, entry, options)
      if err then return nil, err end
      return { name = chart.name, version = entry.version, digest = digest }
    end
  end
  return errors.fail("not_found", ("there is no version %s of %s"):format(wanted or "that may run", chart.name),
    { op = "release", target = repo.url })
end

---The bundle that a person asks for: `api=1.2.3 web=2.0.0`. Charts that are not named stay as they are.
---@async
---@param place Place
---@param text string
---@return Bundle? bundle
---@return Err? err
---@return_overload nil, Err
function M.compose(place, text)
  local wanted = bundle.versions(text)
  if not wanted then
    return errors.fail("invalid", "say which versions: CHART=VERSION ...", { op = "release", target = place.app })
  end
  for name in pairs(wanted) do
    if not (place.app_config.charts or {})[name] then
      return errors.fail("not_found", ("%s follows no chart %s"):format(place.app, name), { op = "release" })
    end
  end
  local now, parts = running(place), {}
  for i, chart in ipairs(sorted(place.app_config)) do
    local part, problem = part_of(place, chart, wanted[chart.name], now[chart.name])
    if not part then return nil, problem end
    parts[i] = part
  end
  return bundle.make(parts)
end

return M
