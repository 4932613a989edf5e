-- Who may do what in the lab's cluster: service accounts, their rights, tokens and kubeconfigs. Part of lab.lua.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local fs, hash = require "fs", require "hash"
local planes = require "cluster.plane"

---@class (partial) Cluster
local Cluster = {}

local RBAC <const> = "/apis/rbac.authorization.k8s.io/v1"

---A service account that may do what the rules say, and a token of it. Exists already: gets another token.
---@async
---@param ns string
---@param name string
---@param rules? table[] PolicyRules; apiGroups is every group when left out. None: it may do nothing.
---@param options? {cluster?: boolean, ttl?: integer} cluster: the rules count in all namespaces; ttl: seconds (3600).
---@return string token
function Cluster:service_account(ns, name, rules, options)
  options = options or {}
  local accounts = ("/api/v1/namespaces/%s/serviceaccounts"):format(ns)
  if not self:get(accounts .. "/" .. name) then
    self:create(accounts, { apiVersion = "v1", kind = "ServiceAccount", metadata = { name = name } })
  end
  if rules then self:grant(ns, name, rules, options) end
  return self:token(ns, name, options.ttl)
end

---A token for a service account that exists. The API server makes none that lives shorter than 600 seconds.
---@async
---@param ns string
---@param name string
---@param ttl? integer seconds
---@return string
function Cluster:token(ns, name, ttl)
  local request = { apiVersion = "authentication.k8s.io/v1", kind = "TokenRequest",
    spec = { expirationSeconds = ttl or 3600 } }
  return self:create(("/api/v1/namespaces/%s/serviceaccounts/%s/token"):format(ns, name), request).status.token
end

---A token that can be taken back: it counts for as long as a Secret exists. The API server remembers for ten seconds
---that it was good.
---@async
---@param ns string
---@param name string
---@return string token
---@return fun() revoke
function Cluster:revocable_token(ns, name)
  local secrets = ("/api/v1/namespaces/%s/secrets"):format(ns)
  local own = ("token-%s"):format(hash.hex(hash.random(4)))
  local secret = self:create(secrets, { apiVersion = "v1", kind = "Secret", metadata = { name = own } })
  local request = { apiVersion = "authentication.k8s.io/v1", kind = "TokenRequest", spec = { expirationSeconds = 3600,
    boundObjectRef = { apiVersion = "v1", kind = "Secret", name = own, uid = secret.metadata.uid } } }
  local path = ("/api/v1/namespaces/%s/serviceaccounts/%s/token"):format(ns, name)
  return self:create(path, request).status.token, function() self:delete(secrets .. "/" .. own) end
end

---Gives a service account rights; each call adds to those before.
---@async
---@param ns string
---@param name string
---@param rules table[]
---@param options? {cluster?: boolean, of?: string} of: the account's own namespace, when it is another one.
function Cluster:grant(ns, name, rules, options)
  local prefix, at = options and options.cluster and "Cluster" or "", RBAC
  if prefix == "" then at = ("%s/namespaces/%s"):format(RBAC, ns) end
  local list = {}
  for i, rule in ipairs(rules) do
    list[i] = { apiGroups = rule.apiGroups or { "*" } }
    if rule.nonResourceURLs then list[i] = {} end
    for k, v in pairs(rule) do list[i][k] = v end
  end
  local own = ("lab-%s-%s-%s"):format(ns, name, hash.hex(hash.random(3)))
  self:create(("%s/%sroles"):format(at, prefix:lower()), { apiVersion = "rbac.authorization.k8s.io/v1",
    kind = prefix .. "Role", metadata = { name = own }, rules = list })
  self:create(("%s/%srolebindings"):format(at, prefix:lower()), { apiVersion = "rbac.authorization.k8s.io/v1",
    kind = prefix .. "RoleBinding", metadata = { name = own },
    roleRef = { apiGroup = "rbac.authorization.k8s.io", kind = prefix .. "Role", name = own },
    subjects = { { kind = "ServiceAccount", name = name, namespace = options and options.of or ns } } })
  if prefix ~= "" then
    self:at_end(function()
      self:delete(("%s/clusterrolebindings/%s"):format(at, own))
      self:delete(("%s/clusterroles/%s"):format(at, own))
    end)
  end
end

---A kubeconfig for a token, in a file that the lab removes.
---@async
---@param token string
---@param namespace? string
---@return string path
function Cluster:kubeconfig_for(token, namespace)
  return base.write(base.dir("kubeconfig") .. "/config",
    planes.kubeconfig(self.server, self.ca, { token = token }, namespace), 384) -- 0600
end

---The folder that a pod has at /var/run/secrets/kubernetes.io/serviceaccount: token, ca.crt, namespace.
---@async
---@param token string
---@param namespace string
---@return string dir
function Cluster:pod_secrets(token, namespace)
  local dir = base.dir("serviceaccount")
  base.write(dir .. "/token", token)
  base.write(dir .. "/ca.crt", assert(fs.read(self.ca)))
  base.write(dir .. "/namespace", namespace)
  return dir
end

return Cluster
