-- Simulated chart repositories. What a list of theirs means (its order, what it lost, what is held back) is the real
-- repository's word: only its server is simulated.
local errors, hash, index = require "errors", require "hash", require "extensions.charts.index"
local repositories, time = require "extensions.charts.repository", require "time"

local M = {}

---@class SimulatedChart An entry as an index has it.
---@field version string
---@field digest string
---@field created string
---@field urls string[]
---@field appVersion? string
---@field removed? boolean
---@field deprecated? boolean

---The charts of a repository by their names, each with its versions.
---@alias SimulatedCharts table<string, table<string, SimulatedChart>>

---@param state SimulatedState
---@param url string
---@return SimulatedCharts
function M.of(state, url)
  local at = url:gsub("/+$", "")
  local charts = state.charts[at] or {}
  state.charts[at] = charts
  return charts
end

---Puts a version into a repository, or writes it over.
---@param state SimulatedState
---@param url string
---@param name string
---@param version string
---@param about? {text?: string, appVersion?: string, removed?: boolean, deprecated?: boolean} text: what it holds.
---@return SimulatedChart
function M.put(state, url, name, version, about)
  about = about or {}
  local charts = M.of(state, url)
  charts[name] = charts[name] or {}
  local entry = {
    version = version, digest = hash.sha256(about.text or ("%s %s"):format(name, version)), created = time.iso(),
    urls = { ("charts/%s-%s.tgz"):format(name, version) }, appVersion = about.appVersion, removed = about.removed,
    deprecated = about.deprecated,
  }
  charts[name][version] = entry
  return entry
end

---Takes a version away.
---@param state SimulatedState
---@param url string
---@param name string
---@param version string
function M.withdraw(state, url, name, version)
  local charts = M.of(state, url)
  if not (charts[name] and charts[name][version]) then
    error(("there is no version %s of the chart %s"):format(version, name), 4)
  end
  charts[name][version] = nil
  if next(charts[name]) == nil then charts[name] = nil end
end

-- As the server answers.
local function list_of(charts, name, url)
  local list, notes = {}, {}
  for _, version in ipairs(require("base.tables").keys(charts[name] or {})) do
    list[#list + 1], notes[#notes + 1] = index.version(charts[name][version], name, url)
  end
  return { list = list, notes = notes, missing = not charts[name] }
end

---A chart repository, with the methods of a real one (extensions/charts/repository).
---@param outside Outside
---@param life SimulatedLife
---@param config ChartRepositoryConfig
---@return ChartRepository
function M.repository(outside, life, config)
  local repo = repositories.new(config)
  local url = repo.url
  repo.kind = "museum"
  local function charts()
    local up, err = outside:reach "charts"
    if up then up, err = outside:reach(url) end
    if not up then return nil, err end
    return M.of(outside:look(), url)
  end
  function repo.ask(_, name)
    local found, err = charts()
    if not found then return nil, err end
    return list_of(found, name, url)
  end
  function repo.expire() end
  function repo.publish(_, request)
    local found, err = charts()
    if not found then return nil, err end
    local name
    name, err = require("extensions.charts.package").name(request)
    if not name then return nil, err end
    local text = ("%s %s of %s"):format(name, request.version, request.commit)
    local there, digest = (found[name] or {})[request.version], hash.sha256(text)
    if there and there.digest ~= digest then
      return errors.fail("conflict", ("%s %s is there already with other contents: a published version must not change")
        :format(name, request.version), { op = "charts.push", target = url })
    elseif not there then
      local line = ("push chart %s %s %s"):format(name, request.version, outside:called(request.commit))
      local done
      done, err = outside:effect(life, line, function(state)
        M.put(state, url, name, request.version, { text = text, appVersion = request.app_version })
      end)
      if not done then return nil, err end
    end
    return { name = name, version = request.version, digest = "sha256:" .. digest, found = there ~= nil }
  end
  return repo
end

return M
