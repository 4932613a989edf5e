-- One decision: a policy is asked at a place, its answer judged and accepted, and what is new is reported.
--
-- ask: policy -> answer (ask.lua); judge: answer and memory -> judgement (judge.lua); accept: judgement -> journal
-- (accept.lua). The first two change nothing. An accepted change wakes the lane of its place.
local accept, ask, first_sight, judge = require "engine.accept", require "engine.ask", require "engine.first_sight",
  require "engine.judge"
local task, time = require "task", require "time"

local M = {}

local MAX_TOLD <const> = 20 -- decisions that are shown one by one; of more only the number

-- Adopts what runs at a new place. This runs, too, for a policy that releases at first
-- sight: the desired state may run already.
local function adopt(engine, place, compiled)
  local releases = place.app_config.follows == "git" and compiled.name == place.config.policy
  if compiled.first ~= "adopt" and not releases then return false end
  if engine.journal:touched(place.app, place.environment) then return false end
  return first_sight.adopt(engine, place, compiled.first == "adopt")
end

-- Shows a change that became a run.
local function tell_change(engine, change, run, superseded)
  local why = change.reason and " (" .. change.reason .. ")" or ""
  local older = superseded > 0 and (", %d older waiting changes superseded"):format(superseded) or ""
  engine:emit {
    at = time.now(), event = "change", level = "info", app = change.app, environment = change.environment, run = run,
    text = (change.title or change.key) .. why .. older,
  }
end

-- Shows what was decided anew.
local function tell_decisions(engine, place, fresh, alarms)
  local shown, hidden = 0, 0
  local function show(level, text)
    engine:emit {
      event = "decision", level = level, app = place.app, environment = place.environment, text = text,
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

---Asks a policy and judges its answer: what the host would do now. A new place is adopted; nothing else is written.
---@async
---@param engine table
---@param place Place
---@param compiled Policy
---@return Judgement? judgement nil: it was cut short.
---@return Answer answer
function M.judge(engine, place, compiled)
  local journal, found, problem = engine.journal, false --[[@as Running|false|nil]], nil
  if not journal:watch(place.app, place.environment, judge.kind_of(place, compiled)) then
    found, problem = adopt(engine, place, compiled)
  end
  local before = accept.said(engine.said, place, compiled.name)
  local answer = found == nil and ask.failed(problem --[[@as Err]]) or ask.ask(place, compiled, before)
  if answer.err and (engine.stopping or answer.err.code == "cancelled") then return nil, answer end
  return judge.judge(answer, judge.memory(journal, place, compiled, answer, {
    adopted = found or nil, missing = engine:app_state(place.app).held,
  })), answer
end

local function decide(engine, place, compiled)
  local journal = engine.journal
  local judgement, answer = M.judge(engine, place, compiled)
  if not judgement then return nil end
  local run, superseded = accept.accept(journal, judgement)
  if run then
    engine:lane(place):kick() -- before anything else can fail: this key is not judged again
    tell_change(engine, judgement.change, run, superseded)
  end
  tell_decisions(engine, place, accept.record(journal, judgement, engine.said))
  return run, answer.err
end

---Asks one policy and acts on the answer. One at a time for each place: a poll and a run that failed may ask at the
---same moment, and both would find the same change to be new.
---@async
---@param engine table
---@param place Place
---@param compiled Policy
---@return integer? run A change that was accepted.
---@return Err? err
---@return_overload nil, Err
function M.decide(engine, place, compiled)
  local _ <close> = task.lock(engine, ("decide %s %s"):format(place.app, place.environment))
  return decide(engine, place, compiled)
end

return M
