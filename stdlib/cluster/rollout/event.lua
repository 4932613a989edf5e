-- Kubernetes Events: `kubectl describe` and `kubectl get events` show what Moontide did to a workload.
--
-- Strict events.k8s.io/v1 (kubernetes pkg/apis/core/validation/events.go). The name is made of the release and what
-- happened to it, so a repeated effect is one event. An event that cannot be written is a line in the log, never more.
local errors, hash, log, sys, text, time = require "errors", require "hash", require "log", require "base.sys",
  require "base.text", require "time"

local M = {}

local REASONS <const> = {
  releasing = { "Releasing", "Normal" }, released = { "Released", "Normal" }, failed = { "ReleaseFailed", "Warning" },
  restored = { "RolledBack", "Normal" },
}

---The event of what happened.
---@param object table The workload; of a list, with its kind.
---@param what "releasing"|"released"|"failed"|"restored"
---@param key string What it is known by beside that: the release.
---@param note string
---@return table event
function M.make(object, what, key, note)
  local meta, reason = object.metadata, REASONS[what]
  local id = hash.sha256(("%s %s %s"):format(meta.uid, key, what)):sub(1, 16)
  local name = meta.name:sub(1, 200):gsub("[.-]+$", "")
  return {
    apiVersion = "events.k8s.io/v1", kind = "Event",
    metadata = { name = ("%s.%s"):format(name, id), namespace = meta.namespace },
    eventTime = (time.iso():gsub("Z$", ".000000Z")), reportingController = "moontide",
    reportingInstance = text.clean(sys.hostname(), 128), action = "Release", reason = reason[1], type = reason[2],
    regarding = {
      apiVersion = object.apiVersion, kind = object.kind, name = meta.name, namespace = meta.namespace, uid = meta.uid,
      resourceVersion = meta.resourceVersion,
    },
    note = log.redact(text.clean(note, 1000)),
  }
end

---Writes an event.
---@async
---@param client KubernetesClient
---@param object table
---@param what "releasing"|"released"|"failed"|"restored"
---@param key string
---@param note string
function M.write(client, object, what, key, note)
  local event = M.make(object, what, key, note)
  local path = ("/apis/events.k8s.io/v1/namespaces/%s/events"):format(event.metadata.namespace)
  local ok, err = client:create(path, event)
  if not ok and not errors.is(err, "exists") then
    log.warn("an event could not be written", { namespace = event.metadata.namespace, error = tostring(err) })
  end
end

return M
