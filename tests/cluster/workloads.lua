-- What runs in the lab's cluster: Deployments, pods, nodes, and the sample app on the real node. Part of lab.lua.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local check = require "check"
local http = require "http"
local stages = require "cluster.stages"

local M = {} -- functions of lab.lua
---@class (partial) Cluster
local Cluster = {}

---Annotations for a pod template: what kwok's nodes do with the pod. See stages.lua for the words.
---@param stage? string
---@param durations? {delay?: string, after?: string, linger?: string}
---@return table<string, string>
function M.annotations(stage, durations)
  local annotations = { ["lab.moontide/stage"] = stage }
  for k, v in pairs(durations or {}) do annotations["lab.moontide/" .. k] = v end
  return annotations
end

---@class LabWorkload
---@field image? string "lab.test/app:1"
---@field containers? table[] instead of image: the containers as Kubernetes has them
---@field init_containers? table[]
---@field stage? string what its pods do
---@field durations? {delay?: string, after?: string, linger?: string}
---@field replicas? integer 1
---@field deadline? integer progressDeadlineSeconds (600)
---@field labels? table on the workload
---@field annotations? table on the workload
---@field spec? table merged into the workload's spec
---@field pod? table merged into the pod's spec

---A Deployment as a table; `app` is the label of its pods.
---@param name string
---@param options LabWorkload
---@return table
function M.deployment(name, options)
  local pod = { containers = options.containers or { { name = "app", image = options.image or "lab.test/app:1" } },
    initContainers = options.init_containers }
  for k, v in pairs(options.pod or {}) do pod[k] = v end
  local spec = {
    replicas = options.replicas or 1, progressDeadlineSeconds = options.deadline,
    selector = { matchLabels = { app = name } },
    template = {
      metadata = { labels = { app = name }, annotations = M.annotations(options.stage, options.durations) }, spec = pod,
    },
  }
  for k, v in pairs(options.spec or {}) do spec[k] = v end
  return {
    apiVersion = "apps/v1", kind = "Deployment", spec = spec,
    metadata = { name = name, labels = options.labels, annotations = options.annotations },
  }
end

---Creates a Deployment.
---@async
---@param ns string
---@param name string
---@param options? LabWorkload
---@return table created
function Cluster:deployment(ns, name, options)
  return self:create(("/apis/apps/v1/namespaces/%s/deployments"):format(ns), M.deployment(name, options or {}))
end

---Waits until a Deployment has rolled out what is in its spec.
---@async
---@param ns string
---@param name string
---@param seconds? number
---@return table deployment
function Cluster:rolled_out(ns, name, seconds)
  local path = ("/apis/apps/v1/namespaces/%s/deployments/%s"):format(ns, name)
  return base.eventually(("deployment %s/%s is rolled out"):format(ns, name), seconds or 60, function()
    local d = assert(self:get(path))
    local s = d.status
    return s.observedGeneration == d.metadata.generation and s.replicas == d.spec.replicas
      and s.updatedReplicas == s.replicas and s.availableReplicas == s.replicas and d
  end)
end

---The pods with a label selector.
---@async
---@param ns string
---@param selector? string
---@return table[]
function Cluster:pods(ns, selector)
  local query = selector and "?labelSelector=" .. http.escape(selector) or ""
  return assert(self:get(("/api/v1/namespaces/%s/pods%s"):format(ns, query))).items
end

---Adds nodes that kwok plays; they go when the test ends.
---@async
---@param count integer
---@param prefix string
---@return string[] names
function Cluster:add_nodes(count, prefix)
  local names = {}
  for i = 1, count do
    names[i] = ("%s-%d"):format(prefix, i)
    self:create("/api/v1/nodes", stages.node(names[i]))
  end
  self:at_end(function()
    for _, name in ipairs(names) do self:delete("/api/v1/nodes/" .. name) end
  end)
  return names
end

---@async
---@param name string
---@param seconds? number
function Cluster:node_ready(name, seconds)
  base.eventually(("node %s is ready"):format(name), seconds or 30, function()
    local node = self:get("/api/v1/nodes/" .. name)
    for _, condition in ipairs(node and node.status.conditions or {}) do
      if condition.type == "Ready" then return condition.status == "True" end
    end
  end)
end

-- The real node -----------------------------------------------------------------------------------------------

---Ends the test as skipped where no real node can be.
function Cluster:need_real()
  if not self.real then check.skip(require("cluster.node").unavailable() or "the cluster has no real node") end
end

---Fields of a pod's spec that put it on the real node. Containers there are real: the images must exist.
---@param pod? table Further fields.
---@return table
function M.on_real_node(pod)
  local spec = {
    nodeSelector = { ["lab.moontide/node"] = "real" },
    tolerations = { { key = "lab.moontide/real", operator = "Exists" } }, terminationGracePeriodSeconds = 1,
  }
  for k, v in pairs(pod or {}) do spec[k] = v end
  return spec
end

---A Deployment of the sample app on the real node: it listens on port 8080 of its pod's own address.
---@param name string
---@param image string As lab.image gives it, or any tag in a registry of the lab.
---@param options? LabWorkload
---@return table
function M.app_deployment(name, image, options)
  local o = {
    containers = { {
      name = "app", image = image, env = { { name = "ADDRESS", value = "0.0.0.0" } },
      ports = { { name = "http", containerPort = 8080 } },
      readinessProbe = { httpGet = { path = "/", port = 8080 }, periodSeconds = 1, failureThreshold = 1 },
    } },
  }
  for k, v in pairs(options or {}) do o[k] = v end
  o.pod = M.on_real_node(o.pod)
  return M.deployment(name, o)
end

---Addresses of the pods with a label selector that are ready.
---@async
---@param ns string
---@param selector string "app=web"
---@return string[]
function Cluster:addresses(ns, selector)
  local list = {}
  for _, pod in ipairs(self:pods(ns, selector)) do
    for _, condition in ipairs(not pod.metadata.deletionTimestamp and pod.status.conditions or {}) do
      if condition.type == "Ready" and condition.status == "True" then list[#list + 1] = pod.status.podIP end
    end
  end
  return list
end

---What the sample app answers in one of its ready pods: "one"; nil when none answers.
---@async
---@param ns string
---@param selector string "app=web"
---@param port? integer 8080
---@return string? version
function Cluster:ask(ns, selector, port)
  local address = self:addresses(ns, selector)[1]
  local answer = address and http.get(("http://%s:%d/"):format(address, port or 8080), { timeout = 2 })
  return answer and answer.status == 200 and answer.body:match("^hello ([^\n]*)") or nil
end

return { module = M, class = Cluster }
