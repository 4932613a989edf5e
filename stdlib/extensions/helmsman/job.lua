-- helmsman as a Job of the cluster, made from a CronJob's template: its image, its service account, its secrets.
--
-- Only arguments and environment of the copied spec are ours, and that nothing in it repeats itself: backoffLimit 0,
-- restartPolicy Never. The name comes from the release and from what is asked, so that a run that goes on after a
-- crash finds its Job instead of making a second one. No ownerReference: the CronJob's controller would count it in
-- its history and delete it; it goes an hour after its end, by ttlSecondsAfterFinished.
local errors, hash, json, kubernetes, time = require "errors", require "hash", require "json", require "kubernetes",
  require "time"
local flags = require "extensions.helmsman.flags"
local job_end = require("cluster.rollout").job_end

local M = {}

local KEEP <const> = 3600 -- seconds after the end
local CONTEXT_LABEL <const> = "moontide.dev/helmsman-context"
local LOOK_EVERY <const> = 2
local SAID_MAX <const> = 4 << 20

-- What keeps a pod from starting and does not pass by itself.
local HOPELESS <const> = {
  ErrImagePull = true, ImagePullBackOff = true, InvalidImageName = true, CreateContainerConfigError = true,
  CreateContainerError = true, RunContainerError = true,
}

---@class HelmsmanJob: HelmsmanRunner
---@field config table
---@field place {app: string, environment: string}
---@field client KubernetesClient
---@field namespace string
---@field cronjob string
local Job = {}
Job.__index = Job

---@param config table The target's configuration, with `run.cronjob`.
---@param place {app: string, environment: string}
---@param client KubernetesClient
---@return HelmsmanJob
function M.open(config, place, client)
  local namespace, name = config.run.cronjob:match("^([^/]+)/([^/]+)$")
  return setmetatable({
    config = config, place = place, client = client, namespace = namespace, cronjob = name,
  }, Job)
end

---A text as the value of a label.
---@param text string
---@return string
local function label(text)
  if #text <= 63 and text:find("^%w[%w_.-]*$") and text:find("%w$") then return text end
  return hash.sha256(text):sub(1, 40)
end

---Jobs that work on a context now: those of others, and those of a release itself.
---@async
---@param client KubernetesClient
---@param context string
---@param namespace? string nil: everywhere
---@param cronjob? string Also those that this CronJob made by its schedule.
---@param own fun(name: string): boolean
---@return {others: string[], own: string[]}? names "namespace/name"
---@return Err? err
---@return_overload nil, Err
function M.working(client, context, namespace, cronjob, own)
  local query = cronjob and {} or { labelSelector = CONTEXT_LABEL .. "=" .. label(context) }
  local found, err = client:list(kubernetes.path("job", namespace), query)
  if not found then return nil, err end
  local names = { others = {}, own = {} } ---@type {others: string[], own: string[]}
  for _, job in ipairs(found.items) do
    local meta = job.metadata
    local counts = (meta.labels or {})[CONTEXT_LABEL] == label(context)
    for _, owner in ipairs(meta.ownerReferences or {}) do
      counts = counts or cronjob ~= nil and owner.kind == "CronJob" and owner.name == cronjob
    end
    if counts and not job_end(job) then
      local list = own(meta.name) and names.own or names.others
      list[#list + 1] = meta.namespace .. "/" .. meta.name
    end
  end
  return names
end

-- ---- the Job ----

-- "helmsman-web-production-12-": all Jobs of one release begin so.
local function prefix(place, release)
  local words = ("%s-%s"):format(place.app, place.environment):lower():gsub("[^a-z0-9-]", "-"):sub(1, 28)
  return ("helmsman-%s-%s-"):format(words:gsub("%-+$", ""), release)
end

---The names of a release's own Jobs.
---@param place {app: string, environment: string}
---@param release integer|string
---@return fun(name: string): boolean
function M.own(place, release)
  local begins = prefix(place, release)
  return function(name) return name:sub(1, #begins) == begins end
end

-- The container that is helmsman: the named one, or the only one.
local function container_of(self, spec)
  local list = spec.containers or {}
  if self.config.container then
    for _, c in ipairs(list) do
      if c.name == self.config.container then return c end
    end
    return errors.fail("invalid", ("the CronJob %s/%s has no container %s"):format(self.namespace, self.cronjob,
      self.config.container), { op = "helmsman.job" })
  end
  if #list == 1 then return list[1] end
  return errors.fail("invalid", ("the CronJob %s/%s has %d containers: name helmsman's in `container`"):format(
    self.namespace, self.cronjob, #list), { op = "helmsman.job" })
end

-- The container's own words: `command` names the program, flags stand behind it or in `args`.
local function words_of(self, container)
  local program, said = {}, {}
  for _, word in ipairs(container.command or {}) do
    local into = (#said > 0 or word:find("^%-")) and said or program
    into[#into + 1] = word
  end
  for _, word in ipairs(container.args or {}) do said[#said + 1] = word end
  local kept, wrong = flags.kept(said, self.config)
  if kept then return program, kept end
  return errors.fail("invalid", ("the container %s of CronJob %s/%s is not called with helmsman's flags: %s"):format(
    container.name, self.namespace, self.cronjob, wrong), { op = "helmsman.job" })
end

local function set_env(container, env)
  local list, names = {}, {}
  for _, item in ipairs(container.env or {}) do
    if env[item.name] == nil then list[#list + 1] = item end
  end
  for name in pairs(env) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do list[#list + 1] = { name = name, value = env[name] } end
  container.env = json.array(list)
end

-- The Job as it should be.
local function made_of(self, template, act, call)
  local spec = template.spec
  local pod = spec and spec.template and spec.template.spec
  if not pod then return errors.fail("protocol", "the CronJob has no template", { op = "helmsman.job" }) end
  local container, err = container_of(self, pod)
  if not container then return nil, err end
  local program, kept = words_of(self, container)
  if not program then return nil, kept end
  container.command = program[1] and json.array(program) or nil
  container.args = json.array(flags.make(self.config, act, kept --[[@as any]]))
  set_env(container, call.env)
  spec.backoffLimit, spec.ttlSecondsAfterFinished = 0, KEEP
  spec.activeDeadlineSeconds = math.ceil(call.timeout)
  spec.parallelism, spec.completions, spec.suspend = nil, nil, nil
  pod.restartPolicy = "Never"
  local meta = template.metadata or {}
  local labels, annotations = {}, { ["cronjob.kubernetes.io/instantiate"] = "manual" }
  for name, value in pairs(meta.labels or {}) do labels[name] = value end
  for name, value in pairs(meta.annotations or {}) do annotations[name] = value end
  labels["app.kubernetes.io/managed-by"], labels[CONTEXT_LABEL] = "moontide", label(self.config.context)
  annotations["moontide.dev/app"], annotations["moontide.dev/environment"] = self.place.app, self.place.environment
  annotations["moontide.dev/release"] = tostring(call.release)
  local what = assert(json.encode { act, container.args, container.env, call.attempt or "" })
  local name = prefix(self.place, call.release) .. act:gsub(" ", "-") .. "-" .. hash.sha256(what):sub(1, 8)
  return {
    apiVersion = "batch/v1", kind = "Job", spec = spec,
    metadata = { name = name, namespace = self.namespace, labels = labels, annotations = annotations },
  }, container.name
end

-- Finds the Job of this call, or makes it.
local function begin(self, act, call)
  local cronjob, err = self.client:get(kubernetes.path("cronjob", self.namespace, self.cronjob))
  if not cronjob then return nil, err end
  local job, container = made_of(self, cronjob.spec.jobTemplate, act, call)
  if not job then return nil, container end
  local made
  made, err = self.client:create(kubernetes.path("job", self.namespace), job)
  if not made and not errors.is(err, "exists") then return nil, err end
  return job.metadata.name, container
end

-- ---- following it ----

local function status_of(pod, container)
  for _, status in ipairs(pod.status and pod.status.containerStatuses or {}) do
    if status.name == container then return status.state or {} end
  end
  return {}
end

-- Where a Job is: its newest pod, and whether that has come to something.
local function look(self, name, container)
  local job, err = self.client:get(kubernetes.path("job", self.namespace, name))
  if not job then return nil, err end
  local pods
  pods, err = self.client:list(kubernetes.path("pod", self.namespace),
    { labelSelector = "batch.kubernetes.io/job-name=" .. name })
  if not pods then return nil, err end
  local pod = pods.items[#pods.items]
  local now = { finished = job_end(job), pod = pod and pod.metadata.name }
  local _, condition = job_end(job)
  now.reason = condition and (condition.message or condition.reason)
  if pod then
    local state = status_of(pod, container)
    now.running, now.ended = state.running ~= nil, state.terminated
    now.waiting = state.waiting
    for _, each in ipairs(pod.status and pod.status.conditions or {}) do
      if each.type == "PodScheduled" and each.status == "False" then now.waiting = now.waiting or each end
    end
  end
  return now
end

local function fail(self, name, code, message)
  return errors.fail(code, ("the Job %s/%s %s"):format(self.namespace, name, message),
    { op = "helmsman.job", target = self.namespace .. "/" .. name })
end

-- Waits until fn(now) gives something.
local function until_found(self, name, container, last, hooks, fn)
  local told
  while true do
    local now, err = look(self, name, container)
    if not now then return nil, err end
    local found, wrong = fn(now)
    if found ~= nil or wrong then return found, wrong end
    local waiting = now.waiting and (now.waiting.reason or "waiting")
    if time.monotonic() > last then
      local _, late = fail(self, name, "timeout", ("has not come to an end in time%s"):format(
        waiting and (" (%s)"):format(now.waiting.message or waiting) or ""))
      late.passing = false -- as for helmsman beside the host
      return nil, late
    end
    if waiting and waiting ~= told and hooks then hooks.progress(("the Job %s waits: %s"):format(name, waiting)) end
    told = waiting
    time.sleep(LOOK_EVERY)
  end
end

local function started(self, name)
  return function(now)
    if now.running or now.ended then return now end
    if now.waiting and HOPELESS[now.waiting.reason] then
      return fail(self, name, "failed", ("does not start: %s"):format(now.waiting.message or now.waiting.reason))
    end
    if now.finished == "Complete" then return now end
    if now.finished then return fail(self, name, "failed", "failed: " .. (now.reason or "no reason given")) end
  end
end

local function over(self, name)
  return function(now)
    if now.ended then return now end
    if now.finished == "Complete" then return { ended = { exitCode = 0 } } end
    if now.finished then return fail(self, name, "failed", "failed: " .. (now.reason or "no reason given")) end
  end
end

-- What the container says, line by line into the run's log; the text of it all, and why it is not all.
local function listen(self, now, container, hooks)
  local said, size = {}, 0
  local function on_line(line)
    size = size + #line + 1
    if size <= SAID_MAX then said[#said + 1] = line end
    if hooks then hooks.output("stdout", line) end
  end
  local ok, err = self.client:logs(self.namespace, now.pod, { container = container, follow = true, on_line = on_line })
  if not ok and hooks then hooks.output("stderr", "the Job's log broke off: " .. tostring(err)) end
  return table.concat(said, "\n"), not ok and err or nil
end

---Runs helmsman.
---@async
---@param act HelmsmanAct
---@param call HelmsmanCall
---@return HelmsmanResult? result
---@return Err? err timeout: the Job was deleted; what it was doing may be half done
---@return_overload nil, Err
function Job:call(act, call)
  local last = time.monotonic() + call.timeout
  local name, container = begin(self, act, call)
  if not name then return nil, container end
  if call.hooks then call.hooks.output("stdout", ("Job %s/%s: helmsman %s"):format(self.namespace, name, act)) end
  local now, err = until_found(self, name, container, last, call.hooks, started(self, name))
  local said, unread = "", nil
  if now and now.pod then said, unread = listen(self, now, container, call.hooks) end
  if now then now, err = until_found(self, name, container, last, call.hooks, over(self, name)) end
  if not now then
    if errors.is(err, "timeout") then self.client:delete(kubernetes.path("job", self.namespace, name)) end
    return nil, err
  end
  local code = now.ended.exitCode
  local how = (now.ended.signal or 0) ~= 0 and "signal " .. now.ended.signal or "exit status " .. tostring(code)
  if now.ended.reason and now.ended.reason ~= "Error" and now.ended.reason ~= "Completed" then
    how = ("%s (%s)"):format(how, now.ended.reason)
  end
  return { code = code, how = how, said = said, unread = unread }
end

return M
