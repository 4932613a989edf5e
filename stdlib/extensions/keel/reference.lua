-- Image references as workloads hold them: "host:5000/team/web:1.2.3@sha256:...".
--
-- A part that is missing is missing: only the tag becomes "latest" when there is neither a tag nor a digest, as every
-- container engine has it.
local registry = require "images.registry"

local M = {}

---@class ImageReference
---@field name string As it was written, without tag and digest: what a new image string begins with.
---@field repository string "host/path", completed: two references with the same one mean the same repository.
---@field tag? string
---@field digest? string "sha256:..."

---Takes an image reference apart.
---@param text any
---@return ImageReference? reference nil when it is none.
function M.parse(text)
  if type(text) ~= "string" or #text > 1024 or text:find("[%s%c]") then return nil end
  local rest, digest = text:match("^([^@]+)@([%w+._-]+:%x+)$")
  if text:find("@", 1, true) and not rest then return nil end
  rest = rest or text
  local name, tag = rest:match("^(.+):([%w_][%w_.-]*)$")
  if not name then name, tag = rest, nil end
  if name == "" or name:find("://", 1, true) or not name:find("^[%w%[][%w._:/%[%]-]*$") then return nil end
  local host, path = registry.split(name)
  if path == "" or path ~= path:lower() or path:find("//", 1, true) or path:find("/$") then return nil end
  if not tag and not digest then tag = "latest" end
  return { name = name, repository = host .. "/" .. path, tag = tag, digest = digest }
end

---Writes a reference so that both people and machines know what runs: the tag for people, the digest for machines.
---@param name string
---@param tag? string
---@param digest? string
---@return string
function M.write(name, tag, digest)
  return name .. (tag and ":" .. tag or "") .. (digest and "@" .. digest or "")
end

---The digest of the manifest that a pod runs, from its status' imageID; nil when that names something else, such as
---the image's configuration.
---@param image_id any "docker.io/team/web@sha256:...", "docker-pullable://..."
---@return string? digest
function M.running(image_id)
  if type(image_id) ~= "string" then return nil end
  return image_id:match("@(sha256:%x+)$")
end

return M
