-- Facades: what a script may see of an object of ours: the named fields and methods, and no way to change anything.
--
-- A facade is an empty table; all of one kind share a metatable and their methods, so that ten thousand of them cost
-- little. A table with a metatable of its class would hand out the class itself: `handle.__index.read = forged`.
local sys = require "base.sys"

local M = {}

---@class FacadeShape
---@field fields string[]
---@field methods string[]
---@field read? table<string, string> Fields that the object has by another name.
---@field made? table<string, function> Fields that are made when they are read.

local shapes = {} ---@type table<string, FacadeShape>

---@class FacadeEvents
---@field close? fun(object: table) When a variable marked <close> ends.
---@field tostring? fun(object: table): string
---@field read? table<string, string> Fields that scripts know by another name than the object has.
---@field made? table<string, fun(object: table): any> Fields whose value is made when it is read.
---@field framed? table<string, true> Methods that ask who called them: a tail call leaves its line there, too.

---Makes a kind of facade.
---@generic T
---@param kind string What getmetatable and messages call it.
---@param fields string[]
---@param methods T The methods of the class behind it, by the names that scripts may call.
---@param events? FacadeEvents
---@return fun(object: table): T of Makes the facade of an object.
function M.kind(kind, fields, methods, events)
  local visible, face, names = {}, {}, {}
  local objects = setmetatable({}, { __mode = "k" }) ---@type table<table, table> facade -> the object behind it
  for _, name in ipairs(fields) do visible[name] = events and events.read and events.read[name] or name end
  for name, method in pairs(methods) do
    names[#names + 1] = name
    local framed = events and events.framed and events.framed[name]
    face[name] = function(self, ...)
      local object = objects[self]
      if not object then error(("call it as %s:%s(...)"):format(kind, name), framed and 3 or 2) end
      return method(object, ...)
    end
    if framed then face[name] = sys.framed(face[name]) end
  end
  table.sort(names)
  shapes[kind] = { fields = fields, methods = names, read = events and events.read, made = events and events.made }
  local made = events and events.made or {}
  local meta = {
    __index = function(self, name)
      local method = face[name]
      if method then return method end
      if made[name] then return made[name](objects[self]) end
      local field = visible[name]
      if field then return objects[self][field] end
    end,
    __newindex = function(_, name) error(("%s cannot be changed (field %s)"):format(kind, tostring(name)), 2) end,
    __metatable = kind,
  }
  local close, text = events and events.close, events and events.tostring
  if close then meta.__close = function(self) close(objects[self]) end end
  if text then meta.__tostring = function(self) return text(objects[self]) end end
  return function(object)
    local facade = setmetatable({}, meta)
    objects[facade] = object
    return facade
  end
end

---The fields and methods of a kind, in order, for tests of each.
---@param kind string
---@return FacadeShape
function M.shape(kind) return shapes[kind] end

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
