-- What a manifest holds: an image, or one of the other things that registries keep beside images.
--
-- An image has the configuration of an image and layers of files, and does not call itself anything else. Rules: the
-- image specification 1.1 (artifactType, config.mediaType), cosign's and buildkit's own marks on older ones.
local text = require "base.text"

local M = {}

-- What is known by a part of a media type, the most telling first.
local KNOWN <const> = {
  { "helm%.", "a Helm chart" }, { "spdx", "an SBOM" }, { "cyclonedx", "an SBOM" }, { "syft", "an SBOM" },
  { "in%-toto", "an attestation" }, { "dsse", "an attestation" }, { "cosign", "a signature" },
  { "sigstore", "a signature" }, { "notary", "a signature" }, { "cncf%.flux", "a set of manifests" },
  { "wasm", "a WebAssembly module" }, { "docker%.plugin", "an engine plugin" },
}

-- What hangs on another manifest by the name of its tag: sha256-HEX.sig, and sha256-HEX for lists of referrers.
local SUFFIXES <const> = {
  sig = "a signature", att = "an attestation", sbom = "an SBOM", [""] = "a list of what belongs",
}

local function words(kind, type_name)
  return ("it is %s (%s), not an image"):format(kind, text.clean(type_name, 100))
end

local function named(type_name)
  local lower = type_name:lower()
  for _, pair in ipairs(KNOWN) do
    if lower:find(pair[1]) then return words(pair[2], type_name) end
  end
  return words("an artifact", type_name)
end

local function is_config(kind)
  return kind:find("^application/vnd%.oci%.image%.config%.")
    or kind:find("^application/vnd%.docker%.container%.image%.") or kind == "application/octet-stream"
end

local function is_layer(kind)
  return kind:find("^application/vnd%.oci%.image%.layer%.") or kind:find("^application/vnd%.docker%.image%.rootfs%.")
    or kind == "application/octet-stream"
end

local function given(value) return type(value) == "string" and value ~= "" and value or nil end

---What a tag's own name says that it is.
---@param tag string
---@return string? what nil: nothing; it may be an image.
function M.of_tag(tag)
  local hex, suffix = tag:match("^sha256%-(%x+)%.?(.*)$")
  if not hex or #hex ~= 64 then return nil end
  local kind = SUFFIXES[suffix] or "something"
  if suffix ~= "" then kind = kind .. " that belongs" end
  return ("it is %s to sha256:%s, not an image"):format(kind, hex:sub(1, 12))
end

---Whether a descriptor in an index is that of an image (or of an index of some).
---@param child table
---@return boolean
---@return string? what
function M.is_image_child(child)
  local notes = type(child.annotations) == "table" and child.annotations or {}
  local platform = type(child.platform) == "table" and child.platform or {}
  -- buildkit says both; tools that copy an index may drop the annotations.
  local for_none = platform.os == "unknown" and platform.architecture == "unknown"
  if notes["vnd.docker.reference.type"] ~= nil or for_none then
    return false, "it is an attestation, not an image"
  end
  local artifact = given(child.artifactType)
  if artifact and not is_config(artifact) then return false, named(artifact) end
  local kind = given(child.mediaType)
  local fine = not kind or kind:find("manifest", 1, true) or kind:find("image.index", 1, true)
  if not fine then return false, named(kind) end
  return true
end

---What a manifest is, when it is no image.
---@param manifest Manifest
---@return string? what nil: it is an image.
function M.of_manifest(manifest)
  if manifest.artifact_type and not is_config(manifest.artifact_type) then return named(manifest.artifact_type) end
  if manifest.is_index then
    local first
    for _, child in ipairs(manifest.children) do
      local image, what = M.is_image_child(child)
      if image then return nil end
      first = first or what
    end
    return first or "it is an index without images"
  end
  local config = manifest.config and given(manifest.config.mediaType)
  if config and not is_config(config) then return named(config) end
  local other
  for _, blob in ipairs(manifest.blobs) do
    local kind = blob ~= manifest.config and given(blob.mediaType)
    if kind and is_layer(kind) then return nil end
    other = other or kind or nil
  end
  return other and named(other) or nil
end

return M
