---@meta core.sys
-- api_sys.c and api_load.c, for stdlib/base/sys.lua and what is loaded before it.

---@class core.sys
---@field version string
---@field args fun(): string[]
---@field env fun(name: string): string?
---@field hostname fun(): string
---@field pid fun(): integer
---@field uid fun(): integer
---@field cwd fun(): string?
---@field exe fun(): string
---@field memory fun(): integer, integer, integer
---@field settle fun()
---@field isatty fun(fd: integer): boolean
---@field width fun(): integer
---@field write fun(fd: integer, text: string): boolean
---@field read async fun(fd: integer): string?
---@field traceback fun(message?: any): string
---@field where fun(level?: integer): string
---@field script_line fun(): string?
---@field defined fun(fn: function): string
---@field framed fun(fn: function): function
---@field cpu fun(): number
---@field hash fun(text: string): integer
---@field plain fun(value: any): any
---@field error_class fun(): table The metatable of error values.
---@field steady fun(fn: fun(value?: any): string?)
---@field whole fun(fn: (fun(...): any...), ...): any...
---@field deadman fun(seconds?: number): boolean
---@field killpoint fun(name: string)
---@field fail_allocations? fun(n: integer, onwards?: boolean): integer In the `fault` build only.
---@field embedded fun(path: string): string?
---@field embedded_list fun(): string[]
---@field compile fun(text: string, chunkname: string, env: table): function?, string?
---@field module fun(loading: table<string, boolean>, name: string, fn: fun(name: string))
---@field slurp fun(path: string): string?, string?
local M = {}

return M
