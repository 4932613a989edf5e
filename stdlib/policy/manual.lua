-- The reference of what policies and their tests may call: `moontide help words`, config/manual/words.md and the stubs
-- for editors are made of it. Its texts are the docstrings where the words are defined.
local docs, extensions, sys = require "base.docs", require "extensions", require "base.sys"

local M = {}

---@class WordRow
---@field name string "run:image", "http.get"
---@field usage string "run:image(commit [, options])"
---@field doc string
---@field example? string
---@field params TypedName[]
---@field returns {type: string, doc: string}[]
---@field types? {name: string, fields: TypedName[]}[] The records among its types.

---@class WordSource A word with the docstring that it has.
---@field name string
---@field group string "place", "http"; of a word that stands by itself: "policy" or "test".
---@field doc Docstring Without its object.
---@field value? string Its type, when it is a value and no function.

local read = {} ---@type table<string, table<string, Docstring>> By path.

local function find(path, name)
  read[path] = read[path] or docs.read(assert(sys.embedded(path), path))
  return read[path][name]
end

-- The docstring of a word that is given its object first.
local function without_first(doc)
  local object = doc.args[1]
  local fresh = {
    text = doc.text, example = doc.example, args = table.move(doc.args, 2, #doc.args, 1, {}), params = {}, lines = {},
    returns = doc.returns,
  }
  for _, param in ipairs(doc.params) do
    if param.name ~= object then fresh.params[#fresh.params + 1] = param end
  end
  for _, line in ipairs(doc.lines) do
    if line:match("^@param ([%w_.]+)") ~= object then fresh.lines[#fresh.lines + 1] = line end
  end
  return fresh
end

-- The docstring of a method of an object that is written as a function: `function Run.now(_)`.
local function without_object(doc)
  if doc.args[1] ~= "_" then return doc end
  return without_first(doc)
end

local ANYTHING <const> = { "@param ... any", "@return any" }

-- Words of an extension are functions of its module words.lua, or say themselves what they do.
local function of_extension(kind, name)
  local entry = extensions.get("word", name)
  if entry and entry.doc then
    return {
      text = entry.doc, args = { "..." }, returns = {}, lines = { entry.doc, table.unpack(ANYTHING) },
      params = { { name = "...", type = "any", doc = "", optional = false } },
    }
  end
  for _, path in ipairs(sys.embedded_list()) do
    local doc = path:find("/words%.lua$") and find(path, ("M.%s.%s"):format(kind, name))
    if doc then return without_first(doc) end
  end
end

-- The same with what is so for policies only.
local function noted(doc, note)
  if not note then return doc end
  local lines = table.move(doc.lines, 1, #doc.lines, 1, {})
  local at = 1
  while lines[at] and not lines[at]:find("^@") do at = at + 1 end
  table.insert(lines, at, note)
  return {
    text = doc.text .. " " .. note, example = doc.example, args = doc.args, params = doc.params, returns = doc.returns,
    lines = lines, value = doc.value,
  }
end

---Which files define the words of an object, and as whose methods.
---@type {kind: string, path: string, class: string, type?: string, module: string}[] type: the class, for others.
M.OBJECTS = {
  { kind = "place", path = "stdlib/policy/place.lua", class = "Place", module = "policy.place" },
  { kind = "run", path = "stdlib/policy/run.lua", class = "Run", module = "policy.run" },
  { kind = "image", path = "stdlib/policy/run.lua", class = "Image", module = "policy.run" },
  { kind = "world", path = "stdlib/simulation/init.lua", class = "World", type = "SimulatedWorld",
    module = "testing.worlds" },
  { kind = "app", path = "stdlib/simulation/app.lua", class = "App", type = "SimulatedApp", module = "testing.worlds" },
}

-- Words that stand by themselves, and the file that tells of them.
local GLOBALS <const> = {
  { group = "policy", path = "stdlib/policy/globals.lua", names = { "policy" } },
  { group = "test", path = "stdlib/testing/globals.lua", names = { "test", "everywhere", "explore", "commit" } },
  { group = "test", path = "stdlib/testing/words.lua", names = { "equal", "has", "raises" }, owner = "M." },
}

local function documented(doc, name)
  return doc or { text = "", args = {}, params = {}, returns = {}, lines = { "" }, name = name }
end

---All words: those that stand by themselves, those of places, runs and images, then the functions of the modules that
---policies may require.
---@return WordSource[]
function M.sources()
  local list, effects = {}, require "policy.effects"
  local function add(name, group, doc)
    list[#list + 1] = { name = name, group = group, doc = documented(doc), value = doc and doc.value }
  end
  for _, file in ipairs(GLOBALS) do
    for _, name in ipairs(file.names) do add(name, file.group, find(file.path, (file.owner or "") .. name)) end
  end
  for _, object in ipairs(M.OBJECTS) do
    require(object.module)
    for _, name in ipairs(require("base.facade").shape(object.kind).methods) do
      local doc = find(object.path, object.class .. ":" .. name) or find(object.path, object.class .. "." .. name)
      add(object.kind .. ":" .. name, object.kind, doc and without_object(doc) or of_extension(object.kind, name))
    end
  end
  for _, name in ipairs(effects.names()) do
    local module, fn = name:match("^(.-)%.(.*)$")
    local doc = find(("stdlib/%s.lua"):format(module), "M." .. fn)
    add(name, module, doc and noted(doc, effects.note(name)))
  end
  return list
end

local function usage_of(source)
  local doc, usage, closing, last = source.doc, "", "", 0
  if doc.value then return source.name end
  local optional = {}
  for _, param in ipairs(doc.params) do optional[param.name] = param.optional end
  for i, arg in ipairs(doc.args) do
    if not optional[arg] and arg ~= "..." then last = i end -- that must be given, and so must those before it
  end
  for i, arg in ipairs(doc.args) do
    if i > last and arg ~= "..." then
      usage, closing = usage .. (i > 1 and " [, " or "[") .. arg, closing .. "]"
    else
      usage = usage .. (i > 1 and ", " or "") .. arg
    end
  end
  return ("%s(%s%s)"):format(source.name, usage, closing)
end

local types ---@type table<string, TypeDoc>?

---The classes and aliases of the program, by name.
---@return table<string, TypeDoc>
function M.types()
  if types then return types end
  types = {}
  for _, path in ipairs(sys.embedded_list()) do
    local found = path:find("^stdlib/.*%.lua$") and docs.types(assert(sys.embedded(path))) or {}
    for name, described in pairs(found) do
      described.path = path
      types[name] = described
    end
  end
  return types
end

-- The records among the types that a word names: objects have their words, and say what they are by them.
local function types_of(doc, group)
  local list, seen = {}, { Err = group ~= "errors" }
  for _, object in ipairs(M.OBJECTS) do seen[object.type or object.class] = true end
  for _, line in ipairs(doc.lines) do
    for name in docs.names(line) do
      local found = not seen[name] and line:find("^@") and M.types()[name]
      if found and #found.fields > 0 then list[#list + 1] = { name = name, fields = found.fields } end
      seen[name] = true
    end
  end
  return list
end

---@param source WordSource
---@return WordRow
local function row_of(source)
  local doc = source.doc
  return {
    name = source.name, usage = usage_of(source), doc = doc.text, example = doc.example, params = doc.params,
    returns = doc.returns,
  }
end

---All words, shortly.
---@return WordRow[]
function M.rows()
  local rows = {}
  for i, source in ipairs(M.sources()) do rows[i] = row_of(source) end
  return rows
end

---One word, with the types that it names; nil when there is none of that name.
---@param name string
---@return WordRow?
function M.word(name)
  for _, source in ipairs(M.sources()) do
    if source.name == name then
      local row = row_of(source)
      row.types = types_of(source.doc, source.group)
      return row
    end
  end
end

---Words as Markdown tables, one for each object and module.
---@param rows? WordRow[] Default: all.
---@return string
function M.markdown(rows)
  local out, last = {}, nil
  local function cell(text) return (text:gsub("|", "\\|")) end
  for _, word in ipairs(rows or M.rows()) do
    local group = word.name:match("^(.-)[.:]") or word.name
    if group ~= last then
      out[#out + 1] = ("%s## %s\n\n| word | meaning |\n|---|---|"):format(last and "\n" or "", group)
      last = group
    end
    out[#out + 1] = ("| `%s` | %s |"):format(cell(word.usage), cell(word.doc))
  end
  return table.concat(out, "\n") .. "\n"
end

return M
