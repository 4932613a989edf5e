-- One attempt at a run: from its recorded beginning to its recorded end, or to where the host parks it. A run that
-- failed has the rollback policy asked at once.
--
-- A run keeps the policy text and the edition that it started with. Each attempt is counted before it begins; a run
-- that crashed the host three times is quarantined.
local errors, log, policy = require "errors", require "log", require "policy.load"
local run_words, runlog, steps = require "policy.run", require "engine.runlog", require "policy.steps"
local task, time = require "task", require "time"
local view = require "journal.view"

local M = {}

local MAX_ATTEMPTS <const> = 3
local FIRST_RETRY <const> = 10 -- seconds, doubling
local STANDSTILL <const> = 4 * 3600 -- seconds in which no step begins or ends; sleeping does not count
local LOOK <const> = 3600 -- seconds after which a wait for people checks again

M.LONGEST_RETRY = 300

---@class Attempt
---@field lane Lane
---@field engine table
---@field place Place
---@field row table The run.
---@field task? Task The policy's.
---@field steps Steps Set when its policy begins.
---@field begun? boolean Its beginning is recorded, its end is not.
---@field step? string
---@field progress? RunProgress
---@field verdict? {state: RunState, err: Err} How it ends, by an operator's order.
---@field cancelled? boolean The host stops.
---@field held? string Who holds the place, while it waits for that to end.
---@field resting integer Branches that wait for people.
---@field wanting integer Branches that wait for the lane's turn.
local Attempt = {}
Attempt.__index = Attempt

---@param lane Lane
---@param row table
---@return Attempt
function M.new(lane, row)
  return setmetatable({
    lane = lane, engine = lane.engine, place = lane.place, row = row, resting = 0, wanting = 0,
  }, Attempt)
end

---Whether it only waits, for time, people or a build: others may have their turn meanwhile.
---@return boolean
function Attempt:idle() return self.wanting == 0 and self.steps ~= nil and self.steps:idle() end

---Whether it waits for people and for nothing else.
---@return boolean
function Attempt:rests() return self.resting > 0 and self:idle() and self.steps.waiting == self.resting end

---Ends it by an operator's order.
---@param state RunState
---@param err Err Who or what ended it.
function Attempt:stop(state, err)
  self.verdict = self.verdict or { state = state, err = err }
  if self.task then self.task:cancel() end
end

-- ---- what its steps ask for ----

local function counted(object, field)
  object[field] = object[field] + 1
  return task.defer(function() object[field] = object[field] - 1 end)
end

---Waits until it is this run's turn, if others had theirs while it waited.
---@async
function Attempt:take()
  local lane = self.lane
  if lane.holder == self then return end
  local sleeping <close> = self.steps:counting "sleeping"
  local wanting <close> = counted(self, "wanting")
  lane:look()
  while lane.holder ~= self and sleeping and wanting do lane.wake:wait() end
end

---Its branches only wait, from now on.
function Attempt:paused() self.lane:look() end

---Waits for people: until something changed at the place, or the seconds are over.
---@async
---@param seconds number
function Attempt:rest(seconds)
  local resting <close> = counted(self, "resting")
  local sleeping <close> = self.steps:counting "sleeping"
  local waiting <close> = self.steps:counting "waiting"
  self.engine.idle:notify()
  if resting and sleeping and waiting then self.lane.news:wait(seconds) end
end

-- Who holds the place against this run. Orders of people and rollbacks pass, and so does a policy that held it itself.
local function hold_against(self)
  local row = self.row
  if row.kind ~= "change" then return nil end
  local hold = self.engine.journal:hold_of(row.app, row.environment)
  return hold and hold.by ~= "policy " .. row.policy and hold or nil
end

---Waits while the place is held.
---@async
function Attempt:unheld()
  local journal, hold = self.engine.journal, hold_against(self)
  if not hold then return end
  local why = require("journal.words").hold(hold)
  self.emit { kind = "note", level = "info", text = "stopped before its next effect: " .. why }
  journal:park(self.row.id) -- a host that dies meanwhile says nothing about it
  self.held = hold.by
  local _ <close> = task.defer(function() self.held = nil end)
  repeat self:rest(LOOK) until not hold_against(self)
  journal:unpark(self.row.id)
  self.emit { kind = "note", level = "info", text = "no longer held: it goes on" }
end

-- ---- the attempt ----

---The policy to run with: for a run that began before, the text it began with.
---@param row table The run.
---@return Policy? compiled
---@return Err? problem
---@return_overload nil, Err
function Attempt:policy_of(row)
  local current = self.engine.policies[row.policy]
  if not row.policy_hash then
    if not current and row.kind ~= "rollback" then -- renamed since
      current = self.engine.policies[self.place.config.policy]
    end
    if current then return current end
    return nil, errors.new("not_found", ("the policy '%s' is gone"):format(row.policy), { op = "run" })
  end
  if current and current.hash == row.policy_hash and (not row.file or current.file == row.file) then return current end
  local text, name, modules = self.engine.journal:policy_text(row.policy_hash)
  if not text then
    return errors.fail("diverged", "the text of the policy that this run started with is not in the journal")
  end
  local compiled, fault = policy.compile(name, text, row.file or "scripts/" .. name .. ".lua", { modules = modules })
  if not compiled then ---@cast fault Fault
    return errors.fail("diverged", "the policy that this run started with no longer loads: " .. fault.message)
  end
  return compiled
end

local function tell(engine, row, event)
  event.app, event.environment, event.run = row.app, row.environment, row.id
  engine:emit(event)
end

---Entries of the run's log are also events.
---@private
function Attempt:emitter(writer)
  return function(entry)
    entry.at = time.now()
    if entry.kind == "step" then self.step, self.progress = entry.step, nil end
    writer:add(entry)
    if entry.kind == "run" and entry.phase == "end" then return end -- finish reports it, with the state
    tell(self.engine, self.row, {
      at = entry.at, event = entry.kind == "note" and "note" or entry.kind, level = entry.level, text = entry.text,
      step = entry.step, phase = entry.phase, recorded = entry.recorded, elapsed = entry.elapsed, error = entry.error,
    })
  end
end

---@private
function Attempt:hooks()
  return {
    output = function(stream, line)
      self.emit { kind = "output", level = "info", stream = stream, text = line, step = self.step }
    end,
    progress = function(text, done, total)
      self.progress = { text = text, done = done, total = total }
      tell(self.engine, self.row,
        { at = time.now(), event = "progress", level = "debug", text = text, progress = self.progress })
    end,
  }
end

-- Waits for the end of a run, and ends one that stands still.
local function ended(self)
  local stuck
  while true do
    self.task:join(600)
    if self.task:done() then break end
    local journaled = self.steps
    if journaled and journaled.sleeping == 0 and time.monotonic() - journaled.moved > STANDSTILL then
      stuck = true
      self.task:cancel()
    end
  end
  local ok, err = self.task:join()
  if stuck then return nil, errors.new("deadline", "nothing moved for hours", { op = "run" }) end
  return ok, not ok and errors.clean(err) or nil
end

---@private
function Attempt:finish(state, err, started) M.finish(self.engine, self.place, self.row, state, err, started) end

-- The policy's task: its result is whether the policy did its work.
local function perform(self, compiled, edition, settings)
  local engine = self.engine
  local function stopping() return engine.stopping end
  self.steps = steps.new {
    journal = engine.journal, run = self.row.id, edition = edition, emit = self.emit, turn = self,
    stopping = stopping, acting = function() return engine.lead:acting() end,
  }
  local run = run_words.new(self.row, self.place, {
    steps = self.steps, world = engine.world, journal = engine.journal, lead = engine.lead, hooks = self:hooks(),
    patience = engine.patience, stopping = stopping, settings = settings,
    released = function(release) engine:released(self.place, release) end,
  })
  local ok, err = xpcall(run_words.execute, policy.raised, compiled, run)
  local over = self.verdict and self.verdict.err or self.steps.over
  if over then error(over, 0) end -- also when the policy swallowed it
  if not ok then error(err, 0) end
  return true
end

-- How it ended, unless the host was stopped meanwhile.
local function state_of(self, ok, err)
  if ok then return "done" end
  if self.verdict then return self.verdict.state, self.verdict.err end
  if self.steps and self.steps.superseded then return "superseded", err end
  return errors.is(err, "diverged") and "diverged" or "failed", err
end

---Makes the attempt.
---@async
---@param turn boolean The lane's turn is this run's.
function Attempt:execute(turn)
  local engine, row, started = self.engine, self.row, time.monotonic()
  if row.attempts >= MAX_ATTEMPTS then
    local text = "the host ended %d times while it worked on this; it is set aside until its source moves"
    return self:finish("quarantined", errors.new("failed", text:format(row.attempts)), started)
  end
  local compiled, problem = self:policy_of(row)
  if self.verdict then return self:finish(self.verdict.state, self.verdict.err, started) end
  if not compiled then
    return self:finish(problem.code == "diverged" and "diverged" or "failed", problem, started)
  end
  local settings
  if not row.policy_hash then
    settings, problem = self.place:settings_for(compiled)
    if not settings then return self:finish("failed", problem, started) end
  end
  local edition
  edition, settings = engine.journal:begin(row, compiled, steps.EDITION, turn, settings)
  if not edition then return end
  self.begun = true
  local writer = runlog.writer(engine.journal.dir, row.id)
  self.emit = self:emitter(writer)
  local pump <close> = task.spawn(function() writer:pump() end)
  assert(pump)
  self.emit {
    kind = "run", level = "info", phase = "begin",
    text = ("run %d%s: %s"):format(row.id, row.attempts > 0 and " goes on" or "", row.title),
  }
  engine:report(self.place, row, "running")
  local limits = { name = "run " .. row.id, cpu = policy.RUN_LIMITS.cpu, memory = policy.RUN_LIMITS.memory }
  self.task = task.start(limits, perform, self, compiled, edition, settings)
  local ok, err = ended(self)
  local broken = self.steps and self.steps.broken
  if broken and not engine.stopping then
    self.emit { kind = "note", level = "error", text = "interrupted: " .. tostring(broken) }
    writer:flush()
    error(broken, 0)
  end
  if engine.stopping and not self.verdict and (not ok or self.cancelled) then
    engine.journal:park(row.id)
    self.emit { kind = "note", level = "info", text = "parked: it goes on when the host starts again" }
  else
    local state
    state, err = state_of(self, ok, err)
    for line in (err and err.traceback or ""):gmatch("[^\n]+") do
      self.emit { kind = "output", level = "info", stream = "stderr", text = line }
    end
    self.emit {
      kind = "run", level = (ok or state == "superseded") and "info" or "error", phase = "end",
      elapsed = time.monotonic() - started,
      text = ok and "done: " .. row.title or ("%s: %s"):format(state, view.failure(row, state, err)),
      error = not ok and errors.plain(err) or nil,
    }
    writer:flush() -- so that the log is whole before the end is visible
    self:finish(state, not ok and err or nil, started)
  end
  self.begun = nil
  writer:flush()
end

---Records how a run ended, and reports it.
---@async
---@param engine table
---@param place Place
---@param row table The run.
---@param state RunState
---@param err? Err
---@param started number Monotonic.
function M.finish(engine, place, row, state, err, started)
  local retry
  if state == "failed" and errors.passing(err) then
    retry = { not_before = time.now() + math.min(FIRST_RETRY * 2 ^ (row.try - 1), M.LONGEST_RETRY) }
  end
  local again = engine.journal:finish(row, state, err, retry)
  tell(engine, row, {
    at = time.now(), event = "run", phase = "end", state = state,
    level = (state == "done" or state == "superseded") and "info" or "error",
    text = state == "done" and row.title or tostring(err), elapsed = time.monotonic() - started,
    error = err and errors.plain(err) or nil,
  })
  engine.counters.runs[state] = (engine.counters.runs[state] or 0) + 1
  engine:report(place, row, state, err, again)
  if state ~= "done" and state ~= "superseded" then engine:ask_rollback(place) end
  log.debug("run ended", { run = row.id, state = state })
end

return M
