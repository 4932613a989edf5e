-- The public modules as policies see them: the same names, with every effect journaled.
--
-- A watch only reads: GET and HEAD over the network, files of its app's own folder, no command, no UNIX socket, no file
-- as an option. In a run, reading and writing are steps, and values that differ each time (the clock, random bytes)
-- are recorded; a command (policy/effects/commands.lua) may do what the host's user may. Pure functions pass through.
local commands, context = require "policy.effects.commands", require "policy.context"
local files, requests = require "policy.effects.files", require "policy.effects.http"
local schema, sys = require "base.schema", require "base.sys"

local M = {}

-- What each function is: pure, value (recorded, free), read or change (a step), request (HTTP), or what makes its face.
local special = {}

local MODULES <const> = {
  errors = { new = "pure", fail = "pure", is = "pure", wrap = "pure" },
  fs = {
    read = "read", list = "read", stat = "read", exists = "read", join = "pure",
    write = "change", append = "change", mkdir = "change", remove = "change", rename = "change",
  },
  hash = {
    sha256 = "pure", hmac_sha256 = "pure", equal = "pure", hex = "pure", unhex = "pure", base64 = "pure",
    unbase64 = "pure", random = "value",
  },
  http = {
    get = "request", head = "request", post = "request", put = "request", patch = "request", delete = "request",
    request = "request", expect = "pure",
  },
  json = { decode = "pure", encode = "pure", null = "pure", array = "pure", is_array = "pure" },
  log = { debug = "pure", info = "pure", warn = "pure", error = "pure", redact = "pure" },
  proc = {
    run = function(...) return special.run(...) end, spawn = function(...) return special.live(...) end,
    check = "pure",
  },
  semver = {
    parse = "pure", compare = "pure", satisfies = "pure", sort = "pure", tag = "pure", allows = "pure",
  },
  task = {
    spawn = function() return special.spawn end, all = function() return special.all end,
    deadline = function() return special.deadline end, signal = function() return special.signal end,
  },
  time = {
    now = "value", monotonic = "value", sleep = function() return special.sleep end, parse_iso = "pure", words = "pure",
    iso = function() return function(at) return require("time").iso(at or M.require("time").now()) end end,
    clock = function()
      return function(zone, at)
        if type(zone) == "number" and at == nil then zone, at = nil, zone end
        return require("time").clock(zone, at or M.require("time").now())
      end
    end,
    within = function() return special.calendar "within" end, next = function() return special.calendar "next" end,
    last = function() return special.calendar "last" end,
  },
  yaml = { decode = "pure", decode_all = "pure", encode = "pure" },
}

-- The modules that reach outside: their functions are those of the asking place's world, unless they are pure.
local OUTSIDE <const> = { fs = true, hash = true, http = true, proc = true, time = true }

---@return any context
local function asking(name)
  local c = context.current()
  if not c or c.mode == "file" then error(name .. " in a policy works inside watch and run", 3) end
  return c
end

-- `acts`: it may change the place that the run is about, so it does not begin while that is held.
local function effect(name, fn, writes, acts)
  return function(...)
    local c = asking(name)
    if c.mode == "watch" and writes then error(name .. " changes things, and watch only reads: do it in run", 2) end
    if c.mode ~= "run" then return fn(...) end
    local args = table.pack(...)
    return c.steps:perform(name, args, function() return fn(table.unpack(args, 1, args.n)) end, acts and "acts" or nil)
  end
end

-- A change of the app's files, whose state is checked before it is repeated.
local function change(fname, fn)
  local name = "fs." .. fname
  local as_before = effect(name, fn, true)
  return function(...)
    local c = asking(name)
    if c.mode ~= "run" or not context.since(c, 2) then return as_before(...) end
    local args = table.pack(...)
    local before
    if fname == "append" then
      before = c.steps:value("fs.append at", { args[1] }, function() return files.size(c.place, args[1]) end)
    end
    return c.steps:perform(name, args, function(attempt)
      if attempt > 1 then return files.again(c.place, fname, fn, args, before) end
      return fn(table.unpack(args, 1, args.n))
    end)
  end
end

local function request(fname, fn)
  local name = "http." .. fname
  local function perform(...)
    local c = asking(name)
    local given = table.pack(...)
    local args = requests.prepare(c, fname, given)
    if c.mode == "watch" and requests.writes(fname, args) then
      error(name .. " changes things, and watch only reads: do it in run", 2)
    end
    if c.mode ~= "run" then return fn(table.unpack(args, 1, args.n)) end
    local asked = c.steps:since(2) and requests.asked(fname, given) or args
    local acts = requests.writes(fname, args) and "acts" or nil
    return c.steps:perform(name, asked, function() return fn(table.unpack(args, 1, args.n)) end, acts)
  end
  if not requests.reads(fname) then return perform end
  return function(...) -- a watch asks so at each poll: nothing is packed for it
    if asking(name).mode ~= "watch" then return perform(...) end
    local url, options = ...
    if type(options) == "table" then
      options = requests.copy(options)
      if not options then return perform(...) end -- which says what is wrong
    end
    return fn(url, options)
  end
end

local function value(name, fn)
  return function(...)
    local c = asking(name)
    if c.mode ~= "run" then return fn(...) end
    local args = table.pack(...)
    return c.steps:value(name, args, function() return fn(table.unpack(args, 1, args.n)) end)
  end
end

local function command(name)
  local c = asking(name)
  if c.mode == "watch" then error(name .. " runs a command, and watch only reads: do it in run", 3) end
  return c
end

function special.run(name, fn)
  local as_before = effect(name, fn, false, true)
  return function(spec)
    local c = command(name)
    if not context.since(c, 2) then return as_before(spec) end
    if c.mode == "run" then return commands.step(c, spec, fn) end
    return fn(commands.prepare(c, spec))
  end
end

function special.live(name, fn)
  return function(spec)
    local c = command(name)
    if c.mode == "run" then
      error(name .. " gives a live handle, which no journal can answer for after a crash: use proc.run", 2)
    end
    return fn(context.since(c, 2) and commands.prepare(c, spec) or spec)
  end
end

function special.spawn(fn, ...)
  local task, c = require "task", asking("task.spawn")
  if type(fn) ~= "function" then error("usage: task.spawn(fn, ...)", 2) end
  if c.steps and context.since(c, 2) then return c.steps:spawn(fn, ...) end
  local join = c.steps and c.steps:branch()
  return task.spawn(function(...)
    if join then join(assert(task.current())) end
    return context.with(c, fn, ...)
  end, ...)
end

function special.all(fns)
  local task, c, wrapped = require "task", asking("task.all"), {}
  if type(fns) ~= "table" then error("usage: task.all { fn, ... }", 2) end
  if c.steps and context.since(c, 2) then return c.steps:all(fns) end
  for i, fn in ipairs(fns) do
    local join = c.steps and c.steps:branch()
    wrapped[i] = function()
      if join then join(assert(task.current())) end
      return context.with(c, fn)
    end
  end
  return task.all(wrapped)
end

function special.deadline(seconds, fn, ...)
  local c = asking("task.deadline")
  seconds = M.seconds("task.deadline", seconds)
  if type(fn) ~= "function" then error("usage: task.deadline(seconds, fn, ...)", 2) end
  if c.steps and context.since(c, 2) then return c.steps:deadline(seconds, fn, ...) end
  return require("task").deadline(seconds, fn, ...)
end

-- A signal may be made anywhere; its user decides whether its waits belong to a run.
function special.signal()
  local of_run, plain = require("policy.branches").signal(), require("task").signal()
  local methods = {}
  function methods.notify()
    local c = context.current()
    if c and c.steps and context.since(c, 2) then return c.steps:notify(of_run) end
    plain:notify()
  end
  function methods.wait(_, seconds)
    local c = asking("signal:wait")
    if seconds ~= nil then seconds = M.seconds("signal:wait", seconds) end
    if c.steps and context.since(c, 2) then return c.steps:wait_for(of_run, seconds) end
    return plain:wait(seconds)
  end
  return setmetatable({}, {
    __index = function(_, name) return methods[name] end,
    __newindex = function() error("a signal cannot be changed", 2) end,
    __metatable = "signal",
  })
end

---Seconds, as a number or as people write them.
---@param word string For the message.
---@param given any
---@return Seconds
function M.seconds(word, given)
  local seconds = type(given) == "number" and given < 0 and 0 or schema.seconds(given)
  if not seconds then error(("usage: %s(90), or with a text such as \"90s\", \"1m30s\", \"2h\""):format(word), 3) end
  return seconds
end

function special.sleep(seconds)
  local c = asking("time.sleep")
  seconds = M.seconds("time.sleep", seconds)
  if c.steps then return c.steps:sleep(seconds) end
  return require("time").sleep(seconds)
end

-- A function of a module as the world of the asking place has it.
local function of_world(module, fname)
  return function(...)
    local place = assert(assert(context.current()).place)
    return place.world.module(module)[fname](...)
  end
end

-- What is asked of the calendar is about now, as the run first saw it, unless another time is named.
function special.calendar(fname)
  return function(text, zone, at) return require("time")[fname](text, zone, at or M.require("time").now()) end
end

---The names of the public modules of policies, in order.
---@return string[]
function M.modules()
  local names = require("base.tables").keys(MODULES)
  table.sort(names)
  return names
end

---What is wrong with the name of a module that policies do not have.
---@param name any
---@return string message
function M.unknown(name)
  local names = M.modules()
  local last = table.remove(names)
  return ("a policy cannot require '%s'; it can require %s and %s, and files of the scripts folder by a name such as "
    .. "\"shared.hours\" that stands in its text"):format(tostring(name), table.concat(names, ", "), last)
end

local made = {}

---What `require` gives a policy.
---@param name string
---@return any module
function M.require(name)
  if made[name] then return made[name] end
  local shape = MODULES[name]
  if not shape then error(M.unknown(name), 2) end
  local module, face = require(name), {}
  for fname, kind in pairs(shape) do
    local full, fn = name .. "." .. fname, module[fname]
    if OUTSIDE[name] and kind ~= "pure" then fn = of_world(name, fname) end
    if name == "fs" and kind ~= "pure" then fn = files.rooted(fname, fn, asking) end
    if type(kind) == "function" then
      face[fname] = kind(full, fn)
    elseif kind == "pure" then
      face[fname] = fn
    elseif kind == "change" then
      face[fname] = change(fname, fn)
    elseif kind == "request" then
      face[fname] = request(fname, fn)
    elseif kind == "value" then
      face[fname] = value(full, fn)
    else
      face[fname] = effect(full, fn, kind == "write", kind == "write" and name ~= "fs")
    end
  end
  setmetatable(face, {
    __index = function(_, k) error(("%s has no function '%s' in policies"):format(name, tostring(k)), 2) end,
  })
  made[name] = setmetatable({}, {
    __index = face,
    __newindex = function() error("modules are read-only", 2) end,
    __metatable = "module",
  })
  return made[name]
end

---What policies find in the modules: "fs.read" and the rest, in order, for tests of each.
---@return string[] names
function M.names()
  local names = {}
  for module, functions in pairs(MODULES) do
    for name in pairs(functions) do names[#names + 1] = module .. "." .. name end
  end
  table.sort(names)
  return names
end

-- What is different for policies.
local NOTES <const> = {
  read = "In a run the answer is recorded.", change = "Only in a run, as a step of its journal.",
  request = "A watch only gets; in a run it is a step of the journal. It goes over the network, never to a UNIX socket,"
    .. " and what files its options name are of the app's own folder, in a run only.",
  value = "In a run the value is recorded: a recovered run gets the same.",
  ["proc.run"] = "Only in a run, as a step of its journal; it begins in the app's own folder.",
  ["proc.spawn"] = "Not for policies: no journal can answer for a live program. Use proc.run.",
  ["task.spawn"] = "In a run branches take turns in an order that is recorded.",
  ["task.all"] = "In a run branches take turns in an order that is recorded.",
  ["task.deadline"] = "Also takes a text, \"1m30s\". In a run it has passed again at the same place after a restart.",
  ["time.sleep"] = "Also takes a text, \"1m30s\". In a run a restart does not begin the wait again.",
  ["time.iso"] = "Without a time: now, which is recorded in a run.",
  ["time.clock"] = "Without a time: now, which is recorded in a run.",
}
local FOLDER <const> = " Paths are below the app's own folder, whatever `root` says."

---What a function does otherwise when a policy calls it; nil: nothing.
---@param name string "fs.read"
---@return string?
function M.note(name)
  local module, fn = name:match("^(.-)%.(.*)$")
  local kind = MODULES[module][fn]
  local note = NOTES[name] or NOTES[kind]
  return module == "fs" and kind ~= "pure" and note .. FOLDER or note
end

---The functions of one module in policies.
---@param module string
---@return string[]? names nil: policies cannot require it.
function M.words(module)
  if not MODULES[module] then return nil end
  local names = {}
  for name in pairs(MODULES[module]) do names[#names + 1] = name end
  return names
end

---The position of the policy line that called, for refusals: skips frames of the program itself.
---@return string? file
---@return integer? line
function M.caller()
  local file, line = (sys.script_line() or ""):match("^(.-):(%d+)$")
  return file, math.tointeger(line)
end

return M
