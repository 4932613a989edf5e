-- One life of a host in a simulated world: from its start to its death. What is dead is answered by nobody: neither
-- by its journal nor by the world, and its tasks end.
local engine, errors, openers, sys, task = require "engine", require "errors", require "simulation.openers",
  require "base.sys", require "task"

local M = {}

---@class SimulatedLife
---@field dead boolean
---@field engine EngineState
---@field book Journal
---@field tasks table<Task, true>
---@field died fun()
local Life = {}
Life.__index = Life

local function gone() error(errors.new("cancelled", "this host is dead", { op = "simulation" }), 0) end
local NOBODY <const> = setmetatable({}, { __index = function() return gone end })

---Raises when the host is dead.
function Life:check()
  if self.dead then gone() end
end

---The host dies here and now.
function Life:kill()
  if self.dead then return end
  self.dead = true
  local book, host = self.book --[[@as any]], self.engine --[[@as any]]
  book.db, book.synced, book.lazily = NOBODY, gone, gone
  if host then
    host.draining, host.stopping = true, true
    for _, lane in pairs(host.lanes) do
      for _, attempt in pairs(lane.runs) do
        if attempt.task then attempt.task:cancel() end
      end
    end
  end
  for t in pairs(self.tasks) do t:cancel() end
  self.died()
end

---Calls fn in a task of the host.
---@async
---@param fn fun(engine: EngineState): ...
---@return boolean lived false: the host died meanwhile.
---@return any ... What fn returned.
function Life:call(fn)
  local results = { n = 0 } ---@type table
  local t = task.spawn(function() results = table.pack(pcall(fn, self.engine)) end)
  self.tasks[t] = true
  t:join()
  self.tasks[t] = nil
  if self.dead then return false end
  if not results[1] then error(results[2], 0) end
  return true, table.unpack(results, 2, results.n)
end

---Whether an effect of a run is under way.
---@return boolean
function Life:busy()
  for _, lane in pairs(self.engine.lanes) do
    for _, attempt in pairs(lane.runs) do
      if not attempt.steps or attempt.steps.busy > 0 then return true end
    end
  end
  return false
end

---Starts a host.
---@async
---@param options {outside: Outside, answered: SimulatedAnswers, book: Journal, config: Config, load: function,
--- host: string, on_event: fun(event: Event), died: fun()}
---@return SimulatedLife life It may be dead already.
function M.begin(options)
  local life = setmetatable({ dead = false, book = options.book:share(), tasks = {}, died = options.died }, Life)
  sys.on_killpoint(function(name) options.outside:place(life, name) end)
  local opened, err
  local started = life:call(function()
    opened, err = engine.open {
      config = options.config, load = options.load, journal = life.book, host = options.host,
      world = openers.of(life, options.outside, options.answered),
      on_event = function(event) if not life.dead then options.on_event(event) end end,
    }
  end)
  if not started then return life end
  if not opened then error(err, 0) end
  life.engine = opened
  life.tasks[task.start({ name = options.host, detached = true }, opened.run, opened)] = true
  return life
end

return M
