-- The keel target: an installed keel rolls out, and we watch it happen.
--
-- The policy has pushed the tag that keel follows (a constant one like `staging`, or a version) before a release comes
-- here. apply checks whether keel would ever act on it, wait watches the pods until they run the digest. Nothing is
-- written to the workload: keel 0.22 replaces whole objects and gives up after a write in between.
local errors, kubernetes, rollout = require "errors", require "kubernetes", require "cluster.rollout"
local semver, task, text, time = require "semver", require "task", require "base.text", require "time"
local annotations, reference = require "extensions.keel.annotations", require "images.reference"
local workloads = require "extensions.keel.workload"
local pods_of, watch = require "cluster.rollout.pods", require "cluster.rollout.watch"
local dig = rollout.dig

local M = {}

local LOOK <const> = 5       -- seconds between two observations when nothing changes
local DEFAULT <const> = "@every 1m"

---@class KeelTarget: Target
---@field config table
---@field world World
---@field workload Workload
---@field what string "deployment/web"
---@field client KubernetesClient Opened by whatever is asked first.
local Keel = { follows = true }
Keel.__index = Keel

---@param environment EnvironmentConfig
---@param world World
---@return KeelTarget? target
---@return Err? err
---@return_overload nil, Err
function M.open(environment, world)
  local config = environment.target
  local workload, err = rollout.workload(config.workload)
  if not workload then return nil, err end
  return setmetatable({
    world = world, config = config, workload = workload, what = ("%s/%s"):format(workload.kind:lower(), workload.name),
  }, Keel)
end

---@private
function Keel:fail(code, words, ...)
  if select("#", ...) > 0 then words = words:format(...) end
  return errors.fail(code, text.clean(words, 800), { op = "target.keel", target = self.what })
end

-- keel is away, slow, or waits for people: that says nothing of the release, which is neither good nor bad yet.
local function not_yet(err)
  err.passing = true
  return nil, err
end

---Reads the workload.
---@private
function Keel:object()
  local err
  if not self.client then
    local client
    client, err = self.world.cluster(self.config.cluster or "default")
    if not client then return nil, err end
    self.client, self.namespace = client, self.config.namespace or client.namespace
    self.path = kubernetes.path(self.workload.resource, self.namespace, self.workload.name)
  end
  local object
  object, err = self.client:get(self.path)
  if object then
    object.kind, object.apiVersion = self.workload.kind, self.workload.group
    return object
  end
  return nil, err
end

---@private
function Keel:registry(name) return self.world.registry(name) end

-- ---- what keel would see ----

---The containers that keel would update with an image of this repository, and what its annotations say.
---@private
---@param object table
---@param repository? string nil: of any.
---@return table[]? containers
---@return KeelSettings|Err settings
function Keel:containers(object, repository)
  local settings = annotations.read(object.metadata.annotations, object.metadata.labels)
  local wanted, kept, seen = {}, {}, {}
  for _, name in ipairs(self.config.containers or {}) do wanted[name] = true end
  local kind = self.workload.kind:lower()
  ---@type any
  local view = workloads.keep(kind, {
    metadata = {
      name = self.workload.name, namespace = self.namespace, labels = object.metadata.labels,
      annotations = { ["keel.sh/policy"] = "all" }, -- kept whatever it says
    }, spec = object.spec,
  })
  for _, c in ipairs(view.containers) do
    local ref = reference.parse(c.image)
    local followed = annotations.monitors(settings, c.name) and (not c.init or settings.init_containers)
    if ref and followed and (next(wanted) == nil or wanted[c.name]) then
      if not repository or ref.repository == repository then
        c.reference = ref
        kept[#kept + 1] = c
      end
    end
    seen[#seen + 1] = ("%s (%s)"):format(c.name, c.image)
  end
  if #kept == 0 then
    return self:fail("invalid", "no container of %s that keel monitors runs %s; it has: %s", self.what,
      repository or "an image that can be read", table.concat(seen, ", "))
  end
  return kept, settings
end

-- Why keel would never act on a tag for one container; nil when it would, or has.
local function never(settings, c, tag, version)
  local ref, policy = c.reference, settings.policy
  if ref.digest then
    return ("container %s is pinned by digest, which keel takes for its tag: apply the manifest with a tag again")
      :format(c.name)
  end
  if version and ref.tag == version then return nil end
  if version then
    local allowed, reason = semver.allows(policy, ref.tag, version,
      { match_prerelease = settings.match_prerelease, match_tag = settings.match_tag })
    if not allowed then return ("keel.sh/policy %s at %s would not take %s: %s"):format(policy.text, ref.tag, version,
      tostring(reason)) end
    return nil
  end
  if policy.kind ~= "force" then
    return ("keel.sh/policy %s goes by other tags and never takes %s again: it needs force with keel.sh/matchTag")
      :format(policy.text, tag)
  elseif c.pull ~= "Always" then
    return ("imagePullPolicy of container %s is %s: keel would restart it with the image that the node has; %s")
      :format(c.name, c.pull, "a constant tag needs Always")
  end
end

---Whether keel would act on this release, and by which schedule it looks.
---@private
---@return table? plan
---@return Err? err
---@return_overload nil, Err
function Keel:plan(object, request)
  local ref = reference.parse(request.image)
  if not ref then return self:fail("invalid", "'%s' is no image", request.image) end
  local list, settings = self:containers(object, ref.repository) ---@type any, any
  if not list then return nil, settings end
  if not settings.policy then
    return self:fail("invalid", "keel would never act on %s: it has no keel.sh/policy%s", self.what,
      settings.why and " (" .. settings.why .. ")" or "")
  elseif settings.trigger ~= "poll" then
    return self:fail("invalid", "keel would act on %s only when a webhook tells it: keel.sh/trigger is not poll",
      self.what)
  elseif settings.approvals_error then
    return self:fail("invalid", "keel would never act on %s: %s", self.what, settings.approvals_error)
  end
  local tag = request.version or list[1].reference.tag
  for _, c in ipairs(list) do
    local why = never(settings, c, tag, request.version)
    if why then return self:fail("invalid", "keel would never act on %s: %s", self.what, why) end
  end
  return {
    tag = tag, containers = list, settings = settings, constant = request.version == nil, name = ref.name,
    schedule = settings.schedule or DEFAULT,
  }
end

-- ---- apply ----

---Checks whether keel will roll this out. Nothing is changed, but for a constant tag that goes back with a rollback.
---@async
---@param request TargetRequest
---@return true?, Err?
function Keel:apply(request)
  local object, err = self:object()
  if not object then return nil, err end
  local plan
  plan, err = self:plan(object, request)
  if not plan then return nil, err end
  local registry = self:registry(plan.name)
  local points
  points, err = registry:digest(plan.tag)
  if not points and not errors.is(err, "not_found") then return nil, err end
  if points ~= request.digest and request.restored and plan.constant then
    local ok
    ok, err = registry:tag(request.digest, plan.tag)
    if not ok then return nil, err end
  elseif points ~= request.digest then
    return self:fail("mismatch", "%s:%s, which keel follows, points to %s and not to %s: push it before the release",
      plan.name, plan.tag, points or "nothing", request.digest)
  end
  if request.hooks then
    local votes = plan.settings.approvals > 0 and (", after %d approvals in keel"):format(plan.settings.approvals) or ""
    request.hooks.output("stdout", ("%s:%s is there; keel looks for it %s%s"):format(plan.name, plan.tag, plan.schedule,
      votes))
  end
  return true
end

-- ---- what runs ----

-- The digests that the containers report, by how many pods; pods on their way out do not count.
local function digests(list, pods)
  local names, count, unknown = {}, {}, 0
  for _, c in ipairs(list) do names[c.name] = true end
  for _, pod in ipairs(pods) do
    if not dig(pod, "metadata", "deletionTimestamp") then
      for _, group in ipairs { "containerStatuses", "initContainerStatuses" } do
        for _, status in ipairs(dig(pod, "status", group) or {}) do
          local digest = names[status.name] and reference.digest(status.imageID)
          if digest then
            count[digest] = (count[digest] or 0) + 1
          elseif names[status.name] then
            unknown = unknown + 1
          end
        end
      end
    end
  end
  return count, unknown
end

---@private
function Keel:pods(object)
  if object.kind == "CronJob" then return {} end
  local path = kubernetes.path("pods", self.namespace)
  local list, err = self.client:list(path, { labelSelector = watch.selector(object) })
  return list and list.items, err
end

---@async
---@return Running?, Err?
function Keel:current()
  local object, err = self:object()
  if not object then
    if errors.is(err, "not_found") then return nil end
    return nil, err
  end
  local list, wrong = self:containers(object)
  if not list then return nil, wrong --[[@as Err]] end
  local pods
  pods, err = self:pods(object)
  if not pods then return nil, err end
  local first, status = list[1], rollout.status(object)
  local running = { image = first.image, state = status.text, digest = first.reference.digest }
  if semver.tag(first.reference.tag or "") then running.version = first.reference.tag end
  local count = digests({ first }, pods)
  local digest = next(count)
  if digest and not next(count, digest) then
    running.digest = digest
  elseif digest then
    running.state = running.state .. "; its pods run different images"
  end
  if status.state == "done" then
    running.healthy = true
  else
    local faults = pods_of.all_faults(pods_of.newest(object, pods, watch.sets(self.client, object)))
    for _, fault in ipairs(faults) do
      if fault.weight == "fatal" or fault.crashed then running.healthy = false end
    end
    if status.state == "failed" then running.healthy = false end
    if #faults > 0 then running.state = running.state .. "; " .. pods_of.words(faults) end
  end
  return running
end

-- ---- wait ----

-- When keel last touched the pods' description, from what Go's time.Now().String() writes.
local function update_time(object)
  local meta = dig(object, "spec", "template", "metadata")
  if object.kind == "CronJob" then meta = dig(object, "spec", "jobTemplate", "metadata") end
  local written = dig(meta, "annotations", "keel.sh/update-time")
  local day, clock, zone = tostring(written):match("^(%d+%-%d+%-%d+) (%d+:%d+:%d+[%d.]*) ([+-]%d%d%d%d)")
  if not day then return written, nil end
  ---@cast zone string
  return written, (time.parse_iso(("%sT%s%s:%s"):format(day, clock, zone:sub(1, 3), zone:sub(4))))
end

---@private
function Keel:children(name, digest)
  if self.known_children then return self.known_children end
  local manifest, children = self:registry(name):manifest(digest), {}
  for _, child in ipairs(manifest and manifest.children or {}) do children[child.digest] = true end
  if manifest then self.known_children = children end
  return children
end

---Whether all pods run the digest, or the images of its index.
---@private
function Keel:runs(plan, count, unknown, digest)
  if unknown > 0 or next(count) == nil then return false end
  for found in pairs(count) do
    if found ~= digest and not self:children(plan.name, digest)[found] then return false end
  end
  return true
end

-- Whether keel has done its part: the tag is the wanted one, and the newest pods have what a constant one points to;
-- while they do not tell, a rollout since this was decided is taken for it. Pods of before say nothing: what is taken
-- back runs in some of them, and what keel rolled out for the release before is not for this one.
---@private
function Keel:has_acted(plan, object, list, began, newest)
  for _, c in ipairs(list) do
    if c.reference.tag ~= plan.tag then return false end
  end
  if not plan.constant then return true end
  local count = digests(list, newest)
  for found in pairs(count) do
    if found == began.digest or self:children(plan.name, began.digest)[found] then return true end
  end
  if next(count) then return false end
  local written, at = update_time(object)
  return written ~= began.written or at ~= nil and at > began.since
end

---One observation. true: it runs; nil and an error: it never will; false and words: not yet.
---@private
function Keel:look(object, pods, plan, request, began)
  local list, err = self:containers(object, assert(reference.parse(request.image)).repository)
  if not list then return nil, err end
  local count, unknown = digests(list, pods)
  local newest = pods_of.newest(object, pods, watch.sets(self.client, object))
  local acted = self:has_acted(plan, object, list, began, newest)
  local status = rollout.status(object)
  if object.kind == "CronJob" then
    if acted then return true end
  elseif status.state == "done" and self:runs(plan, count, unknown, request.digest) then
    return true
  elseif status.state == "done" and status.wanted == 0 and acted then
    return true
  end
  began.acted = acted
  if not acted then
    local votes = plan.settings.approvals
    return false, ("keel has not acted: it looks for %s:%s %s%s"):format(plan.name, plan.tag, plan.schedule,
      votes > 0 and (", and asks people for %d votes"):format(votes) or "")
  end
  local faults = pods_of.all_faults(newest)
  local words = pods_of.words(faults)
  local told = words ~= "" and "; " .. words or ""
  if status.state == "failed" then return self:fail("unhealthy", "the rollout failed: %s", status.text .. told) end
  local now, failing = time.monotonic(), false
  for _, fault in ipairs(faults) do
    if fault.weight == "fatal" then return self:fail("unhealthy", "the rollout failed: %s", status.text .. told) end
    failing = failing or fault.weight == "stuck"
  end
  began.failing = failing and (began.failing or now) or nil
  if began.failing and now - began.failing > self.config.patience then
    return self:fail("unhealthy", "the rollout stands still: %s", status.text .. told)
  end
  if status.state == "done" then
    local digest = next(count)
    return false, ("keel acted, but the pods run %s"):format(digest or "an image that they do not name")
  end
  return false, "keel acted: " .. status.text .. told
end

---Follows the workload and its pods until fn, asked after each change, gives something.
---@private
function Keel:follow(object, seconds, fn)
  local changed = task.signal()
  local function on_change() changed:notify() end
  local pods
  if object.kind ~= "CronJob" then
    local err
    pods, err = self.client:follow(kubernetes.path("pods", self.namespace),
      { labelSelector = watch.selector(object) }, { on_change = on_change })
    if not pods then return nil, err end
  end
  local objects, wrong = self.client:follow(self.path, nil, { on_change = on_change })
  local _ <close> = task.defer(function()
    if pods then pods:close() end
    if objects then objects:close() end
  end)
  if not objects then return nil, wrong end
  local last = time.monotonic() + seconds
  while true do
    local _, now = next(objects:items())
    if not now then return self:fail("unhealthy", "it is gone: somebody deleted it") end
    now.kind, now.apiVersion = self.workload.kind, self.workload.group
    local list = {}
    for _, pod in pairs(pods and pods:items() or {}) do list[#list + 1] = pod end
    local done, err = fn(now, list)
    if done or done == nil then return done, err end
    local left = last - time.monotonic()
    if left <= 0 then return false, err end
    changed:wait(math.min(left, LOOK))
  end
end

---Watches keel do it, until every pod runs the digest.
---@async
---@param request TargetRequest
---@return true?, Err?
function Keel:wait(request)
  local object, err = self:object()
  if not object then return nil, err end
  local plan
  plan, err = self:plan(object, request)
  if not plan then return nil, err end
  local began = { written = (update_time(object)), since = request.since or time.now(), digest = request.digest }
  local seconds, said = request.timeout or self.config.timeout, nil
  local done, words = self:follow(object, seconds, function(now, pods)
    local ok, why = self:look(now, pods, plan, request, began)
    if ok == false and why ~= said and request.hooks then
      said = why
      request.hooks.progress(why)
    end
    return ok, why
  end)
  if done then return true end
  if done == nil then return nil, words end
  local late = ("not done in %s: %s"):format(time.words(seconds), words)
  if began.acted then return self:fail("unhealthy", "%s", late) end
  return not_yet(select(2, self:fail("timeout", "%s; is keel running, and does its log say why not?", late)))
end

---Nothing is kept that could go.
---@return true
function Keel.settle() return true end

return M
