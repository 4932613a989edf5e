---@meta core.serve
-- api_serve.c, for stdlib/serve.lua.

---@class core.serve.Server
---@field accept async fun(self: core.serve.Server): core.serve.Request?
---@field close async fun(self: core.serve.Server, limit: Seconds)
---@field stop fun(self: core.serve.Server)
---@field port fun(self: core.serve.Server): integer?

---@alias core.serve.Peer {uid?: integer, pid?: integer, address?: string}

---@class core.serve.Request
---@field bind fun(self: core.serve.Request)
---@field read fun(self: core.serve.Request): string, string, string[], core.serve.Peer
---@field receive async fun(self: core.serve.Request): string?, Err?
---@field reply fun(self: core.serve.Request, status: integer, fields: string[], body: string): true?, Err?
---@field stream fun(self: core.serve.Request, status: integer, fields: string[]): true?, Err?
---@field write async fun(self: core.serve.Request, text: string): true?, Err?
---@field finish fun(self: core.serve.Request, ok: boolean)
---@field close fun(self: core.serve.Request)

local M = {}

---@param options table serve.Options without its functions and `hosts`
---@return core.serve.Server?
---@return Err? err
---@return_overload nil, Err
function M.listen(options) end

return M
