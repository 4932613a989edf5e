-- Accepting: a judgement goes into the journal, and people hear what is new of it. The last of the three parts of a
-- decision, and the only one with effects.
--
-- An answer that changes nothing writes nothing: what was said before is kept in memory and compared.
local log, time = require "log", require "time"

local M = {}

local MAX_SILENT <const> = 1000 -- subjects of a policy that are remembered when it says nothing of them any more

-- What a policy said of each subject last; after a restart as the journal has it.
local function said_of(engine, place, name)
  local unit = place.app.name .. "/" .. place.environment .. "/" .. name
  local said = engine.said[unit]
  if said then return said end
  said = {}
  for _, row in ipairs(engine.journal:last_decisions(place.app.name, place.environment, name)) do
    said[row.subject] = {
      verdict = row.verdict, reason = row.reason, file = row.file, line = row.line, since = row.at, at = row.at,
      count = 1,
    }
  end
  engine.said[unit] = said
  return said
end

local function same(a, b) return a and a.verdict == b.verdict and a.reason == b.reason end

-- Brings what was said up to date; returns what differs.
local function compare(said, decisions, place, name)
  local fresh, now, mentioned = {}, time.now(), {}
  for _, d in ipairs(decisions) do
    d.reason = log.redact(d.reason)
    mentioned[d.subject] = true
    local last = said[d.subject]
    if same(last, d) then
      last.at, last.count, last.current = now, last.count + 1, true
    else
      d.at, d.since, d.count, d.current = now, now, 1, true
      d.app, d.environment, d.policy = place.app.name, place.environment, name
      said[d.subject] = d
      fresh[#fresh + 1] = d
    end
  end
  local silent = 0
  for subject, d in pairs(said) do
    if not mentioned[subject] then
      d.current = false
      silent = silent + 1
      if silent > MAX_SILENT then said[subject] = nil end
    end
  end
  return fresh
end

-- Writes and tells what differs from what was said last.
local function record(engine, place, name, decisions)
  local fresh = compare(said_of(engine, place, name), decisions, place, name)
  if #fresh > 0 then engine.journal:decide(fresh) end
  for _, d in ipairs(fresh) do
    if d.verdict == "refused" or d.verdict == "error" then
      engine:emit {
        at = d.at, event = "decision", level = (d.alarm or d.verdict == "error") and "warn" or "info", app = d.app,
        environment = d.environment, text = (d.subject ~= "" and d.subject .. " refused: " or "") .. d.reason,
      }
    end
    if d.alarm then engine:alarm(place, d) end
  end
end

-- A change becomes a run.
local function begin(engine, place, compiled, change)
  local run, superseded = engine.journal:accept(change, compiled.queue == "latest")
  engine:lane(place):kick() -- before anything else can fail: nobody looks at this key again
  local why = change.reason and " (" .. change.reason .. ")" or ""
  local older = superseded > 0 and (", %d older waiting changes superseded"):format(superseded) or ""
  engine:emit {
    at = time.now(), event = "change", level = "info", app = change.app, environment = change.environment, run = run,
    text = (change.title or change.key) .. why .. older,
  }
  return run
end

---Makes a judgement true.
---@param engine table
---@param place Place
---@param compiled Policy
---@param judgement Judgement
---@return integer? run That its change became.
function M.accept(engine, place, compiled, judgement)
  local run
  if judgement.change then
    run = begin(engine, place, compiled, judgement.change)
  elseif judgement.seen then
    engine.journal:seen({ app = place.app.name, environment = place.environment }, compiled.name, judgement.seen.key)
  end
  record(engine, place, compiled.name, judgement.decisions)
  return run
end

return M
