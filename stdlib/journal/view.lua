-- The journal as people and tools read it: status, history, why (the latest decision about each candidate, then older
-- ones), logs. The running host and a command that reads the state of a host that is down give the same answers; the
-- host adds what only it knows, such as decisions that it keeps in memory.
local errors, json, log, runlog = require "errors", require "json", require "log", require "engine.runlog"
local suspension = require "engine.suspension"
local text = require "base.text"
local problems, record, schema = require "journal.problems", require "journal.record", require "journal.schema"
local hold_words, unknown = require "journal.words", require "base.unknown"

local M = {}

---What a host at work knows beside its journal.
---@class AtWork
---@field config Config
---@field lanes table<string, Lane> By place: what is under way there.
---@field app_states table<string, Seen> By app: the last observation of its source.
---@field said table<string, table> By policy and place: the last decision about each subject.
---@field suspensions table<string, Suspension>
---@field policies table<string, Policy>

---@return Release?
local function release(row)
  if not row then return nil end
  return {
    version = row.version, commit = row.commit, digest = row.digest, image = row.image, at = row.at, run = row.run,
    adopted = row.adopted > 0 or nil,
  }
end

-- The running host's attempt at a run, if it is under way.
local function attempt_of(at_work, row)
  local lane = at_work and at_work.lanes[row.app .. "/" .. row.environment]
  return lane and lane.runs[row.id]
end

---What a run failed with, for people. What may not pass by itself names the command that tries again.
---@param run {app: string, environment: string}
---@param state RunState
---@param err? Err|ErrData
---@return string
function M.failure(run, state, err)
  if err and (state == "superseded" or state == "cancelled") then return err.message end -- it says who ended it
  local words = err and (getmetatable(err) and tostring(err) or err.message) or state --[[@as string]]
  if errors.passing(err) then return words end
  return ("%s; 'moontide retry %s %s' tries again"):format(words, run.app, run.environment)
end


---The approval that a run waits for, if it does.
---@param journal Journal
---@param row table The run.
---@return Approval?
function M.waits_for(journal, row)
  if not journal:anything_pending() then return nil end
  return journal:approvals({ run = row.id, pending = true, limit = 1 })[1]
end

-- What a run waits for, for people: votes, or a window of time.
local function wait_of(journal, row, approval)
  if approval then return require("policy.approval").words(approval) end
  return require("policy.window").waits(journal, row)
end

-- What the metrics of a run came to, in words.
local function metrics_of(journal, run)
  local list = {}
  for _, step in ipairs(journal:rows([[SELECT result FROM steps WHERE run = ? AND name = 'metric' AND state = 'ok'
    ORDER BY started_at, path]], run)) do
    local ok, result = pcall(record.revive, step.result)
    if ok and type(result) == "table" then
      list[#list + 1] = ("metric %s: %s"):format(result.outcome, result.summary)
    end
  end
  return #list > 0 and list or nil
end

---@param journal Journal
---@param row table
---@param at_work? AtWork
---@return RunInfo
function M.run_info(journal, row, at_work)
  local steps = journal:count("SELECT count(*) AS n FROM steps WHERE run = ? AND state = 'ok'", row.id)
  local last = journal:row([[SELECT name FROM steps WHERE run = ? AND state <> 'ok'
    ORDER BY started_at DESC LIMIT 1]], row.id)
  local info = {
    id = row.id, app = row.app, environment = row.environment, policy = row.policy, state = row.state, kind = row.kind,
    key = row.key, title = row.title, by = row.by, queued_at = row.queued_at, started_at = row.started_at,
    ended_at = row.ended_at, attempts = row.attempts, steps = steps, first = row.first,
    tries = row.first and (row.state == "queued" and row.try - 1 or row.try) or nil,
    step = row.state ~= "done" and last and last.name or nil, error = row.error,
    release = release(journal:row([[SELECT run, version, commit_id AS "commit", digest, image, adopted, at FROM releases
      WHERE run = ? AND state IN ('live', 'replaced', 'bad', 'lifted') ORDER BY id DESC LIMIT 1]], row.id)),
  }
  info.metrics = metrics_of(journal, row.id)
  if row.state == "queued" and row.first then
    local _, before = journal:last_try(row)
    info.error = before and before.error
  end
  local attempt = attempt_of(at_work, row)
  if row.state == "running" and (wait_of(journal, row, M.waits_for(journal, row)) or attempt and attempt.held) then
    info.state = "waiting"
  end
  if attempt then info.progress, info.step = attempt.progress, attempt.step end
  return info
end

local function infos(journal, at_work, sql, ...)
  local list = {}
  for i, row in ipairs(journal:rows(sql, ...)) do list[i] = M.run_info(journal, journal:run_by_id(row.id), at_work) end
  return list
end

---@param journal Journal
---@param app {name: string}
---@param environment {name: string, policy: string, host?: string, rollback?: string|false, branch?: string,
--- gone_at?: Wall}
---@param at_work? AtWork
---@return EnvironmentStatus
function M.environment(journal, app, environment, at_work)
  local a, e = app.name, environment.name
  local open = journal:next_run(a, e)
  local ended = journal:last_ended(a, e)
  local last = ended and M.run_info(journal, ended, at_work)
  local queued = journal:count(
    "SELECT count(*) AS n FROM runs WHERE app = ? AND environment = ? AND state = 'queued'", a, e)
  local hold, current = journal:hold_of(a, e), release(journal:live(a, e))
  local state, reason = "idle", nil ---@type EnvironmentState, string?
  local approval = open and open.state == "running" and M.waits_for(journal, open) or nil
  local waits = open and open.state == "running" and wait_of(journal, open, approval)
  if waits then
    state, reason = "waiting", ("%s %s"):format(assert(open).title, waits)
  elseif open and open.state == "running" and not (hold and (attempt_of(at_work, open) or {}).held) then
    state, reason = "running", open.title
  elseif hold then
    state, reason = "held", hold_words.hold(hold)
  elseif open then
    state, reason = "queued", open.title
    if open.not_before then
      state, reason = "waiting", last and last.error and ("%s: %s"):format(open.title, last.error.message) or open.title
    end
  elseif last and last.state == "quarantined" then
    state, reason = "quarantined", M.failure(last, last.state, last.error)
  elseif last and (last.state == "failed" or last.state == "diverged") then
    state, reason = "failed", ("%s: %s"):format(last.title,
      M.failure(last, last.state, last.error))
  elseif not current and not last then
    state = "new"
  else
    -- A rollback that had nothing to go back to is done; what it was for is still the last word.
    local newest = journal:newest_release(a, e)
    if newest and newest.state == "bad" then
      state, reason = "failed", ("%s: %s"):format(newest.version
        or newest.commit and text.short(newest.commit) or newest.digest, newest.reason or "it is bad")
    end
  end
  local found = problems.of(journal, a, environment, at_work, state ~= "held" and open or nil)
  for _, problem in ipairs(found) do
    if (state == "idle" or state == "new") and problem.state then state, reason = problem.state, problem.text end
  end
  if environment.gone_at and (state == "idle" or state == "error") then
    state, reason = "idle", ("its branch %s is gone since %s: it is taken down"):format(environment.branch,
      require("time").iso(environment.gone_at))
  end
  return {
    name = e, policy = environment.policy, state = state --[[@as EnvironmentState]], reason = reason,
    host = environment.host, current = current,
    parts = problems.parts(journal, a, environment, at_work), healthy = problems.healthy(at_work, a, environment),
    hold = hold, problems = #found > 0 and found or nil,
    run = open and open.state == "running" and M.run_info(journal, open, at_work) or nil, last = last, queued = queued,
    retry_at = open and open.state == "queued" and open.not_before or nil, approval = approval,
    suspended = suspension.words(at_work and at_work.suspensions or suspension.of(journal), a, e,
      { environment.policy, environment.rollback or nil } --[[@as any]], at_work and at_work.policies),
  }
end

-- A template has no releases of its own; each branch that matches has a place.
local function template_status(template)
  return {
    name = template.template, policy = template.policy, state = "idle", queued = 0, host = template.host,
    reason = "each branch that matches " .. table.concat(template.branches, " or ") .. " has a place of its own",
  }
end

-- Without a configuration: the places that the journal has seen.
local function known_apps(journal)
  local apps, by_name = {}, {}
  for _, row in ipairs(journal:rows([[SELECT DISTINCT app, environment, policy FROM watches WHERE kind = 'change'
    ORDER BY app, environment]])) do
    local app = by_name[row.app]
    if not app then
      local seen = journal:snapshot(row.app)
      app = { name = row.app, branch = seen and seen.branch or "", source = { url = "" }, environment_list = {} }
      by_name[row.app], apps[#apps + 1] = app, app
    end
    table.insert(app.environment_list, { name = row.environment, policy = row.policy })
  end
  return apps
end

---@param journal Journal
---@param config? Config
---@param at_work? AtWork
---@return Status
function M.status(journal, config, at_work)
  local apps = {}
  for i, app in ipairs(config and config.app_list or known_apps(journal)) do
    local seen = journal:snapshot(app.name)
    local live = at_work and at_work.app_states[app.name] or {}
    local environments = {}
    for n, environment in ipairs(app.environment_list) do
      environments[n] = M.environment(journal, app, environment, at_work)
    end
    for _, template in ipairs(app.templates or {}) do environments[#environments + 1] = template_status(template) end
    apps[i] = {
      name = app.name, source = text.without_credentials(app.source.url), branch = app.branch,
      head = live.head or seen and seen.head, polled_at = live.polled_at or seen and seen.at,
      poll_error = live.error and json.decode(log.redact(json.encode(errors.plain(live.error)))) or nil,
      environments = environments,
    }
  end
  local now = require("time").now()
  return { at = now, apps = apps, freeze = journal:freeze_of(now) }
end

---@param journal Journal
---@param query HistoryQuery
---@param at_work? AtWork
---@return History? history
---@return Err? err not_found: there is no such app or environment, and was none. Only a running host knows.
---@return_overload nil, Err
function M.history(journal, query, at_work)
  local limit = math.max(1, math.min(query.limit or 20, 1000))
  local runs = infos(journal, at_work, [[SELECT id FROM runs WHERE (?1 IS NULL OR app = ?1)
      AND (?2 IS NULL OR environment = ?2) AND ]] .. schema.LAST_TRY .. " ORDER BY id DESC LIMIT ?3",
    query.app, query.environment, limit)
  local err = #runs == 0 and at_work and unknown.asked(at_work.config.app_list, query)
  if err then return nil, err end
  return { runs = runs }
end

---@param journal Journal
---@param name string
---@param filter? string A policy's or an environment's name.
---@param config? Config
---@param at_work? AtWork
---@return Why? why
---@return Err? err
---@return_overload nil, Err
function M.why(journal, name, filter, config, at_work)
  local app
  local apps = config and config.app_list or known_apps(journal)
  for _, a in ipairs(apps) do
    if a.name == name then app = a end
  end
  if not app then return unknown.app(apps --[[@as any]], name, "why") end
  local environments, wanted, decisions, policies = {}, {}, {}, {}
  for _, e in ipairs(app.environment_list) do
    policies[#policies + 1] = e.policy
    policies[#policies + 1] = e.rollback or "rollback"
    if not filter or filter == e.name or filter == e.policy or filter == (e.rollback or "rollback") then
      environments[#environments + 1] = M.environment(journal, app, e, at_work)
      wanted[e.name] = true
    end
  end
  for _, template in ipairs(app.templates or {}) do
    if not filter or filter == template.template then
      environments[#environments + 1], wanted[template.template] = template_status(template), true
    end
  end
  if filter and #environments == 0 then return unknown.environment(app, filter, "why", policies) end
  local current = {}
  for name_of, unit in pairs(at_work and at_work.said or {}) do
    local a, e, p = name_of:match("^(.+)/([^/]+)/([^/]+)$")
    if a == name and wanted[e] and (not filter or filter == e or filter == p) then
      for subject, d in pairs(unit.said) do
        if d.current then
          current[e .. "\0" .. p .. "\0" .. subject] = true
          decisions[#decisions + 1] = {
            at = d.at, since = d.since, count = d.count, app = name, environment = e, policy = p, verdict = d.verdict,
            subject = subject ~= "" and subject or nil, reason = d.reason, file = d.file, line = d.line,
            traceback = d.traceback and log.redact(d.traceback),
          }
        end
      end
    end
  end
  table.sort(decisions, function(x, y)
    if x.environment ~= y.environment then return x.environment < y.environment end
    if x.policy ~= y.policy then return x.policy < y.policy end
    if (x.subject == nil) ~= (y.subject == nil) then return x.subject == nil end
    return x.at > y.at
  end)
  for _, row in ipairs(journal:rows([[SELECT app, environment, policy, subject, verdict, reason, file, line, at
    FROM decisions WHERE app = ? ORDER BY id DESC LIMIT 200]], name)) do
    local key = row.environment .. "\0" .. row.policy .. "\0" .. row.subject
    local asked = not filter or filter == row.environment or filter == row.policy
    if asked and wanted[row.environment] and not current[key] then
      row.subject = row.subject ~= "" and row.subject or nil
      decisions[#decisions + 1] = row
    end
  end
  return { app = name, environments = environments, decisions = decisions }
end

---@async
---@param journal Journal
---@param id integer
---@param offset integer
---@param at_work? AtWork
---@return RunLog? log
---@return Err? err
---@return_overload nil, Err
function M.run_log(journal, id, offset, at_work)
  local row = journal:run_by_id(id)
  if not row then return unknown.run(id, "logs") end
  local entries, next_offset = runlog.read(journal.dir, id, offset)
  local open = row.state == "running" or row.state == "queued"
  return {
    run = M.run_info(journal, row, at_work), entries = entries, next = next_offset,
    done = #entries == 0 and (not open or not at_work),
  }
end

return M
