-- What Moontide has of each kind: targets and whatever else an extension may add.
--
-- Those of the program are the folders here, stdlib/extensions/NAME/init.lua; those of its users are the files of the
-- folder that `extensions` in the configuration names. All of them are read once: a process has one set of extensions.
local extension = require "extension"
local sys = require "base.sys"

local M = {}

local KINDS <const> = { "target" }

---@class Extensions
---@field dir? string The folder of the users' extensions.
---@field faults Fault[] What is wrong with these.
---@field kinds table<string, KindEntry[]> In order.
---@field known table<string, table<string, KindEntry>>

local own ---@type Extensions? The program's.
local current ---@type Extensions?
local kept = false

local function new_set()
  local set = { faults = {}, kinds = {}, known = {} }
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

-- Adds what a file registers. A name that is taken stays with whoever has it.
local function add(set, file, kinds, taken)
  for kind, entries in pairs(kinds) do
    for _, entry in ipairs(in_order(entries, file)) do
      local other = set.known[kind][entry.name]
      if other then
        taken(kind, entry.name, other.file)
      else
        set.known[kind][entry.name] = entry
        table.insert(set.kinds[kind], entry)
      end
    end
  end
end

-- The program's own; `standard` comes first, since the others add to it.
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
  for _, name in ipairs(names) do
    local file = ("stdlib/extensions/%s/init.lua"):format(name)
    add(set, file, require("extensions." .. name), function(kind, taken, other)
      error(("%s: the %s %s is taken by %s"):format(file, kind, taken, other), 0)
    end)
  end
  own = set
  return own
end

---The extensions that count now.
---@return Extensions
function M.current() return current or load_own() end

---All entries of a kind, in order.
---@param kind string
---@return KindEntry[]
function M.all(kind) return M.current().kinds[kind] end

---One entry of a kind; nil when there is none of that name.
---@param kind string
---@param name string
---@return KindEntry?
function M.get(kind, name) return M.current().known[kind][name] end

---From now on these are the extensions of this process: a configuration that names another folder is at fault.
function M.keep() kept = true end

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
  for kind, list in pairs(base.kinds) do
    for _, entry in ipairs(list) do
      table.insert(set.kinds[kind], entry)
      set.known[kind][entry.name] = entry
    end
  end
  if dir then
    set.dir = dir
    local wrong = require("extensions.folder").read(dir, set.faults, function(file, kinds, taken)
      add(set, file, kinds, taken)
    end)
    if wrong then return {}, wrong end
  end
  current = set
  return set.faults
end

---The shape of an entry's keys.
---@param entry KindEntry
---@return Shape
function M.shape(entry)
  if entry.shape then return entry.shape end
  local keys = entry.keys
  if type(keys) == "function" then keys = keys() end
  if not keys or not keys.check then
    keys = require("base.schema").record(extension.fields(keys or {}), { doc = entry.doc, cross = entry.cross })
  end
  entry.shape = keys
  return keys
end

return M
