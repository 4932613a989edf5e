-- Builds in a cluster: buildah in a Kubernetes Job, one for each image that is to be made.
--
-- Two containers without a shell: `build` fetches the context from this host (contexts.lua: exactly the commit,
-- without what .dockerignore names, so no git credentials leave the host) and builds it, then `push` pushes. A failed
-- build therefore never pushes. The Job's name is made of what is built: a host that comes back finds the one under
-- way and goes on with it. Finished ones go after `keep`; one that ended unseen is made again.
local errors, kubernetes, task = require "errors", require "kubernetes", require "task"
local text, time = require "base.text", require "time"
local failures, contexts = require "images.builder.failure", require "images.builder.contexts"
local manifest = require "images.builder.manifest"
local job_end = require("cluster.rollout").job_end

local M = {}

local LOOK <const> = 2 -- seconds between two reads of what cannot be watched
local LATE <const> = 2 -- seconds for the rest of a log
local GOING <const> = 60 -- seconds for an old Job to go
-- Why a container does not start, when waiting would not help.
local HOPELESS <const> = {
  ErrImagePull = true, ImagePullBackOff = true, InvalidImageName = true, ErrImageNeverPull = true,
  CreateContainerConfigError = true, CreateContainerError = true, RunContainerError = true,
}

---@async
---@return boolean
function M.available() return false end -- a choice for people, not to be found by looking

local function fail(b, code, message)
  return errors.fail(code, message, { op = "image.build", target = b.request.name })
end

-- ---- what the cluster shows ----

-- The youngest pod of the Job.
local function pod_of(pods)
  local found
  for _, pod in pairs(pods:items()) do
    if not found or pod.metadata.creationTimestamp > found.metadata.creationTimestamp then found = pod end
  end
  return found
end

local function state_of(pod, name)
  local status = pod and pod.status or {}
  for _, list in ipairs { status.initContainerStatuses or {}, status.containerStatuses or {} } do
    for _, container in ipairs(list) do
      if container.name == name then return container.state or {} end
    end
  end
  return {}
end

-- Why the pod cannot go on, or what it waits for.
local function obstacle(pod)
  for _, name in ipairs(manifest.CONTAINERS) do
    local waiting = state_of(pod, name).waiting
    if waiting and HOPELESS[waiting.reason] then
      return ("%s: %s"):format(waiting.reason, waiting.message or "no message"), true
    end
  end
  for _, condition in ipairs(pod and pod.status and pod.status.conditions or {}) do
    if condition.type == "PodScheduled" and condition.status == "False" then
      return ("no node for the build: %s"):format(condition.message or condition.reason or "?"), false
    end
  end
end

-- ---- one build ----

-- Deletes a Job and waits until its name is free.
local function clear(b)
  local ok, err = b.client:delete(b.path)
  if not ok and not errors.is(err, "not_found") then return nil, err end
  local last = time.monotonic() + GOING
  repeat
    local job
    job, err = b.client:get(b.path)
    if not job then
      if errors.is(err, "not_found") then return true end
      return nil, err
    end
    time.sleep(0.5)
  until time.monotonic() > last
  return fail(b, "timeout", ("the old job %s does not go"):format(b.name))
end

-- The Job to follow: the one under way, or a new one. The second result says that it was found.
local function obtain(b, anew)
  local job, err = b.client:get(b.path)
  if job and not anew and not job_end(job) and not job.metadata.deletionTimestamp then
    local known = (job.metadata.annotations or {})[manifest.CONTEXT]
    if contexts.is_name(known) then b.context_name = known end
    b.request.hooks.output("stdout", ("going on with job %s/%s"):format(b.namespace, b.name))
    return job, true
  end
  if not job and not errors.is(err, "not_found") then return nil, err end
  if job then
    local ok
    ok, err = clear(b)
    if not ok then return nil, err end
  end
  local made
  made, err = b.client:create(kubernetes.path("job", b.namespace), manifest.job(b))
  if made then b.request.hooks.output("stdout", ("job %s/%s"):format(b.namespace, b.name)) end
  return made, err
end

-- Gives the lines of one container to the hooks.
local function read_log(b, pod, name)
  local hooks = b.request.hooks
  local function each(line)
    line = text.clean(line, 4000)
    if not line:find("%S") then return end
    b.last = line
    local step, steps, words = line:match("^%[?[%d/]*%]? ?STEP (%d+)/(%d+): (.*)$")
    if step then hooks.progress(words, tonumber(step), tonumber(steps)) end
    hooks.output("stdout", line)
  end
  local ok, err = b.client:logs(b.namespace, pod.metadata.name, { container = name, follow = true, on_line = each })
  if not ok then hooks.output("stderr", ("the log of %s cannot be read: %s"):format(name, err.message)) end
end

-- Says what a container says until it has ended. The log's end is waited for a little: it may lag behind, or never
-- come when a node was lost.
local function say(b, jobs, pods, pod, name)
  local log <close> = task.spawn(read_log, b, pod, name)
  repeat
    local over = log:done() or pods:wait(function()
      local found = pod_of(pods)
      return not found or found.metadata.uid ~= pod.metadata.uid or state_of(found, name).terminated ~= nil
    end, LOOK)
    local _, job = next(jobs:items())
  until over or not job or job_end(job)
  log:join(LATE)
end

-- Waits until a container runs or has ended, the Job has, or nothing helps.
local function until_started(b, jobs, pods, name)
  local told
  while true do
    local pod = pods:wait(function()
      local found = pod_of(pods)
      local state = state_of(found, name)
      local _, hopeless = obstacle(found)
      return (state.running or state.terminated or hopeless) and found
    end, LOOK)
    local why, hopeless = obstacle(pod or pod_of(pods))
    if why and hopeless then return fail(b, "failed", ("the build cannot start: %s"):format(text.clean(why, 500))) end
    if pod then return pod end
    local _, job = next(jobs:items())
    if not job then return fail(b, "not_found", ("somebody deleted the job %s"):format(b.name)) end
    if job_end(job) then return false end
    if why and why ~= told then
      told = why
      b.request.hooks.progress(text.clean(why, 200))
    end
  end
end

-- Why a Job failed: the container that did, and its last words.
local function failure(b, condition, pod)
  for _, name in ipairs(manifest.CONTAINERS) do
    local ended = state_of(pod, name).terminated
    if ended and ended.exitCode ~= 0 then
      local words = (b.last or "no output"):gsub("^[Ee]rror: ", ""):sub(1, 1000)
      return nil, failures.new(words, ("buildah %s ended with %d (%s): %s"):format(name, ended.exitCode or -1,
        ended.reason or "Error", words), { op = "image.build", target = b.request.name })
    end
  end
  if condition.reason == "DeadlineExceeded" then
    return failures.too_long(("the job took longer than %s"):format(time.words(b.request.app.build.timeout)),
      { op = "image.build", target = b.request.name })
  end
  return fail(b, "failed", text.clean(("the job failed: %s: %s"):format(condition.reason or "?",
    condition.message or "no message"), 1000))
end

local function follow(b)
  local jobs <close>, err = b.client:follow(b.path)
  if not jobs then return nil, err end
  local pods <close>, problem = b.client:follow(kubernetes.path("pod", b.namespace),
    { labelSelector = "job-name=" .. b.name })
  if not pods then return nil, problem end
  local pod
  for i, name in ipairs(manifest.CONTAINERS) do
    local found
    found, err = until_started(b, jobs, pods, name)
    if found == nil then return nil, err end
    if not found then break end
    pod = found
    if i == #manifest.CONTAINERS then b.request.hooks.progress("pushing") end
    say(b, jobs, pods, pod, name)
  end
  while true do
    local kind, condition
    jobs:wait(function()
      local _, job = next(jobs:items())
      if not job then return true end
      kind, condition = job_end(job)
      return kind
    end, LOOK)
    if kind == "Complete" then return pod_of(pods) or pod or {} end
    if kind == "Failed" then return failure(b, condition, pod_of(pods) or pod) end
    if not next(jobs:items()) then return fail(b, "not_found", ("somebody deleted the job %s"):format(b.name)) end
  end
end

-- The digest that buildah wrote, when the pod still shows it, and what the registry says; they must agree.
local function digest_of(b, pod)
  local digest, err = b.request.registry:digest(b.request.tag)
  if not digest then return nil, err end
  local ended = state_of(pod, "push").terminated
  local told = ended and type(ended.message) == "string" and ended.message:match("^%s*(sha256:%x+)%s*$")
  if told and told ~= digest then
    return fail(b, "mismatch", ("the job pushed %s, but the registry shows %s"):format(told, digest))
  end
  return digest
end

local function attempt(b, anew)
  local job, found = obtain(b, anew)
  if not job then return nil, found end
  local _ <close> = contexts.offer(b.context_name, b.request.archive)
  local pod, err = follow(b)
  if pod then return digest_of(b, pod) end
  -- One that began before this host did may have looked for its context at an old address.
  if found == true and errors.is(err, "failed") and not anew then
    b.request.hooks.output("stdout", "the job from before failed; a new one is made: " .. err.message)
    return attempt(b, true)
  end
  return nil, err
end

---Builds the context and pushes the image.
---@async
---@param request BuildRequest
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.build(request)
  local config = request.cfg.builder
  local client, err = request.world.cluster(config.cluster or "default")
  if not client then return nil, err end
  local b = {
    request = request, client = client, namespace = config.namespace or client.namespace,
    context_name = contexts.name(),
  }
  local base
  base, err = manifest.base(request.cfg)
  if not base then return nil, err end
  b.base, b.name = base, manifest.name(request)
  b.path = kubernetes.path("job", b.namespace, b.name)
  local limit, started = request.app.build.timeout, time.monotonic()
  local ok, digest, why = pcall(task.deadline, limit + GOING, attempt, b)
  if ok then return digest, why end
  if not errors.is(digest, "deadline") or time.monotonic() - started < limit then error(digest, 0) end
  return failures.too_long(("it took longer than %s"):format(time.words(limit)),
    { op = "image.build", target = b.request.name })
end

return M
