-- The registry of kinds: targets, builders, sources, checks, notifiers and what else an extension may add.
--
-- Those of the program are the folders here, stdlib/extensions/NAME/init.lua; those of its users are the files of the
-- folder that `extensions` in the configuration names. A process has one set of extensions; a reload judges another
-- one beside it, which then takes its place or not.
local extension = require "extension"
local sys, task = require "base.sys", require "task"

local M = {}

local KINDS <const> = {
  "target", "builder", "check", "notifier", "source", "finder", "key", "app_key", "word", "command",
  "route", "opener",
}

---@class Extensions
---@field dir? string The folder of the users' extensions.
---@field texts? table<string, string> Its files when they were read, by their paths in it.
---@field faults Fault[] What is wrong with these.
---@field kinds table<string, KindEntry[]> In order.
---@field known table<string, table<string, KindEntry>>
---@field pending table<string, fun()[]> What registers entries of a kind when it is first asked for.

local own ---@type Extensions? The program's.
local current ---@type Extensions?
local kept = false
local judged, judge ---@type Extensions?, integer? What a task judges, and which.
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

---The extensions that count now. For the task that judges others, those.
---@return Extensions
function M.current()
  if judged and task.current() == judge then return judged end
  return current or load_own()
end

---All entries of a kind, in order.
---@param kind string
---@return KindEntry[]
function M.all(kind) return settle(M.current(), kind).kinds[kind] end

---One entry of a kind; nil when there is none of that name.
---@param kind string
---@param name string
---@return KindEntry?
function M.get(kind, name) return settle(M.current(), kind).known[kind][name] end

---Whether an entry is of a user's extension.
---@param entry KindEntry
---@return boolean
function M.is_users(entry) return (entry.file --[[@as string]]):sub(1, 7) ~= "stdlib/" end

---From now on a host works with these: others are only judged when they are loaded, until they are accepted.
function M.keep() kept = true end

---From now on the extensions that are read get of the program's modules what `of` gives: a plan's change nothing.
---@param of fun(name: string, module: any): any
function M.show(of) face = of end

-- Reads the extensions of a folder beside the program's own.
---@async
---@return Extensions? set
---@return string? wrong What is wrong with the folder.
local function read(dir)
  local set = new_set()
  local base = load_own()
  for kind, list in pairs(base.kinds) do
    for _, entry in ipairs(list) do
      table.insert(set.kinds[kind], entry)
      set.known[kind][entry.name] = entry
    end
  end
  for kind, pending in pairs(base.pending) do set.pending[kind] = table.move(pending, 1, #pending, 1, {}) end
  if not dir then return set end
  local folder = require "extensions.folder"
  set.dir, set.texts = dir, folder.texts(dir) -- before they are run: what changes meanwhile differs the next time
  local wrong = folder.read(dir, set.faults, function(file, kinds, taken)
    for kind in pairs(kinds) do settle(set, kind) end
    add(set, file, kinds, taken)
  end, face)
  if wrong then return nil, wrong end
  return set
end

local function same_texts(a, b) return require("base.tables").equal(a or {}, b or {}) end

-- Reads again what a host works with. It is judged by the task that asks, and counts for nobody else.
local function read_again(dir)
  M.drop()
  local live = current or load_own()
  if live.dir == dir and (not dir or same_texts(require("extensions.folder").texts(dir), live.texts)) then return {} end
  judge, judged = task.current(), load_own()
  local set, wrong = read(dir)
  if not set or #set.faults > 0 then
    M.drop()
    return set and set.faults or {}, wrong
  end
  judged = set
  return {}
end

---Loads the extensions of a folder beside the program's own.
---@async
---@param dir? string Absolute; nil: only the program's own.
---@return Fault[] faults
---@return string? wrong What is wrong with the folder.
function M.load(dir)
  if kept then return read_again(dir) end
  if current and current.dir == dir then return current.faults end
  if not current and not dir then return {} end
  current = nil
  local set, wrong = read(dir)
  if not set then return {}, wrong end
  current = set
  return set.faults
end

-- What is bound to its name when the program starts.
local BOUND <const> = { word = "the word %s", opener = "what opens %s" }

---What the extensions that are judged would change, in words.
---@return string[]
function M.changes()
  local words = {}
  if not judged then return words end
  local live = current or load_own()
  local before, now = live.texts or {}, judged.texts or {}
  for path, text in pairs(now) do
    if before[path] ~= text then
      words[#words + 1] = ("extension %s %s"):format(path, before[path] and "changed" or "is new")
    end
  end
  for path in pairs(before) do
    if not now[path] then words[#words + 1] = ("extension %s is gone"):format(path) end
  end
  for kind, called_so in pairs(BOUND) do
    for name in pairs(judged.known[kind]) do
      if not live.known[kind][name] then
        words[#words + 1] = ("%s is new: NOT done, it takes effect when the host starts again"):format(
          called_so:format(name))
      end
    end
  end
  return words
end

---The extensions that were judged count from now on.
function M.accept() current, judged, judge = judged or current, nil, nil end

---The extensions that were judged do not count.
function M.drop() judged, judge = nil, nil end

---What one entry does now: those who have bound its name call it by this.
---@param kind "word"|"opener"
---@param name string
---@param field string
---@return function
function M.live(kind, name, field)
  return function(...)
    local entry = M.get(kind, name)
    if not entry or not entry[field] then
      error(("%s: the extension that had it is gone"):format(BOUND[kind]:format(name)), 0)
    end
    return entry[field](...)
  end
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
