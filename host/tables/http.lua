---@meta core.http
-- api_http.c, for stdlib/http.lua.

---@class core.http.Handle: userdata A parsed URL.

---@class core.http.Address: HttpAddress
---@field handle? core.http.Handle

---One hop's answer; its raw headers stand at position 1.
---@class core.http.Answer
---@field [1] string
---@field status integer
---@field elapsed Seconds
---@field http_version "1.0"|"1.1"|"2"
---@field url string
---@field body? string
---@field location? string|true Where a redirect leads; true: to several places.
---@field peer_private? boolean With `location`: the server's address is not public.

---@class core.http.Stream
---@field read async fun(self: core.http.Stream, most?: integer): string?, Err?
---@field line async fun(self: core.http.Stream): string?, Err?
---@field close fun(self: core.http.Stream)

local M = {}

---@async
---@param op string
---@param method string
---@param url string
---@param handle core.http.Handle
---@param headers? table<string, string|number|string[]>
---@param options HttpOptions
---@param timeout Seconds
---@param public_only? boolean
---@return core.http.Answer?
---@return core.http.Stream|Err|nil more
---@return_overload core.http.Answer, core.http.Stream?
---@return_overload nil, Err
function M.request(op, method, url, handle, headers, options, timeout, public_only) end

---@param text string
---@param base? string
---@return core.http.Address?
---@return Err? err
---@return_overload nil, Err
function M.url(text, base) end

---@param raw string
---@return table headers {map, repeated or nil, names}
function M.headers(raw) end

---Raises a text with the position of the script that called the stdlib.
---@param text string
---@return never
function M.mistake(text) end

---@return { active: integer, idle: integer, sockets: integer }
function M.stats() end

return M
