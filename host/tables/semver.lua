---@meta core.semver
-- api_semver.c, for stdlib/semver.lua.

---@class core.semver.Regexp
---@field match fun(self: core.semver.Regexp, text: string): boolean?, (string|Err)?

local M = {}

---@param text string
---@param loose? boolean
---@return Version?
---@return Err? err
---@return_overload nil, Err
function M.parse(text, loose) end

---@param a string
---@param b string
---@param loose? boolean
---@return integer? order
---@return Err? err
---@return_overload nil, Err
function M.compare(a, b, loose) end

---@param version string
---@param range string
---@return boolean?
---@return Err? err
---@return_overload nil, Err
function M.satisfies(version, range) end

---@param pattern string
---@param text string
---@return boolean
function M.glob(pattern, text) end

---@param pattern string
---@return core.semver.Regexp?
---@return Err? err
---@return_overload nil, Err
function M.regexp(pattern) end

return M
