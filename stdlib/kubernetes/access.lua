-- How a cluster is reached and who we are there: what every request needs beside its path.
--
-- In a pod: the environment and the service account's files, whose token the kubelet replaces; it is read again
-- every minute and after a 401, and the old one serves on when the file cannot be read (client-go's
-- transport/token_source.go). Elsewhere: a kubeconfig. CA files are looked at by the http client itself. Every
-- secret is registered with the log's filter as soon as it is known and is in no error.
local errors, fs, log, sys, time = require "errors", require "fs", require "log", require "sys", require "time"
local kubeconfig = require "kubernetes.kubeconfig"

local M = {}

local ACCOUNT <const> = "/var/run/secrets/kubernetes.io/serviceaccount"
local REREAD <const> = 60 -- seconds
local TOKEN_MAX <const> = 64 << 10

---@class KubernetesAccess
---@field server string
---@field namespace string
---@field package ca string?
---@field package token_file string?
---@field package token string?
---@field package token_read number? monotonic
---@field package said KubeAccess?
local Access = {}
Access.__index = Access

local function fail(code, message, fields)
  fields = fields or {}
  fields.op = "kubernetes.open"
  return errors.fail(code, message, fields)
end

-- ---- tokens in files ----

local function usable(token) return token ~= "" and not token:find("[%c%s]") end

-- Reads the token again when it is old (or `now`). An unreadable file leaves the one that we have.
local function refresh(self, now)
  if not now and self.token_read and time.monotonic() - self.token_read < REREAD then return true end
  local text, err = fs.read(self.token_file, { max = TOKEN_MAX })
  local token = text and text:match("^%s*(.-)%s*$")
  self.token_read = time.monotonic()
  if token and usable(token) then
    if token ~= self.token then log.secret(token) end
    self.token = token
    return true
  end
  if self.token then
    log.warn("the cluster's token cannot be read again; the old one serves on",
      { file = self.token_file, reason = err and err.message or "it holds no token" })
    return true
  end
  return fail("unauthorized", "the token file holds no token", { target = self.token_file, cause = err })
end

-- ---- the two ways in ----

---The cluster that this pod runs in; nil without an error when this is no pod.
---@async
---@param root string? where the service account's files are
---@return KubernetesAccess?
---@return Err? err
function M.in_cluster(root)
  local host, port = sys.env "KUBERNETES_SERVICE_HOST", sys.env "KUBERNETES_SERVICE_PORT"
  if not host or host == "" or not port or port == "" then return nil end
  root = root or ACCOUNT
  if not fs.exists(root .. "/token") then return nil end
  local self = setmetatable({ ca = root .. "/ca.crt", token_file = root .. "/token" }, Access)
  self.server = ("https://%s:%s"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
  local ok, err = refresh(self)
  if not ok then return nil, err end
  local namespace = sys.env "POD_NAMESPACE"
  if not namespace or namespace == "" then
    namespace = (fs.read(root .. "/namespace", { max = 4096 }) or ""):match("^%s*(.-)%s*$")
  end
  self.namespace = namespace ~= "" and namespace or "default"
  return self
end

-- A PEM as a path. Data goes to a folder of our own that is gone when the access is closed.
local function file_of(self, pem, name)
  if not pem or pem.file then return pem and pem.file end
  local err
  if not self.dir then
    self.dir, err = fs.temp_dir { prefix = "moontide-cluster-" }
    if not self.dir then return nil, err end
  end
  local path = ("%s/%s"):format(self.dir.path, name)
  local ok
  ok, err = fs.write(path, pem.data, { mode = 384, sync = false }) -- 0600
  return ok and path, err
end

-- What does not change: files of certificates, fixed tokens.
local function settle(self, said)
  local err
  self.said = said
  self.ca, err = file_of(self, said.ca, "ca.crt")
  if err then return nil, err end
  if said.key and said.key.data then log.secret(said.key.data) end
  self.cert, err = file_of(self, said.cert, "client.crt")
  if err then return nil, err end
  self.key, err = file_of(self, said.key, "client.key")
  if err then return nil, err end
  if said.password then log.secret(said.password) end
  if said.token then log.secret(said.token) end
  self.token, self.token_file, self.token_read = said.token, said.token_file, nil
  -- client-go: a token file, when it can be read, wins over the token beside it.
  if self.token_file then return refresh(self) end
  return true
end

---A cluster of kubeconfig files.
---@async
---@param files string[]
---@param context string?
---@return KubernetesAccess?
---@return Err? err
function M.kubeconfig(files, context)
  local said, err = kubeconfig.load(files, context)
  if not said then return nil, err end
  local self = setmetatable({ server = said.server, namespace = said.namespace or "default" }, Access)
  local ok
  ok, err = settle(self, said)
  if ok then return self end
  self:close()
  return nil, err
end

---Finds the way into a cluster.
---@async
---@param config ClusterConfig
---@return KubernetesAccess?
---@return Err? err
function M.open(config)
  local access, err
  if config.kubeconfig then
    access, err = M.kubeconfig({ config.kubeconfig }, config.context)
  else
    if not config.context then access, err = M.in_cluster() end
    if not access and not err then
      local files = {}
      for file in (sys.env "KUBECONFIG" or ""):gmatch("[^:]+") do
        files[#files + 1] = file:sub(1, 1) == "/" and file or (sys.cwd() or "") .. "/" .. file
      end
      if not files[1] then
        return fail("not_found", "no cluster: this is no pod, KUBECONFIG is not set, and the configuration names no "
          .. "kubeconfig for it")
      end
      access, err = M.kubeconfig(files, config.context)
    end
  end
  if not access then return nil, err end
  access.namespace = config.namespace or access.namespace
  return access
end

-- ---- for requests ----

---What a request needs: options of the http client. `auth` in it tells `refused` what was tried.
---@async
---@return HttpOptions?
---@return Err? err
function Access:options()
  if self.token_file then
    local ok, err = refresh(self)
    if not ok then return nil, err end
  end
  local said = self.said or {}
  local auth = self.token and { bearer = self.token }
    or said.username and { user = said.username, password = said.password } or nil
  return { ca = self.ca, cert = self.cert, key = self.key, auth = auth }
end

---After a 401: tells whether there is something else to try.
---@async
---@param tried HttpOptions what `options` gave for the refused request
---@return boolean
function Access:refused(tried)
  local before = tried.auth and tried.auth.bearer
  if self.token_file then
    if self.token == before then refresh(self, true) end
    return self.token ~= before
  end
  return false
end

---Removes the files that were made for it.
function Access:close()
  if self.dir then self.dir:close() end
  self.dir = nil
end

return M
