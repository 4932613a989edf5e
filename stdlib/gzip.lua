-- gzip, for texts of moderate size.
--
--     local tar = assert(gzip.decode(bytes, { max = 20 << 20 }))
--     local same = gzip.encode(tar) -- the same text always gives the same bytes: no time and no name in the header
local core = require "core.gzip"

local M = {}

---What a gzip text holds.
---@nodiscard
---@param bytes string
---@param options? {max?: integer} Bytes that may come out, 32 MiB by default.
---@return string? text
---@return Err? err code `invalid` when it is none or breaks off, `too_large`
---@return_overload nil, Err
function M.decode(bytes, options) return core.decode(bytes, options) end

---Compresses a text.
---@nodiscard
---@param text string
---@return string? bytes
---@return Err? err
---@return_overload nil, Err
function M.encode(text) return core.encode(text) end

return M
