-- The plan: what the next poll would do, found out on the real sources, with nothing written anywhere.
--
-- It is the engine itself, on a copy of the journal in memory, in a world that changes nothing (plan_world.lua). Each
-- policy is asked as at a poll; what would be accepted becomes a run of the copy, whose steps are planned instead of
-- performed (policy/plan.lua). Runs that are under way are answered from their record as far as it goes.
local accept, attempts, decide, discovery = require "engine.accept", require "engine.attempt",
  require "engine.decide", require "engine.discovery"
local errors, fs, journal, late_rollout = require "errors", require "fs", require "journal",
  require "engine.late_rollout"
local observe, plan, plan_world, policy = require "engine.observe", require "policy.plan", require "engine.plan_world",
  require "policy.load"
local previews, reload, run_words, steps = require "engine.previews", require "engine.reload", require "policy.run",
  require "policy.steps"
local tables, task, time, unknown = require "base.tables", require "task", require "time", require "base.unknown"
local world = require "engine.world"

local M = {}

local AT_ONCE <const> = 32 -- apps
local MOST <const> = 4 << 20 -- bytes of a file that a target remembers by
local LONGEST <const> = 120 -- seconds that the plan of one run may take

---@class (partial) Config
---@field planned_from? string In a plan: the state folder that its journal is a copy of.

---@class PlanOptions
---@field config Config
---@field journal? Journal That is open in this process, instead of the state folder's; it is copied.
---@field world? WorldOpeners Else the real ones; they are only read with.
---@field policies? table<string, EditedPolicy> In place of those of these names.
---@field app? string Only this one.
---@field environment? string
---@field on_progress? fun(done: integer, apps: integer)

---What would happen at one place.
---@class PlacePlan
---@field app string
---@field environment string
---@field outcome "change"|"refused"|"unchanged"|"error"
---@field decisions Decision[] Each policy's, with what it refused.
---@field runs PlannedRun[] That would begin, or that are under way.
---@field hold? Hold Its changes wait.
---@field trouble? Err What kept the source from being observed.

---@class PlannedRun
---@field id? integer Of a run that is in the journal already.
---@field state "new"|"queued"|"running"|"held"
---@field kind string
---@field policy string
---@field title string
---@field reason? string
---@field by? string
---@field not_before? Wall
---@field superseded? integer[] Older runs that it would supersede.
---@field steps Planned[]
---@field ends? string Why the plan sees no further.
---@field error? Err How it would fail.

---@class Plan
---@field at Wall
---@field places PlacePlan[]
---@field troubles {text: string, error: Err}[] That belong to no place: apps that could not be looked for.
---@field summary {changes: integer, unchanged: integer, refused: integer, errors: integer}

-- ---- the engine on a copy ----

-- What in a state folder is not what targets remember: what is the host's own, and what is large.
local OWN <const> = {
  ["journal.db"] = true, ["journal.db-wal"] = true, ["journal.db-shm"] = true, ["journal.begun"] = true, lock = true,
  asked = true, mirrors = true, runs = true, files = true, work = true,
}

-- What cannot be read is an error; what went meanwhile, or is too large to be a memory, is none.
local function read(path)
  local bytes, err = fs.read(path, { max = MOST })
  if bytes or errors.is(err, "not_found") or errors.is(err, "too_large") then return bytes end
  error(err, 0)
end

-- Copies what targets and builders remember in the state folder, so that they tell the same.
local function furnish(state, dir)
  local names, types = fs.list(state)
  if not names and errors.is(types, "not_found") then return end
  if not names then error(types, 0) end
  local function copy(name)
    local bytes = read(state .. "/" .. name)
    if bytes then assert(fs.write(dir .. "/" .. name, bytes, { mode = 384, sync = false })) end -- 0600
  end
  for _, name in ipairs(names) do
    if types[name] == "file" and not OWN[name] then
      copy(name)
    elseif types[name] == "dir" and not OWN[name] then
      for path, kind in fs.walk(state .. "/" .. name) do
        path = name .. "/" .. path
        assert(fs.mkdir(dir .. "/" .. path:match "^(.*)/", { parents = true }))
        if kind == "file" then copy(path) end
      end
    end
  end
end

-- The configuration with a state folder that is thrown away: mirrors and the like are made there.
local function elsewhere(config, dir)
  local copy = tables.shallow(config)
  copy.apps, copy.app_list = {}, {} -- apps and places are found beside those that there are
  for i, app in ipairs(config.app_list) do
    local own = tables.shallow(app)
    own.environments, own.environment_list = {}, {}
    for k, environment in ipairs(app.environment_list) do
      local at = setmetatable(tables.shallow(environment), getmetatable(environment))
      own.environments[at.name], own.environment_list[k] = at, at
    end
    copy.apps[app.name], copy.app_list[i] = own, own
  end
  copy.state, copy.planned_from = dir, config.state
  require("config.load").copied(copy --[[@as Config]], config)
  return copy --[[@as Config]]
end

-- The folder of an app's files: its own, when it has one; else one that is empty.
local function folders(state, scratch)
  return function(self)
    local path = ("%s/files/%s"):format(state, self.app)
    if fs.exists(path) then return path end
    path = ("%s/files/%s"):format(scratch, self.app)
    assert(fs.mkdir(path, { parents = true }))
    return path
  end
end

-- Whether each edited policy has a name that some environment's has.
local function meant(config, edited)
  local schema, names = require "base.schema", reload.policy_names(config)
  for _, name in ipairs(tables.keys(edited)) do
    if not tables.contains(names, name) then
      local hint = schema.meant(name, names)
      return errors.fail("not_found", ("no environment has the policy %s%s: --policy NAME=FILE says in whose place %s "
        .. "is"):format(schema.quote(name), hint and (" (%s)"):format(hint) or "", edited[name].file), { op = "plan" })
    end
  end
  return true
end

-- Nothing begins by itself, and nobody is told.
local function quiet(engine)
  engine.last_before, engine.troubles = engine.journal:newest_run(), {}
  function engine.trouble(_, what, err)
    table.insert(engine.troubles, { text = ("%s: %s"):format(what, tostring(err)), error = errors.wrap(err, "plan") })
  end
  local still = { kick = function() end, rouse = function() end }
  function engine.lane() return still end
  function engine.alarm() end
  function engine.report() end
  function engine.ask_rollback_again() end
end

-- A copy of the journal that counts.
local function copied(options, scratch)
  if not options.journal then return journal.copy(options.config.state) end
  local dir = scratch .. "/given"
  local ok, err = fs.mkdir(dir)
  if ok then ok, err = options.journal.db:backup(dir .. "/journal.db") end
  if not ok then return nil, err end
  return journal.copy(dir)
end

---@async
---@param options PlanOptions
---@param scratch string A folder that is thrown away.
---@return table? engine
---@return Err? err
---@return_overload nil, Err
local function open(options, scratch)
  local config = options.config
  local ok, err = meant(config, options.policies) ---@type any, any
  if not ok then return nil, err end
  ok, err = pcall(furnish, config.state, scratch)
  if not ok then
    err = errors.wrap(err)
    return errors.fail(err.code, ("the state folder %s cannot be read: %s; plan as the user that the host runs as")
      :format(config.state, err.message), { op = "plan", target = config.state, cause = err })
  end
  local book
  book, err = copied(options, scratch)
  if not book then return nil, err end
  local engine ---@type any
  engine, err = require("engine").open {
    config = elsewhere(config, scratch), journal = book, world = plan_world.of(options.world or world.real()),
    edited = options.policies, folder = folders(config.state, scratch), load = function() return nil end,
    on_event = function() end,
  }
  if not engine then
    book:close()
    return nil, err
  end
  quiet(engine)
  return engine
end

-- ---- one run ----

-- What the run's log would say of a step that was done before.
local function done_before(planned)
  return function(entry)
    if entry.kind ~= "step" or not entry.recorded then return end
    planned:say(entry.step, { action = "none", recorded = true, text = entry.step .. ": done already" })
  end
end

local function perform(engine, place, row, compiled, planned)
  local settings, problem
  if not row.policy_hash then
    settings, problem = place:settings_for(compiled)
    if not settings then error(problem, 0) end
  end
  local edition
  edition, settings = engine.journal:begin(row, compiled, steps.EDITION, true, settings)
  local function never() return false end
  local journaled = steps.new {
    journal = engine.journal, run = row.id, edition = edition, emit = done_before(planned), plan = planned,
    stopping = never,
  }
  planned.run = run_words.new(row, place, {
    steps = journaled, world = engine.world, journal = engine.journal, lead = engine.lead,
    hooks = { output = function() end, progress = function() end }, patience = 0, stopping = never, settings = settings,
    released = function() end,
  })
  local ok, err = xpcall(run_words.execute, policy.raised, compiled, planned.run)
  if journaled.over then error(journaled.over, 0) end
  if not ok then error(err, 0) end
end

-- Plans the steps of a run: what is said of it, and how it ends.
local function planned_run(engine, place, row, told)
  local lane = { engine = engine, place = place } ---@type any
  local compiled, problem = attempts.new(lane, row):policy_of(row)
  if not compiled then
    told.error = problem
    return told
  end
  local planned = plan.new()
  local limits = {
    name = "plan of run " .. row.id, cpu = policy.RUN_LIMITS.cpu, memory = policy.RUN_LIMITS.memory, timeout = LONGEST,
  }
  local work <close> = task.start(limits, perform, engine, place, row, compiled, planned)
  local ok, err = work:join()
  told.steps, told.ends = planned.steps, planned.ends
  if err and not ok and not planned.ends then told.error = errors.clean(err) end
  return told
end

-- ---- one place ----

local function state_of(row, is_new, hold)
  if row.state == "running" then return "running" end
  if hold and row.kind == "change" then return "held" end
  return is_new and "new" or "queued"
end

-- What each policy of a place decides; what it would have run becomes a run of the copy.
local function decided(engine, place, told)
  local fresh = {}
  if place.config.gone_at then -- nobody is asked any more
    told.decisions[1] = {
      policy = place.config.policy, subject = "", verdict = "nothing", reason = "its branch is gone",
    } --[[@as Decision]]
    return fresh
  end
  for _, name in ipairs { place.config.policy, place.config.rollback or nil } do
    local judgement = decide.judge(engine, place, engine.policies[name])
    for _, decision in ipairs(judgement and judgement.decisions or {}) do
      decision.policy = name
      told.decisions[#told.decisions + 1] = decision
    end
    local before = judgement and judgement.change and engine.journal:open_at(place.app, place.environment)
    local run = judgement and accept.accept(engine.journal, judgement)
    if run then
      fresh[run] = {}
      for _, row in ipairs(before or {}) do
        if engine.journal:run_by_id(row.id).state == "superseded" then table.insert(fresh[run], row.id) end
      end
    end
  end
  return fresh
end

local function outcome_of(told)
  local refused, failed = false, told.trouble ~= nil
  for _, d in ipairs(told.decisions) do
    refused, failed = refused or d.verdict == "refused", failed or d.verdict == "error"
  end
  for _, run in ipairs(told.runs) do failed = failed or run.error ~= nil end
  return failed and "error" or #told.runs > 0 and "change" or refused and "refused" or "unchanged"
end

local function plan_place(engine, app, environment)
  local told = { app = app.name, environment = environment.name, decisions = {}, runs = {} }
  local place, book = engine:place(app.name, environment.name), engine.journal
  local ok, err = pcall(function()
    late_rollout.look(engine, place)
    local fresh = decided(engine, place, told)
    told.hold = book:hold_of(app.name, environment.name)
    for _, row in ipairs(book:open_at(app.name, environment.name)) do
      local superseded, is_new = fresh[row.id], row.id > engine.last_before
      told.runs[#told.runs + 1] = planned_run(engine, place, row, {
        id = not is_new and row.id or nil, state = state_of(row, is_new, told.hold), kind = row.kind,
        policy = row.policy, title = row.title, reason = row.reason, by = row.by, not_before = row.not_before,
        superseded = superseded and #superseded > 0 and superseded or nil, steps = {},
      })
    end
  end)
  if not ok then
    if errors.is(err, "cancelled") then error(err, 0) end
    told.trouble = errors.wrap(err, "plan")
  end
  told.outcome = outcome_of(told)
  return told
end

-- ---- all of them ----

-- What is wrong with one app hides no other.
local function troubled(app, only, err)
  local places = {}
  for _, environment in ipairs(app.environment_list) do
    if not only or environment.name == only then
      places[#places + 1] = {
        app = app.name, environment = environment.name, outcome = "error", decisions = {}, runs = {}, trouble = err,
      }
    end
  end
  return places
end

-- Observes an app's source and plans each of its places.
local function plan_app(engine, app, only, places)
  local state = engine:app_state(app.name)
  local ok, err = pcall(plan_world.reading, observe.observe, engine.journal, engine.world, state, app)
  if not ok then state.error = errors.wrap(err, "plan") end
  previews.update(engine, app, state)
  for _, environment in ipairs(app.environment_list) do
    if not only or environment.name == only then places[#places + 1] = plan_place(engine, app, environment) end
  end
end

-- The apps that a plan is about; nil and why when there is none of that name.
local function chosen(engine, options)
  if not options.app then return engine.config.app_list end
  local app = engine.config.apps[options.app]
  if not app then return unknown.app(engine.config.app_list, options.app, "plan") end
  if options.environment and not app.environments[options.environment] and not app.templates then
    return unknown.environment(app, options.environment, "plan")
  end
  return { app }
end

local function plan_apps(engine, options, apps)
  local found, running, next_one, done = {}, {}, 0, 0
  for n = 1, math.min(AT_ONCE, #apps) do
    running[n] = task.spawn(function()
      while next_one < #apps do
        next_one = next_one + 1
        local i = next_one
        found[i] = {}
        local ok, err = pcall(plan_app, engine, apps[i], options.environment, found[i])
        if not ok and errors.is(err, "cancelled") then error(err, 0) end
        if not ok then found[i] = troubled(apps[i], options.environment, errors.wrap(err, "plan")) end
        done = done + 1
        if options.on_progress then options.on_progress(done, #apps) end
      end
    end)
  end
  for _, each in ipairs(running) do
    local ok, err = each:join()
    if not ok and err then error(err, 0) end
  end
  return found
end

local function summed(found, troubles)
  local result = {
    at = time.now(), places = {}, troubles = troubles,
    summary = { changes = 0, unchanged = 0, refused = 0, errors = 0 },
  }
  local field = { change = "changes", unchanged = "unchanged", refused = "refused", error = "errors" }
  for _, places in ipairs(found) do
    for _, told in ipairs(places) do
      result.places[#result.places + 1] = told
      local name = field[told.outcome]
      result.summary[name] = result.summary[name] + 1
    end
  end
  result.summary.errors = result.summary.errors + #troubles
  return result
end

---Makes a plan. Whether a host works on the state folder makes no difference.
---@async
---@param options PlanOptions
---@return Plan? plan
---@return Err? err With `faults` when the policies have some.
---@return_overload nil, Err
function M.make(options)
  local scratch <close>, problem = fs.temp_dir { prefix = "moontide-plan-" }
  if not scratch then return nil, problem end
  local engine, err = open(options, scratch.path)
  if not engine then return nil, err end
  local _ <close> = task.defer(function()
    engine.draining = true
    engine.ended:notify()
    engine.journal:close()
  end)
  plan_world.reading(discovery.once, engine)
  local apps
  apps, err = chosen(engine, options)
  if not apps then return nil, err end
  local plan_of = summed(plan_apps(engine, options, apps), engine.troubles)
  if options.environment and #plan_of.places == 0 then -- a branch's place that neither is nor comes
    return unknown.environment(assert(apps[1]), options.environment, "plan")
  end
  return plan_of
end

return M
