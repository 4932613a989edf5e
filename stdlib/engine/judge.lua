-- Judging: compares an answer with what the journal remembers. The second of the three parts of a decision; memory()
-- only reads, judge() is pure.
local hold_words, refusals, time = require "journal.words", require "engine.refusals", require "time"

local M = {}

M.MISSING = "(missing references)" -- the subject of what is held back because it may be a mistake of the source

---What the host remembers of a policy at a place: what an answer is measured against.
---@class Memory
---@field app string
---@field environment string
---@field policy {name: string, kind: "change"|"rollback", latest: boolean} kind: of the runs that its changes become;
--- latest: a new one supersedes those that wait.
---@field watch? {key?: string, run?: integer} The key that was handled last; nil: never asked.
---@field run? table The run that handled it, or the last that tried it again.
---@field before? table The try before that.
---@field taken_back? string Why an earlier host, of another state, took back what should be now.
---@field passed? string Why its version is passed over: a rollback came after it.
---@field adopted? Running What was found running and taken as it is just now.
---@field held? Hold Who holds the place.
---@field missing? Held References that the source lists no more, and that count as there for now.

---The decision about an answer: plain data, which accept.lua writes to the journal.
---@class Judgement
---@field app string
---@field environment string
---@field policy {name: string, kind: "change"|"rollback", latest: boolean}
---@field decisions Decision[] At most one a subject; the last is about the policy as a whole.
---@field change? NewChange Becomes a run.
---@field seen? {key?: string} What is remembered as handled without a run.

---What the changes of a policy become here.
---@param place Place
---@param compiled Policy
---@return "change"|"rollback" kind
function M.kind_of(place, compiled) return compiled.name == place.config.rollback and "rollback" or "change" end

---Reads what an answer is judged by.
---@param journal Journal
---@param place Place
---@param compiled Policy
---@param answer Answer
---@param seen? {adopted?: Running, missing?: Held} What was found just now.
---@return Memory
function M.memory(journal, place, compiled, answer, seen)
  local app, environment, change = place.app, place.environment, answer.change
  local kind = M.kind_of(place, compiled)
  local watch = journal:watch(app, environment, kind)
  local memory = {
    app = app, environment = environment, watch = watch, adopted = seen and seen.adopted,
    missing = kind == "change" and seen and seen.missing or nil,
    policy = { name = compiled.name, kind = kind, latest = compiled.queue == "latest" },
  }
  if not change then return memory end
  memory.held = journal:hold_of(app, environment)
  memory.passed = type(change.version) == "string" and kind == "change" and place:passed_over(change.version) or nil
  if watch and watch.run then
    memory.run = watch.key == change.key and journal:run_by_id(watch.run) or nil
    if memory.run then memory.run, memory.before = journal:last_try(memory.run) end
  elseif type(change.commit) == "string" then
    local version = type(change.version) == "string" and change.version or nil
    memory.taken_back = journal:taken_back_before(app, environment, change.commit, version)
  end
  return memory
end

---What a run finds in `run.change`.
---@param change table
---@return table data
function M.data_of(change)
  local data = {}
  for k, v in pairs(change) do
    if k ~= "key" and k ~= "title" and k ~= "by" then data[k] = v end
  end
  return data
end

local ENDED <const> = { failed = "failed", cancelled = "ended", superseded = "ended" }

-- A change: the decision, what becomes a run, what is remembered without one.
local function judge_change(change, memory)
  local watch, adopted, title = memory.watch, memory.adopted, change.title or change.key
  local handled = watch ~= nil and watch.key == change.key
  if memory.taken_back and (handled or not watch) then
    local reason = ("%s: the host before took it back: %s"):format(title, memory.taken_back)
    return { verdict = "refused", reason = reason }, nil, not handled and { key = change.key } or nil
  elseif handled then
    local run = memory.run
    local by, ended = watch.run and " by run " .. watch.run or "", run and run.error and ENDED[run.state]
    local failure = memory.before and memory.before.error
    if run and (run.state == "queued" or run.state == "running") and run.first then
      by = ("%s, which is tried again%s"):format(by, failure and ": " .. failure.message or "")
    elseif ended then
      by = ("%s, and %s: %s"):format(by, ended, run.error.message)
    end
    return { verdict = "unchanged", reason = ("%s was handled%s"):format(title, by) }
  elseif adopted and adopted.healthy and adopted.commit and adopted.commit == change.commit
    and (change.version == nil or change.version == adopted.version) then
    return { verdict = "unchanged", reason = title .. " runs already" }, nil, { key = change.key }
  elseif memory.passed then
    return { verdict = "refused", reason = ("%s: %s"):format(title, memory.passed) }
  end
  local held = memory.held
  local decision = {
    verdict = held and "held" or "accepted", reason = title .. (held and ", " .. hold_words.held(held) or ""),
  }
  return decision, {
    app = memory.app, environment = memory.environment, policy = memory.policy.name, kind = memory.policy.kind,
    key = change.key, title = change.title, reason = change.reason, by = change.by, data = M.data_of(change),
  }
end

-- Why names that the source lists no more still count.
local function words_of(missing)
  local more = missing.count > #missing.names and (" and %d more"):format(missing.count - #missing.names) or ""
  local till = missing.till and "until " .. time.iso(missing.till) or "as long as it lists nothing at all"
  return ("the source lists them no more since %s (%s): %s%s; they count as there %s"):format(time.iso(missing.since),
    missing.complaint, table.concat(missing.names, ", "), more, till)
end

---Judges an answer.
---@param answer Answer
---@param memory Memory
---@return Judgement
function M.judge(answer, memory)
  local decision, change, seen
  if answer.err then
    decision = {
      verdict = "error", reason = tostring(answer.err), file = answer.file, line = answer.line,
      traceback = answer.err.traceback,
    }
  elseif answer.change then
    decision, change, seen = judge_change(answer.change, memory)
  else
    decision = { verdict = "nothing", reason = answer.reason }
    if not memory.watch then seen = {} end
  end
  local decisions = table.move(answer.refusals, 1, #answer.refusals, 1, {})
  if memory.missing then
    decisions[#decisions + 1] = {
      subject = M.MISSING, verdict = "held", reason = refusals.kept(words_of(memory.missing), refusals.MAX_REASON),
    }
  end
  decision.subject, decision.reason = "", refusals.kept(decision.reason, refusals.MAX_REASON)
  decisions[#decisions + 1] = decision
  return {
    app = memory.app, environment = memory.environment, policy = memory.policy, decisions = decisions, change = change,
    seen = seen,
  }
end

return M
