-- The Job that builds an image: what it is called, and what it is made of.
--
-- Pod security "baseline" admits it: the capabilities are those of a container that is root inside, and buildah makes
-- a user namespace of its own when the node lets it. `privileged` is for nodes that do not.
local errors, hash, json, sys = require "errors", require "hash", require "json", require "base.sys"
local argv_of, contexts = require "images.builder.argv", require "images.builder.contexts"
local add, sorted = argv_of.add, argv_of.sorted

local M = {}

---The containers, in the order in which they run.
M.CONTAINERS = { "build", "push" }
---The annotation that names the context.
M.CONTEXT = "moontide.dev/context"

-- What pod security "baseline" lets a container add, as far as buildah uses it.
local CAPABILITIES <const> = {
  "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

---Where pods find this host: the configuration's `builder.url`, or the pod's own address and port.
---@param cfg Config
---@return string? base
---@return Err? err
---@return_overload nil, Err
function M.base(cfg)
  if cfg.builder.url then return (cfg.builder.url:gsub("/+$", "")) end
  local ip = sys.env "POD_IP"
  if ip and ip:find("^[%x.:]+$") and cfg.listen then
    return ("http://%s:%d"):format(ip:find(":", 1, true) and "[" .. ip .. "]" or ip, cfg.listen.port)
  end
  return errors.fail("invalid", "build jobs fetch their context from this host: set `listen`, and `builder.url` or the"
    .. " variable POD_IP", { op = "image.build" })
end

---The Job's name: the same for the same build, of any host.
---@param request BuildRequest
---@return string
function M.name(request)
  local app = request.app
  local parts = { request.name, request.dockerfile, app.context or "", app.build.target or "" }
  for _, key in sorted(app.build.args) do parts[#parts + 1] = key .. "=" .. tostring(app.build.args[key]) end
  local words = app.name:lower():gsub("[^%w]+", "-"):gsub("^-+", ""):sub(1, 30):gsub("-+$", "")
  return ("build-%s-%s"):format(words, hash.sha256(table.concat(parts, "\0")):sub(1, 12))
end

local function program(config)
  local argv = config.command and { table.unpack(config.command) } or { "buildah" }
  add(argv, "--root", "/scratch/storage", "--runroot", "/scratch/run")
  return argv
end

---The command that builds.
---@param request BuildRequest
---@param url string of the context
---@return string[]
function M.build_command(request, url)
  local app, argv = request.app, program(request.cfg.builder)
  add(argv, "build", "--format", "docker", "--file", request.dockerfile, "--tag", request.name, "--layers=false")
  for _, key in sorted(request.labels) do add(argv, "--label", key .. "=" .. request.labels[key]) end
  for _, key in sorted(app.build.args) do add(argv, "--build-arg", key .. "=" .. tostring(app.build.args[key])) end
  if app.build.target then add(argv, "--target", app.build.target) end
  if request.cfg.builder.network then add(argv, "--network", request.cfg.builder.network) end
  if request.registry.plain then add(argv, "--tls-verify=false") end
  add(argv, url)
  return argv
end

---The command that pushes; the digest becomes the container's last words.
---@param request BuildRequest
---@param told? string file for the digest
---@return string[]
function M.push_command(request, told)
  local argv = program(request.cfg.builder)
  add(argv, "push", "--digestfile", told or "/dev/termination-log")
  if request.registry.plain then add(argv, "--tls-verify=false") end
  if request.cfg.builder.authorities then add(argv, "--cert-dir", "/certificates") end
  add(argv, request.name, "docker://" .. request.name)
  return argv
end

local function container(b, name, command)
  local config = b.request.cfg.builder
  local env = {
    { name = "HOME", value = "/scratch" }, { name = "TMPDIR", value = "/scratch" },
    { name = "BUILDAH_ISOLATION", value = "chroot" }, { name = "STORAGE_DRIVER", value = "vfs" },
  }
  local mounts = { { name = "scratch", mountPath = "/scratch" } }
  if config.login then
    add(env, { name = "REGISTRY_AUTH_FILE", value = "/login/config.json" })
    add(mounts, { name = "login", mountPath = "/login", readOnly = true })
  end
  if config.authorities then
    add(mounts, { name = "certificates", mountPath = "/certificates", readOnly = true })
  end
  for _, key in sorted(config.env or {}) do add(env, { name = key, value = tostring(config.env[key]) }) end
  return {
    name = name, image = config.image, command = json.array(command), env = json.array(env),
    volumeMounts = json.array(mounts),
    resources = {
      requests = { cpu = config.cpu, memory = config.memory }, limits = { memory = config.memory },
    },
    securityContext = config.privileged and { privileged = true, runAsUser = 0 } or {
      runAsUser = 0, capabilities = { drop = json.array { "ALL" }, add = json.array(CAPABILITIES) },
    },
    terminationMessagePolicy = name == "build" and "FallbackToLogsOnError" or "File",
  }
end

---The Job.
---@param b {request: BuildRequest, name: string, namespace: string, context_name: string, base: string}
---@return table
function M.job(b)
  local request, config = b.request, b.request.cfg.builder
  local labels = {
    ["app.kubernetes.io/managed-by"] = "moontide", ["app.kubernetes.io/component"] = "build",
    ["app.kubernetes.io/name"] = "moontide-build",
  }
  local annotations = { ["moontide.dev/app"] = request.app.name, ["moontide.dev/image"] = request.name }
  local volumes = { { name = "scratch", emptyDir = {} } }
  if config.login then
    add(volumes, { name = "login", secret = {
      secretName = config.login, items = json.array { { key = ".dockerconfigjson", path = "config.json" } },
    } })
  end
  if config.authorities then add(volumes, { name = "certificates", configMap = { name = config.authorities } }) end
  local own = { [M.CONTEXT] = b.context_name }
  for key, value in pairs(annotations) do own[key] = value end
  return {
    apiVersion = "batch/v1", kind = "Job",
    metadata = { name = b.name, namespace = b.namespace, labels = labels, annotations = own },
    spec = {
      backoffLimit = 0, activeDeadlineSeconds = math.ceil(request.app.build.timeout),
      ttlSecondsAfterFinished = math.ceil(config.keep),
      template = {
        metadata = { labels = labels, annotations = annotations },
        spec = {
          restartPolicy = "Never", automountServiceAccountToken = false, enableServiceLinks = false,
          serviceAccountName = config.service_account,
          initContainers = json.array {
            container(b, "build", M.build_command(request, contexts.url(b.base, b.context_name))),
          },
          containers = json.array { container(b, "push", M.push_command(request)) },
          volumes = json.array(volumes),
        },
      },
    },
  }
end

return M
