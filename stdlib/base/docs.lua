-- Docstrings of modules, read from their text: what editors show, `moontide help` prints.
local M = {}

---@alias TypedName {name: string, type: string, doc: string, optional: boolean} A parameter, a field.

---@class Docstring
---@field text string In one line.
---@field example? string
---@field args string[] Names of the arguments, without self; "_" is one that is not used.
---@field params TypedName[] Those that are described.
---@field returns {type: string, doc: string}[]
---@field lines string[] All of it, as it stands behind the dashes.
---@field value? string The type of what is no function.

---@class TypeDoc A class or an alias.
---@field name string
---@field lines string[] All of it, as it stands behind the dashes.
---@field fields TypedName[] Those that everybody may read.
---@field variable? string Of the module that has its methods.
---@field path? string Of that module.

-- A type at the beginning of a text, and the rest: brackets and quotes of a type may hold blanks.
local function type_of(text)
  local depth, at = 0, 1
  while at <= #text do
    local c = text:sub(at, at)
    if c:find("[%(%[{<]") then depth = depth + 1 end
    if c:find("[%)%]}>]") then depth = depth - 1 end
    if c == " " and depth == 0 and not text:sub(1, at - 1):find("[:,|]$") then break end
    at = at + 1
  end
  return text:sub(1, at - 1), (text:sub(at + 1):match("^%s*#?%s*(.-)$"))
end

-- The lines of a block, those that go on (`--- ` behind a tag) joined to their tag; then the example.
local function tags_of(block)
  local text, tags, example = {}, {}, {}
  for _, line in ipairs(block) do
    if line:find("^@") then
      tags[#tags + 1] = line
    elseif #tags > 0 then
      tags[#tags] = tags[#tags] .. " " .. line:match("^%s*(.-)$")
    elseif line:find("^   ") then
      example[#example + 1] = line:match("^   %s?(.*)$")
    elseif line:find("%S") then
      text[#text + 1] = line:match("^%s*(.-)$")
    end
  end
  return table.concat(text, " "), tags, #example > 0 and table.concat(example, "\n") or nil
end

local function docstring(block, args)
  local text, tags, example = tags_of(block)
  local doc = { text = text, example = example, args = {}, params = {}, returns = {}, lines = block } ---@type Docstring
  for name in args:gmatch("[%a_.][%w_.]*") do
    if name ~= "self" then doc.args[#doc.args + 1] = name end
  end
  for _, tag in ipairs(tags) do
    local name, optional, rest = tag:match("^@param ([%w_.]+)(%??) (.*)$")
    if name then
      local kind, words = type_of(rest)
      optional = optional ~= "" or kind:find("%?$") ~= nil
      doc.params[#doc.params + 1] = { name = name, type = kind:gsub("%?$", ""), doc = words, optional = optional }
    elseif tag:find("^@return ") then
      local kind, words = type_of(tag:sub(9))
      doc.returns[#doc.returns + 1] = { type = kind, doc = words }
    end
  end
  return doc
end

-- The parts of a list, divided at commas outside of brackets.
local function parts_of(list)
  local parts, depth, from = {}, 0, 1
  for at, c in list:gmatch("()(.)") do
    if c:find("[%(%[{<]") then depth = depth + 1 end
    if c:find("[%)%]}>]") then depth = depth - 1 end
    if c == "," and depth == 0 then
      parts[#parts + 1], from = list:sub(from, at - 1), at + 1
    end
  end
  parts[#parts + 1] = list:sub(from)
  return parts
end

-- A function that has a type, `@type fun(seconds: number, name?: string): boolean`, said as others say it: the block,
-- and its arguments. What is no function stays as it is.
local function of_type(block)
  local inside, rest = (block[#block] or ""):gsub("^@type async ", "@type "):match("^@type fun(%b())(.*)$")
  if not inside then return block, "" end
  local lines, args = table.move(block, 1, #block - 1, 1, {}), {}
  for _, part in ipairs(parts_of(inside:sub(2, -2))) do
    local name, optional, kind = part:match("^%s*([%w_.]+)(%??)%s*:%s*(.*)$")
    if name and name ~= "self" then
      lines[#lines + 1] = ("@param %s%s %s"):format(name, optional, kind)
    end
    args[#args + 1] = name or part:match("^%s*(%S+)")
  end
  local given = rest:match("^:%s*(.*)$")
  for _, part in ipairs(given and parts_of(given) or {}) do
    lines[#lines + 1] = "@return " .. part:match("^%s*(.*)$")
  end
  return lines, table.concat(args, ", ")
end

---The docstrings of a module's text, by how each function is defined: "M.get", "Run:image".
---@param text string
---@return table<string, Docstring>
function M.read(text)
  local found, block = {}, {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local comment = line:match("^%s*%-%-%-%s?(.*)$")
    if comment then
      block[#block + 1] = comment
    else
      local name, args = line:match("^%s*function ([%w_.:]+)(%b())")
      if not name then name, args = line:match("^([%w_.]+) = function(%b())") end
      if not name then
        name = line:match("^([%w_]+%.[%w_]+) = ")
        if name then block, args = of_type(block) end
      end
      if name and #block > 0 then
        found[name] = docstring(block, args)
        found[name].value = block[#block]:match("^@type (.*)$")
      end
      block = {}
    end
  end
  return found
end

local HIDDEN <const> = { private = true, protected = true, package = true }

-- A field as its line says it; nil for one that is private, protected or internal to its package.
local function field_of(line)
  local name, optional, rest = line:match("^@field (%S-)(%??) (.*)$")
  if not name or HIDDEN[name] or name:find("^%[") then return nil end
  local kind, doc = type_of(rest)
  optional = optional ~= "" or kind:find("%?$") ~= nil
  return { name = name, type = kind:gsub("%?$", ""), doc = doc, optional = optional }
end

-- The types of one block: each begins with its tag, and what stands above the first belongs to it.
local function types_of(block, variable, found)
  local current, field, above ---@type TypeDoc?, string?, string[]
  above = {}
  -- What follows a field's line without a tag of its own goes on with it.
  local function end_field()
    if current and field then current.fields[#current.fields + 1] = field_of(field) end
    field = nil
  end
  for _, line in ipairs(block) do
    if field and not line:find("^@") then
      field = ("%s %s"):format(field, line:match("^%s*(.-)%s*$"))
    else
      end_field()
    end
    local name = line:match("^@class ([%w_.]+)") or line:match("^@alias ([%w_.]+)")
    if name then
      current = { name = name, lines = above, fields = {}, variable = variable }
      found[name], above = current, {}
    end
    local list = current and current.lines or above
    list[#list + 1] = line
    if current and line:find("^@field ") then field = line end
  end
  end_field()
end

---The classes and aliases that a module's text describes, by name.
---@param text string
---@return table<string, TypeDoc>
function M.types(text)
  local found, block = {}, {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local comment = line:match("^%s*%-%-%-%s?(.*)$")
    if comment then
      block[#block + 1] = comment
    elseif #block > 0 then
      types_of(block, line:match("^local ([%w_]+)"), found)
      block = {}
    end
  end
  return found
end

---The names in what an annotation says of types: those of a parameter, a field, what is given back.
---@param line string Behind the dashes.
---@return fun(): string?
function M.names(line)
  local rest = line:match("^@param %S+ (.*)$") or line:match("^@field %S+ (.*)$") or line:match("^@return (.*)$")
  local said = rest and type_of(rest) or line:match("^@%l+ (.*)$") or line:match("^|.*$") or ""
  return said:gmatch("%f[%w_.][%a_][%w_.]*")
end

return M
