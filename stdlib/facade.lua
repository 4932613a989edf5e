-- Facades: what a script may see of an object of ours: the named fields and methods, and no way to change anything.
local M = {}

---@param object table
---@param kind string What getmetatable and messages call it.
---@param fields string[]
---@param methods string[]
---@return table facade
function M.of(object, kind, fields, methods)
  local face, facade = {}, {}
  for _, name in ipairs(fields) do face[name] = object[name] end
  for _, name in ipairs(methods) do
    local method = object[name]
    face[name] = function(self, ...)
      if self ~= facade then error(("call it as %s:%s(...)"):format(kind, name), 2) end
      return method(object, ...)
    end
  end
  return setmetatable(facade, {
    __index = face,
    __newindex = function(_, name) error(("%s cannot be changed (field %s)"):format(kind, tostring(name)), 2) end,
    __metatable = kind,
  })
end

return M
