-- Docstrings of modules, read from their text: what editors show, `moontide help` prints.
local M = {}

---@class Docstring
---@field text string In one line.
---@field args string[] Names of the arguments, without self; "_" is one that is not used.
---@field params {name: string, type: string, doc: string, optional: boolean}[] Those that are described.
---@field returns {type: string, doc: string}[]

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

-- The lines of a block, those that go on (`--- ` behind a tag) joined to their tag.
local function tags_of(block)
  local text, tags = {}, {}
  for _, line in ipairs(block) do
    if line:find("^@") then
      tags[#tags + 1] = line
    elseif #tags > 0 then
      tags[#tags] = tags[#tags] .. " " .. line:match("^%s*(.-)$")
    elseif not line:find("^    ") then -- an example
      text[#text + 1] = line:match("^%s*(.-)$")
    end
  end
  return table.concat(text, " "), tags
end

local function docstring(block, args)
  local text, tags = tags_of(block)
  local doc = { text = text, args = {}, params = {}, returns = {} } ---@type Docstring
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

-- `args` of a function type: "fun(seconds: number, name?: string)".
local function args_of_type(tag)
  local inside = tag and tag:match("^@type fun(%b())")
  local names = {}
  for name in (inside or ""):gmatch("[(,]%s*([%w_.]+)%??:?") do names[#names + 1] = name end
  return table.concat(names, ", ")
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
        args = name and args_of_type(block[#block]) or ""
      end
      if name and #block > 0 then found[name] = docstring(block, args) end
      block = {}
    end
  end
  return found
end

return M
