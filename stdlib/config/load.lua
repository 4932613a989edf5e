-- The configuration: read, checked as a whole, normalised.
--
-- A file in Lua, JSON or YAML. Every fault is found in one go, each with file, line and a way out. A Lua
-- file runs in an environment without access to files, network or processes, with limits on time and memory.

local cross = require "config.cross"
local extensions = require "extensions"
local inspect = require "base.inspect"
local lines = require "config.lines"
local reference = require "config.reference"
local s = require "base.schema"
local sys = require "base.sys"
local task = require "task"

local M = {}

local LARGEST = 1048576 -- bytes of a configuration
local CPU, MEMORY = 2, 64 * 1048576 -- what a configuration in Lua may use: seconds, bytes

---Where a configuration is looked for when none is named.
M.places = {
  "config/moontide.lua", "config/moontide.yaml", "config/moontide.yml", "config/moontide.json", "moontide.lua",
  "/etc/moontide/moontide.lua", "/etc/moontide/moontide.yaml", "/etc/moontide/moontide.json",
}

---Makes a path absolute and takes out "." and "..".
---@param path string
---@param folder? string where a relative path starts (default: the current folder)
---@return string
function M.absolute(path, folder)
  if path:sub(1, 1) ~= "/" then path = (folder or sys.cwd()) .. "/" .. path end
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." then parts[#parts] = nil elseif part ~= "." then parts[#parts + 1] = part end
  end
  return "/" .. table.concat(parts, "/")
end

---Finds the configuration when none is named.
---@async
---@return string? path
function M.find()
  local fs = require "fs"
  for _, place in ipairs(M.places) do
    if fs.exists(place) then return place end
  end
  return nil
end

local function one(file, message, line, suggestion)
  -- A parser quotes the text that it could not read.
  return nil, { { file = file, line = line, message = inspect.printable(message), suggestion = suggestion } }
end

-- What a configuration in Lua sees: computing, no reading, no waiting.
local function environment()
  local env = {
    assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, select = select,
    tonumber = tonumber, tostring = tostring, type = type,
  }
  for name, library in pairs { math = math, string = string, table = table, utf8 = utf8 } do
    env[name] = {}
    for key, value in pairs(library) do env[name][key] = value end
  end
  return setmetatable({}, {
    __index = function(_, name)
      if env[name] ~= nil then return env[name] end
      error(("%s is not defined: a configuration sees only plain Lua"):format(s.quote(tostring(name))), 2)
    end,
  })
end

local function decode_lua(text, file)
  -- Its text is read in there, too: constants may be chosen so that this takes for ever.
  local run <close> = task.start({ name = "config", cpu = CPU, memory = MEMORY }, function()
    task.asked(("the configuration %s"):format(file))
    local chunk, message = sys.compile(text, "@" .. file, environment())
    if not chunk then error({ code = "invalid", message = message }, 0) end
    return chunk()
  end)
  local value, err = run:join() -- it cannot wait, and its processor time is limited
  if value == nil then
    if err == nil then
      return one(file, "returns nothing", nil, "the file must end with: return { ... }")
    end
    local line, rest = require("base.text").position(tostring(type(err) == "table" and err.message or err), file)
    return one(file, rest, line)
  end
  return value, lines.lua(text)
end

local function decode_json(text, file)
  local value, err = require("json").decode(text)
  if value == nil then return one(file, err and err.message or "is empty", err and err.line) end
  return value, lines.json(text)
end

local function decode_yaml(text, file)
  local value, marks = require("yaml").decode(text, { marks = true })
  if value == nil then
    local err = marks --[[@as Err?]]
    if not err then return one(file, "is empty") end
    return one(file, (err.message:gsub("^line %d+, ", "")), err.line) -- the line stands before it
  end
  return value, lines.yaml(marks --[[@as YamlMarks]])
end

local DECODERS = { lua = decode_lua, json = decode_json, yaml = decode_yaml, yml = decode_yaml }

---Reads the text of a configuration, by the ending of its name, without judging what it says.
---@async
---@param text string
---@param path string
---@return any value nil: it cannot be read
---@return any line finds the line of a key path, fun(keys: any[]): integer?; or what is wrong, Fault[]
function M.parse(text, path)
  local decode = DECODERS[path:match("%.(%a+)$")]
  if not decode then
    return one(path, "is of no known kind", nil, "a configuration ends in .lua, .json, .yaml or .yml")
  end
  local value, line = decode(text, path)
  return value, line
end

local function by_line(a, b)
  if (a.line or 0) ~= (b.line or 0) then return (a.line or 0) < (b.line or 0) end
  return (a.path or "") < (b.path or "")
end

local cursors = setmetatable({}, { __mode = "k" }) ---@type table<Config, Cursor>

---The lines of a configuration that was checked, for what is found wrong with it later.
---@param config Config
---@return Cursor top Without faults.
function M.cursor(config)
  local source = cursors[config] and cursors[config].source
  return s.cursor(source and source.file or config.file, source and source.line or function() return nil end)
end

---A copy of a configuration that was checked has its lines.
---@param copy Config
---@param config Config
function M.copied(copy, config) cursors[copy] = cursors[config] end

---The cursor of data from a file: relative paths in it start at a folder.
---@param file string named in faults
---@param dir string
---@param line? fun(keys: any[]): integer?
---@return Cursor
function M.cursor_of_file(file, dir, line)
  local at = s.cursor(file, line or function() return nil end)
  at.source.resolve = function(path) return M.absolute(path, dir) end
  at.source.missing = function(path)
    local stat, err = require("fs").stat(path)
    if not stat then
      return err.code == "not_found" and ("%s does not exist"):format(path) or tostring(err.message)
    end
    if stat.type ~= "file" then return ("%s is not a file"):format(path) end
    return nil
  end
  return at
end

---Checks decoded data. Faults are sorted by line.
---@async
---@param value any
---@param options {file: string, line?: function, dir?: string, scripts?: string, state?: string}
---@return Config?
---@return Fault[]? faults
---@return table? partial what could be understood, when there are faults
function M.check(value, options)
  local dir = options.dir or assert(sys.cwd())
  local at = M.cursor_of_file(options.file, dir, options.line)
  local named = type(value) == "table" and rawget(value, "extensions")
  local extended, wrong = extensions.load(type(named) == "string" and named ~= ""
    and assert(at.source.resolve)(named) or nil)
  if wrong then at:child("extensions"):fault(wrong) end
  at.source.incomplete = wrong ~= nil or #extended > 0
  local config = reference.config():check(require("config.previews").prepare(value), at)
  if type(config) == "table" then
    cursors[config] = at
    config.file, config.dir = M.absolute(options.file), dir
    config.scripts = options.scripts and M.absolute(options.scripts) or config.scripts
    config.state = options.state and M.absolute(options.state) or config.state
    if not at.source.incomplete then cross.check(config, at) end
  end
  local faults = at.source.faults
  table.sort(faults, by_line)
  if #extended > 0 then faults = table.move(faults, 1, #faults, #extended + 1, { table.unpack(extended) }) end
  if #faults > 0 then return nil, faults, type(config) == "table" and config or nil end
  return config
end

---Reads and checks a configuration.
---@async
---@param path string
---@param options? {scripts?: string, state?: string} what the command line says instead of the file
---@return Config? config
---@return Fault[]? faults everything that is wrong with it, by line
---@return table? partial what could be understood, when there are faults
function M.load(path, options)
  local fs = require "fs"
  local text, err = fs.read(path, { max = LARGEST })
  if not text then
    if err.code == "not_found" then
      return one(path, "does not exist", nil, "name another with --config FILE")
    end
    return one(path, tostring(err.message))
  end
  local written, wrong = require("base.text").of_file(text)
  if not written then return one(path, wrong) end
  local value, found = M.parse(written, path)
  if value == nil then return nil, found end
  local dir = M.absolute(path):match("^(.*)/[^/]*$")
  return M.check(value, {
    file = path, line = found, dir = dir == "" and "/" or dir,
    scripts = options and options.scripts, state = options and options.state,
  })
end

---Writes a fault as one line.
---@param fault Fault
---@return string
function M.describe(fault)
  local where = fault.line and ("%s:%d"):format(fault.file, fault.line) or fault.file
  local text = fault.path and ("%s: %s"):format(fault.path, fault.message) or fault.message
  return ("%s: %s%s"):format(where, text, fault.suggestion and (" (%s)"):format(fault.suggestion) or "")
end

return M
