-- Status objects of the API server as errors that name what to do about them.
local api, errors, json, text = require "base.api", require "errors", require "json", require "base.text"
local kinds = require "cluster.kinds"

local M = {}

local MESSAGE_MAX <const>, CAUSES_MAX <const> = 600, 20

local CODES <const> = { [410] = "conflict" } -- where they differ from other services

---@class KubernetesErr: Err
---@field status integer HTTP status, or the code of a Status in a watch
---@field reason? string Status.reason: "Forbidden", "AlreadyExists", "Expired", ...
---@field retry_after? Seconds
---@field causes? {field?: string, reason?: string, message?: string}[] what is wrong with which field
---@field managers? string[] who owns the fields of a conflict in a server-side apply
---@field verb? string of a denied call: "patch", with resource, namespace (absent: the whole cluster) and user
---@field resource? string
---@field namespace? string
---@field user? string

local VERBS <const> = { GET = "get", HEAD = "get", POST = "create", PUT = "update", PATCH = "patch", DELETE = "delete" }

-- What was sent is not repeated: it may be long, and it may be a secret.
local function without_values(said)
  local parts, at = {}, 1
  while true do
    local first, last = said:find('Invalid value: "', at, true)
    if not first then break end
    local stop = last
    repeat
      stop = said:find('["\\]', stop + 1)
      local escape = stop and said:byte(stop) == 92
      if escape then stop = stop + 1 end
    until not escape
    stop = stop or #said
    if stop - last < 80 then
      parts[#parts + 1] = said:sub(at, stop)
    else
      parts[#parts + 1] = said:sub(at, first - 1) .. "Invalid value"
    end
    at = stop + 1
  end
  return table.concat(parts) .. said:sub(at)
end

local function word(value)
  if type(value) ~= "string" or value == "" then return nil end
  return text.clean(without_values(value), MESSAGE_MAX)
end

-- What the authorizer says: 'User "U" cannot patch resource "deployments" in API group "apps" in the namespace "N"'.
local function denied(said, fields)
  local user, verb, rest = said:match('[Uu]ser "(.-)" cannot (%S+) (.+)$')
  if not user then return nil end
  local resource, path = rest:match('^resource "(.-)"'), rest:match('^path "(.-)"')
  fields.user, fields.verb, fields.resource = user, verb, resource or path
  fields.namespace = rest:match('in the namespace "(.-)"')
  if path then return ("may not %s %s as %s"):format(verb, path, user) end
  if not resource then return nil end
  local where = fields.namespace and "in namespace " .. fields.namespace or "in the whole cluster"
  local role = rest:match(": (RBAC: .+)$")
  return ("may not %s %s %s as %s%s"):format(verb, resource, where, user, role and " (" .. role .. ")" or "")
end

local function place(about)
  return about.resource .. (about.name and " " .. about.name or "")
    .. (about.namespace and " in namespace " .. about.namespace or "")
end

local function causes_of(status)
  local details, list = status.details, {}
  for _, cause in ipairs(type(details) == "table" and type(details.causes) == "table" and details.causes or {}) do
    if type(cause) == "table" and #list < CAUSES_MAX then
      list[#list + 1] = { field = word(cause.field), reason = word(cause.reason), message = word(cause.message) }
    end
  end
  return list[1] and list or nil
end

-- Who stands in the way of a server-side apply: 'conflict with "kubectl" using apps/v1'.
local function managers_of(causes)
  local list, seen = {}, {}
  for _, cause in ipairs(causes or {}) do
    local manager = cause.reason == "FieldManagerConflict" and (cause.message or ""):match('conflict with "(.-)"')
    if manager and not seen[manager] then
      seen[manager], list[#list + 1] = true, manager
    end
  end
  return list[1] and list or nil
end

local function conflict(said, fields, about)
  fields.managers = managers_of(fields.causes)
  if not fields.managers then return said end
  local owned = {}
  for _, cause in ipairs(fields.causes) do owned[#owned + 1] = cause.field end
  return text.clean(("%s: %s belong to %s"):format(place(about), table.concat(owned, ", "),
    table.concat(fields.managers, ", ")), MESSAGE_MAX)
end

---The error of a Status object, wherever it came from.
---@param status table kind Status; anything else gives what can be said
---@param code integer the HTTP status
---@param call {op: string, target: string, method: string, path: string}
---@return KubernetesErr
function M.of_status(status, code, call)
  local about = kinds.about(call.path)
  local said = word(status.message)
  local fields = {
    op = call.op, target = call.target, status = code, reason = word(status.reason), causes = causes_of(status),
  }
  local kind = api.code(code, CODES)
  local message
  if code == 403 then
    message = said and denied(said, fields)
    message = message or ("the cluster does not let us %s %s%s"):format(VERBS[call.method] or call.method:lower(),
      place(about), said and ": " .. said or "")
  elseif code == 401 then
    message = "the cluster does not accept our credentials" .. (said and said ~= "Unauthorized" and ": " .. said or "")
  elseif code == 409 then
    if fields.reason == "AlreadyExists" then kind = "exists" end
    message = conflict(said, fields, about)
  elseif code == 410 then
    fields.reason = fields.reason or "Expired"
  elseif code == 404 and said and about.namespace then
    message = said .. " in namespace " .. about.namespace
  end
  message = message or said or ("the cluster answered %d to %s %s"):format(code, call.method, place(about))
  local wait = type(status.details) == "table" and status.details.retryAfterSeconds
  fields.retry_after = math.type(wait) == "integer" and wait > 0 and wait or nil
  return errors.new(kind, message, fields)
end

---The error of an answer that is not 2xx; its body must be there.
---@param answer HttpAnswer
---@param body? string
---@param call table
---@return KubernetesErr
function M.of_answer(answer, body, call)
  local status = body and body ~= "" and json.decode(body, { null_as_nil = true }) or nil
  if type(status) ~= "table" or status.kind ~= "Status" then
    local said = type(status) ~= "table" and body and #body < 4096 and word(body) or nil
    status = { message = said and answer.status >= 400 and ("the cluster answered %d: %s"):format(answer.status, said) }
  end
  local err = M.of_status(status, answer.status, call)
  err.retry_after = api.asked(answer) or err.retry_after
  return err
end

return M
