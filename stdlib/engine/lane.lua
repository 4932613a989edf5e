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
local RUN_DEADLINE <const> = 4 * 3600

-- Failures of the weather, not of the change: worth another try.
local PASSING <const> = {
  timeout = true, refused = true, unreachable = true, dns = true, reset = true, closed = true, busy = true,
  rate_limited = true, io = true, full = true,
}

---@class Lane
---@field engine table
---@field place Place
---@field active boolean
---@field resting boolean Only waits for a moment to try again.
---@field running? {row: table, progress?: RunProgress, step?: string, task: Task, steps?: Steps}
---@field wake Signal
local Lane = {}
Lane.__index = Lane

---@param engine table
---@param place Place
---@return Lane
function M.new(engine, place)
  return setmetatable({ engine = engine, place = place, active = false, resting = false, wake = task.signal() }, Lane)
end

---Makes the lane look for work.
function Lane:kick()
  if self.active then
    self.wake:notify()
    return
  end
  self.active = true
  task.start({ name = "lane " .. self.place.app.name, detached = true }, function()
    local guard <close> = setmetatable({}, { __close = function()
      self.active, self.resting = false, false
      self.engine.idle:notify()
    end })
    while guard and self:work() do end
  end)
end

-- Does the next thing; false when there is nothing to do now.
function Lane:work()
  local engine, place = self.engine, self.place
  if engine.draining then return false end
  local held = engine.journal:hold_of(place.app.name, place.environment) and place.config.policy or nil
  local row = engine.journal:next_run(place.app.name, place.environment, held)
  if not row then return false end
  if row.state == "queued" then
    local wait = row.not_before and row.not_before - time.now() or 0
    if wait > 0 then
      if engine.once_only then return false end
      self.resting = true -- until the wait is over or somebody kicks
      self.wake:wait(wait)
      self.resting = false
      return true
    end
  end
  self:execute(row)
  return true
end

-- The policy to run with: for a run that began before, the text it began with.
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

function Lane:event(row, event)
  event.app, event.environment, event.run = row.app, row.environment, row.id
  self.engine:emit(event)
end

-- Entries of the run's log are also events for whoever watches the host.
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

---@async
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
  engine.journal:begin(row, compiled.hash, compiled.name, compiled.text)
  local writer = runlog.writer(engine.state, row.id)
  local emit = self:emitter(row, writer)
  local pump <close> = task.spawn(function() writer:pump() end)
  assert(pump)
  self.running = { row = row }
  emit { kind = "run", level = "info", phase = "begin", text = ("run %d%s: %s"):format(row.id, row.attempts > 0 and " goes on" or "", row.title) }
  engine:report(place, row, "running")
  local limits = { name = "run " .. row.id, cpu = policy.RUN_LIMITS.cpu, memory = policy.RUN_LIMITS.memory }
  self.running.task = task.start(limits, function()
    local journaled = steps.new {
      journal = engine.journal, run = row.id, emit = emit, stopping = function() return engine.stopping end,
    }
    self.running.steps = journaled
    local run = run_words.new(row, place, journaled, engine.world, self:hooks(row, emit))
    local ok, err = pcall(task.deadline, RUN_DEADLINE, run_words.execute, compiled, run)
    if journaled.diverged then error(journaled.diverged, 0) end -- also when the policy swallowed it
    if not ok then error(err, 0) end
    return true
  end)
  local ok, err = self.running.task:join()
  local state = ok and "done" or errors.is(err, "diverged") and "diverged" or "failed"
  if not ok and engine.stopping then
    engine.journal:park(row.id)
    emit { kind = "note", level = "info", text = "parked: it goes on when the host starts again" }
  else
    emit {
      kind = "run", level = ok and "info" or "error", phase = "end", elapsed = time.monotonic() - started,
      text = ok and "done: " .. row.title or ("%s: %s"):format(state, tostring(err)),
      error = not ok and errors.plain(err) or nil,
    }
    self:finish(row, state, not ok and err or nil, started)
  end
  self.running = nil
  writer:flush()
end

---@async
function Lane:finish(row, state, err, started)
  local engine, place = self.engine, self.place
  local retry
  if state == "failed" and PASSING[err.code] and not err.release and row.try < MAX_TRIES then
    retry = { not_before = time.now() + FIRST_RETRY * 2 ^ (row.try - 1) }
  end
  local again = engine.journal:finish(row, state, err, retry)
  self:event(row, {
    at = time.now(), event = "run", level = state == "done" and "info" or "error", phase = "end", state = state,
    text = state == "done" and row.title or tostring(err), elapsed = time.monotonic() - started,
    error = err and errors.plain(err) or nil,
  })
  engine.counters.runs[state] = (engine.counters.runs[state] or 0) + 1
  engine:report(place, row, state, err, again)
  if state ~= "done" then engine:release_failed(place) end
  log.debug("run ended", { run = row.id, state = state })
end

return M
