-- Kubernetes YAML as podman plays it: puts an image into exactly one container and marks the pods as ours.
--
-- Pure text to text. What podman would refuse or do at the wrong moment is taken out: ports beside hostNetwork, pulls
-- while the old pod is down already.
local errors, yaml = require "errors", require "yaml"
local ours = require "base.labels"

local M = {}

local function fault(path, text, ...)
  if select("#", ...) > 0 then text = text:format(...) end
  return errors.fail("invalid", text, { op = "target.yaml", target = path })
end

-- The pod template of a document, with the metadata that its pods get; nil when it makes no pods.
local function template_of(document)
  if type(document) ~= "table" then return nil end
  if document.kind == "Pod" then return document end
  local spec = document.spec
  local template = type(spec) == "table" and spec.template
  if type(template) == "table" and type(template.spec) == "table" then return template end
end

-- All containers of a template, with those that only prepare.
local function containers_of(template)
  local list = {}
  for _, key in ipairs { "containers", "initContainers" } do
    local group = template.spec[key]
    for _, c in ipairs(type(group) == "table" and group or {}) do
      if type(c) == "table" then list[#list + 1] = c end
    end
  end
  return list
end

local function named(all, name, path)
  if not name then
    if #all == 1 then return all[1] end
    return fault(path, #all == 0 and "it has no container" or "it has %d containers: `container` must name one", #all)
  end
  local found
  for _, c in ipairs(all) do
    if c.name == name then
      if found then return fault(path, "two containers are called '%s'", name) end
      found = c
    end
  end
  if found then return found end
  return fault(path, "it has no container '%s'", name)
end

-- Takes out of a pod what podman refuses, or does when the old one is gone already.
local function adapt(template)
  for _, c in ipairs(containers_of(template)) do
    if template.spec.hostNetwork == true then c.ports = nil end -- "PortMappings can only be used with Bridge"
    if c.imagePullPolicy ~= "Never" then c.imagePullPolicy = "IfNotPresent" end
  end
end

---@class PodmanManifest
---@field text string To be played.
---@field images {name: string, always: boolean}[] The other containers' images.
---@field pods string[] Names of the pods, without the number that podman gives to those of a Deployment.
---@field container string The one that has the image.
---@field count integer Containers that stay, one replica of each.

---Puts an image and labels into YAML.
---@param text string
---@param options {path: string, container?: string, image: string, labels: table<string, string>}
---@return PodmanManifest? manifest
---@return Err? err
---@return_overload nil, Err
function M.render(text, options)
  local documents, err = yaml.decode_all(text, { kubernetes = true })
  if not documents then return fault(options.path, "%s", (err --[[@as Err]]).message) end
  local all, templates, pods, count = {}, {}, {}, 0
  for _, document in ipairs(documents) do
    local template = template_of(document)
    if template then
      if type(template.spec) ~= "table" then return fault(options.path, "a pod has no spec") end
      templates[#templates + 1] = template
      pods[#pods + 1] = type(document.metadata) == "table" and document.metadata.name or nil
      for _, c in ipairs(containers_of(template)) do all[#all + 1] = c end
      count = count + (type(template.spec.containers) == "table" and #template.spec.containers or 0)
    end
  end
  local chosen
  chosen, err = named(all, options.container, options.path)
  if not chosen then return nil, err end
  if type(chosen.name) ~= "string" then return fault(options.path, "a container has no name") end
  local images = {}
  for _, c in ipairs(all) do
    if c ~= chosen and type(c.image) == "string" and c.imagePullPolicy ~= "Never" then
      images[#images + 1] = { name = c.image, always = c.imagePullPolicy == "Always" }
    end
  end
  chosen.image = options.image
  for _, template in ipairs(templates) do
    adapt(template)
    if type(template.metadata) ~= "table" then template.metadata = {} end
    local labels = type(template.metadata.labels) == "table" and template.metadata.labels or {}
    ours.put(labels, options.labels)
    ours.put(labels, { container = chosen.name })
    template.metadata.labels = labels
  end
  local out
  out, err = yaml.encode_all(documents)
  if not out then return fault(options.path, "%s", err.message) end
  return { text = out, images = images, pods = pods, container = chosen.name, count = count }
end

return M
