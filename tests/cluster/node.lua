-- One real node: kubelet on Debian's containerd, in a process and mount namespace of its own (lab/cage.lua). Its pods
-- are real containers with addresses of their own, which this machine reaches over a veth pair for each.
--
-- What a machine in a box lacks, and the way round it: no CAP_SYS_RESOURCE (containerd keeps oom scores at its own,
-- limits are not raised); control groups of version 1 (1.34 still takes them); kernel settings that kubelet and the
-- plugins write go to files that only this namespace sees. Nothing is left to undo when it ends: processes go with the
-- namespace, and with them mounts, network namespaces, veth pairs and routes.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local cage = require "lab.cage"
local fs, hash, json = require "fs", require "hash", require "json"
local planes, tools = require "cluster.plane", require "cluster.tools"

local M = {}

local PAUSE <const> = "lab.moontide/pause:1"
local SOCKET <const> = "/run/containerd/containerd.sock"

-- What kubelet wants to read there, so that it has nothing to write.
local SYSCTLS <const> = {
  ["vm/overcommit_memory"] = "1", ["vm/panic_on_oom"] = "0", ["kernel/panic"] = "10", ["kernel/panic_on_oops"] = "1",
  ["kernel/keys/root_maxkeys"] = "1000000", ["kernel/keys/root_maxbytes"] = "25000000",
  ["net/ipv4/ip_forward"] = "1",
}

---Why there can be no real node here, nil when there can.
---@return string?
function M.unavailable()
  for _, program in ipairs { "containerd", "runc", "ip", "socat", "catatonit" } do
    if not base.exists(program) then return program .. " is not installed" end
  end
  if not fs.exists("/usr/lib/cni/ptp") then return "containernetworking-plugins is not installed" end
  return cage.unavailable()
end

local function containerd_config(dir)
  return ([[
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "]] .. SOCKET .. [["
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%s"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%s/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "%s/registries"
]]):format(PAUSE, dir, dir)
end

local function network(dir, prefix)
  return json.encode {
    cniVersion = "0.4.0", name = "lab", plugins = {
      { type = "ptp", ipMasq = false, ipam = {
        type = "host-local", dataDir = dir .. "/cni-data", ranges = { { { subnet = prefix .. "0/24" } } },
        routes = { { dst = "0.0.0.0/0" } },
      } },
    },
  }
end

local function kubelet_config(self)
  return json.encode({
    apiVersion = "kubelet.config.k8s.io/v1beta1", kind = "KubeletConfiguration",
    address = "127.0.0.1", port = self.port, readOnlyPort = 0, healthzPort = 0,
    tlsCertFile = self.tls.cert, tlsPrivateKeyFile = self.tls.key,
    authentication = { x509 = { clientCAFile = self.plane.ca }, anonymous = { enabled = false },
      webhook = { enabled = true } },
    authorization = { mode = "Webhook" },
    containerRuntimeEndpoint = "unix://" .. SOCKET, podLogsDir = "/var/log/pods",
    cgroupDriver = "cgroupfs", cgroupRoot = "/" .. self.cage.cgroup, cgroupsPerQOS = false,
    enforceNodeAllocatable = json.array {}, failCgroupV1 = false, failSwapOn = false, oomScoreAdj = 0,
    maxOpenFiles = 16384, makeIPTablesUtilChains = false, resolvConf = "", clusterDomain = "cluster.local",
    evictionHard = { ["memory.available"] = "100Mi", ["nodefs.available"] = "1Mi", ["imagefs.available"] = "1Mi",
      ["nodefs.inodesFree"] = "1%", ["imagefs.inodesFree"] = "1%" },
    imageGCHighThresholdPercent = 100, maxPods = 250, syncFrequency = "10s", nodeStatusUpdateFrequency = "5s",
    fileCheckFrequency = "0s", httpCheckFrequency = "0s", serializeImagePulls = false,
    volumeStatsAggPeriod = "-1s", shutdownGracePeriod = "0s", registerNode = true,
    registerWithTaints = { { key = "lab.moontide/real", value = "true", effect = "NoSchedule" } },
    crashLoopBackOff = { maxContainerRestartPeriod = "10s" },
    featureGates = { KubeletInUserNamespace = true, KubeletCrashLoopBackOffMax = true },
  }, { pretty = true })
end

-- Folders that are only this namespace's own, and the files for kernel settings.
local function furnish(self)
  local function inside(argv) return base.run(cage.enter(self.cage, argv, "/")) end
  for _, name in ipairs { "kubelet", "containerd", "log" } do
    local at = name == "log" and "/var/log" or "/var/lib/" .. name
    assert(fs.mkdir(("%s/%s"):format(self.dir, name), { parents = true }))
    inside { "mkdir", "-p", at }
    inside { "mount", "--bind", ("%s/%s"):format(self.dir, name), at }
  end
  for name, value in pairs(SYSCTLS) do
    local file = base.write(("%s/sysctl/%s"):format(self.dir, name), value .. "\n")
    if fs.exists("/proc/sys/" .. name) then inside { "mount", "--bind", file, "/proc/sys/" .. name } end
  end
end

-- The image of the process that holds a pod's namespaces, as `docker save` writes one.
local function pause_image()
  local tar = require("lab.image").tar
  local layer = tar { { "pause", assert(fs.read("/usr/bin/catatonit", { max = 16 << 20 })), 493 } }
  local config = json.encode {
    architecture = "amd64", os = "linux", rootfs = { type = "layers", diff_ids = { "sha256:" .. hash.sha256(layer) } },
    config = { Entrypoint = { "/pause", "-P" } },
  }
  local manifest = json.encode { { Config = "config.json", RepoTags = { PAUSE }, Layers = { "layer.tar" } } }
  return tar { { "manifest.json", manifest }, { "config.json", config }, { "layer.tar", layer } }
end

local function start_containerd(self)
  local function ctr(words)
    return cage.enter(self.cage, { "ctr", "-a", SOCKET, "-n", "k8s.io", table.unpack(words) })
  end
  base.write(self.dir .. "/cni/10-lab.conflist", network(self.dir, self.pods))
  assert(fs.mkdir(self.dir .. "/registries", { parents = true }))
  local config = base.write(self.dir .. "/containerd.toml", containerd_config(self.dir))
  self.containerd = base.start {
    name = "containerd", dir = self.plane.dir .. "/log", within = 30,
    argv = cage.enter(self.cage, { "containerd", "--config", config }),
    ready = function()
      return pcall(base.run, ctr { "version" })
    end,
  }
  base.run(ctr { "images", "import", base.write(self.dir .. "/pause.tar", pause_image()) })
end

local function start_kubelet(self)
  local user = self.plane.pki:issue("kubelet", { user = "system:node:" .. self.name, group = "system:nodes" })
  local kubeconfig = self.plane:write_kubeconfig("kubelet", user)
  local config = base.write(self.dir .. "/kubelet.json", kubelet_config(self))
  self.kubelet = base.start {
    name = "kubelet", dir = self.plane.dir .. "/log",
    argv = cage.enter(self.cage, {
      tools.path "kubelet", "--config=" .. config, "--kubeconfig=" .. kubeconfig, "--hostname-override=" .. self.name,
      "--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki", "--node-labels=lab.moontide/node=real",
    }),
  }
end

-- Pods know the API server by the first address of all Services. It is given to one end of a veth pair, whose other
-- end is in a network namespace of the cage, so that it goes when that goes; a relay passes on what arrives there.
local function serve_api(self)
  local ip, near, far = self.plane.services .. "1", "mt" .. hash.hex(hash.random(4)), "peer"
  local function inside(argv) return base.run(cage.enter(self.cage, argv, "/")) end
  inside { "ip", "netns", "add", "services" }
  inside { "ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", "services" }
  inside { "ip", "address", "add", ip .. "/32", "dev", near }
  inside { "ip", "link", "set", near, "up" }
  self.relay = base.start {
    name = "relay", dir = self.plane.dir .. "/log", argv = {
      "socat", ("TCP-LISTEN:443,bind=%s,fork,reuseaddr"):format(ip), "TCP:127.0.0.1:" .. self.plane.ports.api,
    },
  }
end

---Starts the node; its Ready condition comes some seconds later.
---@async
---@param plane Plane
---@return table node
function M.start(plane)
  -- An address as the name: the API server then reaches kubelet on loopback, which no other setting allows.
  local self = { plane = plane, name = "127.0.0.1", dir = plane.dir .. "/node", port = base.port() }
  self.pods = planes.network(200)
  self.cage = cage.open()
  self.tls = plane.pki:issue("kubelet-server")
  assert(fs.mkdir(self.dir, { parents = true }))
  furnish(self)
  start_containerd(self)
  serve_api(self)
  start_kubelet(self)
  return self
end

return M
