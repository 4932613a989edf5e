---@meta core.log
-- api_log.c, for stdlib/log.lua.

---@class core.log
---@field write fun(level: log.Level, message: any, fields?: table, bound?: table, want?: boolean): string?
---@field configure fun(options: {format?: "auto"|"json"|"text", color?: "auto"|"always"|"never", burst?: integer})
---@field looks fun(): boolean, boolean
---@field secret fun(value: string): true?, Err?
---@field forget fun(value: string)
---@field redact fun(text: string): string
---@field redactor fun(): log.Redactor
---@field pcall fun(fn: function, ...): boolean, any
local M = {}

return M
