-- The first Lua that runs: makes `require`, the strict environments, and starts main.
--
-- C tables are reachable only as require "core.<name>", and only from stdlib modules. There is no package
-- library: a module is an embedded file NAME.lua or NAME/init.lua, or the file of the same
-- name in the folder that --stdlib names.
local openers = ...
local sys = openers.sys()

local override
do
  local args = sys.args()
  for i = 1, #args do
    if args[i] == "--" then break end
    if args[i] == "--stdlib" then override = args[i + 1] end
    override = override or args[i]:match("^%-%-stdlib=(.+)$")
  end
end

-- Scripts never see the real tables of basic types: changing a shared one would change everybody's.
local GLOBALS = {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "print", "rawequal", "rawget", "rawlen",
  "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "xpcall", "_VERSION",
}
local LIBRARIES = { "coroutine", "math", "string", "table", "utf8" }

---Makes a fresh strict environment: reading or writing an undefined global raises.
---@param require_fn fun(name: string): any
---@return table env
local function new_env(require_fn)
  local env = {}
  for _, name in ipairs(GLOBALS) do env[name] = _G[name] end
  for _, name in ipairs(LIBRARIES) do
    local copy = {}
    for k, v in pairs(_G[name]) do copy[k] = v end
    env[name] = copy
  end
  env.require = require_fn
  env._G = env
  env.load = function(text, name, _, into)
    if type(text) ~= "string" then error("load takes the text of a chunk", 2) end
    return sys.compile(text, name or "=(load)", into or env)
  end
  return setmetatable(env, {
    __index = function(_, name) error("undefined variable '" .. tostring(name) .. "'", 2) end,
    __newindex = function(_, name) error("assignment to undeclared variable '" .. tostring(name) .. "'", 2) end,
    __metatable = "environment",
  })
end

local loaded, loading = {}, {}

local require_stdlib ---@type fun(name: string): any

local stdlib_env = new_env(function(name) return require_stdlib(name) end)

---The function of a stdlib module; nil when there is none. Raises when its file cannot be read or compiled.
---@param name string
---@return function?
local function find(name)
  local stem = "stdlib/" .. name:gsub("%.", "/")
  for _, path in ipairs { stem .. ".lua", stem .. "/init.lua" } do
    local file = override and override .. path:sub(7)
    local text, why
    if file then text, why = sys.slurp(file) end
    if why then error(file .. " cannot be read: " .. why, 0) end
    local chunk, message
    if text then chunk, message = sys.compile(text, "@" .. file, stdlib_env) end
    if message then error(message, 0) end
    chunk = chunk or sys.embedded_module(path, stdlib_env)
    if chunk then return chunk end
  end
end

function require_stdlib(name)
  local module = loaded[name]
  if module ~= nil then return module end
  local raw = name:match("^core%.(%l+)$")
  if raw then
    if not openers[raw] then error("there is no core table '" .. raw .. "'", 3) end
    module = raw == "sys" and sys or openers[raw]()
    loaded[name] = module
    return module
  end
  if not name:match("^[%l%d_]+[%l%d_%.]*$") then error("bad module name '" .. name .. "'", 3) end
  -- Loading is never set aside, so whatever is marked is being loaded by who asks.
  if loading[name] then error("module '" .. name .. "' requires itself", 3) end
  local chunk = find(name)
  if not chunk then error("module '" .. name .. "' not found", 3) end
  sys.module(loading, name, function()
    if loaded[name] ~= nil then return end -- since we looked
    local value = chunk(name)
    loaded[name] = value == nil and true or value
  end)
  return loaded[name]
end

---@class Prelude
---@field new_env fun(require_fn: fun(name: string): any): table
---@field find fun(name: string): function?
loaded["base.prelude"] = { new_env = new_env, find = find }

return function() return require_stdlib("people.main")() end
