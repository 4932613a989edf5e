-- The simulated world as tests see it: a facade, whose words run outside of the test's limits, and through which only
-- plain data goes in and out.
local errors, facade, simulation, sys, task = require "errors", require "base.facade", require "simulation",
  require "base.sys", require "task"

local describe = require("config.load").describe

local M = {}

---@class TestWorld
---@field options table Keys of the configuration's top level.
---@field disturb? Disturbance
---@field world? SimulatedWorld Opened when it is first asked for something.
---@field at? string The line of the word that was said last.
---@field closed boolean
---@field face table
---@field printed {after: integer, text: string}[]
local TestWorld = {}
TestWorld.__index = TestWorld

local DEEPEST <const> = 30

-- A copy without metatables: neither side gets at what the other one keeps. `functions` makes of a function what the
-- copy has; without it there is none.
local function plain(value, functions, depth)
  local kind = type(value)
  if kind == "table" then
    depth = (depth or 0) + 1
    if depth > DEEPEST then error("a table is too deep, or holds itself", 0) end
    if errors.made(value) then return errors.clean(value) end
    local copy = {}
    for k, v in next, value do
      k = plain(k, functions, depth)
      if k ~= nil then copy[k] = plain(v, functions, depth) end
    end
    return copy
  end
  if kind == "string" or kind == "number" or kind == "boolean" then return value end
  if kind == "function" and functions then return functions(value) end
end

---A copy without metatables and functions.
---@param value any
---@return any
function M.plain(value) return plain(value) end

local function plain_all(functions, ...)
  local values = table.pack(...)
  for i = 1, values.n do values[i] = plain(values[i], functions) end
  return values
end

---What a test's own code may use, in one life of its story and for each answer that it gives for the world: what it
---waits for costs nothing of it.
M.LIMITS = { cpu = 5, memory = 256 << 20 }

-- A function of the test as the world calls it: within limits of its own, and with plain data only.
local function answering(fn)
  return function(...)
    local given = plain_all(nil, ...)
    local limits = { name = "answer", cpu = M.LIMITS.cpu, memory = M.LIMITS.memory, detached = true }
    local running <close> = task.start(limits, function()
      return plain_all(nil, fn(table.unpack(given, 1, given.n)))
    end)
    local results, err = running:join()
    if results then return table.unpack(results, 1, results.n) end
    err = errors.clean(err)
    if errors.is(err, "cancelled") then error(err, 0) end
    error(errors.new("script", "the test's answer: " .. err.message, { where = err.where }), 0)
  end
end

-- Calls fn(object, ...) in a task that pays nothing of the test's limits, and raises what it raises as the test's
-- mistake.
local function apart(self, fn, object, ...)
  self.at = sys.script_line() or self.at
  local given = plain_all(answering, ...)
  local running <close> = task.start({ name = "world", detached = true }, function()
    return plain_all(nil, fn(object, table.unpack(given, 1, given.n)))
  end)
  local results, err = running:join()
  if results then return table.unpack(results, 1, results.n) end
  local fault = errors.is(err) and err.faults and err.faults[1]
  err = errors.clean(err)
  if errors.is(err, "cancelled") then error(err, 0) end
  local message = fault and describe(fault) or err.message:gsub("^stdlib/%l+/%l+%.lua:%d+: ", "", 1)
  error(errors.new("script", message, { where = self.at }), 0)
end

-- What a test may say at the configuration's top: nothing there leads to code or folders of this machine.
local TOP <const> = {
  builder = true, chart_repositories = true, clusters = true, credentials = true, github = true, keel = true,
  notify = true, poll = true, registries = true, retention = true,
}

---What a test has of the configuration's top level, as plain data; raises for a key that it may not have.
---@param options table
---@return table
function M.options(options)
  local copy = plain(options)
  for key in pairs(copy) do
    if not TOP[key] then
      local names = require("base.tables").keys(TOP)
      table.sort(names)
      error(("a test's configuration has no %s; it may have %s"):format(require("base.inspect").quote(tostring(key)),
        table.concat(names, ", ")), 0)
    end
  end
  return copy
end

---The world behind the facade, opened.
---@return SimulatedWorld
function TestWorld:open()
  if self.closed then error("this world has ended: each test has its own", 3) end
  if not self.world then
    local options = {}
    for k, v in pairs(self.options) do options[k] = v end
    options.disturb = self.disturb
    self.world = simulation.new(options)
  end
  return self.world
end

local function open(self) return self:open() end

local function words(names, of)
  local methods = {}
  for name in names:gmatch("%S+") do
    methods[name] = function(self, ...)
      local object = of(self)
      local word = object[name]
      if not word then error(("this world has no word %s"):format(name), 2) end
      return apart(self.tested or self, word, object, ...)
    end
  end
  return methods
end

local app_methods = words([[push reset tag untag branch_off delete_branch chart withdraw breaks unhealthy healthy put
  approve reject hold unhold rollback release retry cancel apply destroy running decision runs status configure]],
  function(self) return self.app end)
local app_face = facade.kind("app", { "name" }, app_methods)

local world_methods = words([[down up answer program image publish chart withdraw keel settle pass poll kill
  freeze thaw effects told]], open)

---Adds an app to the world.
function world_methods.app(self, name, given)
  local world, app = open(self), nil
  apart(self, function(...) app = world.app(...) end, world, name, given)
  return app_face { name = name, app = app, tested = self }
end

---Puts a workload into the cluster.
function world_methods.workload(self, kind, key, given)
  local world, app = open(self), nil
  apart(self, function(...) app = world.workload(...) end, world, kind, key, given)
  return app_face { name = key, app = app, tested = self }
end

---The lines of what happened, printed texts where they came.
---@return string[]
function TestWorld:story()
  local lines, printed = self.world and self.world:story() or {}, self.printed
  for i = #printed, 1, -1 do table.insert(lines, math.min(printed[i].after, #lines) + 1, printed[i].text) end
  return lines
end

function world_methods.story(self) return self:story() end

---Keeps a printed text.
---@param text string
function TestWorld:print(text)
  self.printed[#self.printed + 1] = { after = self.world and #self.world:story() or 0, text = text }
end

---How many places and effects its story had.
---@return {kills: integer, effects: integer, disturbed?: string}
function TestWorld:places() return self.world and self.world:places() or { kills = 0, effects = 0 } end

---What the test calls commits, by their ids.
---@return table<string, string>
function TestWorld:names() return self.world and self.world.state.names or {} end

---Ends the world: its hosts die.
---@async
function TestWorld:close()
  if self.closed then return end
  self.closed = true
  if self.world then self.world:close() end
end

local world_face = facade.kind("world", {}, world_methods)

---Makes a world for one story.
---@param options table
---@param disturb? Disturbance
---@return TestWorld
function M.new(options, disturb)
  local self = setmetatable({ options = options, disturb = disturb, closed = false, printed = {} }, TestWorld)
  self.face = world_face(self)
  return self
end

return M
