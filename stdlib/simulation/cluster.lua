-- A simulated Kubernetes cluster: workloads that hosts follow, pods and nodes that they list. A rollout changes a
-- workload's images at once, unless they are to fail.
local errors, json = require "errors", require "json"

local M = {}

---@class SimulatedCluster
---@field workloads table<string, table<string, table>> By kind, then by "namespace/name".
---@field pods table[]
---@field nodes table[]
---@field secrets table<string, table> By their path.
---@field failing table<string, true> Images whose pods do not start.
---@field running table<string, string> The digests that images without one run as.
---@field no_nodes? boolean Nobody may list nodes.

local KINDS <const> = { deployments = "deployment", statefulsets = "statefulset", daemonsets = "daemonset",
  cronjobs = "cronjob" }

---@return SimulatedCluster
function M.fresh()
  return {
    workloads = { deployment = {}, statefulset = {}, daemonset = {}, cronjob = {} }, pods = {}, nodes = {},
    secrets = {}, failing = {}, running = {},
  }
end

local followers = setmetatable({}, { __mode = "k" }) ---@type table<Outside, table[]>

local function pod_of(object) return (object.spec.jobTemplate or object).spec.template.spec end

---Tells those who follow that a workload is another one, or gone.
---@param outside Outside
---@param kind string
---@param key string "namespace/name"
function M.changed(outside, kind, key)
  local object = outside:look().cluster.workloads[kind][key]
  for _, f in ipairs(followers[outside] or {}) do
    if f.kind == kind and not f.closed and not f.life.dead then
      local old, value = f.values[key], object and f.options.keep(object)
      f.values[key] = value
      if value ~= nil or old ~= nil then
        f.options.on_change(value == nil and "DELETED" or old == nil and "ADDED" or "MODIFIED", key, value, old)
      end
    end
  end
end

---Puts a workload into the cluster; nil takes it away.
---@param outside Outside
---@param kind "deployment"|"statefulset"|"daemonset"|"cronjob"
---@param key string "namespace/name"
---@param given? {annotations?: table, labels?: table, images: string[][], pod?: table} images: { { "web", "r/web:1" } }
---@return table? object
function M.put(outside, kind, key, given)
  local object
  if given then
    local namespace, name = key:match "^(.-)/(.+)$"
    local containers, pod = {}, {}
    for i, c in ipairs(given.images) do
      containers[i] = { name = c[1], image = c[2], imagePullPolicy = c[3] or "Always" }
    end
    pod.containers = containers
    for k, v in pairs(given.pod or {}) do pod[k] = v end
    local before = outside:look().cluster.workloads[kind][key]
    local spec = { selector = { matchLabels = { app = name } }, template = { spec = pod } } ---@type table
    if kind == "cronjob" then spec = { jobTemplate = { spec = { template = { spec = pod } } } } end
    object = {
      kind = kind, spec = spec, metadata = {
        namespace = namespace, name = name, annotations = given.annotations, labels = given.labels,
        generation = before and before.metadata.generation + 1 or 1, resourceVersion = "1",
      },
    }
  end
  outside:change(function(state) state.cluster.workloads[kind][key] = object end)
  M.changed(outside, kind, key)
  return object
end

---The image of a container of a workload; of its first one unless it is named.
---@param state SimulatedState
---@param kind string
---@param key string
---@param container? string
---@return string?
function M.image(state, kind, key, container)
  local object = state.cluster.workloads[kind][key]
  for _, group in ipairs { "containers", "initContainers" } do
    for _, c in ipairs(object and pod_of(object)[group] or {}) do
      if c.name == container or not container then return c.image end
    end
  end
end

---A client, with those methods of a real one (cluster) that following workloads takes.
---@param outside Outside
---@param life SimulatedLife
---@return table
function M.client(outside, life)
  local client = {}
  local function cluster() return outside:look().cluster end
  function client.get(_, path)
    local up, err = outside:reach "cluster"
    if not up then return nil, err end
    if cluster().secrets[path] then return cluster().secrets[path] end
    return errors.fail("denied", "may not get " .. path, { op = "cluster" })
  end
  function client.follow(_, path, _, options)
    local kind, namespace = KINDS[path:match "[^/]+$"], path:match "/namespaces/([^/]+)/"
    local f = { kind = kind, options = options, values = {}, life = life }
    for key, object in pairs(cluster().workloads[kind]) do
      if not namespace or object.metadata.namespace == namespace then f.values[key] = options.keep(object) end
    end
    followers[outside] = followers[outside] or {}
    table.insert(followers[outside], f)
    return { items = function() return f.values end, close = function() f.closed = true end }
  end
  function client.patch(_, path, body)
    local namespace, what, name = path:match "/namespaces/([^/]+)/([^/]+)/([^/]+)$"
    local kind, key = KINDS[what], namespace .. "/" .. name
    local done, err = outside:effect(life, ("annotate %s %s"):format(kind, key), function(state)
      local metadata = state.cluster.workloads[kind][key].metadata
      for _, map in ipairs { "annotations", "labels" } do
        for k, v in pairs(body.metadata[map] or {}) do
          metadata[map] = metadata[map] or {}
          metadata[map][k] = v ~= json.null and v or nil
        end
      end
    end)
    if not done then return nil, err end
    M.changed(outside, kind, key)
    return cluster().workloads[kind][key]
  end
  function client.list(_, path, _, options)
    local up, err = outside:reach "cluster"
    if not up then return nil, err end
    local what, items = path:match "[^/]+$", {}
    if what == "nodes" and cluster().no_nodes then
      return errors.fail("denied", "may not list nodes", { op = "cluster" })
    end
    local keep = options and options.keep
    for i, item in ipairs(cluster()[what] or {}) do items[i] = keep and keep(item) or item end
    return { items = items }
  end
  return client
end

-- The workload that an environment's target names: its kind, and its key.
local function workload_of(environment)
  local target = environment.target or {}
  local kind, name = tostring(target.workload or ""):match "^(.-)/(.+)$"
  if kind then return kind, ("%s/%s"):format(target.namespace or "default", name) end
end

---Whether an environment's target is a workload of this cluster.
---@param state SimulatedState
---@param environment EnvironmentConfig
---@return boolean
function M.has(state, environment)
  local kind, key = workload_of(environment)
  return kind ~= nil and state.cluster.workloads[kind] ~= nil and state.cluster.workloads[kind][key] ~= nil
end

---A workload as a target.
---@param outside Outside
---@param life SimulatedLife
---@param environment EnvironmentConfig
---@return Target
function M.target(outside, life, environment)
  local config, target = environment.target --[[@as table]], {}
  local kind, key = workload_of(environment)
  ---@cast kind string
  ---@cast key string
  local function reach() return outside:reach "cluster" end
  function target.current()
    local up, err = reach()
    if not up then return nil, err end
    local state = outside:look()
    local image = M.image(state, kind, key, (config.containers or {})[1] or (config.init_containers or {})[1])
    if not image then return nil end
    return {
      image = image, digest = image:match "@(.+)$" or state.cluster.running[image],
      healthy = not state.cluster.failing[image], state = "running",
    }
  end
  function target.apply(_, request)
    local up, err = reach()
    if not up then return nil, err end
    local wanted = {}
    for _, c in ipairs(request.containers or config.containers or {}) do wanted[c] = true end
    for _, c in ipairs(request.init_containers or {}) do wanted[c] = true end
    local function others(state) -- containers that are to have the image, and have another one
      local list, object = {}, state.cluster.workloads[kind][key]
      for _, group in ipairs { "containers", "initContainers" } do
        for _, c in ipairs(pod_of(object)[group] or {}) do
          if wanted[c.name] and c.image ~= request.image then list[#list + 1] = c end
        end
      end
      return list, object
    end
    if #others(outside:look()) == 0 then return true end
    local done
    done, err = outside:effect(life, ("roll out %s %s"):format(key, request.image), function(state)
      local list, object = others(state)
      for _, c in ipairs(list) do c.image = request.image end
      object.metadata.generation = object.metadata.generation + 1
    end)
    M.changed(outside, kind, key)
    return done, err
  end
  function target.wait(_, request)
    local up, err = reach()
    if not up then return nil, err end
    if not outside:look().cluster.failing[request.image] then return true end
    return errors.fail("unhealthy", "its pods do not start", { op = "target.wait" })
  end
  function target.settle() return reach() end
  return target --[[@as Target]]
end

return M
