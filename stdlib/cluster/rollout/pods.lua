-- Why pods do not run, as their status says. Pure: pods in, reasons out.
local rollout, text = require "cluster.rollout", require "base.text"
local dig = rollout.dig

local M = {}

---@class PodFault
---@field pod string
---@field container? string
---@field reason string "CrashLoopBackOff"
---@field text string With the cluster's message and the exit code.
---@field weight "fatal"|"stuck"|"waiting" fatal: nothing but a change helps. stuck: unless it goes away soon.
---  waiting: it may well go away (a node may come).
---@field restarts integer
---@field crashed? boolean The container ran: it may have a log.
---@field previous? boolean Its output is in the previous container's log.

-- Reasons of waiting containers (kubelet: pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go). Any that
-- is not here and does not mean that things go their way is `stuck`.
local FATAL <const> = { InvalidImageName = true, ErrImageNeverPull = true }
local GOING <const> = { ContainerCreating = true, PodInitializing = true }

-- How a container ended, as people say it.
local function ending(state)
  local code = math.tointeger(state.exitCode)
  local how = code and ("exit code %d"):format(code) or "ended"
  if math.tointeger(state.signal) and state.signal ~= 0 then how = ("signal %d"):format(state.signal) end
  if state.reason and state.reason ~= "Error" and state.reason ~= "Completed" then
    how = ("%s, %s"):format(state.reason, how)
  end
  if type(state.message) == "string" and state.message ~= "" then how = how .. ": " .. state.message end
  return how
end

local function container_fault(pod, status, init)
  local waiting, ended = dig(status, "state", "waiting"), dig(status, "state", "terminated")
  local last, restarts = dig(status, "lastState", "terminated"), math.tointeger(status.restartCount) or 0
  local fault = { pod = dig(pod, "metadata", "name"), container = status.name, restarts = restarts }
  if waiting then
    local reason = tostring(waiting.reason or "waiting")
    if GOING[reason] or not waiting.reason then return nil end
    fault.reason, fault.weight = reason, FATAL[reason] and "fatal" or "stuck"
    fault.text = reason
    if type(waiting.message) == "string" and waiting.message ~= "" then
      fault.text = reason .. ": " .. waiting.message
    end
    if last then
      fault.text = ("%s (%s, %d restart%s)"):format(reason, ending(last), restarts, restarts == 1 and "" or "s")
      fault.crashed, fault.previous = true, true
    end
  elseif ended and (not init or ended.exitCode ~= 0) and dig(pod, "spec", "restartPolicy") ~= "Never" then
    fault.reason, fault.weight, fault.crashed = "Crashed", "stuck", true
    fault.text = ("it ended (%s, %d restart%s)"):format(ending(ended), restarts, restarts == 1 and "" or "s")
  elseif not init and last and restarts > 0 and status.ready ~= true then
    -- Between two crashes it runs for a moment.
    fault.reason, fault.weight, fault.crashed, fault.previous = "Restarted", "stuck", true, true
    fault.text = ("it was started again (%s, %d restart%s)"):format(ending(last), restarts, restarts == 1 and "" or "s")
  else
    return nil
  end
  fault.text = text.clean(fault.text, 400)
  return fault
end

---What is needed of a pod here, and no more: a workload may have thousands.
---@param pod table
---@return table
function M.slim(pod)
  local meta, containers = pod.metadata or {}, {}
  for i, c in ipairs(dig(pod, "spec", "containers") or {}) do containers[i] = { name = c.name, image = c.image } end
  return {
    metadata = {
      name = meta.name, namespace = meta.namespace, uid = meta.uid, labels = meta.labels,
      deletionTimestamp = meta.deletionTimestamp, creationTimestamp = meta.creationTimestamp,
      ownerReferences = meta.ownerReferences,
    },
    spec = { containers = containers, restartPolicy = dig(pod, "spec", "restartPolicy") },
    status = {
      phase = dig(pod, "status", "phase"), reason = dig(pod, "status", "reason"),
      message = dig(pod, "status", "message"), conditions = dig(pod, "status", "conditions"),
      containerStatuses = dig(pod, "status", "containerStatuses"),
      initContainerStatuses = dig(pod, "status", "initContainerStatuses"),
    },
  }
end

---What keeps one pod from running; empty when nothing does, or when it is about to go anyway.
---@param pod table
---@return PodFault[]
function M.faults(pod)
  local found = {}
  if dig(pod, "metadata", "deletionTimestamp") then return found end
  local scheduled = rollout.condition(pod, "PodScheduled")
  if scheduled and scheduled.status == "False" then
    local reason = tostring(scheduled.reason or "Unschedulable")
    found[1] = {
      pod = dig(pod, "metadata", "name"), reason = reason, weight = "waiting", restarts = 0,
      text = text.clean(("%s: %s"):format(reason, scheduled.message or "no node takes it"), 400),
    }
  end
  for _, group in ipairs { "initContainerStatuses", "containerStatuses" } do
    for _, status in ipairs(dig(pod, "status", group) or {}) do
      found[#found + 1] = container_fault(pod, status, group == "initContainerStatuses")
    end
  end
  if #found == 0 and dig(pod, "status", "phase") == "Failed" then
    found[1] = {
      pod = dig(pod, "metadata", "name"), reason = dig(pod, "status", "reason") or "Failed", weight = "waiting",
      restarts = 0, text = text.clean(("%s: %s"):format(dig(pod, "status", "reason") or "Failed",
        dig(pod, "status", "message") or "the pod failed"), 400),
    }
  end
  return found
end

---Whether a pod is ready.
---@param pod table
---@return boolean
function M.ready(pod)
  local ready = rollout.condition(pod, "Ready")
  return ready ~= nil and ready.status == "True" and not dig(pod, "metadata", "deletionTimestamp")
end

-- Whether the pod's containers have the template's images: what is known when nothing better is.
local function same_images(pod, template)
  local have = {}
  for _, c in ipairs(dig(pod, "spec", "containers") or {}) do have[c.name] = c.image end
  for _, c in ipairs(template.spec.containers or {}) do
    if have[c.name] ~= c.image then return false end
  end
  return true
end

local function owner(object)
  for _, o in ipairs(dig(object, "metadata", "ownerReferences") or {}) do
    if o.controller == true then return o end
  end
end

---The pods of a workload's newest revision.
---@param object table The workload.
---@param pods table[] Pods that its selector finds.
---@param sets? table[] A Deployment's ReplicaSets; without them pods are known by their images.
---@return table[] newest
function M.newest(object, pods, sets)
  local template, uid = assert(rollout.template(object)), dig(object, "metadata", "uid")
  local set
  for _, candidate in ipairs(sets or {}) do
    local by = owner(candidate)
    if by and by.uid == uid and dig(candidate, "metadata", "annotations", "deployment.kubernetes.io/revision")
      == dig(object, "metadata", "annotations", "deployment.kubernetes.io/revision")
      and dig(candidate, "spec", "template") and same_images(candidate.spec.template, template) then
      set = dig(candidate, "metadata", "uid")
    end
  end
  local revision = object.kind == "StatefulSet" and dig(object, "status", "updateRevision")
  local generation = object.kind == "DaemonSet"
    and dig(object, "metadata", "annotations", "deprecated.daemonset.template.generation")
  local newest = {}
  for _, pod in ipairs(pods) do
    local by, labels = owner(pod), dig(pod, "metadata", "labels") or {}
    local is
    if set then
      is = by and by.uid == set
    elseif object.kind ~= "Deployment" and by and by.uid ~= uid then
      is = false
    elseif revision and labels["controller-revision-hash"] then
      is = labels["controller-revision-hash"] == revision
    elseif generation and labels["pod-template-generation"] then
      is = labels["pod-template-generation"] == generation
    else
      is = same_images(pod, template)
    end
    if is then newest[#newest + 1] = pod end
  end
  return newest
end

local WEIGHT <const> = { fatal = 1, stuck = 2, waiting = 3 }

---All faults of pods, the worst first.
---@param list table[] Pods.
---@return PodFault[]
function M.all_faults(list)
  local found = {}
  for _, pod in ipairs(list) do table.move(M.faults(pod), 1, 100, #found + 1, found) end
  table.sort(found, function(a, b)
    if a.weight ~= b.weight then return WEIGHT[a.weight] < WEIGHT[b.weight] end
    if a.restarts ~= b.restarts then return a.restarts > b.restarts end
    return tostring(a.pod) .. tostring(a.container) < tostring(b.pod) .. tostring(b.container)
  end)
  return found
end

---Faults in one line: each reason once, with its pod and how many others have it.
---@param faults PodFault[]
---@return string words "" without faults.
function M.words(faults)
  local lines, by = {}, {}
  for _, f in ipairs(faults) do
    local key = f.reason .. "\0" .. tostring(f.container)
    if by[key] then
      by[key].more = by[key].more + 1
    elseif #lines < 3 then
      by[key] = { fault = f, more = 0 }
      lines[#lines + 1] = by[key]
    end
  end
  for i, entry in ipairs(lines) do
    local f = entry.fault
    lines[i] = ("pod %s%s: %s%s"):format(f.pod, f.container and ", container " .. f.container or "", f.text,
      entry.more > 0 and (" (and %d more)"):format(entry.more) or "")
  end
  return table.concat(lines, "; ")
end

---Pods that are there but not ready without a fault in their status.
---@param list table[]
---@return string words "" when there are none.
function M.unready(list)
  local names = {}
  for _, pod in ipairs(list) do
    if not M.ready(pod) and not dig(pod, "metadata", "deletionTimestamp") and #M.faults(pod) == 0 then
      names[#names + 1] = dig(pod, "metadata", "name")
    end
  end
  table.sort(names)
  if #names == 0 then return "" end
  return ("pod%s %s %s not ready"):format(#names == 1 and "" or "s", table.concat(names, ", ", 1, math.min(3, #names)),
    #names == 1 and "is" or "are")
end

return M
