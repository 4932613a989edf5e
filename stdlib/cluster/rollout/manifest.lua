-- Manifests of an app's repository: which objects they hold, in which order they are applied, where the image goes.
--
-- Pure: YAML in, objects out. Everything lives in the target's namespace: an object that names another one, or a kind
-- that lives in none, is refused, so that a commit to an app's repository cannot reach further than its own app.
local errors, json, rollout = require "errors", require "json", require "cluster.rollout"
local text, yaml = require "base.text", require "yaml"
local dig = rollout.dig

local M = {}

---@class ManifestObject
---@field file string
---@field object table
---@field workload? boolean The one that gets the image.

local MAX_OBJECTS <const> = 200

-- What others lean on comes first. Unknown kinds come between what pods need and the pods themselves.
local ORDER <const> = {
  ResourceQuota = 1, LimitRange = 1, ServiceAccount = 2, Role = 3, RoleBinding = 4, Secret = 5, ConfigMap = 5,
  PersistentVolumeClaim = 6, Service = 7, NetworkPolicy = 7, Deployment = 10, StatefulSet = 10, DaemonSet = 10,
  Job = 11, CronJob = 10, HorizontalPodAutoscaler = 12, PodDisruptionBudget = 12, Ingress = 13,
}
local OTHER <const> = 8

local function fault(file, words, ...)
  return errors.fail("invalid", text.clean(("%s: "):format(file) .. words:format(...), 500),
    { op = "target.manifests", target = file })
end

---Whether a file holds manifests.
---@param name string
---@return boolean
function M.is_manifest(name) return name:match("%.ya?ml$") ~= nil or name:match("%.json$") ~= nil end

-- JSON's null in a manifest is a field that is not there.
local function without_null(value)
  if type(value) ~= "table" then return value end
  for k, v in pairs(value) do
    if v == json.null then value[k] = nil else without_null(v) end
  end
  return value
end

local function take(list, file, object)
  if object == json.null or object == nil then return true end
  if type(object) ~= "table" or json.is_array(object) then return fault(file, "a document is no object") end
  if object.kind == "List" and type(object.items) == "table" then
    for _, item in ipairs(object.items) do
      local ok, err = take(list, file, item)
      if not ok then return nil, err end
    end
    return true
  end
  local name = dig(object, "metadata", "name")
  if type(object.apiVersion) ~= "string" or type(object.kind) ~= "string" or type(name) ~= "string" then
    return fault(file, "a document has no apiVersion, kind or metadata.name")
  end
  -- What the API server takes for a name; another would be a path to something else (k8s.io/apimachinery path/name.go).
  if name == "." or name == ".." or name == "" or name:find("[/%%]") then
    return fault(file, "%s is not the name of a %s", name, object.kind)
  end
  if #list >= MAX_OBJECTS then return fault(file, "there are more than %d objects", MAX_OBJECTS) end
  without_null(object)
  list[#list + 1] = { file = file, object = object }
  return true
end

---Reads files into objects.
---@param files {path: string, text: string}[]
---@return ManifestObject[]? list In the order in which they are to be applied.
---@return Err? err
---@return_overload nil, Err
function M.read(files)
  local list, seen = {}, {}
  for _, file in ipairs(files) do
    local documents, err = yaml.decode_all(file.text, { kubernetes = true }) ---@cast err Err?
    if not documents then return fault(file.path, "%s", assert(err).message) end
    for _, document in ipairs(documents) do
      local ok
      ok, err = take(list, file.path, document)
      if not ok then return nil, err end
    end
  end
  for i, entry in ipairs(list) do
    local o = entry.object
    entry.at = i
    local key = ("%s %s %s"):format(o.apiVersion, o.kind, o.metadata.name)
    if seen[key] then
      return fault(entry.file, "%s %s stands in %s too", o.kind, o.metadata.name, seen[key])
    end
    seen[key] = entry.file
  end
  table.sort(list, function(a, b)
    local x, y = ORDER[a.object.kind] or OTHER, ORDER[b.object.kind] or OTHER
    if x ~= y then return x < y end
    return a.at < b.at
  end)
  return list
end

---Puts all objects into the namespace, and finds the workload among them.
---@param list ManifestObject[]
---@param workload Workload
---@param namespace string
---@return ManifestObject? found
---@return Err? err
---@return_overload nil, Err
function M.place(list, workload, namespace)
  local found
  for _, entry in ipairs(list) do
    local o = entry.object
    local own = o.metadata.namespace
    if own ~= nil and own ~= namespace then
      return fault(entry.file, "%s %s names the namespace %s; this target's is %s", o.kind, o.metadata.name,
        tostring(own), namespace)
    end
    o.metadata.namespace = namespace
    o.metadata.managedFields, o.metadata.resourceVersion, o.metadata.uid, o.status = nil, nil, nil, nil
    if o.kind == workload.kind and o.apiVersion == workload.group and o.metadata.name == workload.name then
      found = entry
      entry.workload = true
    end
  end
  if found then return found end
  local there = {}
  for _, entry in ipairs(list) do
    local word = rollout.word(entry.object)
    if word then there[#there + 1] = ("%s/%s"):format(word, entry.object.metadata.name) end
  end
  return errors.fail("invalid", text.clean(("the manifests hold no %s/%s; they hold: %s"):format(
    workload.kind:lower(), workload.name, #there > 0 and table.concat(there, ", ") or "no workload"), 400),
    { op = "target.manifests" })
end

---Adds annotations to an object.
---@param object table
---@param annotations table<string, string>
function M.annotate(object, annotations)
  local metadata = object.metadata
  if type(metadata.annotations) ~= "table" then metadata.annotations = {} end
  for k, v in pairs(annotations) do metadata.annotations[k] = v end
end

---Puts the image into the chosen containers, and says so in the annotations.
---@param object table
---@param chosen {containers: table[], initContainers: table[]} From patch.choose on this object.
---@param image string
---@param annotations table<string, string>
function M.put(object, chosen, image, annotations)
  for _, group in pairs(chosen) do
    for _, c in ipairs(group) do c.image = image end
  end
  M.annotate(object, annotations)
end

return M
