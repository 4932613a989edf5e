-- Accepting: a judgement goes into the journal. The last of the three parts of a decision, and the only one that
-- writes: a change becomes a run, and what is new of what was decided is recorded. It reports nothing.
--
-- An answer that changes nothing writes nothing: the previous decisions are kept in memory and compared.
local time = require "time"

local M = {}

local MAX_SILENT <const> = 1000 -- subjects of a policy that are remembered when it says nothing of them any more
local PIECE <const> = 100       -- decisions in one transaction
local FULL <const> = 2000       -- written since the journal forgot some

local function key_of(app, environment, policy) return app .. "/" .. environment .. "/" .. policy end

---The last decision about each subject, as far as this host has asked.
---@param units table<string, table> See record.
---@param place Place
---@param policy string
---@return table<string, Decision>? by_subject
function M.said(units, place, policy)
  local unit = units[key_of(place.app, place.environment, policy)]
  return unit and unit.said
end

-- The last decision about each subject; after a restart as the journal has it.
local function unit_of(journal, judgement, units)
  local app, environment, name = judgement.app, judgement.environment, judgement.policy.name
  local key = key_of(app, environment, name)
  local unit = units[key]
  if unit then return unit end
  local said = {}
  for _, row in ipairs(journal:last_decisions(app, environment, name)) do
    said[row.subject] = {
      subject = row.subject, verdict = row.verdict, reason = row.reason, file = row.file, line = row.line,
      since = row.at, at = row.at, count = 1,
    }
  end
  unit = { said = said, written = 0, turn = 0 }
  units[key] = unit
  return unit
end

local function same(a, b) return a and a.verdict == b.verdict and a.reason == b.reason end

-- Updates the last decisions; returns those that differ.
local function compare(unit, judgement)
  local fresh, now, said = {}, time.now(), unit.said
  local turn = unit.turn + 1
  unit.turn = turn
  for _, d in ipairs(judgement.decisions) do
    local last = said[d.subject]
    if same(last, d) then
      last.at, last.count, last.current, last.turn = now, last.count + 1, true, turn
    else
      d.at, d.since, d.count, d.current, d.turn = now, now, 1, true, turn
      d.app, d.environment, d.policy = judgement.app, judgement.environment, judgement.policy.name
      said[d.subject] = d
      fresh[#fresh + 1] = d
    end
  end
  local silent = 0
  for subject, d in pairs(said) do
    if d.turn ~= turn then
      d.current = false
      silent = silent + 1
      if silent > MAX_SILENT then said[subject] = nil end
    end
  end
  return fresh
end

-- Writes what differs, a piece at a time. What a policy says anew at each poll does not wait for the housekeeping.
local function write(journal, judgement, unit, fresh)
  for i = 1, #fresh, PIECE do
    if i > 1 then time.sleep(0) end
    journal:decide(table.move(fresh, i, math.min(i + PIECE - 1, #fresh), 1, {}))
  end
  unit.written = unit.written + #fresh
  if unit.written >= FULL then
    unit.written = 0
    journal:forget_decisions(judgement.app, judgement.environment)
  end
end

---Makes the change of a judgement a queued run, or remembers its key without one.
---@param journal Journal
---@param judgement Judgement
---@return integer? run nil: there was no change.
---@return integer superseded Older changes that waited and that it supersedes.
function M.accept(journal, judgement)
  if judgement.change then return journal:accept(judgement.change, judgement.policy.latest) end
  if judgement.seen then
    local place = { app = judgement.app, environment = judgement.environment }
    journal:seen(place, judgement.policy.name, judgement.policy.kind, judgement.seen.key)
  end
  return nil, 0
end

---Records the decisions that differ from the last ones.
---@async
---@param journal Journal
---@param judgement Judgement
---@param units table<string, table> The last decisions, by policy and place: kept between the calls.
---@return Decision[] fresh What differs.
---@return Decision[] alarms Of these, alarms that were not notified before, whatever was decided in between.
function M.record(journal, judgement, units)
  local unit = unit_of(journal, judgement, units)
  local fresh, alarms = compare(unit, judgement), {}
  for _, d in ipairs(fresh) do
    if d.alarm and not journal:decided_before(d) then alarms[#alarms + 1] = d end
  end
  if #fresh > 0 then write(journal, judgement, unit, fresh) end
  return fresh, alarms
end

return M
