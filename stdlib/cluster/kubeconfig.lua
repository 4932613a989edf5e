-- Kubeconfig files: which cluster, user and namespace. Reads and merges only.
--
-- Rules: client-go's tools/clientcmd. Several files (KUBECONFIG=a:b) merge by name, the first that says something
-- wins; relative paths start at the folder of the file that they stand in. What we cannot honour (auth-provider,
-- proxy-url) is an error, never ignored.
local errors, fs, hash, yaml = require "errors", require "fs", require "hash", require "yaml"
local tables = require "base.tables"

local M = {}

local LARGEST <const> = 4 << 20

---@class KubeExec
---@field command string
---@field args string[]
---@field env {[string]: string}
---@field api_version string
---@field hint? string how to install it
---@field provide_cluster boolean
---@field dir string folder of the file: where a relative command is

---@class KubePem exactly one of file and data
---@field file? string
---@field data? string

---@class KubeAccess what a kubeconfig says about one context
---@field file string the file(s), for messages
---@field context? string
---@field server string without a slash at its end
---@field namespace? string
---@field ca? KubePem
---@field server_name? string
---@field insecure boolean
---@field cluster table the cluster entry as it stands, for plugins
---@field token? string
---@field token_file? string
---@field cert? KubePem
---@field key? KubePem
---@field username? string
---@field password? string
---@field exec? KubeExec
---@field impersonate? {user: string, uid?: string, groups?: string[], extra?: table<string, string[]>}

local function fail(file, message, cause)
  return errors.fail("invalid", message, { op = "kubernetes.open", target = file, cause = cause })
end

local function dir_of(file) return file:match("^(.*)/[^/]*$") or "." end

local function resolved(dir, path)
  if path:sub(1, 1) == "/" then return path end
  return dir .. "/" .. path
end

-- ---- reading and merging ----

local PATHS <const> = {
  "certificate-authority", "client-certificate", "client-key", "tokenFile",
}

-- A list of {name=, KEY={...}} into `merged[name]`, unless a file before had that name.
local function take(merged, list, key, dir)
  for _, item in ipairs(type(list) == "table" and list or {}) do
    local value = type(item) == "table" and item[key]
    if type(value) == "table" and type(item.name) == "string" and not merged[item.name] then
      for _, name in ipairs(PATHS) do
        if type(value[name]) == "string" and value[name] ~= "" then value[name] = resolved(dir, value[name]) end
      end
      merged[item.name] = { value = value, dir = dir }
    end
  end
end

local function read_all(files)
  local merged = { clusters = {}, users = {}, contexts = {} }
  local any
  for _, file in ipairs(files) do
    local text, err = fs.read(file, { max = LARGEST })
    if not text and (#files == 1 or not errors.is(err, "not_found")) then return nil, err end
    if text then
      local value, wrong = yaml.decode(text, { null_as_nil = true })
      if type(value) ~= "table" then return fail(file, "is no kubeconfig", wrong) end
      local dir = dir_of(file)
      any = true
      take(merged.clusters, value.clusters, "cluster", dir)
      take(merged.users, value.users, "user", dir)
      take(merged.contexts, value.contexts, "context", dir)
      local current = value["current-context"]
      if not merged.current and type(current) == "string" and current ~= "" then merged.current = current end
    end
  end
  if any then return merged end
  return errors.fail("not_found", "no such file: " .. table.concat(files, ", "), { op = "kubernetes.open" })
end

-- ---- what one context says ----

-- Text of a field; numbers are what YAML makes of a token of digits.
local function text_of(value)
  if math.type(value) == "integer" then return tostring(value) end
  return type(value) == "string" and value ~= "" and value or nil
end

-- A PEM by file or by data, data first.
local function pem(entry, name)
  local data = text_of(entry[name .. "-data"])
  if data then
    local bytes = hash.unbase64((data:gsub("%s", "")))
    if not bytes then return nil, name .. "-data is no base64" end
    return { data = bytes }
  end
  local file = text_of(entry[name])
  return file and { file = file } or nil
end

local function exec_of(entry, dir)
  local exec = entry.exec
  if type(exec) ~= "table" then return nil, "exec is no mapping" end
  local command = text_of(exec.command)
  if not command then return nil, "exec names no command" end
  local args, env = {}, {}
  for _, arg in ipairs(type(exec.args) == "table" and exec.args or {}) do args[#args + 1] = tostring(arg) end
  for _, pair in ipairs(type(exec.env) == "table" and exec.env or {}) do
    if type(pair) == "table" and text_of(pair.name) then env[pair.name] = tostring(pair.value or "") end
  end
  local version = text_of(exec.apiVersion) or ""
  if version ~= "client.authentication.k8s.io/v1" and version ~= "client.authentication.k8s.io/v1beta1" then
    return nil, ("exec speaks %s; v1 and v1beta1 of client.authentication.k8s.io are understood"):format(
      version == "" and "no apiVersion" or version)
  end
  if exec.interactiveMode == "Always" then
    return nil, "the exec plugin wants a person at a terminal (interactiveMode: Always)"
  end
  return {
    command = command, args = args, env = env, api_version = version, hint = text_of(exec.installHint),
    provide_cluster = exec.provideClusterInfo == true, dir = dir,
  }
end

local function impersonation(user)
  local name = text_of(user.as)
  if not name then
    if user["as-groups"] or user["as-uid"] or user["as-user-extra"] then
      return nil, "as-uid, as-groups and as-user-extra need as"
    end
    return nil
  end
  local groups, extra = {}, {}
  for _, group in ipairs(type(user["as-groups"]) == "table" and user["as-groups"] or {}) do
    groups[#groups + 1] = tostring(group)
  end
  for key, list in pairs(type(user["as-user-extra"]) == "table" and user["as-user-extra"] or {}) do
    extra[key] = {}
    for _, value in ipairs(type(list) == "table" and list or {}) do extra[key][#extra[key] + 1] = tostring(value) end
  end
  return { user = name, uid = text_of(user["as-uid"]), groups = groups, extra = extra }
end

local function cluster_of(access, cluster, file)
  local server = text_of(cluster.server)
  if not server or not server:find("^https?://") then return fail(file, "the cluster has no server address") end
  if text_of(cluster["proxy-url"]) then
    return errors.fail("unsupported", "proxy-url is not supported; reach the cluster without a proxy",
      { op = "kubernetes.open", target = file })
  end
  local wrong
  access.server = server:gsub("/+$", "")
  access.ca, wrong = pem(cluster, "certificate-authority")
  if wrong then return fail(file, wrong) end
  access.server_name = text_of(cluster["tls-server-name"])
  access.insecure = cluster["insecure-skip-tls-verify"] == true
  if access.insecure and access.ca then
    return fail(file, "insecure-skip-tls-verify and a certificate authority exclude each other")
  end
  access.cluster = cluster
  return access
end

local function user_of(access, user, dir, file)
  if user["auth-provider"] then
    return errors.fail("unsupported", "auth-provider was removed from Kubernetes 1.26; use an exec plugin, a "
      .. "token or a certificate", { op = "kubernetes.open", target = file })
  end
  local wrong
  access.token, access.token_file = text_of(user.token), text_of(user.tokenFile)
  access.username, access.password = text_of(user.username), text_of(user.password)
  if access.username and (access.token or access.token_file) then
    return fail(file, "the user has both a token and a password")
  end
  access.cert, wrong = pem(user, "client-certificate")
  if wrong then return fail(file, wrong) end
  access.key, wrong = pem(user, "client-key")
  if wrong then return fail(file, wrong) end
  if (access.cert == nil) ~= (access.key == nil) then
    return fail(file, "a client certificate needs its key, and a key its certificate")
  end
  if user.exec then
    access.exec, wrong = exec_of(user, dir)
    if wrong then return fail(file, wrong) end
  end
  access.impersonate, wrong = impersonation(user)
  if wrong then return fail(file, wrong) end
  return access
end

---Reads what one context of some files says.
---@async
---@param files string[] absolute paths, the most important first
---@param context? string default: the current one
---@return KubeAccess?
---@return Err? err
---@return_overload nil, Err
function M.load(files, context)
  local merged, err = read_all(files)
  if not merged then return nil, err end
  local shown = table.concat(files, ":")
  local name = context or merged.current
  if not name then return fail(shown, "names no current-context; say which: context = ...") end
  local found = merged.contexts[name]
  if not found then
    local names = tables.keys(merged.contexts)
    return fail(shown, ("has no context %s (it has: %s)"):format(name, table.concat(names, ", ")))
  end
  local cluster_name, user_name = text_of(found.value.cluster), text_of(found.value.user)
  local cluster = cluster_name and merged.clusters[cluster_name]
  if not cluster then
    return fail(shown, ("context %s names the cluster %s, which is not there"):format(name, tostring(cluster_name)))
  end
  local access = { file = shown, context = name, namespace = text_of(found.value.namespace) }
  access, err = cluster_of(access, cluster.value, shown)
  if not access or not user_name then return access, err end
  local user = merged.users[user_name]
  if not user then return fail(shown, ("context %s names the user %s, who is not there"):format(name, user_name)) end
  return user_of(access, user.value, user.dir, shown)
end

return M
