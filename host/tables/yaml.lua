---@meta core.yaml
-- api_yaml.c, for stdlib/yaml.lua.

---@class core.yaml
---@field decode fun(text: string, options?: YamlDecodeOptions): any, YamlMarks|Err|nil
---@field decode_all fun(text: string, options?: YamlDecodeOptions): any[]?, YamlMarks[]|Err|nil
---@field encode fun(value: any, options?: {max?: integer}): string?, Err?
---@field encode_all fun(values: any[], options?: {max?: integer}): string?, Err?
local M = {}

return M
