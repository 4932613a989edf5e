-- Schemas ("shapes") of configuration data: what is allowed, its documentation, and the faults of what is not.
--
-- A shape is a value of one of the constructors below. Checking never stops at the first fault and never
-- raises on bad data; every fault knows the path and, when the source is known, the line. The same shapes
-- print themselves as the reference of the configuration, so a key without `doc` does not exist.

local suggest = require "base.suggest"

local M = {}

-- The most faults that are reported, so that a hostile file cannot make the list grow without end.
local MOST <const> = 200

---@class Shape
---@field what string the type in words, for messages and the reference
---@field doc? string
---@field default? any as a person would write it; its parsed value is shared, so it must not be changed
---@field required? boolean
---@field example? string Lua source of a typical value
---@field hint? string suggestion of a fault about the type
---@field plural? string the type in words, of several
---@field name? string how the reference writes the key of a map
---@field verify? fun(value: any, at: Cursor): any asked last; gives the value
---@field accept fun(self: Shape, value: any, at: Cursor): any the normalised value, or nil and a fault
---@field min? number
---@field max? number
---@field multiline? boolean
---@field key? Shape of a map
---@field item? Shape of a map and a list
---@field fields? SchemaField[] of a record
---@field known? table<any, boolean> keys of a record
---@field kinds? SchemaKind[] of a variant
---@field cross? function of a kind of targets: checks what no single key shows
---@field default_kind? string
---@field shapes? SchemaChoice[] of `either`
local Shape = {}

---@class SchemaField a name and its shape
---@field [1] string
---@field [2] Shape

---@class SchemaKind a kind of a variant, and its record
---@field [1] string
---@field [2] Shape|fun(): Shape

---@class SchemaChoice which values it takes, and what they must be
---@field [1] fun(value: any): boolean
---@field [2] Shape

---@class CursorSource
---@field file string
---@field faults Fault[]
---@field line fun(keys: any[]): integer?
---@field resolve? fun(path: string): string a path that is relative to the configuration, as an absolute one
---@field incomplete? boolean Extensions could not be read: what is unknown may be theirs, and is wrong already.
---@field missing? fun(path: string): string? why a file cannot be read

---@class Cursor where in the data the check is; a link to the one above, since most are never asked for their path
---@field above? Cursor
---@field key any
---@field source CursorSource
local Cursor = {}
Cursor.__index = Cursor

---Writes a path the way Lua would: apps.web["a b"][1].
---@param keys any[]
---@return string
function M.path(keys)
  local out = {}
  for i, key in ipairs(keys) do
    if type(key) == "number" then
      out[i] = ("[%s]"):format(key)
    elseif tostring(key):match("^[%a_][%w_]*$") then
      out[i] = (i > 1 and "." or "") .. key
    else
      out[i] = ("[%s]"):format(M.quote(tostring(key)))
    end
  end
  return table.concat(out)
end

---Quotes a piece of text for a message: short, printable.
---@param text string
---@return string
function M.quote(text)
  local cut = #text > 60 and text:sub(1, 57) .. "..." or text
  return '"' .. cut:gsub('[%c\128-\255"\\]', function(c)
    return (c == '"' or c == "\\") and "\\" .. c or ("\\x%02x"):format(c:byte())
  end) .. '"'
end

---Starts a check at the top of some data.
---@param file string named in faults
---@param line fun(keys: any[]): integer? finds the line of a path
---@return Cursor
function M.cursor(file, line)
  return setmetatable({ source = { file = file, faults = {}, line = line } }, Cursor)
end

---Goes one key down.
---@param key any
---@return Cursor
function Cursor:child(key)
  return setmetatable({ above = self, key = key, source = self.source }, Cursor)
end

---The keys from the top to here.
---@return any[]
function Cursor:keys()
  local keys, n, here = {}, 0, self
  while here.above do
    n = n + 1
    here = here.above
  end
  here = self
  for i = n, 1, -1 do
    keys[i] = here.key
    here = here.above
  end
  return keys
end

-- A cursor on trial only counts: most data is right, and only faults need a path.
local Trial = setmetatable({}, { __index = Cursor }) ---@type table
Trial.__index = Trial

---A cursor that only counts faults. Their texts are made by a second check with the real one.
---@return Cursor
function Cursor:trial()
  return setmetatable({ source = setmetatable({ faults = {} }, { __index = self.source }) }, Trial)
end

---Itself.
---@return Cursor
function Trial:trial() return self end

---Itself: it knows no place.
---@return Cursor
function Trial:child() return self end

---Counts a fault.
---@return nil
function Trial:fault()
  self.source.faults[#self.source.faults + 1] = true --[[@as any]]
  return nil
end

---Records a fault here.
---@param message string
---@param suggestion? string
---@return nil
function Cursor:fault(message, suggestion)
  local faults = self.source.faults
  if #faults >= MOST then return nil end
  local keys = self:keys()
  faults[#faults + 1] = {
    file = self.source.file,
    line = self.source.line(keys),
    path = #keys > 0 and M.path(keys) or nil,
    message = message,
    suggestion = suggestion,
  }
  return nil
end

---Whether something was wrong here, or further down.
---@return boolean
function Cursor:faulty()
  local path = M.path(self:keys())
  for _, fault in ipairs(self.source.faults) do
    local rest = fault.path and fault.path:sub(1, #path) == path and fault.path:sub(#path + 1)
    if rest and (rest == "" or rest:find("^[.%[]")) then return true end
  end
  return false
end

local NAMES = { table = "a table", string = "text", number = "a number", boolean = "true or false", userdata = "null" }

local function kind_of(value)
  if type(value) ~= "table" then return NAMES[type(value)] or "a " .. type(value) end
  if next(value) == nil then return "an empty table" end
  return rawget(value, 1) ~= nil and "a list" or "a table"
end

local function wrong(shape, value, at)
  return at:fault(("must be %s, not %s"):format(shape.what, kind_of(value)),
    shape.hint or (shape.example and "for example " .. shape.example))
end


---@param options? table
---@param fields table
---@return Shape
local function shape(options, fields)
  fields.check = Shape.check -- by no metatable: most of what is asked of a shape is not there
  for key, value in pairs(options or {}) do fields[key] = value end
  return fields
end

---Checks and normalises a value. Nil means that faults were recorded (or that nothing was there and may be
---absent).
---@param value any
---@param at Cursor
---@return any
function Shape:check(value, at)
  if value == nil then
    if self.required then
      return at:fault("is missing", self.example and "for example " .. self.example)
    end
    value = self.default
    if value == nil then return nil end
  end
  local before = #at.source.faults
  local result = self:accept(value, at)
  if result ~= nil and self.verify and #at.source.faults == before then result = self.verify(result, at) end
  return result
end

---Text. Options: pattern, min (default 1) and max length, verify(value, at) -> value.
---@param options? table
---@return Shape
function M.text(options)
  return shape(options, {
    what = "text",
    accept = function(self, value, at)
      if type(value) ~= "string" then return wrong(self, value, at) end
      if #value < (self.min or 1) then return at:fault("must not be empty") end
      if #value > (self.max or 4096) then return at:fault(("is longer than %d bytes"):format(self.max or 4096)) end
      if value:find("%c") and not self.multiline then return at:fault("holds control characters") end
      return value
    end,
  })
end

---A whole number. Options: min, max.
---@param options? table
---@return Shape
function M.integer(options)
  return shape(options, {
    what = "a whole number",
    accept = function(self, value, at)
      local n = type(value) == "number" and math.tointeger(value) or nil
      if not n then return wrong(self, value, at) end
      if n < (self.min or math.mininteger) or n > (self.max or math.maxinteger) then
        return at:fault(("must be between %s and %s"):format(self.min or "any", self.max or "any"))
      end
      return n
    end,
  })
end

---@param options? table
---@return Shape
function M.boolean(options)
  return shape(options, {
    what = "true or false",
    accept = function(self, value, at)
      if type(value) ~= "boolean" then return wrong(self, value, at) end
      return value
    end,
  })
end

---Exactly `false`: a switch for "none".
---@param options? table
---@return Shape
function M.off(options)
  return shape(options, {
    what = "false",
    accept = function(self, value, at)
      if value ~= false then return wrong(self, value, at) end
      return value
    end,
  })
end

local UNITS = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, w = 604800 }

---Reads a duration: "90s", "1h30m", "4d 12h", "500ms", or a number of seconds.
---@param value any
---@return Seconds? nil when it is none
function M.seconds(value)
  if type(value) == "number" then
    return value == value and value >= 0 and value < math.huge and value or nil
  end
  if type(value) ~= "string" or #value > 32 then return nil end
  -- YAML leaves 0.5 as the text that it is.
  if value:find("^%d+%.?%d*$") then return tonumber(value) --[[@as number]] + 0.0 end
  local total, rest = 0, value ---@type number, string
  repeat
    local number, unit, tail = rest:match("^(%d+%.?%d*)(%a+)(.*)$")
    if not number or not UNITS[unit] then return nil end ---@cast tail string
    total, rest = total + tonumber(number) --[[@as number]] * UNITS[unit], tail:gsub("^ (%d)", "%1")
  until rest == ""
  return total
end

---A duration, normalised to seconds. Options: min, max (seconds).
---@param options? table
---@return Shape
function M.duration(options)
  return shape(options, {
    what = "a duration",
    hint = 'for example "30s", "5m", "1h30m", "2d" or a number of seconds',
    accept = function(self, value, at)
      if type(value) ~= "string" and type(value) ~= "number" then return wrong(self, value, at) end
      local seconds = M.seconds(value)
      if not seconds then
        local shown = type(value) == "string" and M.quote(value) or tostring(value)
        return at:fault("is not a duration: " .. shown, self.hint)
      end
      if seconds < (self.min or 0) or seconds > (self.max or 3650 * 86400) then
        return at:fault(("must be between %gs and %gs"):format(self.min or 0, self.max or 3650 * 86400))
      end
      return seconds
    end,
  })
end

---One of a few words.
---@param words string[]
---@param options? table
---@return Shape
function M.choice(words, options)
  local known = {}
  for _, word in ipairs(words) do known[word] = true end
  return shape(options, {
    what = "one of " .. table.concat(words, ", "),
    accept = function(self, value, at)
      if type(value) ~= "string" then return wrong(self, value, at) end
      if not known[value] then
        return at:fault(("must be %s, not %s"):format(self.what, M.quote(value)), M.meant(value, words))
      end
      return value
    end,
  })
end

---The suggestion for a mistyped word, as a sentence.
---@param word any
---@param known string[]
---@return string?
function M.meant(word, known)
  local closest = suggest.closest(word, known)
  return closest and ("did you mean %s?"):format(closest)
end

---A list of values of one shape. Options: min, max items.
---@param item Shape
---@param options? table
---@return Shape
function M.list(item, options)
  return shape(options, {
    what = "a list of " .. (item.plural or item.what),
    item = item,
    accept = function(self, value, at)
      if type(value) ~= "table" then return wrong(self, value, at) end
      local count = 0
      for key in next, value do
        if math.type(key) ~= "integer" or key < 1 then return wrong(self, value, at) end
        count = count + 1
      end
      if count ~= rawlen(value) then return at:fault("has holes: a value in it is nil") end
      if count < (self.min or 0) then return at:fault(("needs at least %d"):format(self.min), self.hint) end
      if count > (self.max or 1000) then return at:fault(("has more than %d items"):format(self.max or 1000)) end
      local out = {}
      for i = 1, count do out[#out + 1] = item:check(rawget(value, i), at:child(i)) end
      return out
    end,
  })
end

local function before_any(a, b)
  if type(a) == type(b) and (type(a) == "string" or type(a) == "number") then return a < b end
  return type(a) < type(b)
end

-- In order; those that are `known` are left out.
local function sorted_keys(value, known)
  local keys, names = {}, true
  for key in next, value do
    if not known or not known[key] then
      keys[#keys + 1] = key
      names = names and type(key) == "string"
    end
  end
  table.sort(keys, not names and before_any or nil)
  return keys
end

---A table from names to values of one shape.
---@param key Shape shape of the names
---@param item Shape
---@param options? table `name`: how the reference writes the key
---@return Shape
function M.map(key, item, options)
  return shape(options, {
    what = "a table of " .. (item.plural or item.what),
    key = key,
    item = item,
    name = "NAME",
    accept = function(self, value, at)
      if type(value) ~= "table" then return wrong(self, value, at) end
      local out, count, trial = {}, 0, at:trial()
      for _, name in ipairs(sorted_keys(value)) do
        count = count + 1
        if count > (self.max or 10000) then
          at:fault(("has more than %d entries"):format(self.max or 10000))
          break
        end
        if type(name) ~= "string" then
          at:child(name):fault("must be named: the key is " .. kind_of(name), self.hint)
        else
          local given, before = rawget(value, name), #trial.source.faults
          local good, item_value = key:check(name, trial), item:check(given, trial)
          if #trial.source.faults > before and trial ~= at and #at.source.faults < MOST then
            local here = at:child(name)
            good, item_value = key:check(name, here), item:check(given, here)
          end
          if good ~= nil then out[good] = item_value end
        end
      end
      return out
    end,
  })
end

---A table with known keys. `fields` is a list of {name, shape}, in the order of the reference.
---@param fields SchemaField[]
---@param options? table
---@return Shape
function M.record(fields, options)
  local names, shapes, known = {}, {}, {}
  local needed, settled = {}, {} -- what is checked although it is left out; defaults, checked once
  for i, field in ipairs(fields) do
    names[i], shapes[i], known[field[1]] = field[1], field[2], true
    needed[i] = field[2].required or field[2].default ~= nil
    assert(field[2].doc, "a key without doc does not exist: " .. field[1])
  end
  return shape(options, {
    what = "a table",
    fields = fields,
    known = known,
    accept = function(self, value, at)
      if type(value) ~= "table" then return wrong(self, value, at) end
      for _, key in ipairs(at.source.incomplete and {} or sorted_keys(value, known)) do
        local word = type(key) == "string" and M.quote(key) or tostring(key)
        at:child(key):fault(("unknown key %s"):format(word), M.meant(key, names)
          or "known keys: " .. table.concat(names, ", "))
      end
      local out, raw = {}, getmetatable(value) ~= nil
      for i = 1, #names do
        local name = names[i]
        local given
        if raw then given = rawget(value, name) else given = value[name] end
        if given ~= nil then
          out[name] = shapes[i]:check(given, at:child(name))
        elseif settled[i] ~= nil then
          out[name] = settled[i]
        elseif needed[i] then
          settled[i] = shapes[i]:check(nil, at:child(name))
          out[name] = settled[i]
        end
      end
      return out
    end,
  })
end

---The record of one kind of a variant, which may be made when it is first asked for.
---@param kind SchemaKind
---@return Shape
function M.kind(kind)
  local record = kind[2]
  if type(record) == "function" then
    record = record()
    kind[2] = record
  end
  assert(record.known).kind = true
  return record
end

---A record whose keys depend on its `kind`.
---@param kinds SchemaKind[] records by kind, to which the key `kind` is added
---@param options? table
---@return Shape
function M.variant(kinds, options)
  local names, known = {}, {}
  for i, kind in ipairs(kinds) do names[i], known[kind[1]] = kind[1], kind end
  return shape(options, {
    what = "a table with a kind",
    kinds = kinds,
    accept = function(self, value, at)
      if type(value) ~= "table" then return wrong(self, value, at) end
      local here, kind = at:child("kind"), rawget(value, "kind")
      if kind == nil then kind = self.default_kind end
      if kind == nil then return here:fault("is missing", "one of " .. table.concat(names, ", ")) end
      if type(kind) ~= "string" then return here:fault("must be text, not " .. kind_of(kind)) end
      if not known[kind] then
        if at.source.incomplete then return nil end
        return here:fault(("unknown kind %s: must be one of %s"):format(M.quote(kind), table.concat(names, ", ")),
          M.meant(kind, names))
      end
      local out = M.kind(known[kind]):check(value, at)
      if type(out) == "table" then out.kind = kind end
      return out
    end,
  })
end

---The first shape whose `takes(value)` says yes; the last one otherwise.
---@param shapes SchemaChoice[]
---@param options? table
---@return Shape
function M.either(shapes, options)
  local words = {}
  for i, pair in ipairs(shapes) do words[i] = pair[2].what end
  return shape(options, {
    what = table.concat(words, " or "),
    shapes = shapes,
    accept = function(self, value, at)
      for _, pair in ipairs(shapes) do
        if pair[1](value) then return pair[2]:check(value, at) end
      end
      return wrong(self, value, at)
    end,
  })
end

---A shape of one's own: accept(self, value, at) gives the normalised value or records faults.
---@param options table needs what and accept
---@return Shape
function M.custom(options)
  return shape(options, {})
end

return M
