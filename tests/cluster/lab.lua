-- What tests of the cluster begin with.
--
--   local cluster = require "cluster.lab"
--   local c = cluster.open()                          -- the one of `make cluster-up`
--   local ns = c:namespace "mine"                     -- gone when the test ends
--   c:deployment(ns, "web", { image = "x/app:1", stage = "crash if app:2" })
--   local token = c:service_account(ns, "bot", { { verbs = { "get" }, resources = { "pods" } } })
--   local own = cluster.private {}                     -- a control plane to restart; same methods
--
-- Requests here go over http with the administrator's certificate, not through the client that is tested.
local base = require "lab.base"
local check = require "check"
local fs, hash, http, json, proc, sys =
  require "fs", require "hash", require "http", require "json", require "proc", require "sys"
local planes, stages, tools = require "cluster.plane", require "cluster.stages", require "cluster.tools"

local M = {}

---@class Cluster
---@field dir string runtime folder
---@field server string "https://127.0.0.1:PORT"
---@field ca string file of the CA's certificate
---@field cert string file, the administrator's
---@field key string file, the administrator's
---@field kubeconfig string file, the administrator's
---@field plane Plane? of a private one
---@field real string? name of the node that runs real containers
local Cluster = {}
Cluster.__index = Cluster

---The runtime folder of the shared cluster.
---@return string
function M.dir() return sys.env("MOONTIDE_CLUSTER") or sys.cwd() .. "/build/cluster" end

---The cluster that `make cluster-up` brought up. Raises when there is none.
---@async
---@return Cluster
function M.open() return M.at(M.dir()) end

---The cluster that runs in a folder.
---@async
---@param dir string
---@return Cluster
function M.at(dir)
  local text = fs.read(dir .. "/cluster.json")
  if not text then error(("no cluster in %s: run 'make cluster-up'"):format(dir), 2) end
  return setmetatable(assert(json.decode(text)), Cluster)
end

-- Requests ----------------------------------------------------------------------------------------------------

---One request to the API server, as the administrator unless a token is given.
---@async
---@param method string
---@param path string with query
---@param body? table|string
---@param options? {token?: string, content_type?: string, timeout?: number, stream?: boolean, max_body?: integer}
---@return HttpAnswer
function Cluster:request(method, path, body, options)
  options = options or {}
  local o = { method = method, url = self.server .. path, ca = self.ca, body = body, headers = {},
    timeout = options.timeout or 30, stream = options.stream, max_body = options.max_body or 64 << 20 }
  if options.token then
    o.auth = { bearer = options.token }
  else
    o.cert, o.key = self.cert, self.key
  end
  o.headers["Content-Type"] = options.content_type or (body and "application/json") or nil
  return assert(http.request(o))
end

local function object(answer, what)
  if answer.status >= 300 then error(("%s: %d %s"):format(what, answer.status, answer.body:sub(1, 2000)), 3) end
  return assert(json.decode(answer.body))
end

---Reads an object; nil when it does not exist.
---@async
---@param path string
---@return table?
function Cluster:get(path)
  local answer = self:request("GET", path)
  if answer.status == 404 then return nil end
  return object(answer, "GET " .. path)
end

---@async
---@return table created
function Cluster:create(path, body) return object(self:request("POST", path, body), "POST " .. path) end

---A merge patch.
---@async
---@return table patched
function Cluster:patch(path, body)
  return object(self:request("PATCH", path, json.encode(body), { content_type = "application/merge-patch+json" }),
    "PATCH " .. path)
end

---@async
function Cluster:delete(path)
  local answer = self:request("DELETE", path)
  if answer.status ~= 404 then object(answer, "DELETE " .. path) end
end

-- Programs ----------------------------------------------------------------------------------------------------

-- Options in the list's fields: kubeconfig (another user's), stdin, timeout, env, cwd.
local function program(self, name, argv, flag)
  local home = self.home or base.dir("home")
  self.home = home
  local command = { tools.path(name), flag .. "=" .. (argv.kubeconfig or self.kubeconfig), table.unpack(argv) }
  command.env = base.env { HOME = home, HELM_CACHE_HOME = home .. "/cache", HELM_CONFIG_HOME = home .. "/config",
    HELM_DATA_HOME = home .. "/data", KUBECACHEDIR = home .. "/kube" }
  for k, v in pairs(argv.env or {}) do command.env[k] = v end
  command.stdin, command.cwd, command.timeout = argv.stdin, argv.cwd, argv.timeout or 120
  command.max_output = 64 << 20
  return assert(proc.run(command))
end

local function stdout_of(result, name, argv)
  if not result.ok then
    error(("%s %s ended with %s: %s"):format(name, table.concat(argv, " "), result.signal or result.code,
      result.stderr .. result.stdout), 3)
  end
  return result.stdout
end

---Runs kubectl; raises with its words when it fails. Fields of the list: kubeconfig, stdin, timeout, env, cwd.
---@async
---@param argv table
---@return string stdout
function Cluster:kubectl(argv) return stdout_of(program(self, "kubectl", argv, "--kubeconfig"), "kubectl", argv) end

---The same, whatever the exit status.
---@async
---@return ProcResult
function Cluster:try_kubectl(argv) return program(self, "kubectl", argv, "--kubeconfig") end

---Runs helm; like kubectl.
---@async
---@return string stdout
function Cluster:helm(argv) return stdout_of(program(self, "helm", argv, "--kubeconfig"), "helm", argv) end

---@async
---@return ProcResult
function Cluster:try_helm(argv) return program(self, "helm", argv, "--kubeconfig") end

-- Things in it ------------------------------------------------------------------------------------------------

-- Tidies up when the test ends; a private cluster goes as a whole.
function Cluster:at_end(fn)
  if not self.plane then check.defer(fn) end
end

---A namespace with an unused name, ready to use, deleted when the test ends.
---@async
---@param prefix string
---@return string name
function Cluster:namespace(prefix)
  local name = ("%s-%s"):format(prefix, hash.hex(hash.random(3)))
  self:create("/api/v1/namespaces", { apiVersion = "v1", kind = "Namespace", metadata = { name = name } })
  self:at_end(function() self:delete("/api/v1/namespaces/" .. name) end)
  -- Pods are refused until the controller manager has made the account that they run as.
  if not self.bare then
    base.eventually("the namespace has its service account", 30, function()
      return self:get(("/api/v1/namespaces/%s/serviceaccounts/default"):format(name))
    end)
  end
  return name
end

local RBAC <const> = "/apis/rbac.authorization.k8s.io/v1"

---A service account that may do what the rules say, and a token of it. Exists already: gets another token.
---@async
---@param ns string
---@param name string
---@param rules? table[] PolicyRules; apiGroups is every group when left out. None: it may do nothing.
---@param options? {cluster?: boolean, ttl?: integer} cluster: the rules count in all namespaces; ttl: seconds (3600).
---@return string token
function Cluster:service_account(ns, name, rules, options)
  options = options or {}
  local accounts = ("/api/v1/namespaces/%s/serviceaccounts"):format(ns)
  if not self:get(accounts .. "/" .. name) then
    self:create(accounts, { apiVersion = "v1", kind = "ServiceAccount", metadata = { name = name } })
  end
  if rules then self:grant(ns, name, rules, options) end
  return self:token(ns, name, options.ttl)
end

---A token for a service account that exists. The API server makes none that lives shorter than 600 seconds.
---@async
---@param ns string
---@param name string
---@param ttl? integer seconds
---@return string
function Cluster:token(ns, name, ttl)
  local request = { apiVersion = "authentication.k8s.io/v1", kind = "TokenRequest",
    spec = { expirationSeconds = ttl or 3600 } }
  return self:create(("/api/v1/namespaces/%s/serviceaccounts/%s/token"):format(ns, name), request).status.token
end

---A token that can be taken back: it counts for as long as a Secret exists. The API server remembers for ten seconds
---that it was good.
---@async
---@param ns string
---@param name string
---@return string token
---@return fun() revoke
function Cluster:revocable_token(ns, name)
  local secrets = ("/api/v1/namespaces/%s/secrets"):format(ns)
  local own = ("token-%s"):format(hash.hex(hash.random(4)))
  local secret = self:create(secrets, { apiVersion = "v1", kind = "Secret", metadata = { name = own } })
  local request = { apiVersion = "authentication.k8s.io/v1", kind = "TokenRequest", spec = { expirationSeconds = 3600,
    boundObjectRef = { apiVersion = "v1", kind = "Secret", name = own, uid = secret.metadata.uid } } }
  local path = ("/api/v1/namespaces/%s/serviceaccounts/%s/token"):format(ns, name)
  return self:create(path, request).status.token, function() self:delete(secrets .. "/" .. own) end
end

---Gives a service account rights; each call adds to those before.
---@async
---@param ns string
---@param name string
---@param rules table[]
---@param options? {cluster?: boolean, of?: string} of: the account's own namespace, when it is another one.
function Cluster:grant(ns, name, rules, options)
  local prefix, at = options and options.cluster and "Cluster" or "", RBAC
  if prefix == "" then at = ("%s/namespaces/%s"):format(RBAC, ns) end
  local list = {}
  for i, rule in ipairs(rules) do
    list[i] = { apiGroups = rule.apiGroups or { "*" } }
    if rule.nonResourceURLs then list[i] = {} end
    for k, v in pairs(rule) do list[i][k] = v end
  end
  local own = ("lab-%s-%s-%s"):format(ns, name, hash.hex(hash.random(3)))
  self:create(("%s/%sroles"):format(at, prefix:lower()), { apiVersion = "rbac.authorization.k8s.io/v1",
    kind = prefix .. "Role", metadata = { name = own }, rules = list })
  self:create(("%s/%srolebindings"):format(at, prefix:lower()), { apiVersion = "rbac.authorization.k8s.io/v1",
    kind = prefix .. "RoleBinding", metadata = { name = own },
    roleRef = { apiGroup = "rbac.authorization.k8s.io", kind = prefix .. "Role", name = own },
    subjects = { { kind = "ServiceAccount", name = name, namespace = options and options.of or ns } } })
  if prefix ~= "" then
    self:at_end(function()
      self:delete(("%s/clusterrolebindings/%s"):format(at, own))
      self:delete(("%s/clusterroles/%s"):format(at, own))
    end)
  end
end

---A kubeconfig for a token, in a file that the lab removes.
---@async
---@param token string
---@param namespace? string
---@return string path
function Cluster:kubeconfig_for(token, namespace)
  return base.write(base.dir("kubeconfig") .. "/config",
    planes.kubeconfig(self.server, self.ca, { token = token }, namespace), 384) -- 0600
end

---The folder that a pod has at /var/run/secrets/kubernetes.io/serviceaccount: token, ca.crt, namespace.
---@async
---@param token string
---@param namespace string
---@return string dir
function Cluster:pod_secrets(token, namespace)
  local dir = base.dir("serviceaccount")
  base.write(dir .. "/token", token)
  base.write(dir .. "/ca.crt", assert(fs.read(self.ca)))
  base.write(dir .. "/namespace", namespace)
  return dir
end

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

-- A control plane of one's own --------------------------------------------------------------------------------

---The words of this module for a control plane.
---@param plane Plane
---@return Cluster
function M.of(plane)
  local self, admin = setmetatable({ plane = plane }, Cluster), plane.pki:files "admin"
  self.cert, self.key = admin.cert, admin.key
  for _, name in ipairs { "dir", "server", "ca", "kubeconfig" } do self[name] = plane[name] end
  return self
end

---What lab.open needs to know about it, in another process.
---@return table<string, string>
function Cluster:description()
  local known = {}
  for _, name in ipairs { "dir", "server", "ca", "cert", "key", "kubeconfig", "real" } do known[name] = self[name] end
  return known
end

---@class PrivateOptions
---@field controllers? boolean kube-controller-manager and kube-scheduler too (true)
---@field nodes? integer nodes that kwok plays (1; 0 without controllers)
---@field real? boolean a real node too; the tests that ask for it call need_real
---@field api_flags? string[] for kube-apiserver, for example "--watch-cache=false"

---A cluster for this test file alone, to stop and to break: c.plane:stop_api(), c.plane:start_api(). Takes some
---seconds and 400 MB; it ends with the lab.
---@async
---@param options? PrivateOptions
---@return Cluster
function M.private(options)
  options = options or {}
  local full = options.controllers ~= false
  local flags = { table.unpack(options.api_flags or {}) }
  if not full then flags[#flags + 1] = "--disable-admission-plugins=ServiceAccount" end
  local plane = planes.open { dir = base.dir("plane"), controllers = full, scheduler = full, flags = { api = flags } }
  local self = M.of(plane)
  self.bare = not full
  local nodes = options.nodes or (full and 1 or 0)
  if nodes > 0 then
    require("cluster.fake").start(plane)
    for i = 1, nodes do self:create("/api/v1/nodes", stages.node("kwok-" .. i)) end
  end
  if options.real and not require("cluster.node").unavailable() then
    self.real = require("cluster.node").start(plane).name
    self:node_ready(self.real, 60)
  end
  return self
end

return M
