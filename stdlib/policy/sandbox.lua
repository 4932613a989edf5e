-- Environments for scripts that are not part of the program.
--
-- exec_env: for people's own scripts, tests and the prompt: the whole public API, plus modules beside the script.
-- Policies get a stricter one, made in policy/load.lua.
local prelude = require("base.prelude") --[[@as Prelude]]
local sys = require "core.sys"

local M = {}

---Makes the environment of an exec script. `require` finds the program's modules, and files below `dir` by other names.
---@param dir? string The script's folder; nil: no files.
---@param options? {trusted?: boolean, face?: fun(name: string, module: any): any} trusted: files there have to be
--- root's or our own, and writable for nobody else; face: what it gets of a module of the program.
---@return table env
function M.exec_env(dir, options)
  local loaded, env = {}, nil ---@type table<string, any>, any
  local function find(name)
    if name:match("^core%.") or name == "base.prelude" then error("'" .. name .. "' is not for scripts", 3) end
    if loaded[name] ~= nil then return loaded[name] end
    -- A script's neighbour never takes the place of a module of the program.
    if dir and name:match("^[%w_]+[%w_%.]*$") and not prelude.find(name) then
      local path = dir .. "/" .. name:gsub("%.", "/") .. ".lua"
      local text, why = sys.slurp(path, options and options.trusted)
      if why then error(("module '%s': %s cannot be read: %s"):format(name, path, why), 3) end
      if text then
        local chunk, message = sys.compile(text, "@" .. path, env)
        if not chunk then error(message, 0) end
        local module = chunk(name)
        loaded[name] = module == nil and true or module
        return loaded[name]
      end
    end
    local module = require(name)
    return options and options.face and options.face(name, module) or module
  end
  env = prelude.new_env(function(name) return find(name) end)
  return env
end

return M
