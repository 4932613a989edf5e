-- The helmsman target: a release is a set of versions that desired state files put out together.
--
-- helmsman runs here as a program, or as a Job made from a CronJob's template. It plans first; the plan is in the
-- run's log, and only when it has changes they are applied. One context has one run at a time: in this host by a lock,
-- elsewhere by the Jobs' label and by helm's own pending states. What was under way when helmsman or we were killed is
-- on disk before it begins, so that the next attempt knows which pending releases are its own leavings and puts them
-- right; those of others are waited for and then reported.
local errors, fs, json, log, task, time = require "errors", require "fs", require "json", require "log",
  require "task", require "time"
local bundle = require "extensions.charts.bundle"
local output, plans = require "extensions.helmsman.output", require "extensions.helmsman.plan"
local releases = require "extensions.helmsman.releases"
local targets = require "targets"

local M = {}

local LOOK_EVERY <const> = 3
local PENDING_WAIT <const> = 120 -- seconds that another helm gets to end

---@class HelmsmanTarget: Target
---@field app string
---@field environment string
---@field config table
---@field cfg Config
---@field folder string
---@field memory string
---@field pending_wait Seconds How long a Helm release by another program is waited for.
---@field destroy fun(self, request: TargetRequest): true?, Err? Takes everything of the context down.
local Helmsman = {}
Helmsman.__index = Helmsman

---@param environment EnvironmentConfig
---@param world World
---@return HelmsmanTarget
function M.open(environment, world)
  local cfg = world.config
  local name = (environment.app .. "@" .. require("targets").called(environment, "@")):gsub("/", "_")
  return setmetatable({
    app = environment.app, environment = environment.name, config = environment.target, world = world, cfg = cfg,
    folder = ("%s/helmsman/%s"):format(cfg.state, name), pending_wait = PENDING_WAIT,
    memory = ("%s/helmsman/%s.json"):format(cfg.state, name),
  }, Helmsman)
end

-- ---- one at a time ----

local CONTEXTS <const> = {} -- whose keys are cluster and context

-- Calls fn while no other task of this host works on the context.
local function alone(self, request, last, fn)
  local key = self.config.cluster .. "\0" .. self.config.context
  local words = ("another run works on context %s"):format(self.config.context)
  local turn <close> = task.lock(CONTEXTS, key, 0) or (function()
    if request.hooks then request.hooks.progress(words) end
    return task.lock(CONTEXTS, key, last - time.monotonic())
  end)()
  if not turn then return errors.fail("busy", words, { op = "target.apply", target = "helmsman" }) end
  return fn()
end

-- ---- what is remembered ----

---@class HelmsmanMemory
---@field applied? table What was applied last: digest, image, version, versions, commit, release, revisions
---@field underway? {release: integer, act: string, at: number, plan: HelmsmanDecision[]} Began, and did not end.

---@return HelmsmanMemory? memory
---@return Err? err
---@return_overload nil, Err
local function remembered(self)
  local body, err = fs.read(self.memory, { max = 4 << 20 })
  if not body then
    if errors.is(err, "not_found") then return {} end
    return nil, err
  end
  local value = json.decode(body)
  if type(value) == "table" then return value end
  log.warn("what the helmsman target remembered cannot be read", { file = self.memory })
  return {}
end

local function remember(self, memory)
  local ok, err = fs.mkdir(self.cfg.state .. "/helmsman", { parents = true, mode = 448 }) -- 0700
  if not ok then return nil, err end
  return fs.write(self.memory, assert(json.encode(memory)), { mode = 384 })
end

-- ---- the cluster ----

local function client_of(self) return self.world.cluster(self.config.cluster) end

-- Without the right to list releases there are none here: helmsman finds them itself.
local function unless_denied(value, err)
  if value == nil and (errors.is(err, "denied") or errors.is(err, "unauthorized")) then return false end
  return value, err
end

local function runner(self)
  if self.config.run == "process" then
    return require("extensions.helmsman.command").open(self.config, self.cfg, self.folder)
  end
  local client, err = client_of(self)
  if not client then return nil, err end
  return require("extensions.helmsman.job").open(self.config, self, client)
end

-- The releases of our context; false without the right to list them. `names`: only these, when others share the
-- context.
local function releases_now(self, names)
  local client, err = client_of(self)
  if not client then return nil, err end
  local found, wrong = unless_denied(releases.of_context(client, self.config.context, self.config.namespaces))
  if not found or not names then return found, wrong end
  local list, wanted = {}, {}
  for _, name in ipairs(names) do wanted[name] = true end
  for _, r in ipairs(found) do
    if wanted[r.name] then list[#list + 1] = r end
  end
  return list
end

local function fail(code, message)
  return errors.fail(code, message, { op = "target.apply", target = "helmsman" })
end

-- ---- before it begins ----

-- Calls look() until nothing is in the way; its second result says what is.
local function wait_until_free(request, last, look)
  local told
  while true do
    local busy, err = look()
    if busy == nil and err then return nil, err end
    if not busy then return true end
    if time.monotonic() + LOOK_EVERY > last then return fail("busy", busy) end
    if busy ~= told and request.hooks then request.hooks.progress(busy) end
    told = busy
    time.sleep(LOOK_EVERY)
  end
end

-- Waits until no Job of others works on the context. The second result: one of this very release does, and is what a
-- run before a crash of ours has begun.
local function wait_for_jobs(self, request, last)
  local client, err = client_of(self)
  if not client then return nil, err end
  local jobs = require "extensions.helmsman.job"
  local cronjob = self.config.run ~= "process" and self.config.run.cronjob or nil
  local namespace, name = (cronjob or ""):match("^([^/]+)/([^/]+)$")
  local own, mine = jobs.own(self, request.release), false
  local free, busy = wait_until_free(request, last, function()
    local names, wrong = unless_denied(jobs.working(client, self.config.context, namespace, name, own))
    if not names then return names, wrong end
    mine = names.own[1] ~= nil
    local other = names.others[1]
    return other and ("the Job %s works on context %s"):format(other, self.config.context) or false
  end)
  if not free then return nil, busy end
  return true, mine
end

-- Pending releases of unknown origin: another program works on them, or was killed.
local function wait_for_others(self, request, last)
  return wait_until_free(request, math.min(last, time.monotonic() + self.pending_wait), function()
    local now, err = releases_now(self)
    if not now then return now, err end
    for _, r in ipairs(now) do
      if releases.pending(r) then
        local history = releases.history(client_of(self), r.namespace, r.name)
        return ("release %s in namespace %s is in the middle of an operation (%s since %s); %s"):format(r.name,
          r.namespace, r.status, r.at > 0 and time.iso(r.at) or "?",
          output.way_out(r.name, r.namespace, r.status, history and releases.last_good(history)))
      end
    end
    return false
  end)
end

-- ---- after a death ----

-- One release that helmsman was working on when it died: back to what was whole, without taking away what runs.
local function put_right(self, client, request, d)
  local history, err = unless_denied(releases.history(client, d.namespace, d.release))
  if not history then return history, err end
  local newest = history[1]
  if not newest or (not releases.pending(newest) and newest.context == self.config.context) then return true end
  if releases.pending(newest) then
    if self.config.run ~= "process" then
      return fail("busy", ("release %s in namespace %s was left %s by a helmsman that was killed; %s"):format(
        newest.name, newest.namespace, newest.status,
        output.way_out(newest.name, newest.namespace, newest.status, releases.last_good(history))))
    end
    local words
    if newest.status == "uninstalling" then
      words = { "uninstall", newest.name, "--namespace", newest.namespace }
    else
      words = { "rollback", newest.name, tostring(releases.last_good(history)), "--namespace", newest.namespace }
    end
    if request.hooks then
      request.hooks.output("stdout", ("release %s in namespace %s was left %s by a helmsman that was killed: helm %s")
        :format(newest.name, newest.namespace, newest.status, table.concat(words, " ", 1, #words - 2)))
    end
    local result
    result, err = runner(self):helm(words, {
      env = self:variables_now(), timeout = self.config.timeout, hooks = request.hooks, release = request.release,
    })
    if not result then return nil, err end
    if result.code ~= 0 then
      return nil, output.failure(result.said, result.how, { op = "target.apply", target = "helm" })
    end
    history, err = releases.history(client, d.namespace, d.release)
    if not history then return nil, err end
  end
  return releases.mark(client, history, self.config.context)
end

-- Where the releases of a plan are: helmsman does not always say in which namespace.
local function placed(self, decisions)
  local known, list = {}, {}
  for _, r in ipairs(releases_now(self) or {}) do
    known[r.name] = known[r.name] or {}
    table.insert(known[r.name], r.namespace)
  end
  for _, d in ipairs(decisions) do
    local changes = d.action ~= "keep" and d.action ~= "ignore"
    for _, namespace in ipairs(changes and d.release and (d.namespace and { d.namespace } or known[d.release]) or {}) do
      list[#list + 1] = { release = d.release, namespace = namespace, action = d.action }
    end
  end
  return list
end

-- What a helmsman of ours left that did not come to its end.
local function recover(self, request, memory)
  local left = memory.underway
  if not left then return true end
  local client, err = client_of(self)
  if not client then return nil, err end
  for _, d in ipairs(placed(self, left.plan)) do
    local ok
    ok, err = put_right(self, client, request, d)
    if ok == nil then return nil, err end
  end
  return true
end

-- ---- the act ----

---The environment that the configuration adds.
---@private
function Helmsman:variables_now()
  return assert(targets.variables(self.config.env))
end

-- What helmsman's files may name: the release, and a variable for each version.
local function environment(self, request, known)
  local env, err = targets.variables(self.config.env)
  if not env then return nil, err end
  env.APP, env.ENVIRONMENT = self.app, self.environment
  env.IMAGE, env.DIGEST, env.COMMIT, env.VERSION = request.image, request.digest, request.commit, request.version
  env.RELEASE = request.release and tostring(request.release)
  -- A release that is put back has its versions in its image only; what goes has those that it came with.
  local versions = request.versions or bundle.versions(request.image or known and known.image or "") or {}
  for name, version in pairs(versions) do env[self.config.variables[name] or bundle.variable(name)] = version end
  return env
end

local function call_of(request, env, last)
  return {
    env = env, timeout = math.max(1, last - time.monotonic()), hooks = request.hooks, release = request.release,
    attempt = request.digest,
  }
end

-- The releases that a plan is about, whether it changes them or not.
local function names_of(decisions)
  local names, seen = {}, {}
  for _, d in ipairs(decisions) do
    if d.release and d.action ~= "ignore" and d.action ~= "delete" and not seen[d.release] then
      seen[d.release], names[#names + 1] = true, d.release
    end
  end
  return names
end

-- Plans; nil when that fails.
local function plan(self, act, call)
  local result, err = runner(self):call(act, call)
  if not result then return nil, err end
  local found = plans.read(result.said)
  -- A status of 2 also comes of a flag that this helmsman does not know: without a plan it is no plan.
  local empty = result.code == 0 and (found.complete or result.said:find("No apps", 1, true))
  if not (empty or result.code == 2 and found.complete) then
    if result.unread then return nil, result.unread end
    return nil, output.failure(result.said, result.how, { op = "target.apply", target = "helmsman" })
  end
  if call.hooks then call.hooks.progress("plan: " .. plans.words(found)) end
  log.info("helmsman planned", { app = self.app, environment = self.environment, plan = plans.words(found) })
  found.changing = result.code == 2
  return found
end

local function carry_out(self, act, memory, decisions, call)
  memory.underway = { release = call.release, act = act, at = time.now(), plan = json.array(decisions) }
  local ok, err = remember(self, memory)
  if not ok then return nil, err end
  local result
  result, err = runner(self):call(act, call)
  if not result then return nil, err end -- it stays under way: what it did is not known
  -- Here helmsman itself ends with 0 or 1. Anything else was done to it, and what it was doing is half done: a Go
  -- program that is the first of its container ends with 2 at SIGTERM, since there the signal cannot kill it.
  if result.code == 0 or result.code == 1 then memory.underway = nil end
  if result.code == 0 then return true end
  err = output.failure(result.said, result.how, { op = "target." .. act, target = "helmsman" })
  ok = remember(self, memory)
  if not ok then log.warn("the helmsman target cannot write what it knows", { file = self.memory }) end
  return nil, err
end

-- Everything from the lock to the end of one act; `plan_act` first, `act` when that has changes.
local function perform(self, request, plan_act, act, done)
  local last = time.monotonic() + self.config.timeout
  -- The lock comes before anything that waits: runs get it in the order in which they came.
  return alone(self, request, last, function()
    local ok
    local memory, err = remembered(self)
    if not memory then return nil, err end
    local before = act == "apply" and memory.applied
    if before and before.release == request.release and before.digest == request.digest then return true end
    local env
    env, err = environment(self, request, memory.applied)
    if not env then return nil, err end
    local working
    ok, working = wait_for_jobs(self, request, last)
    if not ok then return nil, working end
    if not working then -- else what is pending is what our own Job works on
      ok, err = recover(self, request, memory)
      if ok then ok, err = wait_for_others(self, request, last) end
      if not ok then return nil, err end
    end
    local found
    found, err = plan(self, plan_act, call_of(request, env, last))
    if not found then return nil, err end
    if found.changing then
      ok, err = carry_out(self, act, memory, found.decisions, call_of(request, env, last))
      if not ok then return nil, err end
    end
    memory.underway = nil
    return done(memory, names_of(found.decisions))
  end)
end

-- ---- the words of a target ----

-- Which revision each release has now, to detect changes by others later.
local function revisions(self, names)
  local now, err = releases_now(self, names)
  if not now then
    if err then log.warn("the releases cannot be looked at", { app = self.app, error = tostring(err) }) end
    return nil
  end
  local list = {}
  for _, r in ipairs(now) do list[r.namespace .. "/" .. r.name] = r.revision end
  return list
end

---@async
---@param request TargetRequest
function Helmsman:apply(request)
  return perform(self, request, "plan", "apply", function(now, names)
    now.applied = {
      digest = request.digest, image = request.image, commit = request.commit, version = request.version,
      versions = request.versions, release = request.release,
      names = json.array(names), revisions = revisions(self, names),
    }
    return remember(self, now)
  end)
end

---Takes everything of the context down; helmsman leaves what its files protect.
---@async
---@param request TargetRequest
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function Helmsman:destroy(request)
  return perform(self, request, "plan destroy", "destroy", function(memory)
    memory.applied = nil
    return remember(self, memory)
  end)
end

-- What the releases of the context say of their health: nil when there is nothing to say.
local function health(now)
  for _, r in ipairs(now) do
    if r.status ~= "deployed" and r.status ~= "superseded" and r.status ~= "uninstalled" then
      return false, ("release %s in namespace %s is %s"):format(r.name, r.namespace, r.status)
    end
  end
  return true
end

-- Whether the releases are those that we left.
local function unchanged(known, now)
  if not known then return true end
  local count = 0
  for _, r in ipairs(now) do
    local was = known[r.namespace .. "/" .. r.name]
    if was and was ~= r.revision then return false, r.namespace .. "/" .. r.name end
    if was then count = count + 1 end
  end
  for key in pairs(known) do
    count = count - 1
    if count < 0 then return false, key end
  end
  return true
end

-- What runs as the app's charts, read out of helm's own records: for a host that has lost its notes, or never had any.
-- Nil unless every chart of the app is there, as the release of its name or of its chart's.
local function adopted(self, now)
  local app = self.cfg.apps and self.cfg.apps[self.app]
  local client = app and app.charts and client_of(self)
  if not client then return nil end
  local by_release, by_chart, parts = {}, {}, {}
  for _, r in ipairs(now) do
    local chart, err = releases.chart(client, r)
    if not chart then
      log.debug("a release cannot be looked into", { release = r.name, error = tostring(err) })
      return nil
    end
    by_release[r.name], by_chart[chart.name] = chart.version, chart.version
  end
  for name, chart in pairs(app.charts) do
    local version = by_release[name] or by_chart[chart.chart or name]
    if not version then return nil end
    parts[#parts + 1] = { name = name, version = version }
  end
  return (bundle.make(parts))
end

---@async
function Helmsman:current()
  local memory, err = remembered(self)
  if not memory then return nil, err end
  local known = memory.applied
  local now
  now, err = releases_now(self, known and known.names)
  if now == nil then return nil, err end
  local running = { state = "applied" }
  local function ours()
    for _, key in ipairs { "digest", "image", "commit", "version", "release" } do running[key] = (known or {})[key] end
    return running
  end
  if not now then return known and ours() end -- no right to list them
  if #now == 0 then return nil end
  local healthy, why = health(now)
  running.state, running.healthy = healthy and "deployed" or why, healthy
  if not known then
    local set = healthy and adopted(self, now)
    if set then running.digest, running.image, running.version = set.digest, set.image, set.version end
    return running
  end
  local same, other = unchanged(known.revisions, now)
  if same then return ours() end
  running.state = ("%s was changed by somebody else%s"):format(other, healthy and "" or "; " .. why)
  return running
end

---helm waited for what its files say with `wait`; here its releases must be whole.
---@async
---@param request TargetRequest
function Helmsman:wait(request)
  local memory = remembered(self)
  local now, err = releases_now(self, memory and memory.applied and memory.applied.names)
  if now == nil then return nil, err end
  if not now then return true end
  local healthy, why = health(now)
  if healthy then return true end
  return errors.fail("unhealthy", why --[[@as string]], { op = "target.wait", target = tostring(request.release) })
end

---Nothing is kept here that could go.
function Helmsman.settle() return true end

return M
