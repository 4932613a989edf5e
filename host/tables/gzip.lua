---@meta core.gzip
-- api_gzip.c, for stdlib/gzip.lua.

local M = {}

---@param bytes string
---@param options? {max?: integer}
---@return string? text
---@return Err? err
---@return_overload nil, Err
function M.decode(bytes, options) end

---@param text string
---@return string? bytes
---@return Err? err
---@return_overload nil, Err
function M.encode(text) end

return M
