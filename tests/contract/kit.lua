-- One statement, proved of a simulated part of the world and of the real one.
local check = require "check"
local engine_world, openers, simulation = require "engine.world", require "simulation.openers", require "simulation"
local configs, tables = require "simulation.config", require "base.tables"

local M = {}

---Registers a test for each of several parts, by their names.
---@generic T
---@param parts table<string, fun(): T>
---@return fun(name: string, fn: fun(part: T)) each
function M.each(parts)
  local names = tables.keys(parts)
  table.sort(names)
  return function(name, fn)
    for _, which in ipairs(names) do
      check.test(("%s: %s"):format(which, name), function() fn(parts[which]()) end)
    end
  end
end

---A simulated world, and how a host sees it.
---@return SimulatedWorld simulated
---@return fun(): World world As it is opened now.
function M.simulated()
  local simulated = simulation.new {}
  check.defer(function() simulated:close() end)
  local life = { dead = false, check = function() end }
  return simulated, function()
    return engine_world.of(simulated:configuration(), openers.of(life --[[@as SimulatedLife]], simulated.outside,
      simulated.answered))
  end
end

---The real world, with the configuration of these apps.
---@param top table Keys of the configuration's top level.
---@param apps table<string, table> What is left out, is as in a simulated world.
---@return World
function M.real(top, apps)
  top.state = top.state or require("lab").dir "state"
  return engine_world.of(configs.of(top, apps))
end

return M
