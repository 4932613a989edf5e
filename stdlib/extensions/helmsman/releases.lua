-- helm's releases as the cluster keeps them: one secret for each revision, whose labels tell name, status and
-- revision (helm pkg/storage/driver/secrets.go). helmsman adds labels that tell whose they are.
local errors, gzip, hash, json, kubernetes = require "errors", require "gzip", require "hash", require "json",
  require "kubernetes"

local M = {}

local TYPE <const> = "type=helm.sh/release.v1"
local RECORD_MAX <const> = 16 << 20 -- of one release, unpacked
local LATEST <const> = 253402300800 -- Unix seconds: the year 10000; anybody may write labels

---@class HelmRevision
---@field name string
---@field namespace string
---@field revision integer
---@field status string "deployed", "pending-upgrade", ...
---@field context? string nil: helmsman did not label it (yet)
---@field at integer when it was written, Unix seconds
---@field secret string

local function revision(object)
  local meta = object.metadata or {}
  local labels = meta.labels or {}
  local number, at = math.tointeger(tonumber(labels.version)), tonumber(labels.modifiedAt or labels.createdAt)
  if not labels.name or not number then return nil end
  return {
    name = labels.name, namespace = meta.namespace, revision = number, status = labels.status or "unknown",
    context = labels.HELMSMAN_CONTEXT, secret = meta.name,
    at = at and at > 0 and at < LATEST and math.tointeger(at) or 0,
  }
end

local function list(client, namespaces, selector)
  local all = {}
  for _, namespace in ipairs(namespaces[1] and namespaces or { false }) do
    local path = kubernetes.path("secret", namespace or nil)
    local found, err = client:list(path, { labelSelector = selector, fieldSelector = TYPE }, { keep = revision })
    if not found then return nil, err end
    table.move(found.items, 1, #found.items, #all + 1, all)
  end
  return all
end

-- The newest revision of each release, in the order of their names.
local function newest(all)
  local by_key, order = {}, {}
  for _, r in ipairs(all) do
    local key = r.namespace .. "/" .. r.name
    if not by_key[key] then order[#order + 1] = key end
    if not by_key[key] or by_key[key].revision < r.revision then by_key[key] = r end
  end
  table.sort(order)
  for i, key in ipairs(order) do order[i] = by_key[key] end
  return order
end

---The releases of a context, each at its newest revision.
---@async
---@param client KubernetesClient
---@param context string
---@param namespaces string[] Where to look; empty: everywhere.
---@return HelmRevision[]? releases
---@return Err? err denied: we may not look
---@return_overload nil, Err
function M.of_context(client, context, namespaces)
  local all, err = list(client, namespaces, "owner=helm,HELMSMAN_CONTEXT=" .. context)
  return all and newest(all), err
end

---All revisions of one release, the newest first.
---@async
---@param client KubernetesClient
---@param namespace string
---@param name string
---@return HelmRevision[]? revisions
---@return Err? err
---@return_overload nil, Err
function M.history(client, namespace, name)
  local all, err = list(client, { namespace }, "owner=helm,name=" .. name)
  if not all then return nil, err end
  table.sort(all, function(a, b) return a.revision > b.revision end)
  return all
end

---Whether a helm works on it now, or was stopped while it did.
---@param r HelmRevision
---@return boolean
function M.pending(r) return r.status:find("^pending%-") ~= nil or r.status == "uninstalling" end

---The revision to go back to from a pending one: the last that was whole, else what the first installation left.
---@param history HelmRevision[]
---@return integer?
function M.last_good(history)
  for _, r in ipairs(history) do
    if r.status == "deployed" then return r.revision end
  end
  for _, r in ipairs(history) do
    if r.status == "superseded" then return r.revision end
  end
  return history[1] and history[1].status ~= "uninstalling" and history[1].revision or nil
end

---The chart of a release: base64 of gzip of JSON, in a secret whose data are base64 themselves.
---@async
---@param client KubernetesClient
---@param r HelmRevision
---@return {name: string, version: string}? chart
---@return Err? err
---@return_overload nil, Err
function M.chart(client, r)
  local secret, err = client:get(kubernetes.path("secret", r.namespace, r.secret))
  if not secret then return nil, err end
  local packed = hash.unbase64(tostring((secret.data or {}).release or ""))
  packed = packed and hash.unbase64(packed)
  local text = packed and gzip.decode(packed, { max = RECORD_MAX })
  local record = text and json.decode(text, { max = RECORD_MAX })
  local chart = type(record) == "table" and type(record.chart) == "table" and record.chart.metadata
  if type(chart) == "table" and type(chart.name) == "string" and type(chart.version) == "string" then
    return { name = chart.name, version = chart.version }
  end
  return errors.fail("protocol", ("the record of release %s cannot be read"):format(r.name),
    { op = "helmsman", target = r.secret })
end

---Marks a release as helmsman's, the way helmsman does when it has ended: a killed one did not come to it.
---@async
---@param client KubernetesClient
---@param history HelmRevision[] of one release
---@param context string
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function M.mark(client, history, context)
  for _, r in ipairs(history) do
    if r.context ~= context then
      local ok, err = client:patch(kubernetes.path("secret", r.namespace, r.secret), {
        metadata = { labels = { ["MANAGED-BY"] = "HELMSMAN", NAMESPACE = r.namespace, HELMSMAN_CONTEXT = context } },
      }, "merge")
      if not ok and not errors.is(err, "not_found") then return nil, err end
    end
  end
  return true
end

return M
