-- Address and credentials of a cluster: what every request needs beside its path.
--
-- In a pod: the environment and the service account's files, whose token the kubelet replaces; it is read again
-- every minute and after a 401, and the old one serves on when the file cannot be read (client-go's
-- transport/token_source.go). Elsewhere: a kubeconfig. CA files are read by the http client itself. Every
-- secret is registered with the log's filter as soon as it is known and is in no error.
local errors, fs, log, sys, time = require "errors", require "fs", require "log", require "base.sys", require "time"
local exec, kubeconfig, task = require "cluster.exec", require "cluster.kubeconfig", require "task"
local tables = require "base.tables"

local M = {}

local ACCOUNT <const> = "/var/run/secrets/kubernetes.io/serviceaccount"
local TOKEN_MAX <const> = 64 << 10

---Seconds until a token file is read again.
M.reread = 60

---@class KubernetesAccess
---@field server string
---@field namespace string
---@field base string the server as requests name it: the name that its certificate proves
---@field package ca? string
---@field package cert? string
---@field package key? string
---@field package token? string
---@field package token_file? string
---@field package token_read? number monotonic
---@field package files? string[] kubeconfigs
---@field package context? string
---@field package said? KubeAccess what they say
---@field package expires? Wall of a plugin's credential
---@field package dir? TempDir
---@field package serial integer of the files in it
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
  if not now and self.token_read and time.monotonic() - self.token_read < M.reread then return true end
  local text, err = fs.read(self.token_file, { max = TOKEN_MAX })
  local token = text and text:match("^%s*(.-)%s*$")
  self.token_read = time.monotonic()
  if token and usable(token) then
    if token ~= self.token then log.passing_secret(token) end
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
---@param root? string where the service account's files are
---@return KubernetesAccess?
---@return Err? err
function M.in_cluster(root)
  local host, port = sys.env "KUBERNETES_SERVICE_HOST", sys.env "KUBERNETES_SERVICE_PORT"
  if not host or host == "" or not port or port == "" then return nil end
  root = root or ACCOUNT
  if not fs.exists(root .. "/token") then return nil end
  local self = setmetatable({ ca = root .. "/ca.crt", token_file = root .. "/token", serial = 0 }, Access)
  self.server = ("https://%s:%s"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
  self.base = self.server
  local ok, err = refresh(self)
  if not ok then return nil, err end
  local namespace = sys.env "POD_NAMESPACE"
  if not namespace or namespace == "" then
    namespace = (fs.read(root .. "/namespace", { max = 4096 }) or ""):match("^%s*(.-)%s*$")
  end
  self.namespace = namespace ~= "" and namespace or "default"
  return self
end

-- A PEM as a path. Data goes to a folder of our own that is gone when the access is closed; each time under a new
-- name, since a connection made with the old file must not be taken for one of the new.
local function file_of(self, pem, name)
  if not pem or pem.file then return pem and pem.file end
  local err
  if not self.dir then
    self.dir, err = fs.temp_dir { prefix = "moontide-cluster-" }
    if not self.dir then return nil, err end
  end
  self.serial = self.serial + 1
  local path = ("%s/%d-%s"):format(self.dir.path, self.serial, name)
  local ok
  ok, err = fs.write(path, pem.data, { mode = 384, sync = false }) -- 0600
  if not ok then return nil, err end
  return path
end

-- Puts a client certificate and its key in place of those before; the old files go.
local function identify(self, cert, key)
  local old_cert, old_key = self.cert, self.key
  local new_cert, err = file_of(self, cert, "client.crt")
  if err then return nil, err end
  local new_key
  new_key, err = file_of(self, key, "client.key")
  if err then return nil, err end
  self.cert, self.key = new_cert, new_key
  local own = self.dir and self.dir.path .. "/"
  for _, old in ipairs { old_cert or false, old_key or false } do
    if own and old and old:sub(1, #own) == own and old ~= new_cert and old ~= new_key then fs.remove(old) end
  end
  return true
end

-- Runs the plugin.
local function fetch(self)
  return task.once(self, "plugin", function()
    local found, err = exec.run(self.said.exec, self.said.cluster)
    local ok = found ~= nil
    if found and found.cert then ok, err = identify(self, { data = found.cert }, { data = found.key }) end
    if not ok or not found then return nil, err end ---@diagnostic disable-line: redundant-return-value -- task.once
    self.token, self.expires = found.token, found.expires or math.huge
    return true
  end)
end

-- What stays as it is until the kubeconfig is read again: files of certificates, fixed tokens.
local function settle(self, said)
  if said.key and said.key.data then log.secret(said.key.data) end
  if said.password then log.secret(said.password) end
  if said.token then log.secret(said.token) end
  local ok, err = identify(self, said.cert, said.key)
  if not ok then return nil, err end
  self.said, self.expires = said, nil
  self.token, self.token_file, self.token_read = said.token, said.token_file, nil
  -- client-go: a token file, when it can be read, wins over the token beside it.
  if self.token_file then return refresh(self) end
  return true
end

-- host:port of a server's address, and the path behind it.
local function authority(server)
  local scheme, address, path = server:match("^(https?)://([^/]*)(.*)$")
  if not address:find(":%d+$") then address = address .. (scheme == "https" and ":443" or ":80") end
  return address, path, scheme
end

---A cluster of kubeconfig files.
---@async
---@param files string[]
---@param context? string
---@return KubernetesAccess?
---@return Err? err
function M.kubeconfig(files, context)
  local said, err = kubeconfig.load(files, context)
  if not said then return nil, err end
  local self = setmetatable({
    server = said.server, base = said.server, namespace = said.namespace or "default", files = files,
    context = context, serial = 0,
  }, Access)
  if said.server_name then
    local address, path, scheme = authority(said.server)
    self.base = ("%s://%s:%s%s"):format(scheme, said.server_name, address:match("%d+$"), path)
  end
  self.ca, err = file_of(self, said.ca, "ca.crt")
  local ok = not err
  if ok then ok, err = settle(self, said) end
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

-- Impersonation headers.
local function headers_of(said)
  local as = said.impersonate
  if not as then return nil end
  local headers = { ["Impersonate-User"] = as.user, ["Impersonate-Uid"] = as.uid, ["Impersonate-Group"] = as.groups }
  for key, values in pairs(as.extra) do
    headers["Impersonate-Extra-" .. key:gsub("[^%w%-._~]", function(c) return ("%%%02x"):format(c:byte()) end)] = values
  end
  return headers
end

---What a request needs beside its path: options of the http client, and `base`, the server as its URL begins.
---@async
---@return HttpOptions?
---@return Err? err
function Access:options()
  local said = self.said or {}
  local ok, err = true --[[@as boolean?]], nil
  if self.token_file then
    ok, err = refresh(self)
  elseif said.exec and time.now() >= (self.expires or 0) then
    ok, err = fetch(self)
  end
  if not ok then return nil, err end
  local options = {
    base = self.base, ca = self.ca, cert = self.cert, key = self.key, insecure = said.insecure or nil,
    headers = headers_of(said),
  }
  if self.token then
    options.auth = { bearer = self.token }
  elseif said.username then
    options.auth = { user = said.username, password = said.password }
  end
  if said.server_name then
    options.connect_to = (authority(self.server))
    options.headers = options.headers or {}
    options.headers.Host = self.server:match("^https?://([^/]*)")
  end
  return options
end

---After a 401: looks for newer credentials; whether there are any.
---@async
---@param tried HttpOptions what `options` gave for the refused request
---@return boolean
function Access:refused(tried)
  local before = tried.auth and tried.auth.bearer
  local function changed() return self.token ~= before or self.cert ~= tried.cert end
  if changed() then return true end
  if self.token_file then
    refresh(self, true)
  elseif self.said and self.said.exec then
    self.expires = 0
    fetch(self)
  elseif self.files then
    local said = kubeconfig.load(self.files, self.context)
    if said and said.server == self.server and not tables.equal(said, self.said) then settle(self, said) end
  end
  return changed()
end

---Removes the files that were made for it.
function Access:close()
  if self.dir then self.dir:close() end
  self.dir = nil
end

return M
