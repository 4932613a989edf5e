-- Why a build or a push failed, by the output of its program.
--
-- A command of the Dockerfile that fails is the commit's own failure. The network, and a base image that cannot be
-- pulled, are transient errors.
local errors, network = require "errors", require "base.network"

local M = {}

-- A command of the Dockerfile ended: its text is quoted beside this and may hold any words.
local COMMAND <const> = { "exit status %d", "exit code:? %d", "non%-zero code" }
-- The Docker Engine (classic and BuildKit, 20.10 to 28), buildctl, buildah and podman about a base image.
local BASE_IMAGE <const> = {
  "load metadata for", "resolve source metadata for", "[Cc]reating build container", "pull access denied",
  "manifest for %S+ not found", "manifest unknown", "LLB definition: %S+: not found",
  "LLB definition: failed to do request",
}

local function any(words, patterns)
  for _, pattern in ipairs(patterns) do
    if words:find(pattern) then return true end
  end
  return false
end

---@param words string The program's last output.
---@param message string For people.
---@param fields {op: string, target?: string}
---@return Err err
function M.new(words, message, fields)
  if any(words, COMMAND) then return errors.new("failed", message, fields) end
  local err = errors.new(network.code(words) or "failed", message, fields)
  if any(words, BASE_IMAGE) then err.passing = true end
  return err
end

---The end of the time that the configuration gives a build: more of it only comes with another configuration.
---@param message string
---@param fields {op: string, target?: string}
---@return nil
---@return Err err
function M.too_long(message, fields)
  return errors.fail("timeout", message, { op = fields.op, target = fields.target, passing = false })
end

return M
