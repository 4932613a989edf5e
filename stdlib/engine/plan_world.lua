-- The world of a plan: the openers of another world, and nothing that they open changes anything.
--
-- What only reads passes; every other word answers "denied" by itself, whoever calls it: a policy, an extension, or a
-- part of the program that forgot about plans.
local errors, extensions, task = require "errors", require "extensions", require "task"

local M = {}

local READ_ONLY <const> = "a plan changes nothing"

local function denied(what) return errors.fail("denied", ("%s: %s"):format(READ_ONLY, what), { op = "plan" }) end

local function set(names)
  local found = {}
  for name in names:gmatch("%S+") do found[name] = true end
  return found
end

-- A view of an object: its plain fields, and those of its tables and words that `passes` names; a function there
-- stands for the word. Its other tables would lead around this.
local function view(object, kind, passes)
  if type(object) ~= "table" then return object end
  return setmetatable({}, {
    __index = function(_, name)
      local value, way = object[name], passes[name]
      if type(value) == "table" then return way and value or nil end
      if type(value) ~= "function" then return value end
      if way == true then return function(_, ...) return value(object, ...) end end
      if way then return function(_, ...) return way(object, ...) end end
      return function() return denied(("%s:%s"):format(kind, tostring(name))) end
    end,
    __newindex = function(_, name, value) -- credentials and the like, which an opener may set
      if type(value) == "function" or type(object[name]) == "function" then error("this cannot be changed", 2) end
      object[name] = value
    end,
    __metatable = kind,
  })
end

local function passing(names, more)
  local all = set(names)
  for name, way in pairs(more or {}) do all[name] = way end
  return all
end

local function only_reads(method) return method == nil or method:upper() == "GET" or method:upper() == "HEAD" end

-- ---- the parts of the world ----

-- What a repository object writes is its mirror, which a plan has in a folder of its own.
local function repository(object)
  return setmetatable({}, {
    __index = function(_, name)
      local value = object[name]
      if type(value) ~= "function" then return type(value) ~= "table" and value or nil end
      if name == "archive" or name == "checkout" then return function() return denied("repository:" .. name) end end
      return function(_, ...) return value(object, ...) end
    end,
    __newindex = function() error("this cannot be changed", 2) end,
    __metatable = "repository",
  })
end

local REGISTRY <const> = passing("digest manifest labels platforms tags blob address path_of failure config", {
  call = function(object, method, ...)
    if only_reads(method) then return object:call(method, ...) end
    return denied("registry:call " .. tostring(method))
  end,
})

local FORGE <const> = passing "compare pushed quota next_poll"

local at_reading = {} ---@type table<integer, true> Tasks that do what only reads, by what it is.

---Calls fn(...), which only reads, by what it is: a target's `current`, a source's poll. Programs may be run for it.
---@async
---@param fn fun(...): any...
---@param ... any
---@return any...
function M.reading(fn, ...)
  local id = assert(task.current())
  local outer = at_reading[id]
  local _ <close> = task.defer(function() at_reading[id] = outer end)
  at_reading[id] = true
  return fn(...)
end

local TARGET <const> = {
  current = function(object) return M.reading(object.current, object) end,
  plan = function(object, request) return M.reading(object.plan, object, request) end,
}

local CONTAINERS <const> = passing("version answers list inspect tail", {
  call = function(object, method, ...)
    if only_reads(method) then return object:call(method, ...) end
    return denied("containers:call " .. tostring(method))
  end,
  send = function(object, call)
    if only_reads(call.method) then return object:send(call) end
    return denied("containers:send " .. tostring(call.method))
  end,
})

local cluster ---@type fun(object: any): any

local CLUSTER <const> = passing("get list watch follow logs log_tail resource path_of version minor_version close", {
  request = function(object, request)
    if only_reads(request.method) then return object:request(request) end
    return denied("cluster:request " .. tostring(request.method))
  end,
  stream = function(object, request)
    if only_reads(request.method) then return object:stream(request) end
    return denied("cluster:stream " .. tostring(request.method))
  end,
  with = function(object, patience) return cluster(object:with(patience)) end,
})

function cluster(object) return view(object, "cluster", CLUSTER) end

-- The checks that only read: an HTTP request does, what a command or a Job does nobody knows.
local function readable(list)
  local some = {}
  for _, check in ipairs(list) do
    if check.http then some[#some + 1] = check end
  end
  return some
end

-- ---- modules ----

local function refusing(module, passes)
  return setmetatable({}, {
    __index = function(_, name)
      local value, way = module[name], passes[name]
      if type(value) ~= "function" or way == true then return value end
      if way then return function(...) return way(value, ...) end end
      return function() return denied(name) end
    end,
    __newindex = function() error("modules are read-only", 2) end,
    __metatable = "module",
  })
end

-- A request that reads may still write what it reads into a file.
local function into_memory(options)
  return type(options) ~= "table" or options.sink == nil
end

local function reading(fn, url, options, ...)
  if into_memory(options) then return fn(url, options, ...) end
  return denied "http: option 'sink' writes a file"
end

local MODULES <const> = {
  http = passing("resolve expect", {
    get = reading, head = reading,
    request = function(fn, options, ...)
      if type(options) == "table" and only_reads(options.method) and into_memory(options) then
        return fn(options, ...)
      end
      return denied("http.request " .. tostring(type(options) == "table" and options.method))
    end,
  }),
  fs = passing "read list walk stat exists join watch",
  proc = passing("check", {
    run = function(fn, spec)
      if at_reading[task.current() or 0] then return fn(spec) end
      return denied "proc.run"
    end,
  }),
  serve = {},
  store = passing("blob", {
    open = function(fn, path, options)
      if path == ":memory:" or type(options) == "table" and options.readonly then return fn(path, options) end
      return denied "store.open"
    end,
  }),
  kubernetes = passing("path", {
    open = function(fn, ...)
      local client, err = fn(...)
      return client and cluster(client), err
    end,
  }),
}

---A public module as a plan has it.
---@param name string
---@param module table
---@return table
function M.module(name, module)
  local passes = MODULES[name]
  return passes and refusing(module, passes) or module
end

-- ---- the world ----

---Openers of a world that changes nothing, made of those of another one.
---@param open WorldOpeners
---@return WorldOpeners
function M.of(open)
  local own = {
    repository = function(app, world) return repository(open.repository(app, world)) end,
    forge = function(app, world) return open.forge and view(open.forge(app, world), "forge", FORGE) end,
    ensure_image = function() return denied "building an image" end,
    registry = function(name, world) return view(open.registry(name, world), "registry", REGISTRY) end,
    target = function(environment, world)
      local target, err = open.target(environment, world)
      return target and view(target, "target", TARGET), err
    end,
    containers = open.containers
      and function(socket, world) return view(open.containers(socket, world), "containers", CONTAINERS) end,
    verify = function(list, request, world)
      if request.run then return denied "checking a release" end
      return open.verify(readable(list), request, world)
    end,
    cluster = function(name, world)
      local client, err = open.cluster(name, world)
      return client and cluster(client), err
    end,
    notify = function() return denied "a notification" end,
    module = function(name, world) return M.module(name, open.module and open.module(name, world) or require(name)) end,
  }
  for _, opener in ipairs(extensions.all "opener") do
    local reads = passing(table.concat(opener.reads or {}, " "))
    own[opener.name] = function(what, world)
      local object, err = open[opener.name](what, world)
      return object and view(object, opener.name, reads), err
    end
  end
  return own --[[@as WorldOpeners]]
end

return M
