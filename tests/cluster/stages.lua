-- What kwok does with the pods on its nodes: the pod itself says it, in an annotation or a label of its template.
--
--   lab.moontide/stage: WORD [if TEXT] [, WORD [if TEXT]]...
--
-- The first word whose TEXT occurs in the image of one of the pod's containers counts; a word without `if` always
-- does; none leaves "ready". So one Deployment can have good and bad images: "crash if sha256:1f2e". The words:
--
--   ready        runs and is ready; a Job's pod ends well       never    runs, never becomes ready; a Job's never ends
--   crash        CrashLoopBackOff from the start                later    becomes ready, crashes afterwards
--   image        ImagePullBackOff                               config   CreateContainerConfigError
--   stuck        stays in ContainerCreating                     fail     a Job's pod: exit status 1
--
-- Annotations with durations ("2s", "300ms"): lab.moontide/delay until the container runs, is ready, or fails to
-- (0.2 s); lab.moontide/after, from ready to the crash of `later` or to the end of a Job's pod (1 s);
-- lab.moontide/linger, from deletion to gone (0.1 s).
local M = {}

-- The word that counts for a pod, in jq.
local WORD <const> = [==[
[.spec.containers[].image] as $images
| (.metadata.annotations["lab.moontide/stage"] // .metadata.labels["lab.moontide/stage"] // "ready")
| [ split(",")[] | ltrimstr(" ") | rtrimstr(" ") | split(" if ")
    | select(length == 1 or (.[1] as $text | any($images[]; contains($text)))) | .[0] ]
| first // "ready"
]==]

local NOW <const> = "{{ Now | Quote }}"

-- One condition of a pod's status.
local function condition(kind, status, reason)
  return ("- type: %s\n  status: %q\n  reason: %q\n  lastTransitionTime: %s\n"):format(kind, status, reason or "", NOW)
end

local function indent(text, by)
  return ((text:gsub("[^\n]+", (" "):rep(by) .. "%0")))
end

local function conditions(ready, reason)
  return "conditions:\n" .. condition("Initialized", "True") .. condition("ContainersReady", ready, reason)
    .. condition("Ready", ready, reason) .. [[
{{ range .spec.readinessGates }}
- type: {{ .conditionType | Quote }}
  status: "True"
  lastTransitionTime: ]] .. NOW .. [[

{{ end }}
]]
end

local RUNNING <const> = "running:\n  startedAt: " .. NOW .. "\n"

local function terminated(code, reason, message)
  return ("terminated:\n  exitCode: %d\n  reason: %s\n  message: %q\n  startedAt: %s\n  finishedAt: %s\n"):format(code,
    reason, message or "", NOW, NOW)
end

local function waiting(reason, message)
  return ("waiting:\n  reason: %s\n  message: %s\n"):format(reason, message or '""')
end

-- Each container's status. `last` is its state before; `restarts` a template expression.
local function containers(state, options)
  return [[
{{ $root := . }}
containerStatuses:
{{ range $i, $c := .spec.containers }}
- name: {{ $c.name | Quote }}
  image: {{ $c.image | Quote }}
  imageID: {{ $c.image | Quote }}
  ready: ]] .. tostring(options.ready or false) .. "\n  started: " .. tostring(options.started or false) .. [[

  restartCount: ]] .. (options.restarts or "0") .. "\n  state:\n" .. indent(state, 4)
    .. (options.last and "  lastState:\n" .. indent(options.last, 4) or "") .. "{{ end }}\n"
end

-- Init containers are over at once.
local INIT <const> = [[
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state:
]] .. indent(terminated(0, "Completed"), 4) .. "{{ end }}\n"

local PLACE <const> = [[
{{ with NodeIPsWith .spec.nodeName }}
hostIP: {{ index . 0 | Quote }}
{{ end }}
{{ $ips := PodIPsWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace }}
{{ with $ips }}
podIP: {{ index . 0 | Quote }}
podIPs:
{{ range . }}
- ip: {{ . | Quote }}
{{ end }}
{{ end }}
startTime: ]] .. NOW .. "\n"

local function expression(key, operator, values) return { key = key, operator = operator, values = values } end

-- The stages that a pod is in: nothing reported yet; then what it is waiting for or running.
local NEW <const> = expression(".status.containerStatuses[]?.name", "DoesNotExist")
local ALIVE <const> = expression(".metadata.deletionTimestamp", "DoesNotExist")
local GOING <const> = expression(".metadata.deletionTimestamp", "Exists")
local FREE <const> = expression(".metadata.finalizers[]?", "DoesNotExist")
local IS_READY <const> = expression('.status.conditions[]? | select(.type == "Ready") | .status', "In", { "True" })
local A_JOBS <const> = expression('.metadata.ownerReferences[]? | select(.kind == "Job") | .kind', "Exists")
local RUNS <const> = expression(".status.phase", "In", { "Running" })

local function words(...) return expression(WORD, "In", { ... }) end

local function duration(annotation, default)
  return {
    durationMilliseconds = default,
    durationFrom = { expressionFrom = ('.metadata.annotations["lab.moontide/%s"]'):format(annotation) },
  }
end

local function stage(name, options)
  return {
    apiVersion = "kwok.x-k8s.io/v1alpha1", kind = "Stage", metadata = { name = name },
    spec = {
      resourceRef = { apiGroup = "v1", kind = options.kind or "Pod" },
      selector = { matchExpressions = options.when },
      delay = options.delay,
      next = { statusTemplate = options.status, delete = options.delete, event = options.event },
    },
  }
end

local function event(reason, message) return { type = "Warning", reason = reason, message = message } end

local NOT_FOUND <const> = [[{{ printf "Back-off pulling image \"%s\": not found" $c.image | Quote }}]]
local BACK_OFF <const> = "back-off 10s restarting failed container"
local CRASHED <const> = terminated(1, "Error", "lab: the program ended with exit status 1")
local CRASHING <const> = conditions("False", "ContainersNotReady")
local NOT_READY <const> = CRASHING
local DELAY <const> = duration("delay", 200)

local function pod_stages()
  local function first(name, when, status, more)
    local list = { ALIVE, NEW, table.unpack(when) }
    return stage(name, { when = list, delay = DELAY, event = more, status = PLACE .. INIT .. status })
  end
  local after = duration("after", 1000)
  return {
    first("pod-ready", { words("ready", "later", "fail") },
      conditions("True") .. containers(RUNNING, { ready = true, started = true }) .. "phase: Running\n"),
    first("pod-never", { words("never") },
      NOT_READY .. containers(RUNNING, { started = true }) .. "phase: Running\n",
      event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")),
    first("pod-stuck", { words("stuck") },
      NOT_READY .. containers(waiting("ContainerCreating"), {}) .. "phase: Pending\n"),
    first("pod-image", { words("image") },
      NOT_READY .. containers(waiting("ImagePullBackOff", NOT_FOUND), {}) .. "phase: Pending\n",
      event("Failed", "Error: ImagePullBackOff")),
    first("pod-config", { words("config") },
      NOT_READY .. containers(waiting("CreateContainerConfigError", [['secret "lab" not found']]), {})
      .. "phase: Pending\n", event("Failed", 'Error: secret "lab" not found')),
    first("pod-crash", { words("crash") },
      CRASHING .. containers(waiting("CrashLoopBackOff", BACK_OFF), { last = CRASHED, restarts = "1" })
      .. "phase: Running\n", event("BackOff", BACK_OFF)),
    stage("pod-later", {
      when = { ALIVE, RUNS, IS_READY, words("later") }, delay = after, event = event("BackOff", BACK_OFF),
      status = CRASHING .. containers(waiting("CrashLoopBackOff", BACK_OFF), { last = CRASHED, restarts = "1" }),
    }),
    stage("pod-done", {
      when = { ALIVE, RUNS, A_JOBS, words("ready") }, delay = after,
      status = conditions("False", "PodCompleted") .. containers(terminated(0, "Completed"), {})
        .. "phase: Succeeded\n",
    }),
    stage("pod-failed", {
      when = { ALIVE, RUNS, A_JOBS, words("fail", "later") }, delay = after,
      status = conditions("False", "PodFailed") .. containers(CRASHED, {}) .. "phase: Failed\n",
    }),
    stage("pod-gone", {
      when = { GOING, FREE }, delay = duration("linger", 100), delete = true,
    }),
  }
end

-- A node: what it has, that it is well, and again every five minutes. Its lease is kwok's own business.
local NODE <const> = [[
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
{{ end }}
addresses:
- type: InternalIP
  address: {{ NodeIP | Quote }}
- type: Hostname
  address: {{ NodeName | Quote }}
daemonEndpoints:
  kubeletEndpoint:
    Port: {{ NodePort }}
phase: Running
]]

local function node_stages()
  local ready = '.status.conditions[]? | select(.type == "Ready") | .status'
  return {
    stage("node-ready", { kind = "Node", when = { expression(ready, "NotIn", { "True" }) }, status = NODE }),
    stage("node-beat", {
      kind = "Node", when = { expression(ready, "In", { "True" }) }, delay = { durationMilliseconds = 300000 },
      status = NODE,
    }),
  }
end

---The configuration of kwok: its stages, and what its pods have logged.
---@param logs {now: string, before: string} Files.
---@return table[] documents
function M.documents(logs)
  local documents = {
    {
      apiVersion = "kwok.x-k8s.io/v1alpha1", kind = "ClusterLogs", metadata = { name = "all" },
      spec = { logs = { { logsFile = logs.now, previousLogsFile = logs.before, follow = false } } },
    },
  }
  for _, list in ipairs { pod_stages(), node_stages() } do
    for _, item in ipairs(list) do documents[#documents + 1] = item end
  end
  return documents
end

---A node that kwok plays.
---@param name string
---@return table
function M.node(name)
  local has = { cpu = "64", memory = "256Gi", pods = "1000", ["ephemeral-storage"] = "1Ti" }
  return {
    apiVersion = "v1", kind = "Node",
    metadata = {
      name = name, annotations = { ["kwok.x-k8s.io/node"] = "fake" },
      labels = {
        ["lab.moontide/node"] = "kwok", ["kubernetes.io/hostname"] = name, ["kubernetes.io/os"] = "linux",
        ["kubernetes.io/arch"] = "amd64",
      },
    },
    status = { capacity = has, allocatable = has, nodeInfo = {
      architecture = "amd64", operatingSystem = "linux", kubeletVersion = "v1.34.4", containerRuntimeVersion = "kwok",
      kernelVersion = "", osImage = "kwok", bootID = "", machineID = "", systemUUID = "", kubeProxyVersion = "",
    } },
  }
end

return M
