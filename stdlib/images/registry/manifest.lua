-- Manifests as they come: bytes that are checked against their digest, and what they say about others.
local content, errors, hash, json = require "images.registry.content", require "errors", require "hash", require "json"
local reference = require "images.reference"

local M = {}

-- All four, always: without the lists a registry may answer with a child manifest, under another digest.
M.ACCEPT = table.concat({
  "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

local MAX_CHILDREN <const> = 200
local MAX_BLOBS <const> = 1000

---@class Manifest
---@field digest string
---@field media_type string
---@field body string The exact bytes.
---@field children table[] Descriptors, of an index; else empty.
---@field blobs table[] Descriptors of the configuration and the layers, of an image; else empty.
---@field config? table Descriptor.
---@field artifact_type? string What it calls itself.
---@field is_index boolean

---Says why a reference is neither a tag nor a digest that we can check.
---@param ref any
---@param fields table op and target
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function M.check_reference(ref, fields)
  if reference.is_tag(ref) or reference.is_digest(ref) then return true end
  local shown = tostring(ref):gsub("%c", "?"):sub(1, 140)
  if shown:find("^[%w+._-]+:%x+$") and not shown:find("^sha256:") then
    return errors.fail("unsupported", ("the digest %s is not of sha256, the only algorithm that is checked")
      :format(shown), fields)
  end
  return errors.fail("invalid", ("'%s' is neither a tag nor a digest"):format(shown), fields)
end

---Says why a digest cannot be tagged so.
---@param digest any
---@param tag any
---@param fields table op and target
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function M.check_target(digest, tag, fields)
  local ok, err = M.check_reference(digest, fields)
  if not ok then return nil, err end
  if not reference.is_digest(digest) then return errors.fail("invalid", digest .. " is not a digest", fields) end
  if reference.is_tag(tag) then return true end
  local shown = tostring(tag):gsub("%c", "?"):sub(1, 140)
  return errors.fail("invalid", ("'%s' cannot be an image tag"):format(shown), fields)
end

-- A list of descriptors as we can use it: every one names a blob by sha256.
local function descriptors(list, max)
  if list == nil or list == json.null then return {} end
  if type(list) ~= "table" or #list > max then return nil end
  for _, item in ipairs(list) do
    if type(item) ~= "table" or not reference.is_digest(item.digest) then return nil end
  end
  return list
end

---Makes a manifest of an answer's body.
---@param body string
---@param content_type? string
---@param expected? string The digest that it must have.
---@param fields table op and target
---@return Manifest?
---@return Err? err
---@return_overload nil, Err
function M.parse(body, content_type, expected, fields)
  local digest = "sha256:" .. hash.sha256(body)
  if expected and expected ~= digest then
    return errors.fail("mismatch", ("asked for %s, got bytes of %s"):format(expected, digest), fields)
  end
  local function wrong(why) return errors.fail("protocol", "the registry's answer " .. why, fields) end
  local decoded = json.decode(body)
  if type(decoded) ~= "table" or decoded.schemaVersion ~= 2 then return wrong("is no image manifest") end
  local kind = decoded.mediaType
  if kind == nil then kind = content_type and content_type:match("^[^;%s]+") end
  if type(kind) ~= "string" or not kind:find("^application/[%w.+-]+$") then
    return wrong("has no media type")
  end
  local children = descriptors(decoded.manifests, MAX_CHILDREN)
  local layers = descriptors(decoded.layers, MAX_BLOBS)
  if not children or not layers then return wrong("names its parts in a way that cannot be checked") end
  local artifact = type(decoded.artifactType) == "string" and decoded.artifactType or nil
  local config = decoded.config
  if config == json.null then config = nil end
  if config ~= nil and (type(config) ~= "table" or not reference.is_digest(config.digest)) then
    return wrong("names its configuration in a way that cannot be checked")
  end
  return {
    digest = digest, media_type = kind, body = body, children = children, config = config,
    artifact_type = artifact ~= "" and artifact or nil,
    is_index = decoded.manifests ~= nil and decoded.manifests ~= json.null,
    blobs = config and { config, table.unpack(layers) } or layers,
  }
end

---The child of an index that says most about the whole: linux on amd64, else the first for linux.
---@param manifest Manifest
---@return string? digest
function M.main_child(manifest)
  local chosen
  for _, child in ipairs(manifest.children) do
    local platform = type(child.platform) == "table" and child.platform or {}
    local better = not chosen or platform.architecture == "amd64"
    if platform.os == "linux" and better and content.is_image_child(child) then chosen = child.digest end
  end
  return chosen
end

return M
