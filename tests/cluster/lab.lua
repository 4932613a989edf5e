-- What tests of the cluster begin with.
--
--   local cluster = require "cluster.lab"
--   local c = cluster.open()                          -- the one of `make cluster-up`
--   local ns = c:namespace "mine"                     -- gone when the test ends
--   c:deployment(ns, "web", { image = "x/app:1", stage = "crash if app:2" })
--   local token = c:service_account(ns, "bot", { { verbs = { "get" }, resources = { "pods" } } })
--   local own = cluster.private {}                     -- a control plane to restart; same methods
--
-- accounts.lua and workloads.lua hold more of its words. Requests go over http with the administrator's certificate,
-- not through the client that is tested.
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local check = require "check"
local fs, hash, http, json, proc, sys =
  require "fs", require "hash", require "http", require "json", require "proc", require "base.sys"
local planes, stages, tools = require "cluster.plane", require "cluster.stages", require "cluster.tools"

local M = {}

---@class (partial) Cluster
---@field dir string runtime folder
---@field server string "https://127.0.0.1:PORT"
---@field ca string file of the CA's certificate
---@field cert string file, the administrator's
---@field key string file, the administrator's
---@field kubeconfig string file, the administrator's
---@field plane? Plane of a private one
---@field real? string name of the node that runs real containers
local Cluster = {}
Cluster.__index = Cluster

for name, fn in pairs(require "cluster.accounts") do Cluster[name] = fn end
for name, fn in pairs(require("cluster.workloads").class) do Cluster[name] = fn end
for name, fn in pairs(require("cluster.workloads").module) do M[name] = fn end

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
