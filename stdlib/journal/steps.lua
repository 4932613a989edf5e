-- The steps of runs: intent before, outcome after.
--
-- Intents are synced before their effects begin; outcomes and values ride on the next sync.
local time = require "time"

---@class (partial) Journal
local Steps = {}

---@param run integer
---@param path string
---@return table? step
function Steps:step(run, path)
  return self:row([[SELECT name, args, state, result, error, attempts, started_at FROM steps
    WHERE run = ? AND path = ?]], run, path)
end

---Records the intent; synced.
---@param run integer
---@param path string
---@param name string
---@param args string JSON.
function Steps:intend(run, path, name, args)
  self:synced("intent", function()
    self:write([[INSERT INTO steps (run, path, name, args, state, attempts, started_at)
      VALUES (?1, ?2, ?3, ?4, 'started', 1, ?5) ON CONFLICT DO UPDATE SET attempts = attempts + 1]],
      run, path, name, args, time.now())
    return true
  end)
end

---Records the outcome of an intended step.
---@param run integer
---@param path string
---@param state string "ok" or "failed".
---@param result? string JSON.
---@param err? string JSON.
---@param seq? integer In the order of the run's waits.
function Steps:outcome(run, path, state, result, err, seq)
  self:lazily("outcome", function()
    self:write([[UPDATE steps SET state = ?, result = coalesce(?, result), error = ?, seq = ?, ended_at = ?
      WHERE run = ? AND path = ?]], state, result, err, seq, time.now(), run, path)
    return true
  end)
end

---Records a value that costs nothing to take (the time, a random number, a row of our own): intent and outcome in one.
---@param run integer
---@param path string
---@param name string
---@param args string JSON.
---@param take fun(): string The value as JSON; what it writes into the journal belongs to it.
---@param seq? integer In the order of the run's waits.
---@return string json
function Steps:value(run, path, name, args, take, seq)
  return self:lazily("value", function()
    local value = take()
    self:write([[INSERT INTO steps (run, path, name, args, state, result, attempts, started_at, ended_at, seq)
      VALUES (?1, ?2, ?3, ?4, 'ok', ?5, 1, ?6, ?6, ?7)]], run, path, name, args, value, time.now(), seq)
    return value
  end)
end

---Records the beginning of a wait, with the moment when it is over: a sleep, a deadline.
---@param run integer
---@param path string
---@param name string
---@param args string JSON.
---@param value string JSON.
function Steps:await(run, path, name, args, value)
  self:lazily("value", function()
    self:write([[INSERT INTO steps (run, path, name, args, state, result, attempts, started_at)
      VALUES (?, ?, ?, ?, 'started', ?, 1, ?)]], run, path, name, args, value, time.now())
    return true
  end)
end

---What a run waits for by a step of a name.
---@param run integer
---@param name string
---@return string? args JSON: what the step was asked; nil: it does not wait by one.
function Steps:waits_for(run, name)
  local row = self:row("SELECT args FROM steps WHERE run = ? AND name = ? AND state = 'started' LIMIT 1", run, name)
  return row and row.args
end

---Keeps what a step that is under way has seen so far.
---@param run integer
---@param path string
---@param value string JSON.
function Steps:note(run, path, value)
  self:lazily("note", function()
    self:write("UPDATE steps SET result = ? WHERE run = ? AND path = ?", value, run, path)
    return true
  end)
end

---How the waits of a run ended, in their order.
---@param run integer
---@return {path: string, name: string, error?: string, seq: integer}[]
function Steps:script(run)
  return self:rows("SELECT path, name, error, seq FROM steps WHERE run = ? AND seq IS NOT NULL ORDER BY seq", run)
end

---All steps of a run, in the order they began.
---@param run integer
---@return table[] steps
function Steps:steps(run)
  return self:rows([[SELECT path, name, args, state, result, error, attempts, started_at, ended_at FROM steps
    WHERE run = ? ORDER BY started_at, path]], run)
end

---What the steps of a run gave that made or named an image.
---@param run integer
---@return {result?: string}[] steps result: as JSON.
function Steps:images_of_run(run)
  return self:rows("SELECT result FROM steps WHERE run = ? AND name IN ('image', 'release')", run)
end

---What the runs of an app built or found.
---@param app string
---@return {result?: string}[] steps result: as JSON.
function Steps:images_of_app(app)
  return self:rows([[SELECT result FROM steps WHERE name = 'image' AND state = 'ok'
    AND run IN (SELECT id FROM runs WHERE app = ?)]], app)
end

return Steps
