-- Exec plugins: programs that print credentials (client.authentication.k8s.io ExecCredential).
--
-- A plugin is started by its argv, without a shell and without a terminal, in an environment of what such programs
-- use. What it prints to stdout is a secret from the first byte: no error holds any of it.
local errors, json, log, proc, text, time = require "errors", require "json", require "log", require "proc",
  require "base.text", require "time"

local M = {}

---Seconds that a plugin may take.
M.timeout = 60
local EARLY <const> = 30 -- seconds before the end of its life that a credential is replaced

-- Variables that configure the plugins of the big clouds.
local INHERIT <const> = {
  "HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "KUBECONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CONFIG_HOME",
  "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
  "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
  "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
  "AWS_ROLE_SESSION_NAME", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
  "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
  "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "CLOUDSDK_CORE_PROJECT", "CLOUDSDK_CORE_ACCOUNT",
  "AZURE_CONFIG_DIR", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE",
  "AZURE_AUTHORITY_HOST", "AAD_LOGIN_METHOD", "AAD_SERVICE_PRINCIPAL_CLIENT_ID",
  "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET",
}

---@class KubeCredential
---@field token? string
---@field cert? string PEM
---@field key? string PEM
---@field expires? Wall when it has to be replaced at the latest

local function fail(exec, code, message, cause)
  return errors.fail(code, ("exec plugin %s %s"):format(exec.command:match("[^/]+$") or exec.command, message),
    { op = "kubernetes.exec", target = exec.command, cause = cause })
end

-- The plugin's input: the cluster, and that it is not interactive.
local function info(exec, cluster)
  local spec = { interactive = false }
  if exec.provide_cluster then
    spec.cluster = {
      server = cluster.server, ["tls-server-name"] = cluster["tls-server-name"],
      ["insecure-skip-tls-verify"] = cluster["insecure-skip-tls-verify"],
      ["certificate-authority-data"] = cluster["certificate-authority-data"],
    }
    for _, extension in ipairs(type(cluster.extensions) == "table" and cluster.extensions or {}) do
      if type(extension) == "table" and extension.name == "client.authentication.k8s.io/exec" then
        spec.cluster.config = extension.extension
      end
    end
  end
  return json.encode { apiVersion = exec.api_version, kind = "ExecCredential", spec = spec }
end

-- The last line that the plugin wrote for people.
local function complaint(result)
  local last = result.stderr:match("([^\r\n]+)%s*$")
  return last and ": " .. text.clean(log.redact(last), 200) or ""
end

local function program(exec)
  local command = exec.command
  if command:find("/", 1, true) and command:sub(1, 1) ~= "/" then return exec.dir .. "/" .. command end
  return command
end

-- The credential in what was printed.
local function read(exec, printed)
  local value = json.decode(printed, { null_as_nil = true })
  if type(value) ~= "table" or value.kind ~= "ExecCredential" then
    return fail(exec, "protocol", "printed no ExecCredential")
  end
  if value.apiVersion ~= exec.api_version then
    return fail(exec, "protocol", "printed a credential of another apiVersion than " .. exec.api_version)
  end
  local status = type(value.status) == "table" and value.status or {}
  local function field(name)
    local found = status[name]
    return type(found) == "string" and found ~= "" and found or nil
  end
  local credential = { token = field "token", cert = field "clientCertificateData", key = field "clientKeyData" }
  if credential.token then log.passing_secret(credential.token) end
  if credential.key then log.passing_secret(credential.key) end
  if credential.token and credential.token:find("[%c%s]") then
    return fail(exec, "protocol", "printed a token with blanks or line breaks in it")
  end
  if (credential.cert == nil) ~= (credential.key == nil) then
    return fail(exec, "protocol", "printed a certificate without its key, or a key without its certificate")
  end
  if not credential.token and not credential.cert then
    return fail(exec, "protocol", "printed neither a token nor a certificate")
  end
  local stamp = field "expirationTimestamp"
  if stamp then
    local expires, err = time.parse_iso(stamp)
    if not expires then return fail(exec, "protocol", "printed an expirationTimestamp that is no time", err) end
    credential.expires = expires - EARLY
  end
  return credential
end

---Runs a plugin.
---@async
---@param exec KubeExec
---@param cluster table the cluster's entry in the kubeconfig
---@return KubeCredential?
---@return Err? err timeout, not_found with the hint how to install it, failed, protocol
---@return_overload nil, Err
function M.run(exec, cluster)
  local env = { KUBERNETES_EXEC_INFO = assert(info(exec, cluster)) } ---@type table<string, string>
  for name, value in pairs(exec.env) do env[name] = value end
  local argv = {
    program(exec), env = env, inherit = INHERIT, stdin = false, timeout = M.timeout, grace = 2, max_output = 1 << 20,
  }
  table.move(exec.args, 1, #exec.args, 2, argv)
  local result, err = proc.run(argv)
  if not result then
    if err.code == "timeout" then return fail(exec, "timeout", ("did not end within %g s"):format(M.timeout)) end
    local hint = exec.hint and text.clean(exec.hint, 300)
    return fail(exec, err.code, "cannot be run" .. (hint and ": " .. hint or ""), err.message)
  end
  if result.truncated then return fail(exec, "too_large", "printed more than 1 MiB") end
  if not result.ok then
    local how = result.signal and "ended by " .. result.signal or ("ended with status %d"):format(result.code)
    return fail(exec, "failed", how .. complaint(result))
  end
  return read(exec, result.stdout)
end

return M
