---@meta core.hash
-- api_hash.c, for stdlib/hash.lua.

---@class core.hash
---@field sha256 fun(bytes: string): string
---@field hmac_sha256 fun(key: string, bytes: string): string
---@field new fun(): Hasher
---@field equal fun(a: string, b: string): boolean
---@field hex fun(bytes: string): string
---@field unhex fun(text: string): string?, Err?
---@field base64 fun(bytes: string): string
---@field unbase64 fun(text: string): string?, Err?
---@field base64url fun(bytes: string): string
---@field unbase64url fun(text: string): string?, Err?
---@field random fun(n: integer): string
local M = {}

---@async
---@param path string
---@return string? hex
---@return integer|Err size
---@return_overload string, integer
---@return_overload nil, Err
function M.sha256_file(path) end

return M
