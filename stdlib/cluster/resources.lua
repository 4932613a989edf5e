-- Kinds that only the cluster knows: custom resources, and what is newer than we are. Asked once in a while.
local errors, time = require "errors", require "time"
local call, kinds = require "cluster.call", require "cluster.kinds"

local M = {}

local VALID <const>, AGAIN <const> = 600, 5 -- seconds: of an answer; until a missing kind is looked for again

local function valid_version(api_version)
  return type(api_version) == "string" and (api_version:find("^[%w-]+$") or api_version:find("^[%w.-]+/[%w-]+$"))
end

-- The kinds of a group's version, by name.
local function ask(client, api_version)
  local path = (api_version:find("/", 1, true) and "/apis/" or "/api/") .. api_version
  local answer, err = call.perform(client, "discover", { path = path })
  if not answer then return nil, err end
  local found = {}
  for _, item in ipairs(type(answer.resources) == "table" and answer.resources or {}) do
    if type(item) == "table" and type(item.name) == "string" and type(item.kind) == "string"
      and not item.name:find("/", 1, true) then
      found[item.kind] = {
        api_version = api_version, kind = item.kind, plural = item.name, namespaced = item.namespaced == true,
      }
    end
  end
  return { kinds = found, at = time.monotonic() }
end

---Finds out about a kind.
---@async
---@param client KubernetesClient
---@param api_version string "example.com/v1"
---@param kind string "Widget"
---@return KubernetesKind?
---@return KubernetesErr? err not_found when the cluster has no such kind
function M.find(client, api_version, kind)
  if not valid_version(api_version) or type(kind) ~= "string" or kind == "" then
    return errors.fail("invalid", "an object needs apiVersion and kind", { op = "kubernetes.resource" })
  end
  local known = kinds.of(api_version, kind)
  if known then return known end
  local groups = client.known.groups
  local group = groups[api_version]
  local age = group and time.monotonic() - group.at or math.huge
  if age > VALID or age > AGAIN and not group.kinds[kind] then
    local fresh, err = ask(client, api_version)
    if not fresh and not errors.is(err, "not_found") then return nil, err end
    group = fresh or { kinds = {}, at = time.monotonic() }
    groups[api_version] = group
  end
  local found = group and group.kinds[kind]
  if found then return found end
  return errors.fail("not_found", ("the cluster has no kind %s in %s"):format(kind, api_version),
    { op = "kubernetes.resource", target = client.server })
end

---The path of an object as a manifest has it.
---@async
---@param client KubernetesClient
---@param object table apiVersion, kind, metadata
---@param namespace? string of what names none; default: the client's
---@return string? path
---@return KubernetesErr? err
function M.path_of(client, object, namespace)
  local known, err = M.find(client, object.apiVersion, object.kind)
  if not known then return nil, err end
  local meta = type(object.metadata) == "table" and object.metadata or {}
  if type(meta.name) ~= "string" or meta.name == "" then
    return errors.fail("invalid", ("a %s without a name"):format(object.kind), { op = "kubernetes.resource" })
  end
  local where = type(meta.namespace) == "string" and meta.namespace or namespace or client.namespace
  return kinds.path(known, where, meta.name)
end

return M
