-- The Kubernetes API over our own http: objects in, objects out, refusals as errors that say what was not allowed.
--
--     local kubernetes = require "kubernetes"
--     local cluster = assert(kubernetes.open("default", config))
--     local web = assert(cluster:get(kubernetes.path("deployment", "shop", "web")))
--     assert(cluster:patch(path, { spec = { replicas = 2 } }, "merge"))
--
-- Objects are plain tables as the API documents them, except that null is absent and metadata.managedFields is
-- left out. A resourceVersion is opaque. Rules: client-go, and the API concepts page of Kubernetes.
local errors = require "errors"
local access, call, follow = require "cluster.access", require "cluster.call", require "cluster.follow"
local kinds, logs, resources = require "cluster.kinds", require "cluster.logs", require "cluster.resources"
local watch = require "cluster.watch"

local M = {}

local PAGE <const>, KEPT_PAGE <const> = 500, 100
local LIST_BODY <const> = 16 << 20
local RESTARTS <const> = 3
local MANAGER <const> = "moontide"

local PATCHES <const> = {
  strategic = "application/strategic-merge-patch+json", merge = "application/merge-patch+json",
  json = "application/json-patch+json", apply = "application/apply-patch+yaml",
}

---@class KubernetesClient
---@field name string as the configuration calls the cluster
---@field server string "https://10.0.0.1:443"
---@field namespace string where things are that do not say where
---@field counters {requests: integer, retries: integer, watches: integer, relists: integer} since it was opened
---@field access KubernetesAccess
---@field service Api
---@field known {minor?: integer, reached?: boolean, pages_until?: number, away?: number, groups: table} of the server
---@field patience {timeout?: Seconds, attempts?: integer}
local Client = {}
Client.__index = Client

-- ---- opening ----

local opened = {} ---@type table<string, any>

---Makes a client of a way in, which it owns.
---@param way KubernetesAccess
---@param name? string
---@return KubernetesClient
function M.client(way, name)
  local client = setmetatable({
    name = name or "default", server = way.server, namespace = way.namespace, access = way, patience = {},
    known = { groups = {} },
    counters = { requests = 0, retries = 0, watches = 0, relists = 0 },
  }, Client)
  client.service = call.service(client)
  return client
end

---Opens a cluster: one client for a process, however often it is asked for. "default" is always there: what the
---configuration says of it, else the cluster that this pod runs in, else $KUBECONFIG.
---@async
---@param name string|ClusterConfig of the configuration's `clusters`
---@param cfg? Config
---@return KubernetesClient?
---@return Err? err
---@return_overload nil, Err
function M.open(name, cfg)
  local config = name ---@type any
  if type(name) == "string" then
    config = cfg and cfg.clusters and cfg.clusters[name] or name == "default" and {} or nil
    if not config then
      return errors.fail("not_found", ("the configuration has no cluster %s"):format(name), { op = "kubernetes.open" })
    end
  end
  if type(config) ~= "table" then
    error("usage: kubernetes.open(name or {kubeconfig=, context=, namespace=} [, cfg])", 2)
  end
  local key = table.concat({ config.kubeconfig or "", config.context or "", config.namespace or "" }, "\n")
  if opened[key] then return opened[key] end
  local way, err = access.open(config)
  if not way then return nil, err end
  if opened[key] then -- another task was faster
    way:close()
    return opened[key] --[[@as KubernetesClient]]
  end
  opened[key] = M.client(way, type(name) == "string" and name or config.name)
  return opened[key]
end

---Forgets the clients that were opened, and with them what they knew: for tests and for a new configuration.
function M.forget()
  for key, client in pairs(opened) do
    opened[key] = nil
    client:close()
  end
end

---Closes what the client keeps on disk. Calls under way may fail.
function Client:close() self.access:close() end

---The same client with other patience: `timeout` of one attempt, `attempts` at most.
---@param patience {timeout?: Seconds, attempts?: integer}
---@return KubernetesClient
function Client:with(patience)
  local other = {} ---@type table<string, any>
  for key, value in pairs(self --[[@as table<string, any>]]) do other[key] = value end
  other.patience = patience
  other.service = call.service(other --[[@as KubernetesClient]])
  return setmetatable(other, Client)
end

---The path of an object of a kind that every cluster has; without a name, of the list.
---@param kind string "deployment", "Deployment", "deployments" or "deploy"
---@param namespace? string nil for all, and for kinds that live in none
---@param name? string
---@return string
function M.path(kind, namespace, name)
  local known = kinds.find(kind)
  if not known then
    error(("unknown kind '%s' (client:resource(apiVersion, kind) asks the cluster)"):format(tostring(kind)), 2)
  end
  return kinds.path(known, namespace, name)
end

-- ---- verbs ----

local function managed(query)
  if query and query.fieldManager then return query end
  local merged = { fieldManager = MANAGER }
  for key, value in pairs(query or {}) do merged[key] = value end
  return merged
end

---Makes any call.
---@async
---@param request KubernetesRequest
---@return any result object; text with `raw`; an HttpAnswer with `stream`
---@return KubernetesErr? err
function Client:request(request) return call.perform(self, "request", request) end

---Opens a streamed answer.
---@async
---@param request KubernetesRequest
---@return HttpAnswer?
---@return KubernetesErr? err
function Client:stream(request)
  local streamed = { stream = true } ---@type table<string, any>
  for key, value in pairs(request --[[@as table<string, any>]]) do streamed[key] = value end
  return call.perform(self, "stream", streamed --[[@as KubernetesRequest]])
end

---Reads an object.
---@async
---@param path string
---@param query? table
---@param options? {managed_fields?: boolean, nulls?: boolean}
---@return table?
---@return KubernetesErr? err
function Client:get(path, query, options)
  options = options or {}
  return call.perform(self, "get",
    { path = path, query = query, managed_fields = options.managed_fields, nulls = options.nulls })
end

-- One page; smaller when it is more than we take at once.
local function page(self, path, query)
  while true do
    local list, err = call.perform(self, "list", { path = path, query = query, max_body = LIST_BODY })
    if list or not errors.is(err, "too_large") or query.limit == 1 then return list, err end
    query.limit = math.max(query.limit // 5, 1)
  end
end

-- Goes through the pages; nil and true when the list was changed too long ago to go on.
local function pages(self, path, query, keep)
  local items, version = {}, "" ---@type table[], string
  query.continue = nil
  repeat
    local list, err = page(self, path, query)
    if not list then return nil, err, query.continue ~= nil and err.status == 410 end
    local meta = type(list.metadata) == "table" and list.metadata or {}
    for _, item in ipairs(type(list.items) == "table" and list.items or {}) do
      if keep then item = keep(item) end
      if item ~= nil then items[#items + 1] = item end
    end
    version = meta.resourceVersion or version
    query.continue = meta.continue ~= "" and meta.continue or nil
  until not query.continue
  return { items = items, resource_version = version }
end

---Reads a whole list, page by page. Items do not repeat their kind. With `keep` the pages are small.
---@async
---@param path string
---@param query? table labelSelector, fieldSelector, ...
---@param options? {keep?: fun(object: table): any} keep: what to keep of each object (nil: nothing), so that not
---  all of them are in memory at once
---@return {items: table[], resource_version: string}?
---@return KubernetesErr? err
function Client:list(path, query, options)
  local asked = { limit = options and options.keep and KEPT_PAGE or PAGE }
  for key, value in pairs(query or {}) do asked[key] = value end
  local list, err, expired
  for _ = 1, RESTARTS do
    list, err, expired = pages(self, path, asked, options and options.keep)
    if not expired then break end
  end
  return list, err
end

---Creates an object; `path` is that of the list.
---@async
---@param path string
---@param object table
---@param query? table
---@return table? created
---@return KubernetesErr? err exists, denied, invalid, ...
function Client:create(path, object, query)
  return call.perform(self, "create", { method = "POST", path = path, body = object, query = managed(query) })
end

---Replaces an object; with metadata.resourceVersion only if it is unchanged since.
---@async
---@param path string
---@param object table
---@param query? table
---@return table? replaced
---@return KubernetesErr? err conflict, ...
function Client:replace(path, object, query)
  return call.perform(self, "replace", { method = "PUT", path = path, body = object, query = managed(query) })
end

---Changes an object. "apply" is server-side apply: it makes the object when it is missing, and a field of another
---manager is a conflict unless `force`.
---@async
---@param path string
---@param body table
---@param kind "strategic"|"merge"|"json"|"apply"
---@param query? {fieldManager?: string, force?: boolean, dryRun?: string}
---@return table? changed
---@return KubernetesErr? err
function Client:patch(path, body, kind, query)
  local content_type = PATCHES[kind]
  if not content_type or type(body) ~= "table" then
    error('usage: client:patch(path, body, "strategic"|"merge"|"json"|"apply" [, query])', 2)
  end
  local meta = body.metadata
  local guarded = kind == "json" or type(meta) == "table" and meta.resourceVersion ~= nil
  return call.perform(self, "patch", {
    method = "PATCH", path = path, body = body, content_type = content_type, query = managed(query),
    repeatable = not guarded,
  })
end

---Deletes an object, and in the background what it owns.
---@async
---@param path string
---@param options? table DeleteOptions: propagationPolicy, gracePeriodSeconds, preconditions, dryRun
---@return table? answer the object that goes, or a Status
---@return KubernetesErr? err
function Client:delete(path, options)
  local body = { apiVersion = "v1", kind = "DeleteOptions", propagationPolicy = "Background" }
  for key, value in pairs(options or {}) do body[key] = value end
  return call.perform(self, "delete", { method = "DELETE", path = path, body = body })
end

-- ---- following ----

---Watches a list, or the one object at the path, in one stream: from query.resourceVersion on, or, without it,
---beginning with all that is there. To keep up with a list use `follow`.
---@async
---@param path string
---@param query? table
---@param fn fun(type: "ADDED"|"MODIFIED"|"DELETED"|"BOOKMARK", object: table): boolean? true ends it
---@return true? ended by the server, as any watch is after some minutes, or by fn
---@return KubernetesErr? err conflict with reason "Expired": the resourceVersion is too old
function Client:watch(path, query, fn) return watch.watch(self, path, query, fn --[[@as function]]) end

---Follows a list, or the one object at the path: listed once, then kept up to date. Waits for the list. It ends with
---the task that started it, unless `detached`.
---
---    local pods <close> = assert(cluster:follow(kubernetes.path("pod", "shop"), { labelSelector = "app=web" }))
---    local ready = pods:wait(function() return all_ready(pods:items()) end, 60)
---@async
---@param path string
---@param query? table
---@param options? FollowOptions keep, on_change, detached, patient
---@return Reflector?
---@return KubernetesErr? err
function Client:follow(path, query, options) return follow.start(self, path, query, options) end

---Reads a container's log, or follows it with `on_line` until the container has ended.
---@async
---@param namespace string
---@param pod string
---@param options? LogOptions container, follow, tail, since, previous, on_line, ...
---@return string|true? text or, with on_line, true
---@return KubernetesErr? err
function Client:logs(namespace, pod, options) return logs.logs(self, namespace, pod, options) end

---The last lines of a container's log, for an error; none when they cannot be read.
---@async
---@param namespace string
---@param pod string
---@param options? LogOptions container, tail (20), previous
---@return string[] lines
function Client:log_tail(namespace, pod, options) return logs.tail(self, namespace, pod, options) end

-- ---- finding out ----

---What the cluster calls a kind, and whether it lives in namespaces; the cluster is asked about unknown ones.
---@async
---@param api_version string "example.com/v1"
---@param kind string "Widget"
---@return KubernetesKind?
---@return KubernetesErr? err not_found when there is no such kind
function Client:resource(api_version, kind) return resources.find(self, api_version, kind) end

---The path of an object as a manifest has it.
---@async
---@param object table with apiVersion, kind and metadata.name
---@param namespace? string of an object that names none; default: the client's
---@return string? path
---@return KubernetesErr? err
function Client:path_of(object, namespace) return resources.path_of(self, object, namespace) end

---What the server says of itself.
---@async
---@return {gitVersion: string, major: string, minor: string}?
---@return KubernetesErr? err
function Client:version() return call.perform(self, "version", { path = "/version" }) end

---The minor version of the server: 34 of v1.34.4.
---@async
---@return integer? minor nil when it does not say
function Client:minor_version()
  local version = call.perform(self, "version", { path = "/version", attempts = 1 })
  return version and math.tointeger(tonumber(tostring(version.minor):match("^%d+"))) or nil
end

return M
