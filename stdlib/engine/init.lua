-- The engine: the way of a commit, from the poll to the report. It decides nothing: policies do.
--
-- poller.lua observes an app's source (observe.lua) and has each of its policies decide (decide.lua): ask.lua asks one,
-- judge.lua judges its answer, accept.lua makes a run of it. lane.lua gives the runs of a place their turns and
-- attempt.lua performs one; tell/reporter.lua reports it. Whatever is outside is opened by world.lua; leadership.lua
-- says whether this host may act. What people order is in actions.lua, approvals.lua and orders.lua, what they ask in
-- queries.lua. watcher.lua sees that a file was saved, reload.lua makes it live.
local errors, fs, journal, log, poller, sys, task, time = require "errors", require "fs", require "journal",
  require "log", require "engine.poller", require "base.sys", require "task", require "time"
local actions, image_removal, lane = require "engine.actions", require "engine.image_removal", require "engine.lane"
local lead = require "engine.leadership"
local reporter, discovery = require "tell.reporter", require "engine.discovery"
local decide, health, outages, suspension = require "engine.decide", require "engine.health", require "engine.outages",
  require "engine.suspension"
local compose, extensions = require "base.compose", require "extensions"
local place, reload, view, world = require "policy.place", require "engine.reload", require "journal.view",
  require "engine.world"

local M = {}

---@class (partial) EngineState: Engine, AtWork
---@field config Config
---@field lock? Lock Of the state folder; nil: the journal was given, and there is none.
---@field load fun(): Config?, Fault[]?
---@field on_event fun(event: Event)
---@field event_log EventLog
---@field places table<string, Place>
---@field hurry table<string, true> Apps that are polled at once.
---@field outages Outages
---@field images ImageRemoval
---@field patience Seconds That a run waits for a target out of reach before it is tried again later.
---@field idle Signal
---@field wake Signal
---@field ended Signal
---@field reloaded Signal
---@field started_at Wall
---@field ready boolean
---@field grace? Seconds
---@field once_only? boolean
---@field tell_last_end fun(self: EngineState)
---@field journal Journal
---@field state string The state folder.
---@field world World
---@field lead Leadership Whether this host may act.
---@field health_checks HealthChecks
---@field reporter Reporter
---@field new_place fun(app: AppConfig, environment: EnvironmentConfig, seen: Seen): Place
---@field draining boolean No new runs and polls.
---@field stopping boolean What still runs is being parked.
---@field leader? fun(): LeaderStatus With several hosts.
---@field before_close? fun() The journal's last moment.
---@field unfinished? boolean Some run did not end when run() did.
---@field follow? fun(before: Config, config: Config): string[] Brings what lies outside of the engine to a new
--- configuration; tells what was done.
local Engine = {}
Engine.__index = Engine

---Loads the policies of a configuration and returns their faults; touches nothing.
---@async
---@param config Config
---@return Fault[] faults
function M.check(config)
  local _, faults = reload.policies(config)
  return faults or {}
end

-- The error of a state folder that cannot be ours.
local function unusable(config, err)
  local words = errors.is(err, "busy")
      and ("another moontide runs on the state folder %s; stop it, or use --state with another one")
        :format(config.state)
    or ("the state folder %s cannot be used: %s; run as a user who may write there, or name another one (--state "
      .. "DIR, or `state` in the configuration)"):format(config.state, err.message)
  return nil, errors.new(err.code, words, { op = "engine.open", target = config.state, cause = err })
end

-- Makes the state folder ours: its lock, which stays ours with the process, and its journal.
---@return Lock? lock
---@return Journal|Err book
local function take_state(config, fresh)
  local ok, err = fs.mkdir(config.state, { parents = true, mode = 448 }) -- 0700
  if not ok then return unusable(config, err) end
  local lock, book
  lock, err = fs.lock(config.state .. "/lock")
  if not lock then return unusable(config, err) end
  book, err = journal.open(config.state, { fresh = fresh })
  if book then return lock, book end
  lock:close()
  return nil, err
end

-- Loads the policies and takes the next generation; raises what is wrong.
local function prepare(book, config, host, options)
  local last_end = not options.journal and suspension.begin(book, config.state) or nil
  local suspensions = suspension.of(book)
  local policies, faults = reload.policies(config, suspensions, options.edited)
  if not policies then
    faults = assert(faults)
    local err = errors.new("invalid", "the policies have faults: " .. faults[1].message, { op = "engine.open" })
    err.faults = faults
    error(err, 0)
  end
  book:take_turn(host, options.generation)
  return { policies = policies, suspensions = suspensions, last_end = last_end }
end

---Opens the state folder and loads the policies. One host at a time may hold a state folder. On a journal that is open
---already there are neither folder nor lock: the journal stays its owner's, and nothing is written elsewhere.
---@async
---@param options EngineOptions
---@return Engine? engine
---@return Err? err busy: another host runs on this state.
---@return_overload nil, Err
function M.open(options)
  local config, host = options.config, options.host or sys.hostname()
  local lock, book = nil, options.journal ---@type Lock?, any
  if not book then
    lock, book = take_state(config, options.fresh)
    if not lock then return nil, book --[[@as Err]] end
  end
  ---@cast book Journal
  local ready, parts = pcall(prepare, book, config, host, options)
  if not ready then
    if lock then
      book:close()
      lock:close()
    end
    return nil, errors.wrap(parts)
  end
  local self = setmetatable({
    policies = parts.policies, suspensions = parts.suspensions, last_end = parts.last_end,
    leader = options.leader, config = config, load = options.load, on_event = options.on_event or function() end,
    lock = lock, journal = book, state = config.state, world = world.of(config, options.world),
    lanes = {}, places = {}, app_states = {}, said = {}, hurry = {}, found = {},
    event_log = require("engine.events").new(),
    app_edition = 1, -- another number: other apps
    world_edition = 1, -- another number: what is outside is opened in another way
    patience = 300, -- seconds that a run waits for a target out of reach before it is tried again later
    counters = { polls = 0, poll_errors = 0, runs = {} }, reloads = { loaded = 0, refused = 0 },
    tests_seen = {},
    idle = task.signal(), wake = task.signal(), ended = task.signal(), reloaded = task.signal(),
    refrozen = task.signal(),
    draining = false, stopping = false, ready = false, started_at = time.now(), loaded_at = time.now(),
  }, Engine)
  book:restore_places(config)
  self.lead = lead.new {
    host = host, journal = book, fence = options.fence, outrank = options.outrank,
    on_lost = function(why) self:lose(why) end,
  }
  self.health_checks = health.new {
    ended = self.ended, observe_again = function(at) self:ask_rollback_again(at) end,
  }
  self.reporter, self.outages = reporter.new(self.world), outages.new(self.world, book)
  self.images = image_removal.new {
    world = self.world, journal = book, lead = self.lead, trouble = function(what, why) self:trouble(what, why) end,
  }
  self.new_place = place.maker {
    folder = options.folder,
    journal = book, world = self.world, health = self.health_checks, suspensions = self.suspensions,
    state = config.state, poll_soon = function(app) self:poll_soon(app) end,
  }
  self.repl_env = { engine = self, config = config, apps = config.apps }
  return self
end

---Gives the state folder back.
function Engine:close()
  if self.before_close then self.before_close() end
  if not self.lock then return end
  task.asked_file(nil)
  self.journal:close()
  self.lock:close()
end

-- ---- what its parts ask for ----

---Emits an event.
---@param event table An Event; its time is now when it has none.
function Engine:emit(event)
  event.at = event.at or time.now()
  event.text = log.redact(event.text)
  self.event_log:add(event)
  self.on_event(event)
end

---Reports an error that belongs to no run or decision.
---@param what string
---@param err any
function Engine:trouble(what, err)
  if errors.is(err) and rawget(err, "fenced") then self.lead:lose(err) end
  local text = ("%s: %s"):format(what, tostring(err))
  self:emit { event = "note", level = "error", text = text, error = errors.plain(err) }
end

---@param name string The app.
---@return table state What polling knows of an app, in memory.
function Engine:app_state(name)
  local state = self.app_states[name]
  if not state then
    state = { polling = false }
    self.app_states[name] = state
  end
  return state
end

---@param app string
---@param environment string
---@return Place
function Engine:place(app, environment)
  local key = app .. "/" .. environment
  if not self.places[key] then
    local config = self.config.apps[app]
    self.places[key] = self.new_place(config, config.environments[environment], self:app_state(app))
  end
  return self.places[key]
end

---@param at Place
---@return Lane
function Engine:lane(at)
  local key = at.app .. "/" .. at.environment
  local found = self.lanes[key]
  if not found then
    found = lane.new(self, at)
    self.lanes[key] = found
  end
  found.place = at -- after a reload the place is a new one
  return found
end

---Forgets what is kept for apps that are gone.
function Engine:tidy()
  for key, l in pairs(self.lanes) do
    local app = self.config.apps[l.place.app]
    local there = app and app.environments[l.place.environment]
    if not there and not l.active and not next(l.runs) then self.lanes[key] = nil end
  end
  discovery.each(self, "tidy")
end

---Emits the event that a release is live.
---@param at Place
---@param id integer The release.
function Engine:released(at, id)
  local r = assert(self.journal:release_by_id(id))
  self:emit {
    event = "note", level = "info", app = at.app, environment = at.environment, run = r.run,
    text = ("%s runs%s (%s)"):format(place.called(r), r.only and " in the part " .. r.only or "", r.digest),
  }
end

---Asks the rollback policy at once instead of at the next poll: a run failed, or a release is unhealthy.
---@async
---@param at Place
function Engine:ask_rollback(at)
  local compiled = at.config.rollback and self.policies[at.config.rollback]
  if not compiled or self.draining then return end
  local ok, err = pcall(decide.decide, self, at, compiled)
  if not ok and not self.stopping then self:trouble("asking the rollback policy failed", err) end
end

---The same some time later, when the host and the configuration may be others.
---@async
---@param at Place
function Engine:ask_rollback_again(at)
  local app = not self.draining and self.config.apps[at.app]
  if app and app.environments[at.environment] then self:ask_rollback(self:place(at.app, at.environment)) end
end

---Polls an app at once: its source is known to have moved.
---@param name string
function Engine:poll_soon(name)
  if not self.config.apps[name] then return end
  self.hurry[name] = true
  self.wake:notify()
end

---Another host acts: no further effect begins, what runs is parked, children end; run() returns the reason.
---@param err Err
function Engine:lose(err)
  self:emit { event = "host", level = "error", text = "stops acting: " .. tostring(err) }
  self:stop(0)
end

---Reports to the forge and the channels how a run began or ended.
---@param at Place
---@param row table The run.
---@param state RunState
---@param err? Err
---@param again? integer The run that tries again.
function Engine:report(at, row, state, err, again)
  if state ~= "running" then self.images:wake() end
  self.reporter:report(at, row, state, err, again)
end

---Notifies people of a decision that needs them.
---@param at Place
---@param decision Decision
function Engine:alarm(at, decision) self.reporter:alarm(at, decision) end

-- ---- what people ask for ----

---Polls one app, or all, right now.
---@async
---@param name? string All apps when there is none.
function Engine:poll(name)
  local apps, ids, failure = {}, {}, nil
  if name and not self.config.apps[name] then return require("base.unknown").app(self.config.app_list, name, "poll") end
  discovery.each(self, "expire") -- once: their answers are shared
  for _, app in ipairs(self.config.app_list) do
    if not name or app.name == name then
      apps[#apps + 1] = app.name
      local source = assert(extensions.get("source", app.follows))
      if source.expire then source.expire(app, self.world) end
      local ok, runs = pcall(poller.poll, self, app)
      if ok then
        table.move(runs, 1, #runs, #ids + 1, ids)
      elseif errors.is(runs, "cancelled") then
        error(runs, 0)
      else
        failure = failure or runs -- the other apps are polled all the same
      end
    end
  end
  if failure then error(failure, 0) end
  local changes = {}
  for i, id in ipairs(ids) do changes[i] = view.run_info(self.journal, assert(self.journal:run_by_id(id))) end
  return { apps = apps, changes = changes }
end

compose(Engine, {
  queries = require "engine.queries", actions = actions.methods, approvals = require "engine.approvals",
  orders = require "engine.orders", reload = reload.methods, freezing = require "engine.freeze",
  suspension = suspension.methods, lifecycle = require "engine.lifecycle",
})

return M
