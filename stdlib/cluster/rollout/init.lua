-- Rollouts of Kubernetes workloads: which there are, where their pods are described, and how far one has come.
--
-- Pure: an object in, words out. Deployment, StatefulSet and DaemonSet by the rules of kubectl's rollout status
-- (k8s.io/kubectl pkg/polymorphichelpers/rollout_status.go), with two differences: a StatefulSet is done only when all
-- its pods are of the new revision and ready (kubectl answers too early there), and with the OnDelete strategy, of
-- which kubectl says nothing, when people have replaced every pod. A CronJob has no pods to wait for.
local errors, text = require "errors", require "base.text"

local M = {}

---@class Workload
---@field kind "Deployment"|"StatefulSet"|"DaemonSet"|"CronJob"
---@field name string
---@field group "apps/v1"|"batch/v1" Its apiVersion.
---@field resource string "deployments"

---@class RolloutStatus
---@field state "done"|"progressing"|"failed"
---@field text string "2 of 3 updated, 1 available"
---@field wanted integer
---@field updated integer
---@field available integer
---@field paused? boolean The rollout is stopped by spec.paused.
---@field manual? boolean OnDelete: pods are replaced when people delete them.
---@field blocked? string Why no pod can be made (quota, admission), in the cluster's words.

---@type table<string, {kind: string, group: string, resource: string}>
local KINDS <const> = {
  deployment = { kind = "Deployment", group = "apps/v1", resource = "deployments" },
  statefulset = { kind = "StatefulSet", group = "apps/v1", resource = "statefulsets" },
  daemonset = { kind = "DaemonSet", group = "apps/v1", resource = "daemonsets" },
  cronjob = { kind = "CronJob", group = "batch/v1", resource = "cronjobs" },
}

---Whether a text is a name as Kubernetes has them for objects: lower-case letters, digits, "-" and ".", at most 253.
---@param name string
---@return boolean
function M.is_name(name)
  return #name <= 253 and name:find("^[%l%d][%l%d.-]*$") ~= nil and name:find("[%l%d]$") ~= nil
    and not name:find("..", 1, true)
end

---Reads "deployment/web".
---@param what string
---@return Workload? workload
---@return Err? err
---@return_overload nil, Err
function M.workload(what)
  local word, name = what:match("^(%a+)/(.+)$") ---@cast name string
  local known = word and KINDS[word:lower()]
  if not known or not M.is_name(name) then
    return errors.fail("invalid", ("'%s' is no workload: deployment/NAME, statefulset/NAME, daemonset/NAME or"
      .. " cronjob/NAME"):format(text.clean(what, 80)), { op = "rollout.workload" })
  end
  local workload = { kind = known.kind, group = known.group, resource = known.resource, name = name }
  return workload --[[@as Workload]]
end

---The kind of an object as "deployment/web" has it; nil for other kinds.
---@param object table
---@return string? word
function M.word(object)
  for word, known in pairs(KINDS) do
    if known.kind == object.kind and known.group == object.apiVersion then return word end
  end
end

---Gives the field at a path of keys, nil when a table on the way is missing.
---@param value any
---@param ... string|integer
---@return any
local function dig(value, ...)
  for i = 1, select("#", ...) do
    if type(value) ~= "table" then return nil end
    value = value[(select(i, ...))]
  end
  return value
end
M.dig = dig

---A number at a path, 0 when there is none.
---@param value any
---@param ... string
---@return integer
local function count(value, ...) return math.tointeger(tonumber(dig(value, ...))) or 0 end

-- A list of tables, or nothing: manifests come out of repositories, unchecked.
local function containers_in(list)
  if list == nil then return true end
  if type(list) ~= "table" then return false end
  for _, container in pairs(list) do
    if type(container) ~= "table" then return false end
  end
  return true
end

---The description of the pods that a workload makes; CronJobs have it one level deeper.
---@param object table
---@return table? template
function M.template(object)
  local template
  if object.kind == "CronJob" then
    template = dig(object, "spec", "jobTemplate", "spec", "template")
  else
    template = dig(object, "spec", "template")
  end
  local spec = type(template) == "table" and template.spec
  return type(spec) == "table" and containers_in(spec.containers) and containers_in(spec.initContainers) and template
    or nil
end

---A condition of an object's status.
---@param object table
---@param kind string
---@return table? condition
function M.condition(object, kind)
  for _, c in ipairs(dig(object, "status", "conditions") or {}) do
    if c.type == kind then return c end
  end
end

---How a Job ended: kinds of end are conditions that are true.
---@param job table
---@return "Complete"|"Failed"|nil how nil while it works
---@return table? condition
function M.job_end(job)
  for _, c in ipairs(dig(job, "status", "conditions") or {}) do
    if c.status == "True" and (c.type == "Complete" or c.type == "Failed") then return c.type, c end
  end
end

local function said(condition)
  local reason, message = tostring(condition.reason or "?"), condition.message
  if type(message) ~= "string" or message == "" then return reason end
  return text.clean(reason .. ": " .. message, 400)
end

-- ---- one kind each ----

local function words(s)
  local out = ("%d of %d updated, %d available"):format(s.updated, s.wanted, s.available)
  if s.old and s.old > 0 then out = out .. (", %d of before still there"):format(s.old) end
  return out
end

local function deployment(object)
  local status = object.status
  local s = {
    wanted = math.tointeger(dig(object, "spec", "replicas")) or 1, updated = count(status, "updatedReplicas"),
    available = count(status, "availableReplicas"),
  }
  s.old = math.max(0, count(status, "replicas") - s.updated)
  s.done = s.updated >= s.wanted and s.old == 0 and s.available >= s.updated
  s.paused = dig(object, "spec", "paused") == true or nil
  local progressing, failing = M.condition(object, "Progressing"), M.condition(object, "ReplicaFailure")
  if progressing and progressing.reason == "ProgressDeadlineExceeded" and not s.done then
    s.failed = said(progressing)
  end
  if failing and failing.status == "True" then s.blocked = said(failing) end
  return s
end

local function statefulset(object)
  local status, strategy = object.status, dig(object, "spec", "updateStrategy") or {}
  local s = {
    wanted = math.tointeger(dig(object, "spec", "replicas")) or 1, updated = count(status, "updatedReplicas"),
    available = math.min(count(status, "availableReplicas"), count(status, "readyReplicas")),
    manual = strategy.type == "OnDelete" or nil,
  }
  local partition = s.manual and 0 or count(strategy, "rollingUpdate", "partition")
  s.done = s.available >= s.wanted and s.updated >= s.wanted - partition
  -- What counts as updated may still be of a revision in between.
  if partition == 0 and not s.manual and s.wanted > 0 then
    s.done = s.done and dig(status, "currentRevision") == dig(status, "updateRevision")
  end
  return s
end

local function daemonset(object)
  local status = object.status
  local s = {
    wanted = count(status, "desiredNumberScheduled"), updated = count(status, "updatedNumberScheduled"),
    available = count(status, "numberAvailable"),
    manual = dig(object, "spec", "updateStrategy", "type") == "OnDelete" or nil,
  }
  s.done = s.updated >= s.wanted and s.available >= s.wanted
  return s
end

local function cronjob(object)
  local suspended = dig(object, "spec", "suspend") == true
  return {
    wanted = 0, updated = 0, available = 0, done = true,
    words = suspended and "it is suspended: no job runs it until somebody resumes it" or "its next job runs it",
  }
end

local READERS <const> = { Deployment = deployment, StatefulSet = statefulset, DaemonSet = daemonset, CronJob = cronjob }

---How far the rollout of a workload has come.
---@param object table As the API server shows it.
---@return RolloutStatus
function M.status(object)
  local read = READERS[object.kind]
  if not read then error("usage: rollout.status(workload)", 2) end
  local s = read(object) --[[@as table]]
  local seen = object.kind == "CronJob"
    or count(object, "status", "observedGeneration") >= count(object, "metadata", "generation")
  ---@type any
  local out = {
    wanted = s.wanted, updated = s.updated, available = s.available, paused = s.paused, manual = s.manual,
    blocked = s.blocked, state = "progressing", text = s.words or words(s),
  }
  if not seen then
    out.text = "the cluster has not seen the change yet"
    out.blocked = nil
  elseif s.done then
    out.state, out.blocked = "done", nil
  elseif s.failed then
    out.state, out.text = "failed", s.failed
  elseif s.paused then
    out.text = out.text .. "; somebody paused it (kubectl rollout resume)"
  elseif s.manual then
    out.text = out.text .. "; its strategy is OnDelete: it goes on when somebody deletes its old pods"
  end
  return out
end

return M
