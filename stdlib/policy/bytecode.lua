-- What the compiler made of a script, for what is said of it without running it (Lua 5.4's lundump.c, lopcodes.h).
local M = {}

---@class Proto A function.
---@field params integer
---@field code integer[] The instructions.
---@field lines integer[] Of each instruction.
---@field constants (string|false)[]
---@field upvalues {stack: boolean, index: integer, kind: integer, name: string?}[]
---@field protos Proto[]
---@field locals {name: string?, from: integer, to: integer}[]

local HEADER <const> = "\27Lua\x54\0\x19\x93\r\n\x1a\n\4\8\8"

---@class DumpReader
---@field text string
---@field at integer
local Reader = {}
Reader.__index = Reader

---The next byte.
---@return integer
function Reader:byte()
  self.at = self.at + 1
  return self.text:byte(self.at - 1)
end

---A number of variable length, seven bits a byte.
---@return integer
function Reader:unsigned()
  local n = 0
  while true do
    local b = self:byte()
    n = n << 7 | b & 0x7f
    if b & 0x80 ~= 0 then return n end
  end
end

---The next text.
---@return string? text nil: the dump has none here.
function Reader:string()
  local size = self:unsigned()
  if size == 0 then return nil end
  self.at = self.at + size - 1
  return self.text:sub(self.at - size + 1, self.at - 1)
end

local function each(reader, read)
  local list = {}
  for i = 1, reader:unsigned() do list[i] = read(i) end
  return list
end

local SKIPPED <const> = { [0x03] = 8, [0x13] = 8 } -- integers and floats
local STRINGS <const> = { [0x04] = true, [0x14] = true }

local function constant(reader)
  local kind = reader:byte()
  if STRINGS[kind] then return reader:string() end
  reader.at = reader.at + (SKIPPED[kind] or 0)
  return false
end

-- The line of each instruction: a difference to the one before, or in a list of its own.
local function lines(reader, proto, first)
  local deltas = each(reader, function() return (string.unpack("i1", string.char(reader:byte()))) end)
  local absolute = {}
  each(reader, function()
    local pc = reader:unsigned()
    absolute[pc + 1] = reader:unsigned()
    return true
  end)
  local line = first
  for pc, delta in ipairs(deltas) do
    line = absolute[pc] or line + delta
    proto.lines[pc] = line
  end
end

local function read_proto(reader)
  local proto = { lines = {} }
  reader:string() -- the source
  local first = reader:unsigned()
  reader:unsigned()
  proto.params = reader:byte()
  reader.at = reader.at + 2
  proto.code = each(reader, function()
    reader.at = reader.at + 4
    return (string.unpack("<I4", reader.text, reader.at - 4))
  end)
  proto.constants = each(reader, function() return constant(reader) end)
  proto.upvalues = each(reader, function()
    return { stack = reader:byte() == 1, index = reader:byte(), kind = reader:byte() }
  end)
  proto.protos = each(reader, function() return read_proto(reader) end)
  lines(reader, proto, first)
  proto.locals = each(reader, function()
    return { name = reader:string(), from = reader:unsigned(), to = reader:unsigned() }
  end)
  each(reader, function(i) proto.upvalues[i].name = reader:string() return true end)
  return proto
end

local LOADK <const> = 3

---The texts that a function's code loads, such as the names of modules that it requires, with their lines.
---@param proto Proto
---@return {text: string, line: integer}[] texts
function M.texts(proto)
  local found = {}
  local function collect(inner)
    for pc, word in ipairs(inner.code) do
      local text = word & 0x7f == LOADK and inner.constants[(word >> 15) + 1]
      if text then found[#found + 1] = { text = text, line = inner.lines[pc] } end
    end
    for _, below in ipairs(inner.protos) do collect(below) end
  end
  collect(proto)
  return found
end

---Reads a compiled function.
---@param chunk function
---@return Proto? proto nil: it is of another Lua.
function M.read(chunk)
  local text = string.dump(chunk)
  if text:sub(1, #HEADER) ~= HEADER then return nil end
  return read_proto(setmetatable({ text = text, at = #HEADER + 8 + 8 + 2 }, Reader))
end

return M
