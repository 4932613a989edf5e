---@meta core.task
-- api_task.c, for stdlib/task.lua.

---@class core.task
---@field spawn fun(options: TaskOptions?, fn: (fun(...): any...), ...): Task
---@field deadline async fun(seconds: number, fn: (fun(...): any...), ...): any...
---@field signal fun(): Signal
---@field asked fun(...: string)
---@field asked_file fun(path?: string)
---@field current fun(): integer?
---@field count fun(): integer
---@field on_unhandled fun(fn: fun(err: any, name: string))
local M = {}

return M
