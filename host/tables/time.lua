---@meta core.time
-- api_time.c, for stdlib/time.lua.

---@class core.time
---@field sleep async fun(seconds: number)
---@field now fun(): number
---@field monotonic fun(): number
---@field cpu fun(): number
---@field iso fun(seconds: number): string
---@field utc fun(year: integer, month: integer, day: integer, hour: integer, minute: integer, second: integer): integer
local M = {}

return M
