-- Follows a rollout by watch until it is done, has failed, or stands still, and says why in the pods' own words.
--
-- What only a change can heal fails at once; what may pass (an image that cannot be pulled, a container that crashes, a
-- quota) fails when it has lasted `patience`; when it was a registry out of reach, with a transient error. That no node
-- takes a pod is waited for until the time is over: a node may come.
local errors, kubernetes, log, rollout, task, text, time = require "errors", require "kubernetes", require "log",
  require "cluster.rollout", require "task", require "base.text", require "time"
local network = require "base.network"
local pods_of = require "cluster.rollout.pods"
local targets = require "targets"
local dig = rollout.dig

local M = {}

local LOG_LINES <const> = 12
local STALE <const> = 10 -- seconds after which we check the clock, and what keeps us from following
local FAILURES <const> = 5 -- of following, in a row
local CALM <const> = 0.05 -- seconds between two observations: many pods change at once

---@class RolloutRequest
---@field client KubernetesClient
---@field namespace string
---@field workload Workload
---@field expected fun(object: table): true?, Err? Whether it is still ours; an error ends the wait.
---@field timeout Seconds
---@field patience Seconds
---@field hooks? {output: fun(stream: string, line: string), progress: fun(text: string, done?: number, total?: number)}
---@field op? string

---@class RolloutWatch: RolloutRequest
---@field package what string
---@field package since table<string, number> When a fault was first seen.
---@field package pulls table<string, string|false> Why a container's image last could not be pulled, when it was the
--- network: a kubelet that waits for its next attempt does not repeat it.
---@field package warned? boolean
---@field package freed table<string, boolean> Pods that were deleted because they were in the way.
---@field package sets? table[]
---@field package sets_of? string
local Watch = {}
Watch.__index = Watch

---The query that finds the pods of a workload.
---@param object table
---@return string labelSelector
function M.selector(object)
  local parts, selector = {}, dig(object, "spec", "selector") or {}
  for k, v in pairs(selector.matchLabels or {}) do parts[#parts + 1] = ("%s=%s"):format(k, v) end
  for _, e in ipairs(selector.matchExpressions or {}) do
    local values = table.concat(e.values or {}, ",")
    if e.operator == "In" then parts[#parts + 1] = ("%s in (%s)"):format(e.key, values)
    elseif e.operator == "NotIn" then parts[#parts + 1] = ("%s notin (%s)"):format(e.key, values)
    elseif e.operator == "Exists" then parts[#parts + 1] = e.key
    elseif e.operator == "DoesNotExist" then parts[#parts + 1] = "!" .. e.key end
  end
  table.sort(parts)
  return table.concat(parts, ",")
end

---The ReplicaSets of a Deployment; nil when we may not see them, or for other kinds.
---@async
---@param client KubernetesClient
---@param object table
---@return table[]? sets
function M.sets(client, object)
  if object.kind ~= "Deployment" then return nil end
  local list = client:list(kubernetes.path("replicasets", object.metadata.namespace),
    { labelSelector = M.selector(object) })
  return list and list.items
end

---The last lines of a container, clean and without secrets; "" when unknown.
---@async
---@param client KubernetesClient
---@param namespace string
---@param fault PodFault
---@return string
function M.said(client, namespace, fault)
  if not fault.crashed or not fault.container then return "" end
  for _, previous in ipairs(fault.previous and { true, false } or { false, true }) do
    local lines = client:log_tail(namespace, fault.pod, {
      container = fault.container, tail = LOG_LINES, previous = previous or nil,
    })
    if #lines > 0 then return targets.last_words(table.concat(lines, "\n"), LOG_LINES) end
  end
  return ""
end

-- ---- one observation ----

-- Reasons of a container whose image is not there yet (kubelet: pkg/kubelet/images/types.go).
local PULLING <const> = { ErrImagePull = true, ImagePullBackOff = true, RegistryUnavailable = true }

local function key_of(fault) return ("%s/%s"):format(fault.pod, fault.container) end

---Remembers what the network has to do with an image that cannot be pulled.
---@private
function Watch:notice(fault)
  if not PULLING[fault.reason] then return end
  local code = network.code(fault.text) or fault.reason == "RegistryUnavailable" and "unreachable"
  if code or fault.reason ~= "ImagePullBackOff" then self.pulls[key_of(fault)] = code end
end

---The code of what the network did to all of these faults; nil when something else is wrong with one.
---@private
function Watch:unreachable(faults)
  local code
  for _, fault in ipairs(faults) do
    code = PULLING[fault.reason] and self.pulls[key_of(fault)]
    if not code then return nil end
  end
  return code
end

---@private
function Watch:complain(words, faults, code)
  local reasons = pods_of.words(faults)
  if reasons ~= "" then words = words .. "; " .. reasons end
  local said = ""
  for _, fault in ipairs(faults) do
    said = M.said(self.client, self.namespace, fault)
    if said ~= "" then break end
  end
  return targets.complain(code or "unhealthy", words, said, { op = self.op, target = self.what })
end

---Pods of the newest revision, and those of before.
---@private
function Watch:sort(object, pods)
  local revision = dig(object, "metadata", "annotations", "deployment.kubernetes.io/revision")
  if object.kind == "Deployment" and self.sets_of ~= revision then
    self.sets, self.sets_of = M.sets(self.client, object), revision
  end
  local newest, is_new, old = pods_of.newest(object, pods, self.sets), {}, {}
  for _, pod in ipairs(newest) do is_new[pod] = true end
  for _, pod in ipairs(pods) do
    if not is_new[pod] and not dig(pod, "metadata", "deletionTimestamp") then old[#old + 1] = pod end
  end
  return newest, old
end

-- How long a fault has lasted. A container that crashes shows several reasons in turn; it is one fault.
local function lasted(self, key, now)
  self.since[key] = self.since[key] or now
  return now - self.since[key]
end

---The faults that end the wait now, and when the next one would.
---@private
function Watch:ripe(status, faults, pods, now)
  local ripe, next_at, seen = {}, math.huge, {}
  local function consider(key, fault)
    seen[key] = true
    local left = self.patience - lasted(self, key, now)
    if left <= 0 then ripe[#ripe + 1] = fault else next_at = math.min(next_at, left) end
  end
  for _, fault in ipairs(faults) do
    self:notice(fault)
    if fault.weight == "fatal" then
      ripe[#ripe + 1] = fault
    elseif fault.weight == "stuck" then
      consider(key_of(fault), fault)
    end
  end
  local going = false -- pods that go make room in a quota
  for _, pod in ipairs(pods) do going = going or dig(pod, "metadata", "deletionTimestamp") ~= nil end
  if status.blocked and not going then consider("blocked", { blocked = status.blocked }) end
  for key in pairs(self.since) do
    if not seen[key] and key ~= "old" then self.since[key] = nil end
  end
  return ripe, next_at
end

---A StatefulSet waits for a broken pod of the revision before it, for ever: Kubernetes' documentation ("Forced
---rollback") says to delete it by hand. That is done here once for each such pod.
---@private
function Watch:free(object, status, old, now)
  if object.kind ~= "StatefulSet" or status.manual or status.state ~= "progressing" then return math.huge end
  local next_at = math.huge
  for _, pod in ipairs(old) do
    local name, uid = pod.metadata.name, pod.metadata.uid
    local broken = #pods_of.faults(pod) > 0
    if not pods_of.ready(pod) and not self.freed[uid] then
      local left = (broken and 0 or self.patience) - lasted(self, "old", now)
      if left > 0 then
        next_at = math.min(next_at, left)
      else
        self.freed[uid] = true
        local _, err = self.client:delete(kubernetes.path("pods", self.namespace, name),
          { preconditions = { uid = uid } })
        self:output(err and ("pod %s is in the way and cannot be deleted: %s"):format(name, err.message)
          or ("deleted pod %s of the release before: it is not ready, and the StatefulSet would wait for it")
            :format(name))
      end
    end
  end
  return next_at
end

---@private
function Watch:output(line)
  if self.hooks then self.hooks.output("stdout", log.redact(text.clean(line, 500))) end
end

---Says how far it is, when that changed.
---@private
function Watch:progress(status, faults)
  local words = status.text
  if status.blocked then words = words .. "; " .. status.blocked end
  local reasons = pods_of.words(faults)
  if reasons ~= "" then words = words .. "; " .. reasons end
  if words == self.words then return end
  self.words = words
  if self.hooks then
    self.hooks.progress(log.redact(words), math.min(status.updated, status.available), status.wanted)
  end
end

---One observation. Gives true when it is done, an error when it never will be, else for how many seconds to wait.
---@private
function Watch:look(object, pods)
  local ok, err = self.expected(object)
  if not ok then return nil, err end
  local status = rollout.status(object)
  if status.state == "done" then
    self:progress(status, {})
    return true
  end
  local newest, old = self:sort(object, pods)
  local faults, now = pods_of.all_faults(newest), time.monotonic()
  self:progress(status, faults)
  self.latest = { status = status, faults = faults, newest = newest }
  if status.state == "failed" then return self:complain("it failed: " .. status.text, faults) end
  local ripe, next_at = self:ripe(status, faults, pods, now)
  if #ripe > 0 then
    local words = ("it stands still: %s"):format(status.text)
    local told = {}
    for _, fault in ipairs(ripe) do
      if fault.blocked then words = words .. "; " .. fault.blocked else told[#told + 1] = fault end
    end
    return self:complain(words, #told > 0 and told or faults, #told == #ripe and self:unreachable(told) or nil)
  end
  return math.min(next_at, self:free(object, status, old, now), STALE)
end

-- ---- the wait ----

local FOLLOWED <const> = { __close = function(followed)
  followed.objects:close()
  if followed.pods then followed.pods:close() end
end }

---Follows the workload and its pods, with one signal for both. Without the right to see pods the reasons are missing,
---and nothing else.
---@private
function Watch:follow(object)
  local changed = task.signal()
  local options = { on_change = function() changed:notify() end }
  local client, namespace = self.client, self.namespace
  local objects, err = client:follow(kubernetes.path(self.workload.resource, namespace, self.workload.name), nil,
    options)
  if not objects then return nil, err end
  local pods, denied
  if object.kind ~= "CronJob" then
    pods, denied = client:follow(kubernetes.path("pods", namespace), { labelSelector = M.selector(object) },
      { on_change = options.on_change, keep = pods_of.slim })
    if denied then self:output("why pods do not run cannot be told: " .. denied.message) end
  end
  return setmetatable({ objects = objects, pods = pods, changed = changed }, FOLLOWED)
end

local function values(reflector)
  local list = {}
  for _, item in pairs(reflector and reflector:items() or {}) do list[#list + 1] = item end
  return list
end

-- What keeps us from following, when it will not mend by itself.
local function lost(reflector)
  local err = reflector.err
  if err and reflector.failures >= FAILURES and (err.code == "denied" or err.code == "unauthorized") then return err end
end

---Waits for the rollout of an object.
---@async
---@param object table
---@return true? ok
---@return Err? err
function Watch:run(object)
  local last = time.monotonic() + self.timeout
  local followed <close>, problem = self:follow(object)
  if not followed then return nil, problem end
  while true do
    local item = values(followed.objects)[1]
    if not item and followed.objects.synced then
      return errors.fail("unhealthy", "it is gone: somebody deleted it", { op = self.op, target = self.what })
    end
    local pause = STALE
    if item then
      item.kind, item.apiVersion = self.workload.kind, self.workload.group -- lists leave them out
      object = item
      local next_look, err = self:look(object, values(followed.pods))
      if next_look == true then return true end
      if not next_look then return nil, err end
      pause = next_look
    end
    local trouble = lost(followed.objects)
    if trouble then return nil, trouble end
    local left = last - time.monotonic()
    if left <= 0 then return self:late(followed.objects, object) end
    if followed.changed:wait(math.min(left, math.max(CALM, pause))) then time.sleep(CALM) end
  end
end

---The time is over. While the cluster is out of reach the state of the release is unknown: a transient error.
---@private
function Watch:late(objects, object)
  local trouble = objects.err
  if trouble then
    return errors.fail(trouble.code, "the cluster cannot be watched: " .. trouble.message,
      { op = self.op, target = self.what, cause = trouble })
  end
  local latest = self.latest
  local words = ("it did not finish in %s: %s"):format(time.words(self.timeout),
    latest and latest.status.text or rollout.status(object).text)
  if latest and latest.status.blocked then words = words .. "; " .. latest.status.blocked end
  local faults = latest and latest.faults or {}
  if #faults == 0 and latest then
    local unready = pods_of.unready(latest.newest)
    if unready ~= "" then words = words .. "; " .. unready end
  end
  return self:complain(words, faults, self:unreachable(faults))
end

---Waits for the rollout of a workload.
---@async
---@param options RolloutRequest
---@return true? ok
---@return Err? err unhealthy, with the reasons of the pods and the last words of one that crashed.
---@return_overload nil, Err
function M.wait(options)
  local self = setmetatable({ since = {}, freed = {}, pulls = {} }, Watch)
  for k, v in pairs(options --[[@as table<string, any>]]) do rawset(self, k, v) end
  self.op = self.op or "target.wait"
  self.what = ("%s/%s"):format(self.workload.kind:lower(), self.workload.name)
  local object, err = self.client:get(kubernetes.path(self.workload.resource, self.namespace, self.workload.name))
  if not object then
    if errors.is(err, "not_found") then
      return errors.fail("unhealthy", "it is gone: somebody deleted it", { op = self.op, target = self.what })
    end
    return nil, err
  end
  return self:run(object)
end

return M
