-- The election's record as a Lease of the cluster (coordination.k8s.io/v1), read and written through its client.
-- An update carries the resourceVersion that was read: the server refuses it when the Lease is another one by now.
local json = require "json"

local M = {}

---@class Lease: LeaseStore
---@field client table
---@field path string
---@field folder string
---@field name string
---@field annotations table<string, string> Written with every update of ours.
local Lease = {}
Lease.__index = Lease

local GROUP <const> = "/apis/coordination.k8s.io/v1/namespaces/%s/leases"

---@param client table
---@param namespace string
---@param name string
---@return Lease
function M.new(client, namespace, name)
  local folder = GROUP:format(namespace)
  return setmetatable({
    client = client, folder = folder, path = folder .. "/" .. name, name = name, namespace = namespace,
    annotations = {},
  }, Lease)
end

local function text(value) return type(value) == "string" and value ~= "" and value or nil end

local function whole(value)
  local n = type(value) == "number" and math.tointeger(value)
  return n and n >= 0 and n or 0
end

---@param object table
---@return LeaseRecord
local function record_of(object)
  local spec = type(object.spec) == "table" and object.spec ~= json.null and object.spec or {}
  local meta = type(object.metadata) == "table" and object.metadata or {}
  return {
    holder = text(spec.holderIdentity), duration = tonumber(spec.leaseDurationSeconds),
    acquired = text(spec.acquireTime), renewed = text(spec.renewTime), transitions = whole(spec.leaseTransitions),
    version = text(meta.resourceVersion), object = object,
  }
end

-- What is written: the fields that are the election's; everything else stays.
local function object_of(self, record)
  local before = record.object or {}
  local meta, spec, annotations = {}, {}, {}
  for k, v in pairs(before.metadata or {}) do meta[k] = v end
  for k, v in pairs(before.spec or {}) do spec[k] = v end
  for k, v in pairs(type(meta.annotations) == "table" and meta.annotations or {}) do annotations[k] = v end
  for k, v in pairs(self.annotations) do annotations[k] = v end
  meta.name, meta.namespace, meta.resourceVersion, meta.managedFields = self.name, self.namespace, record.version, nil
  meta.annotations = next(annotations) and annotations or nil
  spec.holderIdentity, spec.leaseDurationSeconds = record.holder, math.ceil(record.duration)
  spec.acquireTime, spec.renewTime, spec.leaseTransitions = record.acquired, record.renewed, record.transitions
  return { apiVersion = "coordination.k8s.io/v1", kind = "Lease", metadata = meta, spec = spec }
end

local function answer(object, err)
  if not object then return nil, err end
  return record_of(object)
end

---@async
---@return LeaseRecord? record
---@return Err? err
---@return_overload nil, Err
function Lease:get() return answer(self.client:get(self.path)) end

---@async
---@param record LeaseRecord
---@return LeaseRecord? record
---@return Err? err
---@return_overload nil, Err
function Lease:create(record)
  return answer(self.client:create(self.folder, object_of(self, record)))
end

---@async
---@param record LeaseRecord
---@return LeaseRecord? record
---@return Err? err
---@return_overload nil, Err
function Lease:update(record)
  return answer(self.client:replace(self.path, object_of(self, record)))
end

return M
