-- Whether an image that an engine lists is one of ours that may go, whatever engine that is.
--
-- An engine belongs to others, too: an image is judged only when every name that it has is one that we give, in a
-- repository of ours, and one without names only by the labels that we put on what we build.
local reference = require "images.reference"

local M = {}

local SOURCE <const>, REVISION <const> = "org.opencontainers.image.source", "org.opencontainers.image.revision"

---@class ListedImage
---@field tags string[] "host/path:tag"
---@field digests string[] "host/path@sha256:..."
---@field labels table<string, any>

---The commit whose image a tag holds, by the tag that builders give.
---@param tag string
---@return string? commit
function M.commit(tag)
  local commit = tag:match("^sha%-(%x+)$")
  return commit and (#commit == 40 or #commit == 64) and commit or nil
end

-- Whether an image without any name was made by a build of ours that something newer took the name of.
local function left_over(image, kept)
  local commit, source = image.labels[REVISION], image.labels[SOURCE]
  if type(commit) ~= "string" or type(source) ~= "string" then return false end
  for _, ours in pairs(kept.repositories) do
    if ours.sources[source] then return true end
  end
  return false
end

---Whether an image may go.
---@param image ListedImage
---@param kept KeptImages
---@return boolean
function M.removable(image, kept)
  if #image.tags == 0 and #image.digests == 0 then return left_over(image, kept) end
  local ours = false
  for _, text in ipairs(image.tags) do
    local name, tag = reference.parts(text)
    local repository = reference.canonical(name)
    local commit = tag and M.commit(tag)
    if not commit or not kept.repositories[repository] or kept:has(repository, nil, commit) then return false end
    ours = true
  end
  for _, text in ipairs(image.digests) do
    local name, _, digest = reference.parts(text)
    local repository = reference.canonical(name)
    if not digest or not kept.repositories[repository] or kept:has(repository, digest) then return false end
    -- Pulled by its digest: by us, if we know it or built it.
    ours = ours or kept.known[repository] ~= nil and kept.known[repository][digest] == true
      or kept.repositories[repository].sources[image.labels[SOURCE]] == true
  end
  return ours
end

return M
