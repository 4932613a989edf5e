-- The public modules as policies see them: the same names, with every effect journaled.
--
-- In a watch, reading works directly and writing is refused. In a run, reading and writing are steps, and values that
-- differ each time (the clock, random bytes) are recorded. Pure functions pass through.
local context, sys = require "context", require "sys"

local M = {}

-- What each function is: pure, value (recorded, free), read or write (a step), or a function that makes the wrapper.
local special = {}

local MODULES <const> = {
  errors = { new = "pure", fail = "pure", is = "pure", wrap = "pure" },
  fs = {
    read = "read", list = "read", stat = "read", exists = "read", join = "pure",
    write = "write", append = "write", mkdir = "write", remove = "write", rename = "write",
  },
  hash = {
    sha256 = "pure", hmac_sha256 = "pure", equal = "pure", hex = "pure", unhex = "pure", base64 = "pure",
    unbase64 = "pure", random = "value",
  },
  http = {
    get = "read", head = "read", post = "write", put = "write", patch = "write", delete = "write",
    request = function(...) return special.http_request(...) end, expect = "pure",
  },
  json = { decode = "pure", encode = "pure", null = "pure", array = "pure", is_array = "pure" },
  log = { debug = "pure", info = "pure", warn = "pure", error = "pure", redact = "pure" },
  proc = {
    run = function(...) return special.proc_run(...) end, spawn = function(...) return special.live(...) end,
    check = "pure",
  },
  semver = {
    parse = "pure", compare = "pure", satisfies = "pure", sort = "pure", tag = "pure", allows = "pure",
  },
  task = {
    spawn = function() return special.spawn end, all = function() return special.all end,
    deadline = "pure", signal = "pure",
  },
  time = {
    now = "value", monotonic = "value", sleep = function() return special.sleep end, parse_iso = "pure", words = "pure",
    iso = function(_, fn) return function(at) return fn(at or M.require("time").now()) end end,
    clock = function(_, fn) return function(at) return fn(at or M.require("time").now()) end end,
  },
  yaml = { decode = "pure", decode_all = "pure", encode = "pure" },
}

local function asking(name)
  local c = context.current()
  if not c then error(name .. " in a policy works inside watch and run", 3) end
  return c
end

-- An HTTP answer in the journal is its plain data; what comes back is an answer again.
local function as_data(value, ...)
  if type(value) == "table" and getmetatable(value) == "http.answer" then
    return { ["$answer"] = require("http_answer").plain(value) }, ...
  end
  return value, ...
end

local function as_answer(value, ...)
  if type(value) == "table" and value["$answer"] then return require("http_answer").revive(value["$answer"]), ... end
  return value, ...
end

local function effect(name, fn, writes, root)
  return function(...)
    local c = asking(name)
    if c.mode == "watch" and writes then error(name .. " changes things, and watch only reads: do it in run", 2) end
    if c.mode ~= "run" then return fn(...) end
    local args = table.pack(...)
    local function perform() return as_data(fn(table.unpack(args, 1, args.n))) end
    return as_answer(c.steps:perform(name, root or args, perform))
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

-- Files of a policy live in a folder of its app; nothing else on the machine is readable from a script.
local OPTIONS_AT <const> = {
  read = 2, list = 2, stat = 2, exists = 2, write = 3, append = 3, mkdir = 2, remove = 2, rename = 3,
}

local function rooted(fname, fn)
  return function(...)
    local args = table.pack(...)
    local place = asking("fs." .. fname).place
    local root = place:folder()
    local at, options = OPTIONS_AT[fname], {}
    for k, v in pairs(args[at] or {}) do options[k] = v end
    options.root = root
    args[at] = options
    return fn(table.unpack(args, 1, math.max(args.n, at)))
  end
end

function special.http_request(name, fn)
  local reading, writing = effect(name, fn, false), effect(name, fn, true)
  return function(request)
    local method = type(request) == "table" and request.method or "GET"
    if method == "GET" or method == "HEAD" then return reading(request) end
    return writing(request)
  end
end

-- What a command does is the author's business: a watch may run one that only looks.
function special.proc_run(name, fn) return effect(name, fn, false) end

function special.live(name, fn)
  return function(...)
    if asking(name).mode == "run" then
      error(name .. " gives a live handle, which no journal can answer for after a crash: use proc.run", 2)
    end
    return fn(...)
  end
end

function special.spawn(fn, ...)
  local task, c = require "task", asking("task.spawn")
  if type(fn) ~= "function" then error("usage: task.spawn(fn, ...)", 2) end
  local join = c.steps and c.steps:branch()
  return task.spawn(function(...)
    if join then join(task.current()) end
    return context.with(c, fn, ...)
  end, ...)
end

function special.all(fns)
  local task, c, wrapped = require "task", asking("task.all"), {}
  for i, fn in ipairs(fns) do
    local join = c.steps and c.steps:branch()
    wrapped[i] = function()
      if join then join(task.current()) end
      return context.with(c, fn)
    end
  end
  return task.all(wrapped)
end

function special.sleep(seconds)
  local c = asking("time.sleep")
  if c.steps then return c.steps:sleep(seconds) end
  return require("time").sleep(seconds)
end

local made = {}

---What `require` gives a policy.
---@param name string
---@return table module
function M.require(name)
  if made[name] then return made[name] end
  local shape = MODULES[name]
  if not shape then
    error(("a policy cannot require '%s'; it can require errors, fs, hash, http, json, log, proc, semver, task, time "
      .. "and yaml"):format(tostring(name)), 2)
  end
  local module, face = require(name), {}
  for fname, kind in pairs(shape) do
    local fn, full = module[fname], name .. "." .. fname
    if name == "fs" and kind ~= "pure" then fn = rooted(fname, fn) end
    if type(kind) == "function" then
      face[fname] = kind(full, fn)
    elseif kind == "pure" then
      face[fname] = fn
    elseif kind == "value" then
      face[fname] = value(full, fn)
    else
      face[fname] = effect(full, fn, kind == "write")
    end
  end
  made[name] = setmetatable({}, {
    __index = function(_, k)
      local v = rawget(face, k)
      if v == nil then error(("%s has no function '%s' in policies"):format(name, tostring(k)), 2) end
      return v
    end,
    __newindex = function() error("modules are read-only", 2) end,
    __metatable = "module",
  })
  return made[name]
end

---The position of the policy line that called, for refusals: skips frames of the program itself.
---@return string? file
---@return integer? line
function M.caller()
  for level = 2, 12 do
    local where = sys.where(level)
    if where == "" then return nil end
    local file, line = where:match("^(.-):(%d+)$")
    if file and not file:match("^%.*stdlib/") and not file:match("/stdlib/") then return file, tonumber(line) end
  end
end


return M
