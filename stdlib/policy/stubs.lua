-- Stubs for editors: what policies and their tests may call, as annotations that LuaLS and EmmyLua read. They are made
-- of the live tables and the docstrings behind them, so that they are always those of this program.
local docs, facade, sys = require "base.docs", require "base.facade", require "base.sys"
local manual = require "policy.manual"

local M = {}

---What stands in the second line of a file of stubs; the program that wrote it is named behind it.
M.MARK = "-- Written by moontide init; a newer program writes it anew. "

---@class StubFile What one file is made of.
---@field lines string[]
---@field wanted string[] Types that it names, in order.
---@field known table<string, boolean>
local File = {}
File.__index = File

local function new_file()
  return setmetatable({ lines = { "---@meta", M.MARK .. sys.version, "" }, wanted = {}, known = {} }, File)
end

---@param line string
function File:code(line) self.lines[#self.lines + 1] = line end

local HIDDEN <const> = { private = true, protected = true, package = true, async = true }

---Docstring lines, and the types that they name.
---@param lines string[]
function File:comments(lines)
  for _, line in ipairs(lines) do
    -- Whatever a policy calls may wait: that is no news.
    local hidden = HIDDEN[line:match("^@field (%l+) ") or line:match("^@(%l+)$")]
    if not hidden then
      self:code("---" .. line)
      for name in docs.names(line) do
        if not self.known[name] then
          self.known[name], self.wanted[#self.wanted + 1] = true, name
        end
      end
    end
  end
end

---@param owner string "M.", "Place:"; "" of what stands by itself.
---@param source WordSource
function File:word(owner, source)
  self:comments(source.doc.lines)
  local name = owner .. source.name:match("[%w_]+$")
  if source.value then
    self:code(name .. " = nil")
  else
    self:code(("function %s(%s) end"):format(name, table.concat(source.doc.args, ", ")))
  end
  self:code("")
end

---An object of which scripts see the named fields and words.
---@param class string
---@param shape FacadeShape
---@param words WordSource[]
function File:object(class, shape, words)
  local fields, lines = {}, {} ---@type table<string, string>, string[]
  for _, line in ipairs(manual.types()[class].lines) do
    local name, rest = line:match("^@field ([%w_]+)(%??.*)$")
    if name then fields[name] = rest end
  end
  lines[1] = "@class " .. class
  for _, name in ipairs(shape.fields) do
    local rest = fields[shape.read and shape.read[name] or name] or fields[name]
    rest = shape.made and shape.made[name] and rest and rest:gsub("^%?", "") or rest
    lines[#lines + 1] = ("@field %s%s"):format(name, rest or " any")
  end
  self:comments(lines)
  self:code(("local %s = {}"):format(class))
  self:code("")
  for _, word in ipairs(words) do self:word(class .. ":", word) end
end

---A class or an alias, with the methods that everybody may call.
---@param type TypeDoc
function File:type(type)
  self:comments(type.lines)
  local names, methods = {}, type.variable and docs.read(assert(sys.embedded(assert(type.path)))) or {}
  for name, doc in pairs(methods) do
    local hidden = false
    for _, line in ipairs(doc.lines) do hidden = hidden or line:find("^@private") ~= nil end
    if not hidden and name:match("^(.-):") == type.variable then names[#names + 1] = name end
  end
  if #names > 0 then self:code(("local %s = {}"):format(type.variable)) end
  self:code("")
  table.sort(names)
  for _, name in ipairs(names) do
    self:word(type.variable .. ":", { name = name, group = "", doc = assert(methods[name]) })
  end
end

-- Everything of a group of words.
local function grouped()
  local groups, order = {}, {}
  for _, source in ipairs(manual.sources()) do
    if not groups[source.group] then
      groups[source.group], order[#order + 1] = {}, source.group
    end
    table.insert(groups[source.group], source)
  end
  return groups, order
end

---The files of stubs, by name.
---@return table<string, string>
function M.files()
  local files, groups, order = {}, grouped()
  local words, done = new_file(), {}
  for _, object in ipairs(manual.OBJECTS) do
    local class = object.type or object.class
    words:object(class, facade.shape(object.kind), groups[object.kind] or {})
    done[class], groups[object.kind] = true, nil
  end
  for _, group in ipairs(order) do
    local first = groups[group] and groups[group][1]
    if first and first.name == first.name:match("^[%w_]+$") then -- they stand by themselves
      for _, source in ipairs(groups[group]) do words:word("", source) end
    elseif first then
      local module = new_file()
      module:code "local M = {}"
      module:code ""
      for _, source in ipairs(groups[group]) do module:word("M.", source) end
      module:code "return M"
      files[group .. ".lua"] = table.concat(module.lines, "\n") .. "\n"
      for _, name in ipairs(module.wanted) do
        if not words.known[name] then words.known[name], words.wanted[#words.wanted + 1] = true, name end
      end
    end
  end
  local at = 1
  while words.wanted[at] do -- and the types that these name
    local name = words.wanted[at] --[[@as string]]
    local described = not done[name] and manual.types()[name]
    done[name], at = true, at + 1
    if described then words:type(described) end
  end
  files["words.lua"] = table.concat(words.lines, "\n") .. "\n"
  return files
end

return M
