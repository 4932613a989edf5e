-- The reference of what policies may call: `moontide help words` and config/manual/words.md print it. Its texts are the
-- docstrings where the words are defined.
local docs, extensions, sys = require "base.docs", require "extensions", require "base.sys"

local M = {}

---@class WordRow
---@field name string "run:image", "http.get"
---@field usage string "run:image(commit [, options])"
---@field doc string
---@field params {name: string, type: string, doc: string, optional: boolean}[]
---@field returns {type: string, doc: string}[]

local read = {} ---@type table<string, table<string, Docstring>> By path.

local function docstrings(path)
  read[path] = read[path] or docs.read(assert(sys.embedded(path), path))
  return read[path]
end

local function find(path, name) return docstrings(path)[name] end

-- What a word is given besides its object.
local function without_first(doc)
  local args, params = table.move(doc.args, 2, #doc.args, 1, {}), {}
  for _, param in ipairs(doc.params) do
    if param.name ~= doc.args[1] then params[#params + 1] = param end
  end
  return { text = doc.text, args = args, params = params, returns = doc.returns }
end

-- Words of an extension are functions of its module words.lua, or say themselves what they do.
local function of_extension(kind, name)
  local entry = extensions.get("word", name)
  if entry and entry.doc then return { text = entry.doc, args = {}, params = {}, returns = {} } end
  for _, path in ipairs(sys.embedded_list()) do
    local doc = path:find("/words%.lua$") and find(path, ("M.%s.%s"):format(kind, name))
    if doc then
      return without_first(doc)
    end
  end
end

local function row(name, doc)
  doc = doc or { text = "", args = {}, params = {}, returns = {} }
  local usage, closing = "", ""
  for i, arg in ipairs(doc.args) do
    local optional = arg == "..."
    for _, param in ipairs(doc.params) do optional = optional or param.name == arg and param.optional end
    if optional and arg ~= "..." then
      usage, closing = usage .. (i > 1 and " [, " or "[") .. arg, closing .. "]"
    else
      usage = usage .. (i > 1 and ", " or "") .. arg
    end
  end
  return {
    name = name, usage = ("%s(%s%s)"):format(name, usage, closing), doc = doc.text, params = doc.params,
    returns = doc.returns,
  }
end

-- Which files define the words of an object, and as whose methods.
local OBJECTS <const> = {
  { "place", "stdlib/policy/place.lua", "Place" }, { "run", "stdlib/policy/run.lua", "Run" },
  { "image", "stdlib/policy/run.lua", "Image" },
}

---All words: of places, runs and images, then the functions of the modules that policies may require.
---@return WordRow[]
function M.rows()
  require "policy.place"
  require "policy.run"
  local rows = {}
  for _, object in ipairs(OBJECTS) do
    local kind, path, class = object[1], object[2], object[3]
    for _, name in ipairs(require("base.facade").shape(kind).methods) do
      local doc, static = find(path, class .. ":" .. name), find(path, class .. "." .. name)
      doc = doc or static and without_first(static) or of_extension(kind, name)
      rows[#rows + 1] = row(kind .. ":" .. name, doc)
    end
  end
  for _, name in ipairs(require("policy.effects").names()) do
    local module, fn = name:match("^(.-)%.(.*)$")
    rows[#rows + 1] = row(name, find(("stdlib/%s.lua"):format(module), "M." .. fn))
  end
  return rows
end

---Words as Markdown tables, one for each object and module.
---@param rows? WordRow[] Default: all.
---@return string
function M.markdown(rows)
  local out, last = {}, nil
  local function cell(text) return (text:gsub("|", "\\|")) end
  for _, word in ipairs(rows or M.rows()) do
    local group = word.name:match("^(.-)[.:]")
    if group ~= last then
      out[#out + 1] = ("%s## %s\n\n| word | meaning |\n|---|---|"):format(last and "\n" or "", group)
      last = group
    end
    out[#out + 1] = ("| `%s` | %s |"):format(cell(word.usage), cell(word.doc))
  end
  return table.concat(out, "\n") .. "\n"
end

return M
