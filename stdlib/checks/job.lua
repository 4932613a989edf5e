-- A Kubernetes Job as a check: made from a CronJob's template or from a manifest of the repository, once a release.
--
-- Its name is made of the run, so a run that was interrupted finds its Job instead of starting another. The Job sees
-- the release in its environment; containers that have the app's image get the released one. It has no owner (the
-- CronJob's controller would delete it by its history limits, k8s pkg/controller/cronjob) and goes when it has been
-- read; else an hour after its end.
local errors, hash, kubernetes, log, rollout, task, text, time = require "errors", require "hash", require "kubernetes",
  require "log", require "cluster.rollout", require "task", require "base.text", require "time"
local identity, manifest, patch, pods_of = require "cluster.rollout.identity", require "cluster.rollout.manifest",
  require "cluster.rollout.patch", require "cluster.rollout.pods"
local targets = require "targets"
local reference = require "images.reference"
local tables = require "base.tables"
local PREFIX <const> = require("base.labels").PREFIX
local dig = rollout.dig

local M = {}

local PATIENCE <const> = 30 -- seconds that a pod may fail to start
local KEPT <const> = 3600 -- seconds after its end
local DRAIN <const>, QUIET <const> = 5, 0.5 -- seconds for the last lines; without any, when all has ended
local WORDS <const> = 6 -- lines in an error
local MAX_NAME <const> = 63

-- ---- what it is ----

-- The environment of a release, as checks see it.
local function variables(request)
  return {
    APP = request.app, ENVIRONMENT = request.environment, IMAGE = request.image, DIGEST = request.digest,
    COMMIT = request.commit, VERSION = request.version, RELEASE = request.release and tostring(request.release),
  }
end

-- The repository of an image: without digest and tag.
local function repository_of(image)
  return type(image) == "string" and (reference.parts(image)) or nil
end

local function set_env(container, env)
  local list = {}
  for _, entry in ipairs(type(container.env) == "table" and container.env or {}) do
    if type(entry) ~= "table" or not env[entry.name] then list[#list + 1] = entry end
  end
  local names = tables.keys(env)
  for i = #names, 1, -1 do table.insert(list, 1, { name = names[i], value = env[names[i]] }) end -- others may refer
  container.env = list
end

---The Job of a release.
---@param source table A CronJob or a Job.
---@param request VerifyRequest
---@param name string
---@param namespace string
---@return table? job
---@return Err? err
---@return_overload nil, Err
function M.make(source, request, name, namespace)
  local template = source.kind == "CronJob" and dig(source, "spec", "jobTemplate") or source
  local spec = type(template) == "table" and template.spec
  local described = rollout.template { spec = spec }
  local pod = described and described.spec
  if not pod or not pod.containers then
    return errors.fail("invalid", ("%s describes no pod"):format(patch.name(source)), { op = "verify.job" })
  end
  local own, env = repository_of(request.image), variables(request)
  for _, group in ipairs { "initContainers", "containers" } do
    for _, c in ipairs(type(pod[group]) == "table" and pod[group] or {}) do
      set_env(c, env)
      if own and repository_of(c.image) == own then c.image = request.image end
    end
  end
  spec.suspend, spec.selector, spec.manualSelector = nil, nil, nil
  spec.backoffLimit = spec.backoffLimit or 0 -- a check that fails has failed; a template may say otherwise
  spec.ttlSecondsAfterFinished = spec.ttlSecondsAfterFinished or KEPT
  pod.restartPolicy = pod.restartPolicy or "Never"
  local function map(key)
    local value = dig(template, "metadata", key)
    return type(value) == "table" and value or {}
  end
  local labels, annotations = map "labels", map "annotations"
  labels["app.kubernetes.io/managed-by"] = "moontide"
  if source.kind == "CronJob" then annotations["cronjob.kubernetes.io/instantiate"] = "manual" end
  for key, value in pairs { app = request.app, environment = request.environment, commit = request.commit,
    version = request.version, run = request.run, release = request.release } do
    annotations[PREFIX .. key] = text.clean(tostring(value), 200)
  end
  return {
    apiVersion = "batch/v1", kind = "Job", spec = spec,
    metadata = { name = name, namespace = namespace, labels = labels, annotations = annotations },
  }
end

---The name of a release's Job.
---@param what string "cronjob/smoke", "deploy/smoke.yaml"
---@param id string The host's.
---@param request VerifyRequest
---@return string
function M.name(what, id, request)
  local key = hash.sha256(table.concat({ id, request.app, request.environment, tostring(request.run),
    tostring(request.release), what }, "\n")):sub(1, 10)
  local base = assert(what:match("([^/]+)$")):gsub("%.[^.]+$", ""):lower():gsub("[^%w-]+", "-"):gsub("^%-+", "")
  base = base:sub(1, MAX_NAME - #key - 1):gsub("%-+$", "")
  return ("%s-%s"):format(base ~= "" and base or "check", key)
end

-- The only Job or CronJob of a manifest in the repository.
local function from_repository(check, request, world)
  local manifests = require "targets.manifests"
  if not request.commit then
    return errors.fail("invalid", "the release has no commit to take the manifest from", { op = "verify.job",
      target = check.job })
  end
  local repo, err = manifests.repository(request.app, world)
  if not repo then return nil, err end
  local files, list
  files, err = manifests.files(repo, request.commit, check.job)
  if not files then return nil, err end
  list, err = manifest.read(files)
  if not list then return nil, err end
  local found = list[1] and list[1].object
  if #list ~= 1 or found.kind ~= "Job" and found.kind ~= "CronJob" then
    return errors.fail("invalid", check.job .. " must hold one Job or CronJob, and nothing else", { op = "verify.job",
      target = check.job })
  end
  return found
end

-- ---- its life ----

---@class JobCheck
---@field client KubernetesClient
---@field namespace string
---@field name string
---@field path string
---@field check VerifyConfig
---@field request VerifyRequest
---@field last number When its time is over.
---@field said string[] The last lines.
---@field readers table<string, Task>
---@field since table<string, number>
---@field world World
---@field heard number When the last line came.
local Job = {}
Job.__index = Job

---@private
function Job:fail(words, said)
  return targets.complain("unhealthy", ("job %s %s"):format(self.name, words),
    said and targets.last_words(table.concat(self.said, "\n"), WORDS) or nil,
    { op = "verify", target = self.check.job })
end

---Says what it waits for, once.
---@param words string
function Job:progress(words)
  if self.words == words or not self.request.hooks then return end
  self.words = words
  self.request.hooks.progress(log.redact(words))
end

---Reads the CronJob; waits while one of its own jobs runs and it forbids two.
---@private
function Job:cronjob(name)
  while true do
    local path = kubernetes.path("cronjobs", self.namespace, name)
    local source, err = self.client:get(path)
    if not source then return nil, err end
    source.kind, source.apiVersion = "CronJob", "batch/v1"
    local active = dig(source, "status", "active")
    if dig(source, "spec", "concurrencyPolicy") ~= "Forbid" or not active or #active == 0 then return source end
    if time.monotonic() > self.last then
      return self:fail(("could not start: %s still runs, and its cronjob forbids a second"):format(active[1].name))
    end
    self:progress(("waiting for job %s: its cronjob forbids a second"):format(tostring(active[1].name)))
    time.sleep(1)
  end
end

---Finds the Job of this release, or makes it.
function Job:ensure()
  local job, err = self.client:get(self.path)
  if job or not errors.is(err, "not_found") then return job, err end
  local source
  local cronjob = assert(self.check.job):match("^cronjob/(.+)$")
  if cronjob then
    source, err = self:cronjob(cronjob)
  else
    source, err = from_repository(self.check, self.request, self.world)
  end
  if not source then return nil, err end
  local made
  made, err = M.make(source, self.request, self.name, self.namespace)
  if not made then return nil, err end
  job, err = self.client:create(kubernetes.path("jobs", self.namespace), made)
  if errors.is(err, "exists") then return self.client:get(self.path) end
  return job, err
end

---@private
function Job:line(prefix, line)
  self.heard, self.said[#self.said + 1] = time.monotonic(), line
  if #self.said > WORDS then table.remove(self.said, 1) end
  if self.request.hooks then self.request.hooks.output("stdout", prefix .. line) end
end

---Follows the logs of a pod's containers, each once it runs.
---@private
function Job:read(pod)
  local containers = dig(pod, "status", "containerStatuses") or {}
  for _, status in ipairs(containers) do
    local state, key = status.state or {}, ("%s/%s"):format(pod.metadata.uid, status.name)
    if (state.running or state.terminated) and not self.readers[key] then
      local prefix = #containers > 1 and ("[%s] "):format(status.name) or ""
      self.readers[key] = task.spawn(function()
        local _, err = self.client:logs(self.namespace, pod.metadata.name, {
          container = status.name, follow = true, on_line = function(line) self:line(prefix, line) end,
        })
        if err then self:line(prefix, "(its log cannot be read: " .. err.message .. ")") end
      end)
    end
  end
end

---Waits a little for the logs to come to their ends.
---@private
function Job:drain()
  local last = time.monotonic() + DRAIN
  self.heard = time.monotonic()
  for _, reader in pairs(self.readers) do
    while not reader:done() and time.monotonic() < math.min(last, self.heard + QUIET) do reader:join(0.05) end
  end
end

-- Why no pod of it will ever start; nil while there is hope.
local function stuck(self, pods)
  local now, seen = time.monotonic(), {}
  for _, fault in ipairs(pods_of.all_faults(pods)) do
    local key = ("%s/%s"):format(fault.pod, fault.container)
    seen[key] = true
    self.since[key] = self.since[key] or now
    local lasting = fault.weight == "stuck" and not fault.crashed and now - self.since[key] > PATIENCE
    if fault.weight == "fatal" or lasting then
      return pods_of.words { fault }
    end
  end
  for key in pairs(self.since) do
    if not seen[key] then self.since[key] = nil end
  end
end

---Whether it has ended: true, or nil and the error; false while it has not.
---@private
function Job:look(job, pods)
  for _, pod in ipairs(pods) do self:read(pod) end
  local complete, failed = rollout.condition(job, "Complete"), rollout.condition(job, "Failed")
  if complete and complete.status == "True" then
    self:drain()
    return true
  elseif failed and failed.status == "True" then
    self:drain()
    return self:fail(text.clean(("failed (%s: %s)"):format(failed.reason or "?", failed.message or ""), 300), true)
  end
  local why = stuck(self, pods)
  if why then return self:fail("cannot start: " .. why) end
  local faults = pods_of.words(pods_of.all_faults(pods))
  self:progress(("job %s: %d active, %d failed%s"):format(self.name, dig(job, "status", "active") or 0,
    dig(job, "status", "failed") or 0, faults ~= "" and "; " .. faults or ""))
  return false
end

local function values(reflector)
  local list = {}
  for _, item in pairs(reflector and reflector:items() or {}) do list[#list + 1] = item end
  return list
end

---Follows it to its end.
function Job:follow()
  local changed = task.signal()
  local options = { on_change = function() changed:notify() end }
  local jobs <close>, err = self.client:follow(self.path, nil, options)
  if not jobs then return nil, err end
  local pods <close>, denied = self.client:follow(kubernetes.path("pods", self.namespace),
    { labelSelector = "batch.kubernetes.io/job-name=" .. self.name }, options)
  if denied then self:line("", "the job's pods cannot be followed: " .. denied.message) end
  while true do
    local job = values(jobs)[1]
    if not job and jobs.synced then return self:fail("is gone: somebody deleted it", true) end
    if job then
      local ended
      ended, err = self:look(job, values(pods))
      if ended ~= false then return ended, err end
    end
    local left = self.last - time.monotonic()
    if left <= 0 then
      self:drain()
      return self:fail(("did not end in %s"):format(time.words(self.check.within)), true)
    end
    changed:wait(math.min(left, 5))
  end
end

---Lets a Job prove a release. It is deleted when it has ended or its time is over.
---@async
---@param check VerifyConfig
---@param request VerifyRequest
---@param world World
---@return true? ok
---@return Err? err unhealthy, with the last lines of its log.
---@return_overload nil, Err
function M.prove(check, request, world)
  local client, err = world.cluster(check.cluster or "default")
  if not client then return nil, err end
  local id
  id, err = identity.of(world.config.state)
  if not id then return nil, err end
  local name = M.name(assert(check.job), id, request)
  local namespace = check.namespace or client.namespace
  local self = setmetatable({
    client = client, namespace = namespace, name = name, path = kubernetes.path("jobs", namespace, name),
    check = check, request = request, world = world, last = time.monotonic() + check.within, said = {}, readers = {},
    since = {},
  }, Job)
  local job, ok
  repeat
    job, err = self:ensure()
    if job then ok, err = self:follow() end
    local again = not ok and errors.passing(err) and time.monotonic() < self.last
    if again then
      self:progress("waiting for the cluster: " .. err.message)
      time.sleep(1)
    end
  until not again
  if not job then return nil, err end
  for _, reader in pairs(self.readers) do reader:cancel() end
  local gone, problem = client:delete(self.path, { preconditions = { uid = job.metadata.uid } })
  if not gone and not errors.is(problem, "not_found") then
    log.warn("the job of a check could not be deleted", { job = name, error = tostring(problem) })
  end
  return ok, err
end

return M
