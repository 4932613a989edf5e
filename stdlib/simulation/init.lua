-- A simulated world: everything outside of a host, and hosts that live and die in it. It has no clock of its own: a
-- process that is to see days pass calls sys.virtual_time first.
--
--     local world <close> = simulation.new()
--     local web = world:app("web", { environments = { staging = { policy = "staging" } } })
--     web:push("a")
--     world:settle()
--     assert(web:running("staging").commit == simulation.commit("a"))
--
-- What a test does and sees is here and in app.lua; what is outside in outside.lua, git.lua, registry.lua, charts.lua,
-- target.lua and modules.lua; a host's life in life.lua.
local apps, configs, journal = require "simulation.app", require "simulation.config", require "journal"
local charts, cluster, git = require "simulation.charts", require "simulation.cluster", require "simulation.git"
local life, outside, registry = require "simulation.life", require "simulation.outside", require "simulation.registry"
local errors, schema, sys = require "errors", require "base.schema", require "base.sys"
local task, time = require "task", require "time"

local M = {}

---Where virtual time begins: Monday, 2 March 2026, 08:00:00 UTC.
M.START = 1772438400

---The id of the commit that has a name.
M.commit = git.commit

local QUIET <const> = 60 -- seconds without a movement, after which a world is at rest
local RESTLESS <const> = 7 * 86400 -- seconds after which one that is not never will be

-- Events that say that something moves.
local MOVES <const> = { change = true, run = true, step = true, hold = true, reload = true, decision = true }

---@class SimulatedWorld
---@field state SimulatedState
---@field outside Outside
---@field answered SimulatedAnswers
---@field book Journal
---@field life? SimulatedLife
---@field lives integer
---@field top table Keys of the configuration's top level.
---@field apps table<string, table>
---@field config? Config
---@field moves integer
---@field moved Signal
---@field log {at: Wall, text: string}[]
local World = {}
World.__index = World
World.__close = function(self) self:close() end

---@param options? {disturb?: Disturbance, state?: SimulatedState, journal?: Journal, on_change?: fun(line?: string),
--- [string]: any} Any other key: one of the configuration's top level.
---@return SimulatedWorld
function M.new(options)
  local top = {}
  for k, v in pairs(options or {}) do top[k] = v end
  local self = setmetatable({
    apps = {}, lives = 0, moves = 0, moved = task.signal(), log = {},
    answered = { addresses = {}, programs = {}, random = 0 },
    book = top.journal or journal.memory(),
  }, World)
  local on_change = top.on_change
  self.outside = outside.new {
    state = top.state, disturb = top.disturb, on_change = function(line)
      if line then self:move("  " .. line) end
      if on_change then on_change(line) end
    end,
  }
  self.state = self.outside.state
  top.disturb, top.state, top.journal, top.on_change = nil, nil, nil, nil
  self.top = top
  return self
end

---@param text? string nil: the story need not say it.
function World:move(text)
  self.moves = self.moves + 1
  if text then self.log[#self.log + 1] = { at = time.now(), text = text } end
  self.moved:notify()
end

-- ---- hosts ----

-- That a step went well needs no line: it has that of its beginning.
local function is_said(event) return event.event ~= "step" or event.phase ~= "end" or event.error or event.recorded end

---@return Config
function World:configuration()
  self.config = self.config or configs.of(self.top, self.apps)
  return self.config
end

---The host that lives; starts one when none does.
---@async
---@return SimulatedLife
function World:host()
  while not self.life or self.life.dead do
    self.lives = self.lives + 1
    local function load() return configs.of(self.top, self.apps) end -- each host has its own: it adds what it finds
    self.life = life.begin {
      outside = self.outside, answered = self.answered, book = self.book, config = load(), load = load,
      host = "host " .. self.lives,
      on_event = function(event)
        if MOVES[event.event] and is_said(event) then
          local where = event.app and ("%s %s: "):format(event.app, event.environment or "") or ""
          self:move("    " .. where .. event.text .. (event.recorded and ", recorded before" or ""))
        elseif MOVES[event.event] then
          self:move()
        end
      end,
      died = function() self:move("  the host dies") end,
    }
  end
  return assert(self.life)
end

---Asks a host that lives.
---@async
---@param fn fun(engine: EngineState): any, any
---@return any value
---@return any err
function World:ask(fn)
  while true do
    local results = table.pack(self:host():call(fn))
    if results[1] then return table.unpack(results, 2, results.n) end
  end
end

---Has a person order something. A host may die while it is told: the next is told again, unless it was recorded.
---@async
---@param line string For the story.
---@param act table
---@param give fun(engine: Engine): any, any
---@return any result
---@return any err
function World:order(line, act, give)
  self:move(line)
  local before = self.book:newest_run()
  for attempt = 1, math.huge do
    local lived, result, err = self:host():call(give)
    if lived then
      if result == nil and attempt > 1 and errors.is(err, "conflict") then return nil end
      return result, err
    end
    local run = self:ask(function(engine)
      local newest = assert(engine:history { app = act.app, limit = 1 }).runs[1]
      return newest and newest.id > before and newest.by == act.by and newest or nil
    end)
    if run then return run end
  end
end

---Has a person freeze everything, for a while or until it is thawed.
---@async
---@param reason? string
---@param by? string
---@param duration? string|number "2h"
---@return any result
---@return Err? err
function World:freeze(reason, by, duration)
  local act = { reason = reason, by = by or "ann", seconds = duration and schema.seconds(duration) }
  return self:order(act.by .. ": freeze", act, function(engine) return engine:freeze(act) end)
end

---Has a person end a freeze.
---@async
---@param by? string
---@return any result
---@return Err? err
function World:thaw(by)
  local act = { by = by or "ann" }
  return self:order(act.by .. ": thaw", act, function(engine) return engine:thaw(act) end)
end

---The host dies here. The next thing that needs one starts another on the same journal.
function World:kill() self:host():kill() end

---Ends the world.
function World:close()
  if self.life then self.life:kill() end
  sys.on_killpoint(nil)
  self.book:close()
end

-- ---- what happens ----

---@param line string
---@param change fun(state: SimulatedState)
function World:happen(line, change)
  self:move(line)
  self.outside:change(change)
end

-- Sets a key of the configuration, as an edit does: what has faults is taken back.
local function set(self, of, key, value)
  local before, config = of[key], self.config
  of[key], self.config = value, nil
  local fine, err = pcall(self.configuration, self)
  if not fine then
    of[key], self.config = before, config
    error(err, 3)
  end
  if self.life and not self.life.dead then
    local _, reloaded = self:ask(function(engine) return engine:reload() end)
    if reloaded then error(reloaded, 3) end
  end
end

---Adds an app, or gives one another table.
---@async
---@param name string
---@param given table An app of the configuration. What it leaves out (source, image, targets, notifiers, checks) is
--- simulated, whatever its kind.
---@return SimulatedApp
function World:app(name, given)
  set(self, self.apps, name, given)
  return apps.new(self, name)
end

---Has the configuration's `keel` follow the workloads of the cluster.
---@async
---@param given table Its keys; without `notify`, people are told.
function World:keel(given)
  local keel = configs.copy(given)
  keel.notify = keel.notify or { "people" }
  set(self, self.top, "keel", keel)
end

---Puts a part out of reach: "git", "registry", "charts", "builder", "notify", "target web/production", or an address.
---@param part string
function World:down(part) self:happen(part .. " is down", function(state) state.down[part] = true end) end

---Brings a part back.
---@param part string As `down` has it.
function World:up(part) self:happen(part .. " is up again", function(state) state.down[part] = nil end) end

---Answers HTTP requests to an address, or to all that begin with it; the longest counts.
---@param address string
---@param value any The body; a status; { status =, body =, headers = }; another table, as JSON; or a function of the
--- request.
function World:answer(address, value) self.answered.addresses[address] = value end

---Lets policies run a program.
---@param path string
---@param value {code?: integer, stdout?: string, stderr?: string}|fun(spec: table): table?, Err?
function World:program(path, value) self.answered.programs[path] = value end

---Puts a workload into the cluster, or another one in its place; nil takes it away. With world:keel it is an app, whose
---environment has the name of its kind.
---@async
---@param kind "deployment"|"statefulset"|"daemonset"|"cronjob"
---@param key string "namespace/name"
---@param given? {annotations?: table, labels?: table, images: string[][], pod?: table} images: { { "web", "r/web:1" } }
---@return SimulatedApp
function World:workload(kind, key, given)
  self:move(("%s %s: %s"):format(kind, key, given and given.images[1][2] or "gone"))
  cluster.put(self.outside, kind, key, given)
  return apps.new(self, key)
end

---The image of a container of a workload; of its first one unless it is named.
---@param kind string
---@param key string
---@param container? string
---@return string? image
function World:image(kind, key, container) return cluster.image(self.state, kind, key, container) end

---Somebody pushes an image that a text stands for; nil takes the tag away.
---@param name string
---@param tag string
---@param text? string
---@param labels? table<string, string>
---@return string? digest
function World:publish(name, tag, text, labels)
  local digest
  self:happen(("publish %s:%s"):format(name, tag), function(state)
    digest = registry.push(state, name, tag, text, labels)
  end)
  return digest
end

---Somebody publishes a version of a chart, or writes it over.
---@param repository string Its address.
---@param name string
---@param version string
---@param about? {text?: string, removed?: boolean, deprecated?: boolean} text: what it holds.
function World:chart(repository, name, version, about)
  self:happen(("publish chart %s %s"):format(name, version), function(state)
    charts.put(state, repository, name, version, about)
  end)
end

---Somebody takes a version of a chart away from its repository.
---@param repository string Its address.
---@param name string
---@param version string
function World:withdraw(repository, name, version)
  self:happen(("withdraw chart %s %s"):format(name, version), function(state)
    charts.withdraw(state, repository, name, version)
  end)
end

-- ---- time ----

---Lets time pass until something moves, with a host that lives.
---@async
---@param seconds number
---@return boolean moved
function World:wait(seconds)
  self:host()
  return self.moved:wait(seconds)
end

---Lets so much time pass, as in life.
---@async
---@param duration string|number "2d"
function World:pass(duration)
  local seconds = schema.seconds(duration)
  if not seconds then error('usage: world:pass("2d")', 2) end
  self:move("pass " .. tostring(duration))
  local last = time.monotonic() + seconds
  while time.monotonic() < last do self:wait(last - time.monotonic()) end
end

---Polls every app once.
---@async
function World:poll()
  self:ask(function(engine)
    for _, seen in pairs(engine.app_states) do -- a poll that is under way may have looked before what just happened
      while seen.polling do time.sleep(0.001) end
    end
    local ok, err = pcall(engine.poll, engine)
    if not ok then self:move("    a poll failed: " .. tostring(err)) end
  end)
end

---Polls, and lets time pass, until nothing has moved for a minute and no effect is under way. A run that sleeps or
---waits for people is at rest.
---@async
function World:settle()
  local limit = time.monotonic() + RESTLESS
  repeat
    local before = self.moves
    self:poll()
    repeat
      local moved = self:wait(QUIET)
      if time.monotonic() > limit then error("the world does not come to rest", 2) end
    until not moved and not self:host():busy()
  until self.moves == before
end

-- ---- what came of it ----

---The effects of hosts, in order.
---@return string[] lines
function World:effects() return configs.copy(self.state.effects) end

---What people were told, in order.
---@return string[] texts
function World:told()
  local texts = {}
  for i, message in ipairs(self.state.told) do
    texts[i] = message.title and ("%s: %s"):format(message.title, message.text) or message.text
  end
  return texts
end

---What happened so far, for people.
---@return string[] lines
function World:story()
  local lines = {}
  for i, entry in ipairs(self.log) do lines[i] = ("%s  %s"):format(time.iso(entry.at), entry.text) end
  return lines
end

---How many places there were where a host may die, how many effects, and which one was disturbed.
---@return {kills: integer, effects: integer, disturbed?: string}
function World:places()
  return { kills = self.outside.kills, effects = self.outside.count, disturbed = self.outside.disturbed }
end

return M
