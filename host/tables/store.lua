---@meta core.store
-- api_store.c, for stdlib/store.lua.

---@class core.store
---@field open fun(path: string, options?: StoreOptions): Store?, Err?
---@field blob fun(bytes: string): StoreBlob
local M = {}

return M
