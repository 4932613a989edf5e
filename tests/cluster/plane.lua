-- A control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler. RBAC and the node
-- authorizer decide, TLS everywhere but to etcd, tokens for service accounts.
--
-- `make cluster-up` runs one; a test that stops or breaks its API server opens one for itself.
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local fs, hash, http, json = require "fs", require "hash", require "http", require "json"
local pki = require "cluster.pki"
local tools = require "cluster.tools"

local M = {}

---@class Plane
---@field dir string
---@field server string "https://127.0.0.1:PORT"
---@field ca string file
---@field kubeconfig string file, for an administrator
---@field ports {api: integer, etcd: integer, peer: integer, controllers: integer, scheduler: integer}
---@field services string "10.160.7.", the first three numbers of the addresses of Services
---@field pki ClusterPki
---@field etcd Service
---@field api? Service
---@field controllers? Service
---@field scheduler? Service
local Plane = {}
Plane.__index = Plane

local API_NAMES <const> = "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
  .. "DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:"
local ISSUER <const> = "https://kubernetes.default.svc.cluster.local"

-- Debian's etcd 3.4.23 cannot report a watch's progress, without which the API server refuses lists as streams, but
-- only after it has said yes: kwok then sees changes up to 50 seconds late. Without it, clients list as ever.
local NO_WATCH_LIST <const> = "--feature-gates=WatchList=false"

-- Flags may be given twice where Kubernetes lets the last one count.
local function command(program, flags, more)
  local argv = { tools.path(program) }
  for _, list in ipairs { flags, more or {} } do
    for _, flag in ipairs(list) do argv[#argv + 1] = flag end
  end
  return argv
end

---A kubeconfig that holds all it needs in itself.
---@async
---@param server string
---@param ca string file
---@param user {cert?: string, key?: string, token?: string}
---@param namespace? string
---@return string
function M.kubeconfig(server, ca, user, namespace)
  local function inline(path) return path and hash.base64(assert(fs.read(path))) end
  return json.encode({
    apiVersion = "v1", kind = "Config", ["current-context"] = "lab",
    clusters = { { name = "lab", cluster = { server = server, ["certificate-authority-data"] = inline(ca) } } },
    users = { { name = "lab", user = {
      token = user.token, ["client-certificate-data"] = inline(user.cert), ["client-key-data"] = inline(user.key),
    } } },
    contexts = { { name = "lab", context = { cluster = "lab", user = "lab", namespace = namespace } } },
  }, { pretty = true }) .. "\n"
end

function Plane:write_kubeconfig(name, user, path)
  return base.write(path or ("%s/%s.kubeconfig"):format(self.dir, name),
    M.kubeconfig(self.server, self.ca, user), 384) -- 0600
end

---Whether the API server says that it is ready.
---@async
---@return boolean
function Plane:ready()
  local answer = http.get(self.server .. "/readyz", { ca = self.ca, timeout = 2 })
  return answer ~= nil and answer.status == 200
end

---@async
function Plane:start_etcd()
  local at, peer = "http://127.0.0.1:" .. self.ports.etcd, "http://127.0.0.1:" .. self.ports.peer
  self.etcd = base.start {
    name = "etcd", dir = self.dir .. "/log", argv = {
      "etcd", "--name", "lab", "--data-dir", self.dir .. "/etcd",
      "--listen-client-urls", at, "--advertise-client-urls", at,
      "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "lab=" .. peer,
      "--unsafe-no-fsync", "--quota-backend-bytes", "4294967296", "--auto-compaction-retention", "10m",
      "--logger", "zap", "--log-level", "warn",
    },
    ready = function()
      local answer = http.get(at .. "/health", { timeout = 2 })
      return answer and answer.status == 200
    end,
    within = 60,
  }
end

---Starts the API server, again after stop_api: on the same port, with the same data.
---@async
---@param more? string[] Further flags, for this time.
function Plane:start_api(more)
  local own, kubelet = self.pki:files "apiserver", self.pki:files "kubelet-client"
  local flags = { table.unpack(self.flags.api or {}) }
  for _, flag in ipairs(more or {}) do flags[#flags + 1] = flag end
  self.api = base.start {
    name = "kube-apiserver", dir = self.dir .. "/log", within = 120,
    argv = command("kube-apiserver", {
      "--etcd-servers=http://127.0.0.1:" .. self.ports.etcd,
      "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" .. self.ports.api,
      "--tls-cert-file=" .. own.cert, "--tls-private-key-file=" .. own.key,
      "--client-ca-file=" .. self.ca, "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
      "--service-account-issuer=" .. ISSUER, "--service-account-signing-key-file=" .. self.pki.dir .. "/sa.key",
      "--service-account-key-file=" .. self.pki.dir .. "/sa.pub",
      "--service-cluster-ip-range=" .. self.services .. "0/24",
      "--endpoint-reconciler-type=none", "--allow-privileged", "--profiling=false",
      "--kubelet-certificate-authority=" .. self.ca, "--kubelet-client-certificate=" .. kubelet.cert,
      "--kubelet-client-key=" .. kubelet.key, "--kubelet-preferred-address-types=InternalIP",
      NO_WATCH_LIST,
    }, flags),
    ready = function() return self:ready() end,
  }
end

---Ends the API server: at once, with its connections, unless a gentler signal is named. It then waits for requests
---that run, and gets five seconds for that.
---@async
---@param signal? "TERM"|"KILL" "KILL" by default.
function Plane:stop_api(signal)
  local api = assert(self.api, "the API server runs")
  self.api = nil
  if signal ~= "TERM" then api.handle:kill("KILL") end
  api:stop(5)
end

---@async
function Plane:start_controllers()
  local config, own = self.dir .. "/controller-manager.kubeconfig", self.pki:files "controller-manager"
  self.controllers = base.start {
    name = "kube-controller-manager", dir = self.dir .. "/log", argv = command("kube-controller-manager", {
      "--kubeconfig=" .. config, "--authentication-kubeconfig=" .. config, "--authorization-kubeconfig=" .. config,
      "--bind-address=127.0.0.1", "--secure-port=" .. self.ports.controllers, "--tls-cert-file=" .. own.cert,
      "--tls-private-key-file=" .. own.key, "--use-service-account-credentials",
      "--service-account-private-key-file=" .. self.pki.dir .. "/sa.key", "--root-ca-file=" .. self.ca,
      "--cluster-signing-cert-file=" .. self.ca, "--cluster-signing-key-file=" .. self.pki.dir .. "/ca.key",
      "--leader-elect=false", "--allocate-node-cidrs=false", "--concurrent-deployment-syncs=10",
      "--kube-api-qps=200", "--kube-api-burst=400",
    }, self.flags.controllers),
  }
end

---@async
function Plane:start_scheduler()
  local config, own = self.dir .. "/scheduler.kubeconfig", self.pki:files "scheduler"
  self.scheduler = base.start {
    name = "kube-scheduler", dir = self.dir .. "/log", argv = command("kube-scheduler", {
      "--kubeconfig=" .. config, "--authentication-kubeconfig=" .. config, "--authorization-kubeconfig=" .. config,
      "--bind-address=127.0.0.1", "--secure-port=" .. self.ports.scheduler, "--tls-cert-file=" .. own.cert,
      "--tls-private-key-file=" .. own.key, "--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400",
    }, self.flags.scheduler),
  }
end

---Ends all of it; its folder stays.
---@async
function Plane:stop()
  if self.api then self.api.handle:kill("KILL") end -- it would wait for its clients
  for _, name in ipairs { "scheduler", "controllers", "api", "etcd" } do
    if self[name] then self[name]:stop() end
    self[name] = nil
  end
end

local function certificates(self)
  self.pki:issue("apiserver", { user = "kube-apiserver", names = API_NAMES .. self.services .. "1" })
  self.pki:issue("kubelet-client", { user = "kube-apiserver-kubelet-client", group = "system:masters" })
  for name, user in pairs {
    ["admin"] = { user = "admin", group = "system:masters" },
    ["controller-manager"] = { user = "system:kube-controller-manager" },
    ["scheduler"] = { user = "system:kube-scheduler" },
  } do
    local path = name == "admin" and self.kubeconfig or nil
    self:write_kubeconfig(name, self.pki:issue(name, user), path)
  end
end

---A network of 256 addresses that no route of this machine knows.
---@async
---@param first integer The second number of its addresses is at least this and less than this plus 50.
---@return string prefix "10.160.7."
function M.network(first)
  local routes = base.exists "ip" and base.run { "ip", "-4", "route", "show", "table", "all" } or ""
  for _ = 1, 50 do
    local a, b = hash.random(2):byte(1, 2)
    local prefix = ("10.%d.%d."):format(first + a % 50, b)
    if not routes:find(prefix, 1, true) then return prefix end
  end
  error("no free network")
end

---@class PlaneOptions
---@field dir string a folder that is empty or missing
---@field controllers? boolean kube-controller-manager too (true)
---@field scheduler? boolean kube-scheduler too (true)
---@field flags? {api?: string[], controllers?: string[], scheduler?: string[]}
---@field progress? fun(text: string)

---Starts a control plane and waits until it is ready.
---@async
---@param options PlaneOptions
---@return Plane
function M.open(options)
  local dir, tell = options.dir, options.progress or function() end
  local self = setmetatable({ dir = dir, flags = options.flags or {}, ports = {} }, Plane)
  for _, name in ipairs { "api", "etcd", "peer", "controllers", "scheduler" } do self.ports[name] = base.port() end
  self.server, self.services = "https://127.0.0.1:" .. self.ports.api, M.network(150)
  self.kubeconfig = dir .. "/kubeconfig"
  for _, name in ipairs { "", "/pki", "/log" } do assert(fs.mkdir(dir .. name, { parents = true })) end
  self.pki = pki.new(dir .. "/pki")
  self.ca = self.pki.ca
  certificates(self)
  tell(("etcd on port %d"):format(self.ports.etcd))
  self:start_etcd()
  tell(("kube-apiserver on port %d"):format(self.ports.api))
  self:start_api()
  if options.controllers ~= false then self:start_controllers() end
  if options.scheduler ~= false then self:start_scheduler() end
  return self
end

return M
