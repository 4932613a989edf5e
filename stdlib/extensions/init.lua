-- The registry of kinds: targets, builders, sources, checks, notifiers and what else an extension may add.
--
-- Those of the program are the folders here, stdlib/extensions/NAME/init.lua; those of its users are the files of the
-- folder that `extensions` in the configuration names. All of them are read once: a process has one set of extensions.
local extension = require "extension"
local sys = require "base.sys"

local M = {}

local KINDS <const> = {
  "target", "builder", "check", "notifier", "source", "finder", "key", "app_key", "word", "command",
  "route", "opener",
}

---@class Extensions
---@field dir? string The folder of the users' extensions.
---@field faults Fault[] What is wrong with these.
---@field kinds table<string, KindEntry[]> In order.
---@field known table<string, table<string, KindEntry>>
---@field pending table<string, fun()[]> What registers entries of a kind when it is first asked for.

local own ---@type Extensions? The program's.
local current ---@type Extensions?
local kept = false
local face ---@type (fun(name: string, module: any): any)?

local function new_set()
  local set = { faults = {}, kinds = {}, known = {}, pending = {} }
  for _, kind in ipairs(KINDS) do set.kinds[kind], set.known[kind] = {}, {} end
  return set
end

-- The entries of one kind in order, from a table by name or a list.
local function in_order(entries, file)
  local list = {}
  for name, entry in pairs(entries) do
    name = type(name) == "string" and name or entry.name
    list[#list + 1] = setmetatable({ name = name, file = file }, { __index = entry })
  end
  if not entries[1] then table.sort(list, function(a, b) return a.name < b.name end) end
  return list
end

-- Kinds whose keys stand beside each other, and the module of those that they have in common.
local SIDE_BY_SIDE <const> = { builder = "config.builder", check = "config.checks" }
-- Kinds whose names are words beside those of others, and who else has some.
local BESIDE <const> = {
  source = { "source", "app_key" }, app_key = { "source", "app_key" },
  finder = { "finder", "key" }, key = { "finder", "key" }, word = { "word" },
}

-- The first key of an entry that is taken, and by whom.
local function taken_key(set, kind, entry)
  local mine, known = { { entry.name } }, {}
  table.move(M.fields(entry), 1, #M.fields(entry), 2, mine)
  local module = SIDE_BY_SIDE[kind]
  for _, field in ipairs(require(module).common) do known[field[1]] = "stdlib/" .. module:gsub("%.", "/") .. ".lua" end
  for _, other in ipairs(set.kinds[kind]) do
    known[other.name] = other.file
    for _, field in ipairs(M.fields(other)) do known[field[1]] = other.file end
  end
  for _, field in ipairs(mine) do
    if known[field[1]] then return field[1], known[field[1]] end
  end
end

-- Words of the program itself that an entry of a kind could take.
local function own_words(kind)
  if kind == "word" then return require("policy.words").own, "the program" end
  local reference = require "config.reference"
  local shape = (kind == "key" or kind == "finder") and reference.config() or reference.app()
  return shape.known, "stdlib/config/reference.lua"
end

-- Who has an entry's name, or a key of it.
local function owner(set, kind, entry)
  for _, beside in ipairs(BESIDE[kind] or { kind }) do
    local other = set.known[beside][entry.name]
    if other then return other.file, nil, beside end
  end
  if not set.dir then return end -- the program's own are right, and quickly loaded
  if SIDE_BY_SIDE[kind] then
    local key, file = taken_key(set, kind, entry)
    return file, key
  elseif BESIDE[kind] then
    local words, file = own_words(kind)
    if words[entry.name] then return file, entry.name end
  end
end

-- Adds what a file registers. The first to register a name keeps it.
local function add(set, file, kinds, taken)
  for kind, entries in pairs(kinds) do
    for _, entry in ipairs(in_order(entries, file)) do
      local other, key, beside = owner(set, kind, entry)
      if other then
        taken(kind, entry.name, other, key, beside)
      else
        set.known[kind][entry.name] = entry
        table.insert(set.kinds[kind], entry)
      end
    end
  end
end

-- Registers what has waited until somebody asks for its kind.
local function settle(set, kind)
  local pending = set.pending[kind]
  if not pending then return set end
  set.pending[kind] = nil
  for _, register in ipairs(pending) do register(set) end
  return set
end

-- Registers what a file of the program has.
local function add_own(set, name)
  local file, later, now = ("stdlib/extensions/%s/init.lua"):format(name), {}, {}
  local function taken(kind, entry, other)
    error(("%s: the %s %s is taken by %s"):format(file, kind, entry, other), 0)
  end
  for kind, entries in pairs(require("extensions." .. name)) do
    if type(entries) == "function" then later[kind] = entries else now[kind] = entries end
  end
  add(set, file, now, taken)
  for kind, entries in pairs(later) do
    set.pending[kind] = set.pending[kind] or {}
    table.insert(set.pending[kind], function(into) add(into, file, { [kind] = entries() }, taken) end)
  end
end

-- The program's own; `standard` comes first, since the others add to it.
---@return Extensions
local function load_own()
  if own then return own end
  local set, names = new_set(), {}
  for _, path in ipairs(sys.embedded_list()) do
    names[#names + 1] = path:match("^stdlib/extensions/([^/]+)/init%.lua$")
  end
  table.sort(names, function(a, b)
    if (a == "standard") ~= (b == "standard") then return a == "standard" end
    return a < b
  end)
  for _, name in ipairs(names) do add_own(set, name) end
  own = set
  return own
end

---The extensions that count now.
---@return Extensions
function M.current() return current or load_own() end

---All entries of a kind, in order.
---@param kind string
---@return KindEntry[]
function M.all(kind) return settle(M.current(), kind).kinds[kind] end

---One entry of a kind; nil when there is none of that name.
---@param kind string
---@param name string
---@return KindEntry?
function M.get(kind, name) return settle(M.current(), kind).known[kind][name] end

---The files of the users' extensions that changed since they were read.
---@async
---@return string[] names
function M.changed()
  local dir = M.current().dir
  return dir and require("extensions.folder").changed(dir) or {}
end

---Whether an entry is of a user's extension.
---@param entry KindEntry
---@return boolean
function M.is_users(entry) return (entry.file --[[@as string]]):sub(1, 7) ~= "stdlib/" end

---From now on these are the extensions of this process: a configuration that names another folder is at fault.
function M.keep() kept = true end

---From now on the extensions that are read get of the program's modules what `of` gives: a plan's change nothing.
---@param of fun(name: string, module: any): any
function M.show(of) face = of end

---Reads the extensions of a folder beside the program's own, once.
---@async
---@param dir? string Absolute; nil: only the program's own.
---@return Fault[] faults
---@return string? wrong What is wrong with the folder.
function M.load(dir)
  if current and current.dir == dir then return current.faults end
  if not current and not dir then return {} end
  if kept then return {}, "cannot change while the host runs: start it again" end
  local set = new_set()
  local base = load_own()
  current = nil
  for kind, list in pairs(base.kinds) do
    for _, entry in ipairs(list) do
      table.insert(set.kinds[kind], entry)
      set.known[kind][entry.name] = entry
    end
  end
  for kind, pending in pairs(base.pending) do set.pending[kind] = table.move(pending, 1, #pending, 1, {}) end
  if dir then
    set.dir = dir
    local wrong = require("extensions.folder").read(dir, set.faults, function(file, kinds, taken)
      for kind in pairs(kinds) do settle(set, kind) end
      add(set, file, kinds, taken)
    end, face)
    if wrong then return {}, wrong end
  end
  current = set
  return set.faults
end

local function called(value)
  if type(value) == "function" then return value() end
  return value
end

---The shape of an entry's keys.
---@param entry KindEntry
---@return Shape
function M.shape(entry)
  if not entry.shape then
    local keys = called(entry.keys) or {}
    entry.shape = keys.check and keys or require("base.schema").record(extension.fields(keys), {
      doc = entry.doc, cross = entry.cross,
    })
  end
  return entry.shape
end

---The keys of an entry that stand beside those of others.
---@param entry KindEntry
---@return SchemaField[]
function M.fields(entry)
  entry.further = entry.further or extension.fields(called(entry.keys) or {})
  return entry.further
end

---The shape of the key that has an entry's name.
---@param entry KindEntry
---@return Shape
function M.key(entry) return called(entry.key) end

---Calls a function of an extension. What it raises is its failure, but the end of the task that called it.
---@async
---@param kind string
---@param name string
---@param word string
---@param ... any
---@return any value
---@return Err? err
function M.call(kind, name, word, ...)
  local fine, value, err = pcall(assert(M.get(kind, name))[word] --[[@as function]], ...)
  if fine then return value, err end
  local errors = require "errors"
  if errors.is(value, "cancelled") or errors.is(value, "deadline") then error(value, 0) end
  return nil, errors.wrap(value)
end

return M
