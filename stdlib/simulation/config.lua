-- The configuration of a simulated world: what tests write, judged by the real schema, with what they leave out.
local load = require "config.load"

local M = {}

---A copy of what tests write, through and through.
---@param value any
---@return any
local function copy(value)
  if type(value) ~= "table" then return value end
  local fresh = {}
  for k, v in next, value do fresh[k] = copy(v) end
  return fresh
end
M.copy = copy

local CHARTS <const> = "https://charts.simulated"

local function app_of(name, given)
  local app = copy(given)
  if app.charts then
    for _, chart in pairs(app.charts) do chart.repository = chart.repository or CHARTS end
  else
    app.source = app.source or ("https://git.simulated/%s.git"):format(name)
    app.image = app.image or "registry.simulated/" .. name
  end
  if app.publish then app.publish.to = app.publish.to or CHARTS end
  app.environments = app.environments or { [name] = {} }
  for _, environment in pairs(app.environments) do
    if not environment.targets then environment.target = environment.target or {} end
    for _, target in ipairs(environment.targets or { environment.target }) do
      if target.kind == nil then target.kind, target.apply = "command", { "/simulated" } end
    end
    environment.notify = environment.notify or { "people" }
    environment.verify = environment.verify or { { http = ("http://%s.simulated/"):format(name) } }
  end
  return app
end

---Makes the configuration; raises its faults.
---@async
---@param top table Keys of the configuration's top level.
---@param apps table<string, table>
---@return Config
function M.of(top, apps)
  local given = copy(top)
  given.poll, given.state, given.apps, given.notify = given.poll or "5m", given.state or "/simulated", {},
    given.notify or {}
  local function channels(of)
    for _, channel in ipairs(of.notify or {}) do
      given.notify[channel] = given.notify[channel] or { kind = "webhook", url = "http://people.simulated/" }
    end
  end
  channels(given.keel or {})
  for name, app in pairs(apps) do
    given.apps[name] = app_of(name, app)
    for _, environment in pairs(given.apps[name].environments) do channels(environment) end
  end
  if next(given.apps) == nil and given.keel then given.apps = nil end
  local config, faults = load.check(given, { file = "the test's world", scripts = given.scripts })
  if config then return config end
  local lines = {}
  for i, fault in ipairs(faults --[[@as Fault[] ]]) do lines[i] = load.describe(fault) end
  error(table.concat(lines, "\n"), 0)
end

return M
