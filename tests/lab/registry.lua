-- The OCI registry (Debian's docker-registry), generated configuration, own storage.
--
-- auth = "none" (default), "htpasswd" (Basic) or "token" (Bearer, from the small token server in lab/token.lua);
-- tls = true serves HTTPS by the lab's own CA; delete = false forbids deletions.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local http = require "http"

local M = {}

---@class LabRegistry
---@field host string "127.0.0.1:PORT", as in image names
---@field url string
---@field user? string with auth
---@field password? string
---@field ca? string with tls: file of the CA
---@field config string file
---@field tokens? LabTokens with auth = "token"
local Registry = {}
Registry.__index = Registry

local USER, PASSWORD = "dev", "lab-secret-word"

local function config_text(self, options, dir)
  local lines = {
    "version: 0.1",
    "log: { level: warn, accesslog: { disabled: true } }",
    ("storage: { filesystem: { rootdirectory: %s/data }, delete: { enabled: %s } }"):format(dir,
      tostring(options.delete ~= false)),
  }
  local listen = ('http: { addr: "%s", secret: lab'):format(self.host)
  if options.tls then
    local pki = require("lab.pki").open()
    self.ca = pki.ca
    listen = listen .. (", tls: { certificate: %s, key: %s }"):format(pki.cert, pki.key)
  end
  lines[#lines + 1] = listen .. " }"
  if options.auth == "htpasswd" then
    base.write(dir .. "/htpasswd", base.run { "htpasswd", "-Bbn", self.user, self.password })
    lines[#lines + 1] = ("auth: { htpasswd: { realm: lab, path: %s/htpasswd } }"):format(dir)
  elseif options.auth == "token" then
    self.tokens = require("lab.token").open { user = self.user, password = self.password }
    lines[#lines + 1] = ('auth: { token: { realm: "%s", service: %s, issuer: %s, rootcertbundle: %s } }'):format(
      self.tokens.url, self.tokens.service, self.tokens.issuer, self.tokens.cert)
  end
  return table.concat(lines, "\n") .. "\n"
end

---Starts a registry.
---@async
---@param options {auth?: "none"|"htpasswd"|"token", tls?: boolean, delete?: boolean}
---@return LabRegistry
function M.open(options)
  local dir = base.dir("registry")
  local self = setmetatable({ host = "127.0.0.1:" .. base.port(), dir = dir, config = dir .. "/config.yml" }, Registry)
  self.url = (options.tls and "https://" or "http://") .. self.host
  if options.auth and options.auth ~= "none" then self.user, self.password = USER, PASSWORD end
  base.write(self.config, config_text(self, options, dir))
  self:start()
  if not options.tls then require("lab.cage").insecure(self.host) end
  return self
end

---Starts it again on the same port and storage after stop().
---@async
function Registry:start()
  self.service = base.start {
    name = "registry", dir = self.dir, argv = { "docker-registry", "serve", self.config },
    ready = function() return http.get(self.url .. "/v2/", { ca = self.ca, timeout = 2 }) end,
  }
end

---@async
function Registry:stop() self.service:stop() end

---Options for http that carry the registry's credentials and CA.
---@param options? table
---@return table
function Registry:options(options)
  local o = { ca = self.ca, auth = self.user and { user = self.user, password = self.password } }
  for k, v in pairs(options or {}) do o[k] = v end
  return o
end

---Removes the blobs that no manifest names any more. The registry should be stopped.
---@async
---@return string output
function Registry:collect_garbage()
  return base.run { "docker-registry", "garbage-collect", "-m", self.config }
end

return M
