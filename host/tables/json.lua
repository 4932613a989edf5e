---@meta core.json
-- api_json.c, for stdlib/json.lua.

---@class core.json
---@field null JsonNull
---@field decode fun(text: string, options?: JsonDecodeOptions): any, Err?
---@field encode fun(value: any, options?: JsonEncodeOptions): string?, Err?
---@field array fun(list?: table): table
---@field is_array fun(value: any): boolean
local M = {}

return M
