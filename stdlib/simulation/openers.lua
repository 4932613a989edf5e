-- How a host opens a simulated world: the parts that engine/world.lua opens. Each answers while the host lives.
local errors, extensions = require "errors", require "extensions"
local charts, cluster, git = require "simulation.charts", require "simulation.cluster", require "simulation.git"
local modules, registry = require "simulation.modules", require "simulation.registry"
local target = require "simulation.target"

local M = {}

-- A part of the world that answers while the host lives.
local function guarded(life, part)
  return setmetatable({}, { __index = function(face, name)
    local value = part[name]
    if type(value) ~= "function" then return value end
    local function call(...)
      life:check()
      return value(...)
    end
    rawset(face, name, call)
    return call
  end })
end

---How a host opens this world.
---@param life SimulatedLife
---@param outside Outside
---@param answered? SimulatedAnswers nil: policies' modules are the real ones.
---@return WorldOpeners
function M.of(life, outside, answered)
  local opened, chart_repositories = {}, {}
  if answered then
    for name, module in pairs(modules.all(outside, life, answered)) do opened[name] = guarded(life, module) end
  end
  local all = {
    module = function(name) return opened[name] or require(name) end,
    repository = function(app) return guarded(life, git.repository(outside, app.source.url)) end,
    registry = function(name) return guarded(life, registry.repository(outside, life, name)) end,
    target = function(environment)
      local open = cluster.has(outside:look(), environment) and cluster.target or target.open
      return guarded(life, open(outside, life, environment))
    end,
    ensure_image = function(request) return registry.ensure(outside, life, request) end,
    verify = function(list, request, world) return target.verify(outside, list, request, world) end,
    charts = function(repository, world)
      local config = require("extensions.charts.repository").config(repository, world.config)
      local url = config.url:gsub("/+$", "")
      chart_repositories[url] = chart_repositories[url] or guarded(life, charts.repository(outside, life, config))
      return chart_repositories[url]
    end,
    cluster = function() return guarded(life, cluster.client(outside, life)) end,
    notify = function(_, names, message)
      local up, err = outside:reach "notify"
      if not up then return nil, err end
      return outside:tell(life, names, message)
    end,
  }
  for _, opener in ipairs(extensions.all "opener") do
    all[opener.name] = all[opener.name] or function()
      return errors.fail("unsupported", opener.name .. " are not simulated", { op = opener.name })
    end
  end
  return guarded(life, all) --[[@as WorldOpeners]]
end

return M
