-- Builds and pushes with podman. See images/builder/command.lua.
local command = require "images.builder.command"

local M = {}

---@async
---@param cfg Config
---@return boolean
function M.available(cfg) return command.available("podman", cfg) end

---@async
---@param request BuildRequest
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.build(request) return command.build("podman", request) end

return M
