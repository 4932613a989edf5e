-- Problems of a place without a run under way, for `status` and `why`.
local settings, targets = require "targets.settings", require "targets"
local text, time = require "base.text", require "time"

local M = {}

local SHOWN <const> = 3 -- of the versions that wait

---@class Problem
---@field kind "target"|"canary"|"policy"|"reverted"|"waiting"|"configuration"
---@field state? EnvironmentState Of the environment, when nothing else gives it one.
---@field text string
---@field since? Wall

-- The last observation of a target, and what should run there.
local function target(seen, live)
  if not seen or not live or seen.at < live.at then return nil end -- of an earlier release
  local now, words = seen.running, nil
  local state = "unhealthy"
  if seen.err then
    state, words = "unreachable", "the target cannot be asked: " .. seen.err.message
  elseif not now then
    words = "the target shows nothing of it: it was stopped or removed"
  elseif now.foreign or now.digest and now.digest ~= live.digest then
    state, words = "changed", ("something else runs there: %s"):format(now.image or now.digest or "nobody can tell")
  elseif now.healthy == false then
    words = "the target says it is unhealthy" .. (now.state and " (" .. now.state .. ")" or "")
  end
  return words and { kind = "target", state = state, text = words }
end

-- The policy's last decision as a whole, when no host runs.
local function last_said(journal, app, environment, policy)
  for _, row in ipairs(journal:last_decisions(app, environment, policy)) do
    if row.subject == "" then return row end
  end
end

-- What is wrong in each part of an environment with several targets, and the canary that is out.
local function of_parts(list, journal, app, environment, live, seen, open)
  local held, canary = journal:held(app, environment.name), journal:canary(app, environment.name)
  for _, part in ipairs(targets.parts(environment --[[@as EnvironmentConfig]])) do
    local now, observed = held[part.part], seen[targets.called(part, "/")]
    local expected = now and now.digest and { at = now.since, digest = now.digest } or live
    local running = observed and observed.running
    -- What was on its way when it failed may not have come.
    if live and running and now and now.given == "pending" and running.digest == live.digest then expected = live end
    local problem = target(observed, expected)
    local other = live and now and now.given == "live" and now.digest ~= live.digest
    if not problem and other and not canary and not open then
      problem = { kind = "target", state = "changed", text = "it has not what the rest has" }
    end
    if problem then
      problem.text = ("part %s: %s"):format(part.part, problem.text)
      list[#list + 1] = problem
    end
  end
  if canary then
    list[#list + 1] = {
      kind = "canary", since = canary.at,
      text = ("a canary is out: %s in the part %s since %s"):format(canary.version or text.short(canary.commit)
        or text.short(canary.digest), canary.only, time.iso(canary.at)),
    }
  end
end

-- Policies that fail each time they are asked.
local function policies(list, journal, app, environment, at_work)
  for _, name in ipairs { environment.policy, environment.rollback or nil } do
    local unit = at_work and at_work.said[("%s/%s/%s"):format(app, environment.name, name)]
    local said = unit and unit.said[""] or not at_work and last_said(journal, app, environment.name, name)
    if said and said.verdict == "error" and (said.current or not at_work) then
      local line = said.file and said.line and ("%s:%d"):format(said.file, said.line)
      local where = line and not said.reason:find(line, 1, true) and (" [%s]"):format(line) or ""
      list[#list + 1] = {
        kind = "policy", state = "error", since = said.since or said.at,
        text = ("the policy %s fails: %s%s"):format(name, said.reason, where),
      }
    end
  end
end

-- What should run and was taken back.
local function reverted(journal, app, environment, live)
  local run = journal:row([[SELECT id, title FROM runs WHERE app = ? AND environment = ? AND kind <> 'rollback'
    AND state IN ('done', 'failed') ORDER BY id DESC LIMIT 1]], app, environment)
  local why = run and live and live.run ~= run.id and journal:taken_back(run.id)
  if not run or not why then return nil end
  return { kind = "reverted", state = "reverted", text = ("%s was taken back: %s"):format(run.title, why) }
end

local function waiting(journal, app, environment, open)
  local titles = {}
  local rows = journal:rows([[SELECT title FROM runs WHERE app = ? AND environment = ? AND state = 'queued' AND id <> ?
    ORDER BY id]], app, environment, open and open.id or 0) -- the state shows that one
  for i = 1, math.min(#rows, SHOWN) do titles[i] = rows[i].title end
  if #titles == 0 then return nil end
  local rest = #rows > SHOWN and (" and %d more"):format(#rows - SHOWN) or ""
  return { kind = "waiting", text = ("waits: %s%s"):format(table.concat(titles, ", "), rest) }
end

local function configuration(app, environment, live)
  local known = environment.target or environment.targets
  local names = live and known and settings.changed(live.settings, environment) or {}
  if #names == 0 then return nil end
  return {
    kind = "configuration",
    text = ("not applied yet: %s; the next release takes it, or 'moontide apply %s %s'"):format(
      table.concat(names, ", "), app, environment.name),
  }
end

---@param journal Journal
---@param app string
---@param environment {name: string, policy: string, rollback?: string|false, target?: TargetConfig, targets?: table[]}
---@param at_work? AtWork
---@param open? table The run that the environment's state shows.
---@return Problem[]
function M.of(journal, app, environment, at_work, open)
  local list, e, live = {} --[[@as any]], environment.name, journal:live(app, environment.name)
  local state = at_work and at_work.app_states[app]
  local seen = state and state.targets or {}
  if environment.targets then
    of_parts(list, journal, app, environment, live, seen, open)
  else
    list[1] = target(seen[e], live)
  end
  policies(list, journal, app, environment, at_work)
  list[#list + 1] = reverted(journal, app, e, live)
  list[#list + 1] = waiting(journal, app, e, open)
  list[#list + 1] = configuration(app, environment, live)
  return list
end

---Whether the release that runs is well, by the last observation of each of its targets; nil: unknown.
---@param at_work? AtWork
---@param app string
---@param environment {name: string, targets?: table[]}
---@return boolean?
function M.healthy(at_work, app, environment)
  local state = at_work and at_work.app_states[app]
  local well = true ---@type boolean?
  for _, part in ipairs(targets.parts(environment --[[@as EnvironmentConfig]])) do
    local seen = state and state.targets and state.targets[targets.called(part, "/")]
    local one = nil ---@type boolean?
    if seen and not seen.err then one = seen.running and seen.running.healthy end
    if seen and not seen.err and not seen.running then one = false end
    if one == false then return false end
    if one == nil then well = nil end
  end
  return well
end

---What each part of an environment with several targets has, and what was seen there; nil with a single one.
---@param journal Journal
---@param app string
---@param environment {name: string, targets?: table[]}
---@param at_work? AtWork
---@return PartStatus[]?
function M.parts(journal, app, environment, at_work)
  if not environment.targets then return nil end
  local state, held, list = at_work and at_work.app_states[app], journal:held(app, environment.name), {}
  for i, part in ipairs(targets.parts(environment --[[@as EnvironmentConfig]])) do
    local now = held[part.part]
    local seen = state and state.targets and state.targets[targets.called(part, "/")]
    local running = seen and seen.running
    list[i] = {
      name = part.part, kind = part.target.kind, version = now and now.version, commit = now and now.commit,
      digest = now and now.digest, run = now and now.run, since = now and now.since,
      pending = now and now.given == "pending" or nil, canary = now and now.state == "canary" or nil,
      running = running and { digest = running.digest, state = running.state, image = running.image } or nil,
      healthy = running and running.healthy,
    }
  end
  return list
end

return M
