-- Accepting: a judgement goes into the journal, and people hear what is new of it. The last of the three parts of a
-- decision, and the only one with effects.
--
-- An answer that changes nothing writes nothing: what was said before is kept in memory and compared.
local judge, time = require "engine.judge", require "time"

local M = {}

local MAX_SILENT <const> = 1000 -- subjects of a policy that are remembered when it says nothing of them any more
local MAX_TOLD <const> = 20     -- decisions that are shown one by one; of more only the number
local PIECE <const> = 100       -- decisions in one transaction
local FULL <const> = 2000       -- written since the journal forgot some

-- What a policy said of each subject last; after a restart as the journal has it.
local function unit_of(engine, place, name)
  local key = place.app.name .. "/" .. place.environment .. "/" .. name
  local unit = engine.said[key]
  if unit then return unit end
  local said = {}
  for _, row in ipairs(engine.journal:last_decisions(place.app.name, place.environment, name)) do
    said[row.subject] = {
      verdict = row.verdict, reason = row.reason, file = row.file, line = row.line, since = row.at, at = row.at,
      count = 1,
    }
  end
  unit = { said = said, written = 0 }
  engine.said[key] = unit
  return unit
end

local function same(a, b) return a and a.verdict == b.verdict and a.reason == b.reason end

-- Brings what was said up to date; returns what differs.
local function compare(said, decisions, place, name)
  local fresh, now, mentioned = {}, time.now(), {}
  for _, d in ipairs(decisions) do
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

-- Writes what differs, a piece at a time. What a policy says anew at each poll does not wait for the housekeeping.
local function write(engine, place, unit, fresh)
  for i = 1, #fresh, PIECE do
    if i > 1 then time.sleep(0) end
    engine.journal:decide(table.move(fresh, i, math.min(i + PIECE - 1, #fresh), 1, {}))
  end
  unit.written = unit.written + #fresh
  if unit.written >= FULL then
    unit.written = 0
    engine.journal:forget_decisions(place.app.name, place.environment)
  end
end

-- Writes and tells what differs from what was said last. An alarm is told once for each thing it says, also when the
-- policy says another one in between.
local function record(engine, place, name, decisions)
  local unit = unit_of(engine, place, name)
  local fresh, alarms = compare(unit.said, decisions, place, name), {}
  local shown, hidden = 0, 0
  for _, d in ipairs(fresh) do
    if d.alarm and not engine.journal:decided_before(d) then alarms[#alarms + 1] = d end
  end
  if #fresh > 0 then write(engine, place, unit, fresh) end
  local function show(level, text)
    engine:emit {
      event = "decision", level = level, app = place.app.name, environment = place.environment, text = text,
    }
  end
  for _, d in ipairs(fresh) do
    if d.verdict == "held" and d.subject ~= "" then show("warn", d.reason) end
    if d.verdict == "refused" or d.verdict == "error" then
      shown = shown + 1
      if shown <= MAX_TOLD or d.alarm or d.verdict == "error" then
        show((d.alarm or d.verdict == "error") and "warn" or "info",
          (d.subject ~= "" and d.subject .. " refused: " or "") .. d.reason)
      else
        hidden = hidden + 1
      end
    end
  end
  if hidden > 0 then show("info", ("%d more were refused; 'moontide why' has them"):format(hidden)) end
  for _, d in ipairs(alarms) do engine:alarm(place, d) end
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
    engine.journal:seen({ app = place.app.name, environment = place.environment }, compiled.name,
      judge.kind_of(place, compiled), judgement.seen.key)
  end
  record(engine, place, compiled.name, judgement.decisions)
  return run
end

return M
