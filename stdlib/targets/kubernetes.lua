-- The kubernetes target: a workload of a cluster gets the image by digest, and its rollout is followed by watch.
--
-- Either an existing workload (exactly the named containers are patched), or the manifests of the app's
-- repository at the released commit (targets/manifests.lua). What we wrote stands in annotations on the workload, so
-- that every call finds out from the cluster what was done: after a crash at any point the way is walked again. Writes
-- bear the resourceVersion that was read: a foreign change in between is read, never overwritten unseen.
local errors, json, kubernetes, log, rollout, text, time = require "errors", require "json", require "kubernetes",
  require "log", require "cluster.rollout", require "base.text", require "time"
local event, identity, patch, pods_of, watch = require "cluster.rollout.event", require "cluster.rollout.identity",
  require "cluster.rollout.patch", require "cluster.rollout.pods", require "cluster.rollout.watch"
local reference = require "images.reference"
local dig = rollout.dig

local M = {}

local CONFLICTS <const> = 5 -- writes in between that are read and tried again
local LOOK_EVERY <const> = 1 -- seconds, whether a paused rollout goes on
local LONG_UNREADY <const> = 30 -- seconds without any ready pod after which a release is called unhealthy

---@class KubernetesTarget: Target
---@field environment EnvironmentConfig
---@field config table
---@field world World
---@field workload Workload
---@field what string "deployment/web"
---@field client KubernetesClient Opened by whatever is asked first.
---@field package who Deliverer Set with the client.
local Kubernetes = {}
Kubernetes.__index = Kubernetes

---@param environment EnvironmentConfig
---@param world World
---@return KubernetesTarget? target
---@return Err? err
---@return_overload nil, Err
function M.open(environment, world)
  local config = environment.target
  local workload, err = rollout.workload(config.workload)
  if not workload then return nil, err end
  return setmetatable({
    environment = environment, world = world, config = config, workload = workload,
    what = ("%s/%s"):format(workload.kind:lower(), workload.name),
  }, Kubernetes)
end

---Opens the cluster, and finds out who we are.
---@private
function Kubernetes:ready()
  if self.client then return true end
  local client, err = self.world.cluster(self.config.cluster or "default")
  if not client then return nil, err end
  local id
  id, err = identity.of(self.world.config.state)
  if not id then return nil, err end
  self.who = {
    host = identity.host(), id = id, app = self.environment.app, environment = self.environment.name,
  }
  self.namespace = self.config.namespace or client.namespace
  self.path = kubernetes.path(self.workload.resource, self.namespace, self.workload.name)
  self.client = client
  return true
end

---@private
function Kubernetes:missing()
  local words = "there is no %s in namespace %s: check `namespace` and `workload`, create it, or name its `manifests`"
  return errors.fail("not_found", words:format(self.what, self.namespace), { op = "target.apply", target = self.what })
end

-- ---- what runs ----

-- The digest that the pods of a workload report; nil when they do not agree, or say none.
local function digest_of_pods(pods, chosen)
  local digest
  local names = {}
  for _, c in ipairs(chosen.containers) do names[c.name] = true end
  for _, pod in ipairs(pods) do
    for _, status in ipairs(dig(pod, "status", "containerStatuses") or {}) do
      if names[status.name] and status.state and status.state.running then
        local own = patch.digest(status.imageID)
        if not own or digest and digest ~= own then return nil end
        digest = own
      end
    end
  end
  return digest
end

-- Whether a workload whose rollout is not done is well: false when its pods say why not, nil: unknown.
local function well(status, newest, faults)
  if status.state == "failed" then return false end
  for _, fault in ipairs(faults) do
    if fault.weight == "fatal" or fault.weight == "stuck" and fault.crashed then return false end
  end
  if status.wanted == 0 or #newest == 0 then return nil end
  local latest
  for _, pod in ipairs(newest) do
    if pods_of.ready(pod) then return nil end
    local condition = rollout.condition(pod, "Ready") or {}
    local since = time.parse_iso(condition.lastTransitionTime or dig(pod, "metadata", "creationTimestamp") or "")
    if since then latest = math.max(latest or since, since) end
  end
  if latest and time.now() - latest > LONG_UNREADY then return false end
  return nil
end

---@private
function Kubernetes:pods(object)
  if object.kind == "CronJob" then return {} end
  local list, err = self.client:list(kubernetes.path("pods", self.namespace),
    { labelSelector = watch.selector(object) })
  if not list then return nil, err end
  return list.items
end

---@async
---@return Running?, Err?
function Kubernetes:current()
  local ok, err = self:ready()
  if not ok then return nil, err end
  local object
  object, err = self.client:get(self.path)
  if not object then
    if errors.is(err, "not_found") then return nil end
    return nil, err
  end
  local chosen
  chosen, err = patch.choose(object, self.config)
  if not chosen then return nil, err end
  local status = rollout.status(object)
  local image, differing = patch.image(chosen)
  local running = {
    image = image, digest = patch.digest(image), state = status.text, generation = patch.generation(object),
    host = patch.annotation(object, "host"),
  }
  if differing then
    running.state, running.healthy = "its containers have different images: " .. differing, false
    return running
  end
  if status.state == "done" then running.healthy = true end
  if status.state ~= "done" or not running.digest then
    local pods
    pods, err = self:pods(object)
    if not pods then return nil, err end
    if not running.digest then
      running.digest = digest_of_pods(pods_of.newest(object, pods), chosen)
      running.image = running.digest and reference.parts(image --[[@as string]]) .. "@" .. running.digest or image
    end
    if status.state ~= "done" then
      local newest = pods_of.newest(object, pods, watch.sets(self.client, object))
      local faults = pods_of.all_faults(newest)
      running.healthy = well(status, newest, faults)
      if #faults > 0 then running.state = running.state .. "; " .. pods_of.words(faults) end
    end
  end
  -- The annotations count for the digest that they were written with, and for no other.
  local told = patch.annotation(object, "digest")
  running.foreign = told ~= nil and told ~= running.digest or nil
  if running.digest and told == running.digest then
    running.commit, running.version = patch.annotation(object, "commit"), patch.annotation(object, "version")
    if patch.annotation(object, "state") == self.who.id then
      running.release = math.tointeger(tonumber(patch.annotation(object, "release")))
    end
  end
  return running
end

-- ---- apply ----

---The containers that get the image: those that the request names, else the configuration's.
---@param object table
---@param request TargetRequest
---@return {containers: table[], initContainers: table[]}? chosen
---@return Err? err
---@return_overload nil, Err
function Kubernetes:choose(object, request)
  local choice = (request.containers or request.init_containers) and request or self.config
  return patch.choose(object, choice --[[@as ContainerChoice]])
end

local function named(request)
  return request.version or text.short(request.commit or request.digest)
end

---Writes an Event of what we do.
---@private
function Kubernetes:tell(object, request, what, words)
  object.kind, object.apiVersion = self.workload.kind, self.workload.group
  event.write(self.client, object, what, ("%s %s"):format(self.who.id, request.release), words)
end

-- Says whose field manager will want the image back.
local function warn_owner(object, chosen, hooks)
  if not hooks then return end
  for group, list in pairs(chosen) do
    for _, c in ipairs(list) do
      for _, owner in ipairs(patch.managers(object, group, c.name)) do
        if owner.operation == "Apply" and owner.manager ~= "moontide" then
          hooks.output("stderr", ("the image of container %s also belongs to %s, by server-side apply: its next apply"
            .. " may put another one there"):format(c.name, owner.manager))
        end
      end
    end
  end
end

---What forbids to write now. A paused rollout is waited for, since it was paused on purpose.
---@private
function Kubernetes:may_write(object, chosen, request)
  if dig(object, "metadata", "deletionTimestamp") then
    return errors.fail("conflict", self.what .. " is being deleted", { op = "target.apply", target = self.what })
  end
  if object.kind == "Deployment" and dig(object, "spec", "paused") == true and patch.image(chosen) ~= request.image then
    return errors.fail("busy", ("somebody paused %s; nothing was changed (kubectl -n %s rollout resume %s)"):format(
      self.what, self.namespace, self.what), { op = "target.apply", target = self.what, paused = true })
  end
  return patch.fence(object, request, self.who)
end

---Reads, judges and patches once. Gives true, or nil with the conflict of a write in between.
---@private
function Kubernetes:patch_once(request)
  local object, err = self.client:get(self.path, nil, { managed_fields = true })
  if not object then
    if errors.is(err, "not_found") then return self:missing() end
    return nil, err
  end
  local chosen
  chosen, err = self:choose(object, request)
  if not chosen then return nil, err end
  if patch.applied(object, chosen, request, self.who) then return object end
  local ok
  ok, err = self:may_write(object, chosen, request)
  if not ok then return nil, err end
  warn_owner(object, chosen, request.hooks)
  local apply = self.config.server_side
  local body = patch.body(object, chosen, request, self.who, json.null, apply)
  return self.client:patch(self.path, body, apply and "apply" or "strategic", apply and { force = true } or nil)
end

---@async
---@param request TargetRequest
---@return true?, Err?
function Kubernetes:apply(request)
  local ok, err = self:ready()
  if not ok then return nil, err end
  local last, conflicts = time.monotonic() + self.config.timeout, 0
  repeat
    local object
    if self.config.manifests and request.commit then
      object, err = require("targets.manifests").apply(self, request)
    else
      object, err = self:patch_once(request)
    end
    if object then
      self:tell(object, request, "releasing", ("%s by %s: %s"):format(named(request), request.by or "moontide",
        request.digest))
      return true
    end
    -- Written in between, or by an attempt whose answer was lost: what is there now decides.
    local pause
    if errors.is(err, "conflict") and err.status == 409 and conflicts < CONFLICTS then
      conflicts = conflicts + 1
      pause = 0.01 * 2 ^ conflicts
    elseif err.paused then
      pause = LOOK_EVERY
      if request.hooks then request.hooks.progress(err.message) end
    end
    if pause then time.sleep(pause) end
  until not pause or time.monotonic() > last
  return nil, err
end

-- ---- wait and settle ----

---Whether the workload still has what this request gave it; else who changed it.
---@private
function Kubernetes:expected(request)
  return function(object)
    local chosen, err = self:choose(object, request)
    if not chosen then return nil, err end
    if patch.digest(patch.image(chosen)) == request.digest then return true end
    -- Who it was stands in what a list leaves out.
    local whole = self.client:get(self.path, nil, { managed_fields = true })
    chosen = whole and self:choose(whole, request)
    if not chosen then whole, chosen = object, assert(self:choose(object, request)) end
    if patch.digest(patch.image(chosen)) == request.digest then return true end
    local words = patch.foreign(whole, chosen, request) or "its image is another one"
    return errors.fail("conflict", "somebody else changed it while it was being released: " .. words,
      { op = "target.wait", target = self.what })
  end
end

---@async
---@param request TargetRequest
---@return true?, Err?
function Kubernetes:wait(request)
  local ok, err = self:ready()
  if not ok then return nil, err end
  ok, err = watch.wait {
    client = self.client, namespace = self.namespace, workload = self.workload, expected = self:expected(request),
    timeout = request.timeout or self.config.timeout, patience = self.config.patience, hooks = request.hooks,
  }
  if ok then return true end
  if errors.is(err, "unhealthy") or errors.is(err, "conflict") then self:failed(request, err.message) end
  return nil, err
end

---A release failed, here or in its checks: the cluster's events say so.
---@async
---@param request TargetRequest
---@param why string
function Kubernetes:failed(request, why)
  local ok = self:ready()
  local object = ok and self.client:get(self.path)
  if object then self:tell(object, request, "failed", ("%s failed: %s"):format(named(request), why)) end
end

---Nothing is kept that could go: the cluster keeps old revisions by its own limits.
---@async
---@param request TargetRequest
---@return true?, Err?
function Kubernetes:settle(request)
  local ok, err = self:ready()
  if not ok then return nil, err end
  local object
  object, err = self.client:get(self.path)
  if not object then
    log.warn("what was released cannot be looked at", { target = self.what, error = tostring(err) })
    return true
  end
  local name = patch.annotation(object, "version") or text.short(patch.annotation(object, "commit"))
  local by = patch.annotation(object, "by") or "moontide"
  self:tell(object, request, request.restored and "restored" or "released", text.clean(request.restored
    and ("%s runs again, put back by %s: %s"):format(name, by, request.digest)
    or ("%s runs and proved itself, released by %s: %s"):format(name, by, request.digest), 900))
  return true
end

---Deletes what the manifests of the released commit made. A workload that was there before is left to people.
---@async
---@param request table
---@return true?, Err?
function Kubernetes:destroy(request)
  local ok, err = self:ready()
  if not ok then return nil, err end
  if not self.config.manifests then
    return errors.fail("unsupported", "a workload that comes from no manifests of the repository is not taken down",
      { op = "target.destroy", target = self.what })
  end
  local object
  object, err = self.client:get(self.path)
  if not object then return errors.is(err, "not_found") or nil, err end
  local commit, owner = patch.annotation(object, "commit"), patch.annotation(object, "app")
  if not commit or owner ~= self.who.app or patch.annotation(object, "environment") ~= self.who.environment then
    return errors.fail("denied", ("%s was not put there by this environment"):format(self.what),
      { op = "target.destroy", target = self.what })
  end
  if request.hooks then request.hooks.output("stdout", ("deletes %s and its manifests"):format(self.what)) end
  return require("targets.manifests").destroy(self, commit)
end

return M
