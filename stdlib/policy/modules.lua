-- Shared modules: what `require "shared.hours"` gives a policy, SCRIPTS/shared/hours.lua.
--
-- The files are read when the policy is loaded, and pinned with it: its hash covers their texts, the journal keeps
-- them, and a run goes on with those that it began with. Each instance of a policy has instances of its own of them,
-- made in the policy's sandbox.
local bytecode, context, effects, hash = require "policy.bytecode", require "policy.context", require "policy.effects",
  require "hash"
local fs, sys, task = require "fs", require "base.sys", require "task"

---@class SharedModule
---@field name string "shared.hours"
---@field file string Chunk name, for messages.
---@field text string
---@field ours? boolean Part of the program.
---@field make? fun(env: table, name: string): any Runs the file in an environment; set when the policy is compiled.
---@field words? string[] What its table has; nil: not known.

local M = {}

local LARGEST <const>, MOST <const> = 1 << 20, 100 -- bytes of a file, modules of one policy

---Whether a name is one of a file in the scripts folder: words with dots between them.
---@param name any
---@return boolean
function M.named(name)
  return type(name) == "string" and #name <= 200 and name:find("^%l[%l%d_.]*%.%l[%l%d_]*$") ~= nil
    and not name:find("%.[^%l]")
end

-- The texts that a file's code loads which may be names of modules. Its text is read in a task with limits: it may be
-- written so that this takes for ever.
local function names_in(unit, note)
  if not unit.text:find("require", 1, true) then return {} end
  local reading <close> = task.start({ name = "modules of " .. unit.name, cpu = 1, memory = 32 << 20 }, function()
    note()
    local chunk, names = sys.compile(unit.text, "@" .. unit.file, {}), {}
    local proto = chunk and bytecode.read(chunk)
    for _, text in ipairs(proto and bytecode.texts(proto) or {}) do
      if M.named(text.text) then names[#names + 1] = { name = text.text, line = text.line } end
    end
    return names
  end)
  return (reading:join()) or {}
end

-- The file of a module: of the folder first, else one that is part of the program.
---@return SharedModule? module nil: there is none.
---@return string? problem Why it cannot be read.
local function read(name, folder)
  local path = name:gsub("%.", "/") .. ".lua"
  if folder then
    local text, err = fs.read(path, { root = folder, max = LARGEST })
    local file, wrong = folder .. "/" .. path, nil
    if text then text, wrong = require("base.text").of_file(text) end
    if text then return { name = name, file = file, text = text } end
    if wrong then return nil, wrong end
    if err and err.code == "too_large" then return nil, ("%s is larger than %d KiB"):format(file, LARGEST >> 10) end
    if err and err.code == "denied" and fs.stat(file) then
      return nil, ("%s leads out of the scripts folder, or may not be read"):format(file)
    end
    if err and err.code ~= "not_found" then return nil, ("%s cannot be read: %s"):format(file, err.message) end
  end
  local text = sys.embedded("scripts/" .. path)
  return text and { name = name, file = "scripts/" .. path, text = text, ours = true } or nil
end

---Finds the modules that a policy names, and those that they name. A name without a file is no fault here: the text
---may be about something else.
---@async
---@param policy {name: string, file: string, text: string}
---@param folder? string
---@param note fun() Writes down what is worked on, for a crash.
---@return table<string, SharedModule>? modules nil: a file cannot be used.
---@return Fault? fault
function M.find(policy, folder, note)
  local found, seen, units, count = {}, {}, { policy }, 0
  while units[1] do
    local unit = table.remove(units, 1)
    for _, at in ipairs(names_in(unit, note)) do
      if not seen[at.name] and not effects.words(at.name:match "^[^.]+") then
        seen[at.name] = true
        local module, problem = read(at.name, folder)
        if module then count = count + 1 end
        if count > MOST then problem = ("it requires more than %d modules"):format(MOST) end
        if problem then
          return nil, { file = unit.file, line = at.line, message = ("require \"%s\": %s"):format(at.name, problem) }
        end
        found[at.name], units[#units + 1] = module, module
      end
    end
  end
  return found
end

---The hash of a policy with its modules.
---@param text string The policy's.
---@param modules table<string, SharedModule>
---@return string
function M.hash(text, modules)
  local parts = { hash.sha256(text) } ---@type string[]
  for _, name in ipairs(M.sorted(modules)) do parts[#parts + 1] = name .. " " .. hash.sha256(modules[name].text) end
  return #parts > 1 and hash.sha256(table.concat(parts, "\n")) or parts[1]
end

---@param modules table<string, SharedModule>
---@return string[] names In order.
function M.sorted(modules)
  local names = require("base.tables").keys(modules)
  table.sort(names)
  return names
end

---What is wrong with a name that a file requires; nil: nothing.
---@param name string
---@param modules table<string, SharedModule>
---@return string? message
---@return string? hint
function M.unknown(name, modules)
  if modules[name] or effects.words(name) then return nil end
  local first = assert(name:match "^[^.]*")
  if first ~= name and effects.words(first) then
    return ("there is no module '%s': '%s' is a module of the program"):format(name, first),
      "give the folder another name"
  end
  local known = table.move(effects.modules(), 1, #effects.modules(), #M.sorted(modules) + 1, M.sorted(modules))
  local meant = require("base.suggest").closest(name, known)
  if meant then return ("there is no module '%s'"):format(name), ("did you mean %s?"):format(meant) end
  if not M.named(name) then return effects.unknown(name) end
  return ("there is no module '%s'"):format(name), ("it would be %s.lua in the scripts folder"):format(
    (name:gsub("%.", "/")))
end

-- Without a word that belongs to policies.
local no_policy = sys.framed(function()
  error("a shared module has no policy: it ends with return { ... }, and a policy requires it", 0)
end)

---Makes the `require` of one instance of a policy.
---@param modules table<string, SharedModule>
---@param environment fun(declare: fun(), require: function): table
---@return fun(name: string): any
function M.requirer(modules, environment)
  local loaded, loading = {}, {}
  local ended = setmetatable({}, { __close = function() loading[#loading] = nil end })
  local give
  give = sys.framed(function(name)
    local module = modules[name]
    if not module then return effects.require(name) end
    if loaded[name] ~= nil then return loaded[name] end
    for i, other in ipairs(loading) do
      if other == name then
        error(("modules require each other: %s -> %s"):format(table.concat(loading, " -> ", i), name), 0)
      end
    end
    loading[#loading + 1] = name
    local _ <close> = ended
    local asking = context.current()
    local value = context.with({ mode = "file", metas = asking and asking.metas }, assert(module.make),
      environment(no_policy, give --[[@as function]]), name)
    if value == nil then error(("the module %s gives nothing: it ends with return { ... }"):format(name), 0) end
    loaded[name] = value
    return value
  end)
  return give
end

return M
