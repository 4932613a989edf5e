---@meta core.signal
-- api_signal.c, for stdlib/base/signal.lua.

---@class core.signal
---@field catch fun(...: "TERM"|"INT"|"HUP"|"USR1"|"USR2")
---@field next_signal async fun(): string
local M = {}

return M
