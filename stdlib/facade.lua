-- Facades: what a script may see of an object of ours: the named fields and methods, and no way to change anything.
--
-- A facade is an empty table; all of one kind share a metatable and their methods, so that ten thousand of them cost
-- little.
local M = {}

---Makes a kind of facade.
---@param kind string What getmetatable and messages call it.
---@param fields string[]
---@param methods table<string, function> The methods of the class behind it, by the names that scripts may call.
---@return fun(object: table): table of Makes the facade of an object.
function M.kind(kind, fields, methods)
  local visible, face = {}, {}
  local objects = setmetatable({}, { __mode = "k" }) -- facade -> the object behind it
  for _, name in ipairs(fields) do visible[name] = true end
  for name, method in pairs(methods) do
    face[name] = function(self, ...)
      local object = objects[self]
      if not object then error(("call it as %s:%s(...)"):format(kind, name), 2) end
      return method(object, ...)
    end
  end
  local meta = {
    __index = function(self, name)
      local method = face[name]
      if method then return method end
      if visible[name] then return objects[self][name] end
    end,
    __newindex = function(_, name) error(("%s cannot be changed (field %s)"):format(kind, tostring(name)), 2) end,
    __metatable = kind,
  }
  return function(object)
    local facade = setmetatable({}, meta)
    objects[facade] = object
    return facade
  end
end

---Picks methods of a class by name.
---@param class table
---@param names string[]
---@return table<string, function>
function M.methods(class, names)
  local picked = {}
  for _, name in ipairs(names) do picked[name] = assert(class[name], name) end
  return picked
end

return M
