-- Loading policies: from a script to a policy, the environment that it runs in, and calling its `watch`.
--
-- The environment is built from nothing: no io, os, debug, load, coroutine or collectgarbage; pairs iterates in a
-- fixed order; the clock and random numbers come from the journal inside a run. Every public module is there, with
-- its effects journaled (policy/effects/init.lua).
local change_data, context, effects = require "policy.change", require "policy.context", require "policy.effects"
local errors, log = require "errors", require "log"
local settings, shared = require "policy.settings", require "policy.modules"
local refusals, suspension, sys, task = require "engine.refusals", require "engine.suspension", require "base.sys",
  require "task"

---@class Policy
---@field name string
---@field file string Chunk name: where faults and refusals point to.
---@field text string
---@field hash string sha256 of the text and of its modules.
---@field modules? table<string, SharedModule> What it requires from the scripts folder; nil: nothing.
---@field make fun(env: table, name: string): any Runs the file in an environment.
---@field suspended? Err Why it is not loaded.
---@field queue "latest"|"all" What waits while a run is under way: only the newest change, or each in its turn.
---@field settings? Shape Of the settings that it declares.
---@field first "release"|"adopt" What first sight does: release what should be, or take what runs as it is.

local M = {}

local LARGEST <const> = 1 << 20 -- bytes of a policy's file: reading it keeps the loop

-- Limits of a watch and of a run's own Lua code; waiting costs nothing of them.
M.WATCH_LIMITS = { cpu = 3, memory = 128 << 20 }
M.RUN_LIMITS = { cpu = 20, memory = 128 << 20 }

-- ---- deterministic versions of base functions ----

local ORDER <const> = { number = 1, string = 2, boolean = 3 }

local function comes_before(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return ORDER[ta] < ORDER[tb] end
  if ta == "boolean" then return a and not b end
  return a < b
end

local function sorted_keys(t)
  local keys = {}
  for k in next, t do
    if not ORDER[type(k)] then
      error("pairs works on keys that are numbers, strings or booleans; this table has a " .. type(k), 3)
    end
    keys[#keys + 1] = k
  end
  table.sort(keys, comes_before)
  return keys
end

local function ordered_pairs(t)
  local meta = getmetatable(t)
  local own_way = type(meta) == "table" and rawget(meta, "__pairs")
  if own_way then return own_way(t) end
  if type(t) ~= "table" then error("pairs expects a table, got " .. type(t), 2) end
  local keys, i = sorted_keys(t), 0
  return function()
    i = i + 1
    local k = keys[i]
    if k ~= nil then return k, t[k] end
  end, t, nil
end

local function ordered_next(t, key)
  if type(t) ~= "table" then error("next expects a table, got " .. type(t), 2) end
  local keys, i = sorted_keys(t), 1
  if key ~= nil then -- which may be gone: a loop clears what it has seen
    if not ORDER[type(key)] then error("next: the table has no such key", 2) end
    while keys[i] ~= nil and not comes_before(key, keys[i]) do i = i + 1 end
  end
  if keys[i] ~= nil then return keys[i], t[keys[i]] end
end

local function plain_tostring(value)
  local text, kind = tostring(value), type(value)
  if kind == "string" or kind == "number" or kind == "boolean" or kind == "nil" then return text end
  -- An address would differ in every process; what has a text of its own has none in it.
  if #text > 200 then return text end
  return text:match("^(.+): 0x%x+$") or text:match("^(.+): %(nil%)$") or text
end

-- What string.format shows of a value without a text of its own, in policies; elsewhere Lua's own text.
sys.steady(function(...)
  if not context.current() then return nil end
  return plain_tostring((...))
end)

-- The metatables that policies made; ours are none of their business.
local own = setmetatable({}, { __mode = "k" })

local function own_metatable(value)
  local meta = type(value) == "table" and getmetatable(value)
  return own[meta] and meta or nil
end

local function is_the_programs(t)
  return type(t) == "table" and getmetatable(t) ~= nil and not own_metatable(t)
end

local function safe_rawset(t, k, v)
  if is_the_programs(t) then error("this table cannot be changed", 2) end
  return rawset(t, k, v)
end

local function safe_setmetatable(t, meta)
  if type(meta) == "table" and (rawget(meta, "__gc") ~= nil or rawget(meta, "__mode") ~= nil) then
    error("a policy's tables have no __gc and no __mode: what the collector does is not repeatable", 2)
  end
  if is_the_programs(t) then error("this table has a metatable of the program", 2) end
  if meta ~= nil then
    own[meta] = true
    local c = context.current()
    if c and c.metas then c.metas[meta] = sys.script_line() or "" end
  end
  return setmetatable(t, meta)
end

local NO_MORE <const> = "a policy's tables have no __mode: what the collector does is not repeatable; a metatable "
  .. "got it after setmetatable"

---Ends what a policy is asked when one of its metatables has become one of weak tables.
---@param c? Context
---@param steps? Steps Of its run, which goes no further.
function M.strong(c, steps)
  for meta, where in next, c and c.metas or {} do
    if rawget(meta, "__mode") ~= nil then
      local err = errors.new("script", ("%s, at %s"):format(NO_MORE, where), { where = where })
      if steps then steps.over = steps.over or err end
      error(err, 0)
    end
  end
end

-- A message handler would run where the limits cannot reach it; this one runs after the error has unwound.
local function safe_xpcall(fn, handler, ...)
  local results = table.pack(pcall(fn, ...))
  if results[1] then return table.unpack(results, 1, results.n) end
  return false, handler(results[2])
end

-- splitmix64, seeded once for each branch of a run from the journal.
local function random_source()
  local c = context.current()
  if not c or c.mode == "file" then error("math.random works inside watch and run", 3) end
  local kept = c.steps and c.steps:luck(c) or c
  if not kept.rng then
    local seed = function() return math.random(0) end
    kept.rng = { state = c.steps and c.steps:value("random", {}, seed) or seed() }
  end
  kept.rng.state = kept.rng.state + 0x9e3779b97f4a7c15
  local z = kept.rng.state
  z = (z ~ (z >> 30)) * 0xbf58476d1ce4e5b9
  z = (z ~ (z >> 27)) * 0x94d049bb133111eb
  return z ~ (z >> 31)
end

local function random(low, high)
  local bits = random_source()
  if not low then return (bits >> 11) * 2.0 ^ -53 end
  if not high then low, high = 1, low end
  if math.type(low) ~= "integer" or math.type(high) ~= "integer" or low > high then
    error("bad interval for random", 2)
  end
  local count = high - low + 1
  if count > 0 then return low + (bits >> 1) % count end
  -- More than half of all integers, counted without a sign; 0 is all of them.
  return low + ((count == 0 or math.ult(bits, count)) and bits or bits - count)
end

local function print_plain(...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = plain_tostring(parts[i]) end
  log.info(table.concat(parts, "\t"))
end

local FIELDS <const> = { watch = "function", run = "function", queue = "string", first = "string", settings = "table" }

local function check_definition(d)
  if type(d) ~= "table" or getmetatable(d) ~= nil then
    error("policy takes one plain table: policy { watch = ..., run = ... }", 0)
  end
  for k, v in next, d do
    if not FIELDS[k] then
      error("policy has no field '" .. plain_tostring(k) .. "'; it takes watch, run, queue, first and settings", 0)
    end
    if type(v) ~= FIELDS[k] then error(("policy field %s must be a %s, not a %s"):format(k, FIELDS[k], type(v)), 0) end
  end
  for _, k in ipairs { "watch", "run" } do
    if not d[k] then error("policy needs a function '" .. k .. "'", 0) end
  end
  if d.queue ~= nil and d.queue ~= "latest" and d.queue ~= "all" then
    error("policy field queue is 'latest' or 'all'", 0)
  end
  if d.first ~= nil and d.first ~= "release" and d.first ~= "adopt" then
    error("policy field first is 'release' or 'adopt'", 0)
  end
end

-- What was checked when the file was loaded need not be checked at every question.
local function same(d) return d end

-- By name, so that what a distribution adds does not come in by itself.
local LIBRARIES <const> = {
  math = "abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger modf pi rad sin sqrt "
    .. "tan tointeger type ult",
  string = "byte char find format gmatch gsub len lower match pack packsize rep reverse sub unpack upper",
  table = "concat insert move pack remove sort unpack",
  utf8 = "char charpattern codepoint codes len offset",
}

---The libraries of policies, by name.
---@type table<string, table<string, any>>
M.LIBRARIES = {
  os = {
    time = function() return math.floor(effects.require("time").now()) end,
    clock = function() return effects.require("time").monotonic() end,
  },
}
for library, names in pairs(LIBRARIES) do
  M.LIBRARIES[library] = {}
  for name in names:gmatch("%S+") do M.LIBRARIES[library][name] = _G[library][name] end
end
M.LIBRARIES.math.random = random

-- What every environment has, but for the word `policy`.
local GLOBALS <const> = {
  _VERSION = _VERSION, assert = assert, error = error, getmetatable = own_metatable, ipairs = ipairs,
  next = ordered_next, pairs = ordered_pairs, pcall = pcall, print = print_plain, rawequal = rawequal, rawget = rawget,
  rawlen = rawlen, rawset = safe_rawset, require = effects.require, select = select,
  setmetatable = safe_setmetatable, tonumber = tonumber, tostring = plain_tostring, type = type, xpcall = safe_xpcall,
}

-- Puts in what was not named yet, for scripts that read the environment as a table.
local function fill(env)
  for name, value in next, GLOBALS do
    if rawget(env, name) == nil then rawset(env, name, value) end
  end
  return env
end

-- An environment is made for each question that a policy is asked. Few policies use most of it: what is rare comes in
-- when it is first named, a library as a copy.
local ENVIRONMENT <const> = {
  __index = function(env, name)
    local value = GLOBALS[name]
    if value == nil then
      if name == "_G" then return fill(env) end
      local library = M.LIBRARIES[name]
      if not library then error("undefined variable '" .. plain_tostring(name) .. "'", 2) end
      value = {}
      for k, v in next, library do value[k] = v end
    end
    rawset(env, name, value)
    return value
  end,
  __newindex = function(env, name, value)
    if GLOBALS[name] == nil then
      error("assignment to undeclared variable '" .. plain_tostring(name) .. "': use local", 2)
    end
    rawset(env, name, value)
  end,
  __metatable = "environment",
}

---Makes an environment of one instance of a policy, or of a module of it.
---@param declare? fun(definition: table): table What the word `policy` does.
---@param require? fun(name: string): any
---@return table env
function M.environment(declare, require)
  return setmetatable({
    assert = assert, ipairs = ipairs, policy = declare or same, require = require or effects.require,
  }, ENVIRONMENT)
end

-- Runs the file of a policy, with modules of its own.
local function run_file(policy, declare)
  local require = policy.modules and shared.requirer(policy.modules, M.environment) or nil
  return policy.make(M.environment(declare, require), policy.name), require
end

-- Compiles a text to a function that runs it in an environment.
local function maker(text, file)
  local chunk, message = sys.compile(text, "@" .. file, {}) -- by itself: what follows must not lend it a meaning
  if chunk then
    chunk, message = sys.compile("return function(_ENV, ...) " .. text .. "\nend", "@" .. file, {})
  end
  if not chunk then return nil, message end
  local run = chunk() ---@type function
  if not text:find("_ENV", 1, true) then return run end
  return function(env, ...) return run(fill(env), ...) end
end

-- There is neither a watch nor a run yet: nothing may be read, and nothing may happen.
local AT_FILE_LEVEL <const> = { mode = "file" }

local WEAK <const> = { __mode = "k" }

-- The file level of an instance that is made for what is asked: they share what the policy's metatables are.
local function file_level(policy, asking)
  if policy.suspended then error(policy.suspended, 0) end
  asking.metas = setmetatable({}, WEAK)
  return { mode = "file", metas = asking.metas }
end

---A fresh instance of a policy: nothing that another one kept at file level is in it. Runs the file, so it belongs into
---a task with limits.
---@param policy Policy
---@param asking Context What it is for.
---@return {watch: function, run: function} definition
function M.instance(policy, asking)
  return (context.with(file_level(policy, asking), run_file, policy))
end

-- What a task with a policy works on, for the crash note: a line for people, then what the next host finds if
-- this one ends with it (engine/suspension.lua).
local function asked(kind, policy, app, environment)
  if kind == "load" then return task.asked("loading the policy ", policy.named, "\nload\t\t", policy.unit) end
  task.asked("asking the policy ", policy.named, " for ", app, " ", environment, "\nwatch\t", app, "\t", environment,
    policy.unit)
end

-- The policy's file and those of its modules.
local function units_of(policy)
  local units = { policy }
  for _, name in ipairs(shared.sorted(policy.modules or {})) do units[#units + 1] = policy.modules[name] end
  return units
end

-- What a module's table has; what answers by a metatable may have anything.
local function words_in(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil then return nil end
  local words = {}
  for word in next, value do words[#words + 1] = type(word) == "string" and word or nil end
  return words
end

-- The first instance, which is checked. The text is read here, too: the constants of a long one may be chosen so that
-- this takes for ever.
local function first_instance(policy)
  asked("load", policy)
  for _, unit in ipairs(units_of(policy)) do
    local make, message = maker(unit.text, unit.file)
    if not make then error(errors.new("invalid", message), 0) end
    unit.make = make
  end
  local declared, shape
  local value, require = context.with(AT_FILE_LEVEL, run_file, policy, sys.framed(function(d)
    check_definition(d)
    declared, shape = d, d.settings and settings.shape(d.settings)
    return d
  end))
  if not declared or not rawequal(value, declared) then
    error(errors.new("invalid", "a policy file ends with: return policy { ... }"), 0)
  end
  check_definition(declared) -- the file went on after it
  for name, module in pairs(policy.modules or {}) do module.words = words_in(require(name)) end
  return { queue = declared.queue or "latest", first = declared.first or "release", settings = shape }
end

---Handles what a policy raises, where it is raised: an Err with the policy's line. Whatever the policy made stays
---untouched: its metamethods would run here with no watchdog to see them.
---@param value any
---@return Err err
function M.raised(value)
  local err = errors.clean(value)
  err.where = err.where or sys.script_line()
  if not errors.is(value) then
    err.traceback = sys.traceback()
    -- The functions of this file are the script's setmetatable, pairs and so on: what they were called with is its
    -- mistake. So is what names no line of the program's own.
    local said = err.where and err.message:match("^stdlib/policy/load%.lua:%d+: (.*)$")
    if said then err.message = err.where .. ": " .. said end
    if not err.message:find("^stdlib/[^:]+:%d+:") then err.code = "script" end
  end
  return err
end

-- Whether a message of Lua names this file: of a long name it has only the end.
local function is_named(at, file)
  return at == file or at ~= nil and at:sub(1, 3) == "..." and file:sub(-#at + 3) == at:sub(4)
end

-- What is wrong with a policy, with the file and line that a message or a position names: its own, or a module's.
---@return Fault
local function fault_of(policy, message, where)
  local at, line, rest = message:match("^([^:\n]+):(%d+): (.*)$")
  for _, from in ipairs { { at, line, rest }, { (where or ""):match("^(.*):(%d+)$") } } do
    for _, unit in ipairs(units_of(policy)) do
      if is_named(from[1], unit.file) then
        return { file = unit.file, line = math.tointeger(tonumber(from[2])), message = from[3] or message }
      end
    end
  end
  return { file = policy.file, message = message }
end

-- Pins a policy's modules with its text; says whether it is suspended so.
local function pin(policy, modules, suspended)
  policy.modules = next(modules) and modules or nil
  policy.hash = shared.hash(policy.text, modules)
  policy.unit = ("\t%s\t%s"):format(policy.name, policy.hash)
  policy.suspended = suspension.why(suspended, policy)
  if policy.suspended then policy.queue, policy.first = "latest", "release" end
  return policy.suspended ~= nil
end

---Makes a policy of a script's text.
---@param name string "staging"
---@param text string
---@param file string For messages: "scripts/staging.lua".
---@param options? {suspended?: table<string, Suspension>, folder?: string, modules?: table<string, SharedModule>}
--- modules: those of a run that began with them, instead of those that there are in the folder.
---@return Policy? policy Without an instance when it is suspended.
---@return Fault? fault
---@return table<string, SharedModule>? modules With a fault: what was found; nil when one of them cannot be read.
function M.compile(name, text, file, options)
  options = options or {}
  local policy = { name = name, file = file, text = text, named = ("%s (%s)"):format(name, file) } --[[@as any]]
  local suspended = options.suspended or {}
  if pin(policy, {}, suspended) then return policy end -- finding its modules reads its text already
  local modules = options.modules
  if not modules then
    local problem
    modules, problem = shared.find(policy, options.folder, function() asked("load", policy) end)
    if not modules then return nil, problem end
  end
  if pin(policy, modules, suspended) then return policy end
  local limits = { name = "load " .. name, cpu = 1, memory = 16 << 20 }
  local loading <close> = task.start(limits, xpcall, first_instance, M.raised, policy)
  local ok, definition = loading:join() -- it cannot wait, and its processor time is limited
  if not ok then
    local err = errors.clean(definition)
    return nil, fault_of(policy, err.message, err.where), modules
  end
  policy.queue, policy.first, policy.settings = definition.queue, definition.first, definition.settings
  return policy
end

---Makes of a script that is no policy, such as a test, what runs it as policies run: in their environment, with
---modules of its own from the scripts folder, and more words. Both belong into a task with limits.
---@async
---@param unit {name: string, file: string, text: string}
---@param folder? string
---@param words table<string, any>
---@return (fun(): any)? run
---@return Fault? fault
---@return_overload nil, Fault
function M.script(unit, folder, words)
  local modules, fault = shared.find(unit, folder, function() end)
  if not modules then return nil, fault --[[@as Fault]] end
  unit.modules = modules ---@diagnostic disable-line: inject-field
  for _, each in ipairs(units_of(unit)) do
    local make, message = maker(each.text, each.file)
    if not make then return nil, fault_of(each, message) end
    each.make = make
  end
  local env = M.environment(nil, shared.requirer(modules, M.environment))
  rawset(env, "policy", nil)
  for name, word in pairs(words) do rawset(env, name, word) end
  return function() return unit.make(env, unit.name) end ---@diagnostic disable-line: undefined-field
end

---Finds what a policy's file calls and nothing has, without running it. Not asked of runs under way: they finish with
---what they began with.
---@async
---@param policy {name: string, file: string, text: string, ours?: boolean, modules?: table<string, SharedModule>}
---@return Fault[] faults None of a file that does not compile.
function M.unknown(policy)
  local modules, faults = policy.modules or {}, {}
  local function words(name)
    local module = modules[name]
    if module then return module.words end
    return effects.words(name)
  end
  for _, unit in ipairs(units_of(policy)) do
    local chunk = not unit.ours and sys.compile(unit.text, "@" .. unit.file, {})
    if chunk then
      local looking <close> = task.start({ name = "words of " .. unit.name, cpu = 1, memory = 32 << 20 }, function()
        local globals = fill(M.environment())
        rawset(globals, "_G", true)
        return require("policy.calls").faults(chunk, unit.file, {
          globals = globals, libraries = M.LIBRARIES, modules = words, shared = modules, halves = unit == policy,
          unknown = function(name) return shared.unknown(name, modules) end,
        })
      end)
      local found = (looking:join()) or {} -- a file that takes longer is judged by its runs
      table.move(found, 1, #found, #faults + 1, faults)
    end
  end
  return faults
end

---@class EditedPolicy
---@field file string For messages.
---@field text string

---Finds and compiles policies: the file in `folder` first, else the one that is part of the program.
---@param names string[]
---@param folder? string
---@param suspended? table<string, Suspension>
---@param edited? table<string, EditedPolicy> In place of those of their names.
---@return table<string, Policy>? policies
---@return Fault[]? faults
function M.load(names, folder, suspended, edited)
  local policies, faults, told = {}, {}, {}
  local function add(fault) -- what is wrong with a module is so for each policy that requires it
    local words = ("%s:%s:%s"):format(fault.file, fault.line, fault.message)
    if not told[words] then faults[#faults + 1] = fault end
    told[words] = true
  end
  for _, name in ipairs(names) do
    local text, file, problem, ours
    if edited and edited[name] then
      text, file = edited[name].text, edited[name].file
    elseif folder then
      file = folder .. "/" .. name .. ".lua"
      text, problem = require("fs").read(file, { max = LARGEST })
      if problem and problem.code == "not_found" and not require("fs").stat(file, { follow = false }) then
        problem = nil -- a link that leads nowhere is there
      end
      if text then
        local wrong
        text, wrong = require("base.text").of_file(text)
        problem = wrong and errors.new("invalid", wrong) or nil
      end
    end
    if not text and not problem then
      file = "scripts/" .. name .. ".lua"
      text = sys.embedded(file)
      ours = true -- the program's tests have found its words
    end
    local compiled, fault, modules
    if text then
      compiled, fault, modules = M.compile(name, text, assert(file), { suspended = suspended, folder = folder })
    elseif problem then -- the program's own policy in its place would be a surprise
      fault = { file = file, message = "the policy cannot be read: " .. problem.message }
    else
      fault = { file = (folder or "scripts") .. "/" .. name .. ".lua", message = "there is no policy '" .. name .. "'" }
    end
    policies[name] = compiled
    if compiled and not compiled.suspended then modules = compiled.modules or {} end
    if modules then
      for _, unknown in ipairs(M.unknown { name = name, file = assert(file), text = assert(text), ours = ours,
        modules = modules }) do
        add(unknown)
        if fault and fault.file == unknown.file and fault.line == unknown.line then
          fault = nil -- the same, with what was meant
        end
      end
    end
    if fault then add(fault) end
  end
  if #faults > 0 then return nil, faults end
  return policies
end

local watch_limits = {} -- by timeout: asked for at every poll

-- The task gives itself its context: between its start and our next line it may already run. The file itself has none:
-- at its level nothing is read and nothing happens.
local function watch_in(policy, asking)
  local place, id = asking.place, assert(task.current())
  asked("watch", policy, place.app or "", place.environment or "")
  context.bind(id, file_level(policy, asking)) -- ask forgets it, however this ends
  local watch = run_file(policy).watch
  context.bind(id, asking)
  local change, reason = watch(place.face)
  M.strong(asking)
  if change == nil then return nil, reason end
  return change_data.of(change, policy.file, sys.defined(watch)) -- here: what the policy made may be endless
end

---Asks a policy what should be, within its limits.
---@async
---@param policy Policy
---@param place Place
---@param timeout number Seconds.
---@param said? Refusals What place:refuse adds to.
---@return table? change nil: nothing, or a failure.
---@return string|Err? reason A text with nothing; an Err with a failure.
function M.ask(policy, place, timeout, said)
  local suspended = policy.suspended
    or place.suspensions and suspension.why(place.suspensions, policy, place)
  if suspended then return nil, suspended end
  local limits = watch_limits[timeout]
  if not limits then
    limits = { name = "watch", cpu = M.WATCH_LIMITS.cpu, memory = M.WATCH_LIMITS.memory, timeout = timeout,
      handler = M.raised }
    watch_limits[timeout] = limits
  end
  local asking = { mode = "watch", place = place, policy = policy, said = said or refusals.new() }
  local watching <close> = task.start(limits, watch_in, policy, asking)
  local joined, change, reason = pcall(watching.join, watching)
  context.forget(watching:id())
  if not joined then error(change, 0) end -- we were cancelled ourselves
  if change == nil then
    if reason == nil then return nil, "nothing to do" end
    if type(reason) == "table" then return nil, errors.clean(reason) end
    return nil, plain_tostring(reason)
  end
  return change --[[@as table]]
end

return M
