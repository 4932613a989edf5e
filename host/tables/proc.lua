---@meta core.proc
-- api_proc.c, for stdlib/proc.lua.

---@alias core.proc.Stdio "null"|"pipe"|"inherit"|"merged"|{file?: string, append?: boolean, data?: string}

---@class core.proc.Options
---@field argv string[]
---@field env string[]
---@field cwd? string
---@field stdin? core.proc.Stdio
---@field stdout? core.proc.Stdio
---@field stderr? core.proc.Stdio
---@field timeout? Seconds
---@field grace? Seconds
---@field max_output? integer

---@class core.proc.Child
---@field read async fun(self: core.proc.Child, stream?: "stdout"|"stderr"|"any"): string?, ("stdout"|"stderr")?
---@field unclaim fun(self: core.proc.Child, stream?: "stdout"|"stderr"|"any")
---@field close_stdin fun(self: core.proc.Child)
---@field kill fun(self: core.proc.Child, signal?: string|integer): boolean
---@field close fun(self: core.proc.Child)
local Child = {}

---@async
---@param data string
---@return true?
---@return Err? err
---@return_overload nil, Err
function Child:write(data) end

---@async
---@param timeout? Seconds
---@return ProcResult?
---@return Err? err
---@return_overload nil, Err
function Child:wait(timeout) end

local M = {}

---@param options core.proc.Options
---@return core.proc.Child?
---@return integer|Err pid
---@return_overload core.proc.Child, integer
---@return_overload nil, Err
function M.spawn(options) end

---@return integer
function M.count() end

return M
