-- Handles: what a call hands out is its fields and methods, and never the class that all of its kind share.
---@diagnostic disable: access-invisible -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-return -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, facade, fs, hash = require "errors", require "base.facade", require "fs", require "hash"
local http = require "http"
local json, log, proc, semver = require "json", require "log", require "proc", require "semver"
local serve, store, task, yaml = require "serve", require "store", require "task", require "yaml"
local httpd = require "fixture.httpd"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises

-- Where a class could show.
local DOORS <const> = {
  "__index", "__newindex", "__metatable", "__close", "__gc", "__tostring", "__pairs", "__name", "__call", "new", "raw",
  "handle", "class", "meta",
}

-- The tables that a script reaches from a value, by its keys, its methods' names and its metatable.
local function reach(value, names, into)
  into = into or {}
  if type(value) ~= "table" and type(value) ~= "userdata" or into[value] then return into end
  into[value] = true
  local meta = getmetatable(value)
  if type(meta) == "table" and not (rawget(meta, "__pairs") and next(meta, "__pairs") == nil) then
    reach(meta, names, into)
  end
  for _, list in ipairs { DOORS, names or {} } do
    for _, name in ipairs(list) do
      local found, inner = pcall(function() return value[name] end)
      if found then reach(inner, names, into) end
    end
  end
  if type(value) == "table" then
    for key, inner in next, value do
      reach(key, names, into)
      reach(inner, names, into)
    end
  end
  return into
end

local dir = ok(fs.temp_dir())
check.at_end(function() dir:close() end)

local count = 0

local function path()
  count = count + 1
  return ("%s/%d"):format(dir.path, count)
end

-- One of each kind of object that a call of the public modules hands out.
local function handles()
  return {
    ["proc.spawn"] = function() return ok(proc.spawn { "/bin/cat" }) end,
    ["proc.run"] = function() return ok(proc.run { "/bin/true" }) end,
    ["proc.check"] = function() return (select(2, proc.check(ok(proc.run { "/bin/false" })))) end,
    ["fs.temp_dir"] = function() return ok(fs.temp_dir { dir = dir.path }) end,
    ["fs.lock"] = function() return ok(fs.lock(path())) end,
    ["fs.watch"] = function() return ok(fs.watch(dir.path)) end,
    ["fs.stat"] = function() return ok(fs.stat(dir.path)) end,
    ["fs.list"] = function() return { fs.list(dir.path) } end,
    ["http.get"] = function() return ok(http.get(httpd.open():to("etag"))) end,
    ["http.get stream"] = function() return ok(http.get(httpd.open():to("lines"), { stream = true })) end,
    ["http headers"] = function() return ok(http.get(httpd.open():to("multi"))).headers end,
    ["http error"] = function() return (select(2, http.get("http://127.0.0.1:1/"))) end,
    ["task.spawn"] = function() return task.spawn(function() end) end,
    ["task.signal"] = task.signal,
    ["log.sink"] = function() return log.sink(function() end) end,
    ["log.redactor"] = log.redactor,
    ["hash.new"] = hash.new,
    ["store.open"] = function() return ok(store.open(":memory:")) end,
    ["store.blob"] = function() return store.blob "x" end,
    ["serve.listen"] = function() return ok(serve.listen { unix = path(), handler = function() end }) end,
    ["errors.new"] = function() return errors.new("failed", "x") end,
    ["semver.parse"] = function() return ok(semver.parse "1.2.3") end,
    ["semver.policy"] = function() return ok(semver.policy "regexp:^v") end,
    ["json.decode"] = function() return json.decode '{"a":[1,{}],"b":null}' end,
    ["yaml.decode"] = function() return yaml.decode "a: [1, {}]" end,
    ["json.array"] = json.array,
  }
end

local METHODS <const> = {
  "read", "write", "wait", "kill", "lines", "close", "close_stdin", "join", "cancel", "done", "id", "notify", "update",
  "hex", "run", "row", "rows", "exec", "transaction", "match", "headers", "all", "json", "link", "port", "path", "etag",
}

test("two objects of a kind share no table that a script could change", function()
  for name, make in pairs(handles()) do
    local first, second = make(), make()
    ok(first, name)
    local seen, shared = reach(first, METHODS), {}
    for value in pairs(reach(second, METHODS)) do
      local empty = type(value) == "table" and next(value) == nil and getmetatable(value) == nil
      if seen[value] and type(value) == "table" and not empty then shared[#shared + 1] = tostring(value) end
    end
    eq(shared, {}, name)
    for _, object in ipairs { first, second } do
      local close = type(object) ~= "string" and select(2, pcall(function() return object.close end))
      if type(close) == "function" then close(object) end
    end
  end
end)

test("a handle cannot be given other methods", function()
  for name, make in pairs(handles()) do
    local object = make()
    local class = getmetatable(object)
    if type(class) == "table" then -- how it is iterated over, and nothing of the class
      local key, value = next(class)
      eq({ key, type(value), next(class, key) }, { "__pairs", "function" }, name)
    end
    if class ~= nil and type(object) == "table" then raises("protected metatable", setmetatable, object, {}) end
  end
  local child <close> = ok(proc.spawn { "/bin/cat" })
  raises("proc.handle cannot be changed (field read)", function() child.read = print end)
  eq({ child.raw, child.__index, child.program }, {})
  ok(child.pid > 1)
  check.has(tostring(child), "proc.handle: /bin/cat")
  raises("call it as proc.handle:kill(...)", function() child.kill({}, "TERM") end)
end)

test("a facade ends with its scope and prints its text, and its kind tells what it has", function()
  local closed = {}
  local make = facade.kind("thing", { "name" }, { say = function(self, x) return self.name .. x end }, {
    close = function(self) closed[#closed + 1] = self.name end,
    tostring = function(self) return "the thing " .. self.name end,
  })
  do
    local thing <close> = make { name = "a", secret = 1 }
    eq({ thing.name, thing.secret, thing:say "!", tostring(thing), getmetatable(thing) },
      { "a", nil, "a!", "the thing a", "thing" })
  end
  eq(closed, { "a" })
  eq(facade.shape("thing"), { fields = { "name" }, methods = { "say" } })
end)

test("a child ends when nobody holds its handle any more", function()
  local pid = ok(proc.spawn { "/bin/sleep", "1000" }).pid
  check.eventually(function()
    local _ = ("x"):rep(1 << 20)
    return not fs.exists("/proc/" .. pid .. "/cwd")
  end, 20)
end)
