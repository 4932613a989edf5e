-- Builds and pushes with buildah. See images/builder/command.lua.
local command = require "images.builder.command"

local M = {}

---@async
---@param cfg Config
---@return boolean
function M.available(cfg) return command.available("buildah", cfg) end

---@async
---@param request BuildRequest
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.build(request) return command.build("buildah", request) end

return M
