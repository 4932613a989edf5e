-- The extensions of a folder: each file DIR/*.lua is run and judged; what is wrong with it has a line of it.
--
-- An extension is code of the program with all its rights, so its file must be root's or our own, and writable for
-- nobody else.
local extension = require "extension"
local lines = require "config.lines"
local s = require "base.schema"
local sys = require "base.sys"

local M = {}

local function custom(what, doc, accept, required)
  return s.custom { what = what, doc = doc, accept = accept, required = required }
end

local function fn(doc, required)
  return custom("a function", doc, function(_, value, at)
    if type(value) ~= "function" then return at:fault("must be a function, not a " .. type(value)) end
    return value
  end, required)
end

local function called(value)
  if type(value) == "function" then return value() end
  return value
end

local function is_shape(value) return type(value) == "table" and type(value.check) == "function" end

local NO_SHAPE <const> = "is not a shape of a key"
local SHAPES <const> = 'for example extension.text("What it means."), with local extension = require "extension"'

local function field_of(name, shape, at)
  if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
    return at:fault("is not the name of a key: letters, digits and _")
  end
  if not is_shape(shape) then return at:child(name):fault(NO_SHAPE, SHAPES) end
  if name == "kind" then return at:child(name):fault("is a key that every entry has") end
end

-- A table from names to shapes, a list of { name, shape }, one shape, or a function that gives one of these.
local function accept_keys(_, value, at)
  value = called(value)
  if type(value) ~= "table" then return at:fault("must be a table of keys, not a " .. type(value)) end
  if is_shape(value) then return value end
  for name, shape in pairs(value) do
    if math.type(name) == "integer" then
      local pair = type(shape) == "table" and shape or {}
      field_of(pair[1], pair[2], at)
    else
      field_of(name, shape, at)
    end
  end
  return value
end

local doc = s.text { doc = "What it is.", multiline = true }
local keys = custom("a table of keys", "Its keys in the configuration.", accept_keys)
local function accept_key(_, value, at)
  local shape = called(value)
  if not is_shape(shape) then return at:fault(NO_SHAPE, SHAPES) end
  if not shape.doc then return at:fault("has no doc: a key without one does not exist") end
  return value
end
local key = custom("a shape", "What the key of its name may be.", accept_key)
local further = custom("a table of keys", "Its keys, beside those of others.", function(self, value, at)
  if is_shape(called(value)) then return at:fault "must be a table of keys, not a shape" end
  return accept_keys(self, value, at)
end)

-- What a word's steps would do.
local planners = custom("a function, or a table of them", "What its step would do: plan(run, args, perform). Or a "
  .. "table of such functions by the names of its steps.", function(_, value, at)
  for name, plan in pairs(type(value) == "table" and value or { value }) do
    if type(plan) ~= "function" then
      return (type(value) == "table" and at:child(tostring(name)) or at):fault("must be a function, not a "
        .. type(plan))
    end
  end
  return value
end)

-- Arguments and flags of commands.
local named = custom("a table with name and doc", nil, function(_, value, at)
  if type(value) ~= "table" or type(value.name) ~= "string" or type(value.doc) ~= "string" then
    return at:fault "must be a table with name and doc"
  end
  return value
end)

-- What an entry of each kind is, and what its name may be where that is no word.
local KINDS <const> = {
  { "target", s.record {
    { "doc", doc },
    { "keys", keys },
    { "open", fn("Opens a target: open(environment, world); world.config is all of the configuration.", true) },
    { "cross", fn "Checks what no single key shows." },
    { "destroys", s.boolean { doc = "Its targets have destroy()." } },
    { "follows", s.boolean { doc = "Somebody else rolls out what its targets are told." } },
  } },
  { "builder", s.record {
    { "doc", doc },
    { "keys", further },
    { "build", fn("Builds an image: build(request).", true) },
    { "available", fn "Whether it can be used here: available(config, world)." },
  } },
  { "check", s.record({
    { "doc", doc },
    { "key", s.custom {
      what = "a shape", doc = "What the key of its name may be.", required = true, accept = accept_key,
    } },
    { "keys", further },
    { "attempt", fn "Tries once: attempt(check, request, left)." },
    { "prove", fn "Instead of attempt, is called once: prove(check, request, world)." },
    { "within", s.duration { doc = "Its time, where the configuration says nothing." } },
  }, { verify = function(value, at)
    if (value.attempt == nil) == (value.prove == nil) then return at:fault "needs either attempt or prove" end
    return value
  end }) },
  { "source", s.record {
    { "doc", doc },
    { "key", key },
    { "poll", fn "Looks at what an app follows: poll(app, world)." },
    { "expire", fn "Makes the next poll ask anew: expire(app, world)." },
    { "resolve", fn "What a person asks to release: resolve(place, what)." },
    { "observe", fn "Instead of poll, of the program's own: observe(journal, world, state, app)." },
    { "cross", fn "Checks what no single key shows: cross(app, config, at)." },
    { "accepts", s.record({
      { "doc", s.text { doc = "What they are." } },
      { "words", s.list(s.text(), { doc = "Those that it knows; with : at the end, something follows." }) },
      { "rule", fn "Reads one." },
    }, { doc = "Version policies of its own." }) },
  } },
  { "finder", s.record {
    { "doc", doc },
    { "key", key },
    { "policies", fn("Names of the policies of its apps: policies(part).", true) },
    { "open", fn("Opens a source of apps: open(part, world).", true) },
    { "cross", fn "Checks what no single key shows: cross(part, config, at, cross)." },
    { "expire", fn "Makes the next poll ask anew: expire(world)." },
    { "tidy", fn "Forgets what is kept for apps that are gone: tidy(world)." },
  } },
  { "key", s.record { { "doc", doc }, { "key", key }, { "cross", fn "Checks it: cross(part, config, at)." } } },
  { "app_key", s.record { { "doc", doc }, { "key", key }, { "cross", fn "Checks it: cross(app, config, at)." } } },
  { "word", s.record({
    { "doc", doc },
    { "place", fn "A word of places, for watch: place(place, ...); place.app is the name of the app." },
    { "run", fn "A word of runs: run(run, ...)." },
    { "plan", planners },
  }, { verify = function(value, at)
    if not value.place and not value.run then return at:fault "needs either place or run, or both" end
    return value
  end }) },
  { "command", s.record({
    { "doc", doc },
    { "summary", s.text { doc = "What it does, for `moontide help`." } },
    { "args", s.list(named, { doc = "Its arguments: { name =, doc =, optional = }." }) },
    { "flags", s.list(named, { doc = "Its flags: { name =, doc =, value = }." }) },
    { "rest", s.boolean { doc = "What follows the arguments is somebody else's." } },
    { "example", s.text { doc = "How it is used." } },
    { "more", s.text { doc = "Further text of its help.", multiline = true } },
    { "run", fn "Runs it and gives the exit code: run(ctx)." },
    { "load", fn "Instead of the rest: gives the command when it is used." },
  }, { verify = function(value, at)
    if not value.load and not (value.summary and value.run) then return at:fault "needs a summary and run" end
    return value
  end }) },
  { "route", s.record {
    { "doc", doc },
    { "handle", fn("Answers: handle(engine, request).", true) },
    { "open", s.boolean { doc = "Needs no token." } },
    { "socket", s.boolean { doc = "On the control socket instead of the TCP port." } },
    { "gate", fn "Refuses instead of the token's check: gate(engine, request)." },
  }, s.text { verify = function(value, at)
    if not value:find("^%u+ /%S*$") then return at:fault('is not "METHOD /path/:name"') end
    return value
  end } },
  { "opener", s.record {
    { "doc", doc },
    { "open", fn("Opens it: open(what, world).", true) },
    { "reads", s.list(s.text(), { doc = "Words of what it opens that only read: a plan has no others." }) },
  } },
  { "notifier", s.record {
    { "doc", doc },
    { "keys", keys },
    { "send", fn("Tells people: send(channel, message).", true) },
  } },
}

local plain = s.text { verify = function(value, at)
  if not value:find("^[%a_][%w_-]*$") then return at:fault("is not a name: letters, digits, - and _") end
  return value
end }

local fields = {}
for i, kind in ipairs(KINDS) do
  fields[i] = { kind[1], s.map(kind[3] or plain, kind[2], { doc = "Entries by their names." }) }
end
local shape = s.record(fields)

-- What makes a file one that is not to be trusted, and what to do.
local RIGHTS <const> = ": an extension has all rights of the program"
local UNTRUSTED <const> = {
  ["belongs to another user"] = "chown root", ["may be written by others"] = "chmod go-w",
}

-- The extension that a file returns; records a fault when it returns none.
local function run(path, text, env, at)
  local function raised(message)
    message = tostring(message)
    local line, rest = require("base.text").position(message, path)
    local faults = at.source.faults
    at:fault(rest)
    faults[#faults].line = line
  end
  local chunk, message = sys.compile(text, "@" .. path, env)
  if not chunk then return raised(message) end
  local fine, value = pcall(chunk)
  if not fine then return raised(value) end
  if not extension.is(value) then
    return at:fault("is not an extension", "it must end with: return extension { ... }")
  end
  return value
end

local function load(path, env, faults, register)
  local at = s.cursor(path, function() return nil end)
  at.source.faults = faults
  local text, why = sys.slurp(path, true)
  local suggestion = UNTRUSTED[why]
  if suggestion then return at:fault(why .. RIGHTS, suggestion .. " " .. path) end
  if not text then return at:fault("cannot be read: " .. (why or "it is not there")) end
  at.source.line = lines.lua(text)
  local before = #faults
  local kinds = run(path, text, env, at)
  if not kinds then return end
  shape:check(kinds, at)
  if #faults > before then return end
  register(path, kinds, function(kind, name, other, taken, beside)
    local here = at:child(kind):child(name)
    if taken then return here:fault(("the key %s is taken by %s"):format(s.quote(taken), other)) end
    here:fault(("the name is taken: %s has a %s %s"):format(other, beside or kind, s.quote(name)))
  end)
end

---What is wrong with what a file registers.
---@param file string
---@param kinds Extension
---@return Fault[]
function M.faults(file, kinds)
  local at = s.cursor(file, function() return nil end)
  local copies = {}
  for kind, entries in pairs(kinds) do
    entries, copies[kind] = called(entries), {}
    for name, entry in pairs(entries) do
      local copy = {}
      for field, value in pairs(entry) do copy[field] = value end
      copy.name = nil
      copies[kind][type(name) == "string" and name or entry.name] = copy
    end
  end
  shape:check(copies, at)
  return at.source.faults
end

---The texts of a folder's extensions, and of the modules beside and below them.
---@async
---@param dir string
---@return table<string, string> texts By their paths in it.
function M.texts(dir)
  local found, fs = {}, require "fs"
  if not fs.list(dir) then return found end
  for path, kind in fs.walk(dir) do
    if kind ~= "dir" and path:find "%.lua$" and not ("/" .. path):find("/.", 1, true) then
      found[path] = sys.slurp(dir .. "/" .. path) or ""
    end
  end
  return found
end

---Reads the extensions of a folder, in the order of their names.
---@async
---@param dir string
---@param faults Fault[] What is wrong goes here.
---@param register fun(file: string, kinds: Extension, taken: fun(kind: string, name: string, other: string,
--- key?: string, beside?: string))
---@param face? fun(name: string, module: any): any What they get of the program's modules.
---@return string? wrong What is wrong with the folder.
function M.read(dir, faults, register, face)
  local names, err = require("fs").list(dir)
  if not names then
    local there = require("fs").stat(dir)
    return ("%s %s"):format(dir, there and there.type ~= "dir" and "is not a folder"
      or err.code == "not_found" and "does not exist" or err.message)
  end
  local env = require("policy.sandbox").exec_env(dir, { trusted = true, face = face })
  for _, name in ipairs(names) do
    if name:find("^[^.].*%.lua$") then load(dir .. "/" .. name, env, faults, register) end
  end
end

return M
