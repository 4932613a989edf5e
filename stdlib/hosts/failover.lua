-- `moontide run` with `leader`: a standby until it gets the Lease, then the acting host, then a standby again.
--
-- A standby has nothing of the state folder open but its own control socket. When it gets the Lease it opens the state,
-- finishes what the previous host had begun, and polls. When it could not renew in time it stops acting at once: no
-- further effects, runs parked, children ended, state closed, all before the Lease expires; a timer of the kernel ends
-- the process if that does not succeed (sys.deadman). The process itself goes on as a standby: a supervisor would
-- restart it with growing backoff, and it would be missing when the API server comes back.
local errors, proc, sys, task = require "errors", require "proc", require "base.sys", require "task"
local time = require "time"
local extensions, reloading, watcher = require "extensions", require "engine.reload", require "engine.watcher"
local control, leader, handover, standby = require "people.control", require "hosts.leader", require "hosts.handover",
  require "hosts.standby"

local M = {}

local GRACE <const> = 20 -- seconds that runs get when the host is told to stop; a pod has 30 by default
local LOCKED <const> = 120 -- seconds that the lock of a host that is gone may linger on a network file system
local LOCK_PAUSE <const>, LOCK_WORDS <const> = 0.5, 10
local CHILDREN <const> = 2.2 -- seconds from the end of a host to that of its last child (host/guard.c)
local RELEASE <const> = 5
local UNFINISHED <const> = 75 -- exit status, as the dead man's switch has it

---@class HostOptions
---@field config Config
---@field load fun(): Config?, Fault[]?
---@field on_event fun(event: Event)
---@field since? Wall When the configuration began to be read.
---@field next_signal? fun(): string Waits for TERM, INT or HUP.
---@field election? Election
---@field world? World

---@class TurnHost
---@field options HostOptions
---@field config Config
---@field election Election
---@field engine? Engine
---@field lost? Err
---@field stopping boolean
local Host = {}
Host.__index = Host

---Shows what the host itself does.
---@param text string
---@param level? log.Level
function Host:note(text, level)
  self.options.on_event { at = time.now(), event = "host", level = level or "info", text = text }
end

-- ---- signals ----

-- Loads the configuration again, for the next time that this host acts.
local function reload(self, options)
  if self.engine then return self.engine:reload(options) end
  local config, faults, partial = self.options.load()
  self.tried = config or partial
  if config then
    local problems = require("engine").check(config)
    if #problems > 0 then config, faults = nil, problems end
  end
  if not config then
    ---@cast faults Fault[]
    extensions.drop()
    local before = self.standby.reload_faults
    self.standby.reload_faults = faults
    if not (options and options.saved and reloading.same(before, faults)) then
      reloading.tell(self.options.on_event, faults)
    end
    return nil, reloading.refusal(faults)
  end
  extensions.accept()
  local changed = self.control:follow(self.config, config)
  for _, words in ipairs(changed) do self:note(words) end
  self.config, self.standby.config, self.standby.reload_faults = config, config, nil
  return { apps = #config.app_list, policies = 0, changed = changed }
end

local function obey_signals(self)
  local next_signal = self.options.next_signal or sys.next_signal
  while true do
    if next_signal() == "HUP" then
      if reload(self) then self:note("configuration and policies were loaded again") end
    else
      self:note(not self.engine and "stopping" or self.stopping and "stopping at once"
        or "stopping: runs may finish or park")
      local grace = self.stopping and 0 or GRACE
      self.stopping, self.standby.stopping = true, true
      self.election.wake:notify()
      self.changed:notify()
      if self.engine then self.engine:stop(grace) end
    end
  end
end

-- ---- one turn ----

-- When the process must be gone at the latest, so that its children end before another host begins.
local function switch_after(self)
  local e = self.election
  local reserve = math.min(CHILDREN, (e.duration - e.renew) / 2)
  return math.max(0.001, e:left() - reserve)
end

-- What our successor should know stands in the Lease, written with the next renewal.
local function hand_over(self)
  local annotations, engine = self.election.store.annotations, self.engine
  if not annotations or not engine or not self.state_id then return end
  local ok, text = pcall(handover.write, engine.journal, self.state_id)
  if not ok then return engine:trouble("what a successor should know cannot be read", text) end
  annotations[handover.KEY] = text
end

local function keep(self)
  local armed = true
  local err = self.election:keep(function()
    local set = sys.deadman(switch_after(self))
    if armed and not set then
      self:note("the kernel gives this process no timer: should it hang while it leads, nothing ends it in time",
        "error")
    end
    armed = set
    hand_over(self)
  end)
  self.lost = err
  self.changed:notify()
  if self.engine then self.engine.lead:lose(err) end
end

local function open(self)
  local e = self.election
  return require("engine").open {
    config = self.config, fresh = self.options.fresh,
    load = self.options.load, on_event = self.options.on_event, world = self.options.world,
    generation = e.generation, host = e.identity,
    fence = function() return e:acting() end,
    leader = function() return leader.status(e) end,
    outrank = function(generation) return e:raise(generation) and e.generation end,
  }
end

-- Opens the state. The lock of a dead host is gone with its process; that of one on another machine goes when the file
-- server has noticed.
local function take_over(self)
  local began, said = time.monotonic(), 0 ---@type number, number
  while true do
    local engine, err = open(self)
    if engine and (self.lost or self.stopping) then
      engine:close()
      return nil, self.lost or errors.new("cancelled", "told to stop")
    end
    if engine then return engine end
    local waited = time.monotonic() - began
    if not errors.is(err, "busy") or self.lost or self.stopping or waited > LOCKED then return nil, err end
    if waited >= said then
      said = waited + LOCK_WORDS
      self:note(("the state folder %s is still locked by another host; waiting %s more for it"):format(
        self.config.state, time.words(LOCKED - waited)), "warn")
    end
    self.changed:wait(LOCK_PAUSE)
  end
end

-- Nothing of this turn may be left when the next one begins: not even a child without a waiter.
local function settled(engine)
  local last = time.monotonic() + 30 -- the dead man's switch is faster
  while proc.count() > 0 and time.monotonic() < last do time.sleep(0.02) end
  return proc.count() == 0 and not (engine and engine.unfinished)
end

-- From the won election to the standby. Returns why the turn ended badly, if it did.
local function turn(self)
  local e = self.election
  self.lost = nil
  self:note(("leads from now on: %s, generation %d"):format(e.identity, e.generation))
  local left = e.observed.object and e.observed.object.metadata.annotations
  local keeping <close> = task.spawn(keep, self)
  local engine, err = take_over(self)
  if engine then
    self.standby.trouble = nil
    local done, taken = pcall(handover.take, engine.journal, self.config, left)
    if not done then
      engine:trouble("what the host before handed over could not be taken", taken)
    elseif taken > 0 then
      engine:emit { event = "note", level = "info",
        text = ("took over from the host before: holds and bad releases, %d"):format(taken) }
    end
    engine.before_close = function() hand_over(self) end
    self.state_id = require("cluster.rollout.identity").of(self.config.state)
    local generation = engine.journal.generation
    if e.generation < generation then e:raise(generation) end -- the journal knew of later ones
    self.engine = engine
    engine.follow = function(before, now) return self.control:follow(before, now) end
    if self.lost then engine.lead:lose(self.lost) end
    self.control:switch(engine)
    if self.stopping then engine:stop(GRACE) end
    local ok
    ok, err = engine:run()
    if ok then err = nil end
    self.config = engine.config
  end
  self.standby.config = self.config
  self.engine = nil
  self.control:switch(self.standby)
  keeping:cancel()
  if not settled(engine) then return err, true end
  sys.deadman()
  if e.leading then e:release(RELEASE) end
  if e.store.annotations then e.store.annotations[handover.KEY] = nil end -- it would be stale at our next turn
  return err
end

-- ---- all of them ----

local function stand_by(self)
  if self.election:acquire(function() return self.stopping end) then return true end
  return false
end

local function started(options)
  local self = setmetatable({ options = options, config = options.config, stopping = false, changed = task.signal() },
    Host)
  self.election = options.election or leader.open(options.config)
  self.election.on_change = function(holder)
    if holder and holder ~= self.election.identity then self:note("stands by: " .. holder .. " leads") end
    if not holder then self:note("nobody leads") end
  end
  self.standby = standby.new(options.config, self.election)
  self.standby.reload = function() return reload(self) end
  local opened, err = control.open(self.standby, options.config)
  if not opened then return nil, err end
  self.control = opened
  return self
end

---Runs the host until it is told to stop.
---@async
---@param options HostOptions
---@return integer? exit_status
---@return Err? err
---@return_overload nil, Err
function M.run(options)
  local self, err = started(options)
  if not self then return nil, err end
  local signals <close> = task.spawn(obey_signals, self)
  local watching <close> = task.spawn(watcher.run, {
    since = options.since, config = function() return self.config end,
    tried = function() return self.engine and self.engine.tried or self.tried end,
    reload = function() reload(self, { saved = true }) end,
  })
  assert(signals and watching)
  self:note(("stands by as %s"):format(self.election.identity))
  local status = 0
  while not self.stopping do
    if stand_by(self) then
      local problem, unfinished = turn(self)
      if unfinished then
        self:note("what this host did could not be ended in time: the process ends", "error")
        status = UNFINISHED
        break
      end
      if problem and not self.stopping then
        local lost = self.lost ~= nil or problem.op == "leader"
        self:note(lost and "does not lead any more, and stands by: " .. tostring(problem)
          or "could not act and gives the lead back: " .. tostring(problem), "error")
        if not lost then -- another host may succeed before this one tries again
          self.standby.trouble = "the state could not be opened: " .. problem.message
          self.changed:wait(self.election.duration)
        end
      end
    end
  end
  self.control:close()
  return status
end

return M
