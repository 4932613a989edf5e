-- A kubeconfig for helmsman alone: kubectl writes into the one that it is given (`config use-context`), and in a pod
-- there is none.
local errors, fs, hash, json, log, sys = require "errors", require "fs", require "hash", require "json",
  require "log", require "base.sys"

local M = {}

local ACCOUNT <const> = "/var/run/secrets/kubernetes.io/serviceaccount"

local function put(into, name, pem)
  if not pem then return end
  if pem.file then into[name] = pem.file else into[name .. "-data"] = hash.base64(pem.data) end
end

-- What a context of a file says, as one cluster and one user.
local function of_file(files, context)
  local said, err = require("cluster.kubeconfig").load(files, context)
  if not said then return nil, err end
  local user = { token = said.token, tokenFile = said.token_file, username = said.username, password = said.password }
  for _, secret in ipairs { said.token or false, said.password or false } do
    if secret then log.secret(secret) end
  end
  put(user, "client-certificate", said.cert)
  put(user, "client-key", said.key)
  if said.exec then
    local command, env = said.exec.command, {}
    if command:find("/", 1, true) and command:sub(1, 1) ~= "/" then command = said.exec.dir .. "/" .. command end
    for name, value in pairs(said.exec.env) do env[#env + 1] = { name = name, value = value } end
    user.exec = {
      apiVersion = said.exec.api_version, command = command, args = json.array(said.exec.args), env = json.array(env),
      provideClusterInfo = said.exec.provide_cluster, interactiveMode = "Never",
    }
  end
  local as = said.impersonate
  if as then ---@cast as {user: string, uid?: string, groups: string[], extra: table<string, string[]>}
    user.as, user["as-uid"], user["as-groups"] = as.user, as.uid, as.groups[1] and json.array(as.groups) or nil
    user["as-user-extra"] = next(as.extra) and as.extra or nil
  end
  return { context = said.context, namespace = said.namespace, cluster = said.cluster, user = user }
end

-- The cluster that this pod runs in: the files themselves are named, so that a new token is seen.
local function of_pod(root)
  local host, port = sys.env "KUBERNETES_SERVICE_HOST", sys.env "KUBERNETES_SERVICE_PORT"
  if not host or host == "" or not port or not fs.exists(root .. "/token") then return nil end
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  local namespace = fs.read(root .. "/namespace", { max = 4096 })
  return {
    context = "in-cluster", namespace = namespace and namespace:match("^%s*(.-)%s*$"),
    cluster = { server = ("https://%s:%s"):format(host, port), ["certificate-authority"] = root .. "/ca.crt" },
    user = { tokenFile = root .. "/token" },
  }
end

local function find(config, root)
  if config.kubeconfig then return of_file({ config.kubeconfig }, config.context) end
  local found = not config.context and of_pod(root or ACCOUNT)
  if found then return found end
  local files = {}
  for file in (sys.env "KUBECONFIG" or ""):gmatch("[^:]+") do
    files[#files + 1] = file:sub(1, 1) == "/" and file or (sys.cwd() or "") .. "/" .. file
  end
  if files[1] then return of_file(files, config.context) end
  return errors.fail("not_found", "no cluster: this is no pod, KUBECONFIG is not set, and the configuration names no "
    .. "kubeconfig for it", { op = "helmsman" })
end

---Writes a kubeconfig with one context, for one run of helmsman.
---@async
---@param path string
---@param name string The cluster, as the configuration calls it.
---@param cfg Config
---@param root? string Where the service account's files are.
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function M.write(path, name, cfg, root)
  local config = cfg.clusters and cfg.clusters[name] or name == "default" and {} or nil
  if not config then
    return errors.fail("not_found", ("the configuration has no cluster %s"):format(name), { op = "helmsman" })
  end
  local found, err = find(config, root)
  if not found then return nil, err end
  local text = assert(json.encode {
    apiVersion = "v1", kind = "Config", ["current-context"] = found.context,
    clusters = json.array { { name = found.context, cluster = found.cluster } },
    users = json.array { { name = found.context, user = found.user } },
    contexts = json.array { { name = found.context, context = {
      cluster = found.context, user = found.context, namespace = config.namespace or found.namespace,
    } } },
  })
  return fs.write(path, text, { mode = 384, sync = false }) -- 0600; JSON is YAML
end

return M
