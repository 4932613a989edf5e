-- Lanes: one for each place, working on its runs one at a time, in order.
--
-- An interrupted run goes first and finishes with the policy text it started with. Each attempt is counted before it
-- is made; the fourth is not made: what crashed the host three times is quarantined.
local errors, log, policy, run_words, runlog, steps, task, time = require "errors", require "log", require "policy",
  require "run", require "engine.runlog", require "steps", require "task", require "time"

local M = {}

local MAX_ATTEMPTS <const> = 3
local MAX_TRIES <const> = 5
local FIRST_RETRY <const> = 10 -- seconds, doubling
local LONGEST_RETRY <const> = FIRST_RETRY * 2 ^ (MAX_TRIES - 2)
local STANDSTILL <const> = 4 * 3600 -- seconds in which no step begins or ends; sleeping does not count
local PAUSE <const> = 10 -- seconds after a failure of our own, such as a journal on a full disk

---@class Lane
---@field engine table
---@field place Place
---@field active boolean
---@field resting boolean Only waits for a moment to try again.
---@field asked boolean Somebody kicked since the lane last looked for work.
---@field begun? integer The run under way, from its recorded beginning to its recorded end.
---@field interrupted? integer The run that the journal's failure stopped: the attempt does not count.
---@field running? {row: table, progress?: RunProgress, step?: string, task: Task, steps?: Steps, cancelled?: boolean}
---@field wake Signal
local Lane = {}
Lane.__index = Lane

---@param engine table
---@param place Place
---@return Lane
function M.new(engine, place)
  return setmetatable({
    engine = engine, place = place, active = false, resting = false, asked = false, wake = task.signal(),
  }, Lane)
end

---Makes the lane look for work.
function Lane:kick()
  self.asked = true
  if self.active then
    self.wake:notify()
    return
  end
  self.active = true
  task.start({ name = "lane " .. self.place.app.name, detached = true }, function()
    local guard <close> = setmetatable({}, { __close = function()
      self.active, self.resting = false, false
      self.engine.idle:notify()
      if self.asked and not self.engine.draining then self:kick() end -- while it was about to end
    end })
    repeat
      self.asked = false
      while guard and self:turn() do end
    until not self.asked
  end)
end

---Waits until the seconds are over or somebody kicks.
---@private
function Lane:rest(seconds)
  if self.engine.once_only then return false end
  self.resting = true
  self.wake:wait(seconds)
  self.resting = false
  return true
end

---Does the next thing. A failure of our own (the journal's disk is full) ends neither the lane nor the run: it goes on
---from the journal when that works again.
---@private
function Lane:turn()
  local ok, more = pcall(self.work, self)
  if ok then return more end
  if errors.is(more) and tostring(more.op):find("^store%.") then self.interrupted = self.begun end
  if errors.is(more) and rawget(more, "fenced") then self.engine:abandon(more) end
  self.begun, self.running = nil, nil
  if self.engine.draining or errors.is(more, "cancelled") then return false end
  local where = self.place.app.name .. " " .. self.place.environment
  self.engine:trouble(("%s stopped, and goes on in %d s"):format(where, PAUSE), more)
  return self:rest(PAUSE)
end

---Does the next thing; false when there is nothing to do now.
---@private
function Lane:work()
  local engine, place = self.engine, self.place
  if engine.draining or not engine:acting() then return false end
  local app = engine.config.apps[place.app.name]
  if not app or not app.environments[place.environment] then return false end -- a reload took it away
  if self.interrupted then
    engine.journal:park(self.interrupted)
    self.interrupted = nil
  end
  local held = engine.journal:hold_of(place.app.name, place.environment) and place.config.policy or nil
  local row = engine.journal:next_run(place.app.name, place.environment, held)
  if not row then return false end
  if row.state == "queued" then
    local wait = row.not_before and row.not_before - time.now() or 0
    if wait > LONGEST_RETRY then wait = 0 end -- the clock was set back
    if wait > 0 then return self:rest(wait) end
  end
  self:execute(row)
  return true
end

---The policy to run with: for a run that began before, the text it began with.
---@private
function Lane:policy_of(row)
  local current = self.engine.policies[row.policy]
  if not row.policy_hash then
    if current then return current end
    return nil, errors.new("not_found", ("the policy '%s' is gone"):format(row.policy), { op = "run" })
  end
  if current and current.hash == row.policy_hash then return current end
  local text, name = self.engine.journal:policy_text(row.policy_hash)
  if not text then
    return errors.fail("diverged", "the text of the policy that this run started with is not in the journal")
  end
  local compiled, fault = policy.compile(name, text, "scripts/" .. name .. ".lua")
  if not compiled then
    return errors.fail("diverged", "the policy that this run started with no longer loads: " .. fault.message)
  end
  return compiled
end

---@private
function Lane:event(row, event)
  event.app, event.environment, event.run = row.app, row.environment, row.id
  self.engine:emit(event)
end

---Entries of the run's log are also events for whoever watches the host.
---@private
function Lane:emitter(row, writer)
  return function(entry)
    entry.at = time.now()
    if self.running and entry.kind == "step" then
      self.running.step, self.running.progress = entry.step, nil
    end
    writer:add(entry)
    if entry.kind == "run" and entry.phase == "end" then return end -- finish tells it, with the state
    self:event(row, {
      at = entry.at, event = entry.kind == "note" and "note" or entry.kind, level = entry.level, text = entry.text,
      step = entry.step, phase = entry.phase, recorded = entry.recorded, elapsed = entry.elapsed, error = entry.error,
    })
  end
end

---@private
function Lane:hooks(row, emit)
  return {
    output = function(stream, line)
      local step = self.running and self.running.step
      emit { kind = "output", level = "info", stream = stream, text = line, step = step }
    end,
    progress = function(text, done, total)
      local progress = { text = text, done = done, total = total }
      if self.running then self.running.progress = progress end
      self:event(row, { at = time.now(), event = "progress", level = "debug", text = text, progress = progress })
    end,
  }
end

-- Waits for the end of a run, and ends one that stands still.
local function ended(running)
  while true do
    running.task:join(600)
    if running.task:done() then break end
    local journaled = running.steps
    if journaled and journaled.sleeping == 0 and time.monotonic() - journaled.moved > STANDSTILL then
      running.stuck = true
      running.task:cancel()
    end
  end
  local ok, err = running.task:join()
  if running.stuck then return nil, errors.new("deadline", "nothing moved for hours", { op = "run" }) end
  return ok, not ok and errors.clean(err) or nil
end

---@async
---@param row table The run.
function Lane:execute(row)
  local engine, place = self.engine, self.place
  local started = time.monotonic()
  if row.attempts >= MAX_ATTEMPTS then
    local text = "the host ended %d times while it worked on this; it is set aside until its source moves"
    return self:finish(row, "quarantined", errors.new("failed", text:format(row.attempts)), started)
  end
  local compiled, problem = self:policy_of(row)
  if not compiled then
    return self:finish(row, problem.code == "diverged" and "diverged" or "failed", problem, started)
  end
  local edition = engine.journal:begin(row, compiled.hash, compiled.name, compiled.text, steps.EDITION)
  if not edition then return end
  self.begun = row.id
  local writer = runlog.writer(engine.state, row.id)
  local emit = self:emitter(row, writer)
  local pump <close> = task.spawn(function() writer:pump() end)
  assert(pump)
  self.running = { row = row }
  emit {
    kind = "run", level = "info", phase = "begin",
    text = ("run %d%s: %s"):format(row.id, row.attempts > 0 and " goes on" or "", row.title),
  }
  engine:report(place, row, "running")
  local limits = { name = "run " .. row.id, cpu = policy.RUN_LIMITS.cpu, memory = policy.RUN_LIMITS.memory }
  self.running.task = task.start(limits, function()
    local journaled = steps.new {
      journal = engine.journal, run = row.id, edition = edition, emit = emit,
      stopping = function() return engine.stopping end, acting = function() return engine:acting() end,
    }
    self.running.steps = journaled
    local run = run_words.new(row, place, journaled, engine.world, self:hooks(row, emit))
    local ok, err = pcall(run_words.execute, compiled, run)
    local over = self.running.verdict or journaled.over
    if over then error(over, 0) end -- also when the policy swallowed it
    if not ok then error(err, 0) end
    return true
  end)
  local ok, err = ended(self.running)
  local state = ok and "done" or errors.is(err, "diverged") and "diverged" or "failed"
  if not ok and self.running.verdict then state, err = "cancelled", self.running.verdict end
  if not ok and self.running.steps and self.running.steps.superseded then state = "superseded" end
  local broken = self.running.steps and self.running.steps.broken
  if broken and not engine.stopping then
    emit { kind = "note", level = "error", text = "interrupted: " .. tostring(broken) }
    writer:flush()
    error(broken, 0)
  end
  if engine.stopping and not self.running.verdict and (not ok or self.running.cancelled) then
    engine.journal:park(row.id)
    emit { kind = "note", level = "info", text = "parked: it goes on when the host starts again" }
  else
    emit {
      kind = "run", level = (ok or state == "superseded") and "info" or "error", phase = "end",
      elapsed = time.monotonic() - started,
      text = ok and "done: " .. row.title or ("%s: %s"):format(state, tostring(err)),
      error = not ok and errors.plain(err) or nil,
    }
    writer:flush() -- whoever sees that it ended finds why in its log
    self:finish(row, state, not ok and err or nil, started)
  end
  self.begun, self.running = nil, nil
  writer:flush()
end

---Ends a run by order of a person: one that waits at once, one that is under way when its effect has let go.
---@async
---@param row table The run.
---@param err Err Who said so.
function Lane:cancel(row, err)
  local running = self.running
  if not running or running.row.id ~= row.id then return self:finish(row, "cancelled", err, time.monotonic()) end
  running.verdict = running.verdict or err
  if running.task then running.task:cancel() end
end

---@async
---@param row table The run.
---@param state RunState
---@param err? Err
---@param started number Monotonic.
function Lane:finish(row, state, err, started)
  local engine, place = self.engine, self.place
  local retry
  if state == "failed" and errors.passing(err) and not err.release and row.try < MAX_TRIES then
    retry = { not_before = time.now() + FIRST_RETRY * 2 ^ (row.try - 1) }
  end
  local again = engine.journal:finish(row, state, err, retry)
  self:event(row, {
    at = time.now(), event = "run", phase = "end", state = state,
    level = (state == "done" or state == "superseded") and "info" or "error",
    text = state == "done" and row.title or tostring(err), elapsed = time.monotonic() - started,
    error = err and errors.plain(err) or nil,
  })
  engine.counters.runs[state] = (engine.counters.runs[state] or 0) + 1
  engine:report(place, row, state, err, again)
  if state ~= "done" and state ~= "superseded" then engine:release_failed(place) end
  log.debug("run ended", { run = row.id, state = state })
end

return M
