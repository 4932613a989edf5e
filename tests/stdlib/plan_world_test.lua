-- The world of a plan: every word of every part of the world, tried: what reads passes, all else is refused by itself.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things on purpose
---@diagnostic disable: missing-parameter -- parts of things on purpose
---@diagnostic disable: inject-field -- what must not be possible is tried
---@diagnostic disable: undefined-field -- words that are refused, whatever they are
---@diagnostic disable: redundant-parameter -- every word is tried with the same argument
---@diagnostic disable: assign-type-mismatch -- the recorder answers as it likes
local check = require "check"
local plan_world, world_of = require "engine.plan_world", require "engine.world"
local errors, task = require "errors", require "task"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- An object that answers every word, and notes it.
local function recorder(called, name)
  return setmetatable({}, { __index = function(self, word)
    if word == "config" or word == "world" then return { word } end
    return function(first, ...)
      called[#called + 1] = ("%s:%s"):format(name, word)
      if word == "with" then return self end
      return first == self and { word, ... } or { word, first, ... }
    end
  end })
end

local function stage()
  local called = {}
  local function opens(name) return function() return recorder(called, name) end end
  local openers = {
    repository = opens "repository", forge = opens "forge", registry = opens "registry", target = opens "target",
    containers = opens "containers", cluster = opens "cluster", charts = opens "charts",
    ensure_image = function() table.insert(called, "ensure_image") return {} end,
    verify = function(list)
      for _, each in ipairs(list) do called[#called + 1] = each.http and "http check" or "another check" end
      return true
    end,
    notify = function() table.insert(called, "notify") return true end,
    remove_images = function() table.insert(called, "remove_images") return true end,
    module = function(name) return setmetatable({}, { __index = function(_, word)
      return function(...)
        called[#called + 1] = name .. "." .. word
        return { ... }
      end
    end }) end,
  }
  return world_of.of({ state = "/nowhere" }, plan_world.of(openers)), called
end

local function refused(value, err, word)
  eq(value, nil, word)
  ok(errors.is(err, "denied"), ("%s is refused: %s"):format(word, tostring(err)))
  has(err.message, "a plan changes nothing")
end

-- What stands for an argument of each word.
local function try(object, word, ...) return object[word](object, ...) end

test("what changes a part of the world is refused, whoever calls it, and never gets there", function()
  local world, called = stage()
  local tried = {
    repository = { world.repository {}, "archive checkout" },
    registry = { world.registry "r", "tag delete copy_from push_blob push_manifest engine_auth anything" },
    forge = { world.forge {}, "set_status deploy set_deployment_status ask follow anything" },
    target = { world.target {}, "apply wait settle failed destroy anything" },
    containers = { world.containers "/s", "pull anything" },
    cluster = { world.cluster "c", "create replace patch delete anything" },
    charts = { (world.charts --[[@as any]])({}), "send anything" },
  }
  for part, case in pairs(tried) do
    for word in case[2]:gmatch("%S+") do
      local value, err = try(case[1], word, "x")
      refused(value, err, part .. ":" .. word)
    end
  end
  for _, method in ipairs { "POST", "PUT", "PATCH", "DELETE", "post" } do
    local value, err = world.registry "r":call(method, "/v2/")
    refused(value, err, "registry:call " .. method)
    value, err = world.containers "/s":call(method, "/containers")
    refused(value, err, "containers:call " .. method)
    value, err = world.containers "/s":send { method = method, path = "/" }
    refused(value, err, "containers:send " .. method)
    value, err = world.cluster "c":request { method = method, path = "/" }
    refused(value, err, "cluster:request " .. method)
    value, err = world.cluster "c":stream { method = method, path = "/" }
    refused(value, err, "cluster:stream " .. method)
    value, err = world.cluster "c":with({}):request { method = method, path = "/" }
    refused(value, err, "cluster:with:request " .. method)
  end
  local value, err = world.ensure_image {}
  refused(value, err, "ensure_image")
  value, err = world.notify({ "ops" }, {})
  refused(value, err, "notify")
  value, err = world.verify({ { command = { "x" } } }, { run = 1 })
  refused(value, err, "verify of a run")
  eq(world.remove_images, nil)
  eq(world.under({}).notify({}, {}), nil)
  local reached = {}
  for _, word in ipairs(called) do
    if word ~= "cluster:with" then reached[#reached + 1] = word end
  end
  eq(reached, {})
end)

test("what only reads passes, with its arguments", function()
  local world, called = stage()
  for part, words in pairs {
    repository = "refs head tags expire expect fetch left_out compare is_ancestor count log read",
    registry = "digest manifest labels platforms tags blob", forge = "compare pushed", target = "current",
    containers = "version answers list inspect tail", cluster = "get list watch follow logs resource path_of version",
    charts = "versions digest expire",
  } do
    local object = world[part] {}
    for word in words:gmatch("%S+") do
      local got = try(object, word, "argument")
      eq({ got[1], part == "target" and "argument" or got[2] }, { word, "argument" }, part .. ":" .. word)
    end
  end
  ok(world.registry "r":call("GET", "/v2/"))
  ok(world.cluster "c":request { path = "/" })
  called[1] = nil
  ok(world.verify({ { command = { "x" } }, { http = "http://x/" }, { job = {} } }, {}))
  eq(called[#called], "http check")
end)

test("the modules of policies and extensions: reads pass, the rest is refused", function()
  local world, called = stage()
  for name in ("http.post http.put http.patch http.delete fs.write fs.append fs.mkdir fs.remove fs.rename fs.temp_dir "
    .. "fs.lock proc.run proc.spawn serve.listen store.open kubernetes.client"):gmatch("%S+") do
    local module, word = name:match("^(%w+)%.(.+)$")
    local value, err = world.module(module)[word]("x", {})
    refused(value, err, name)
  end
  for _, options in ipairs { { url = "http://x/", method = "POST" }, { url = "x", sink = "f" }, "x" } do
    local value, err = world.module("http").request(options)
    refused(value, err, "http.request")
  end
  local value, err = world.module("http").get("http://x/", { sink = "/tmp/f" })
  refused(value, err, "http.get with sink")
  eq(called, {})
  ok(world.module("http").get("http://x/", {}))
  ok(world.module("http").request { url = "http://x/", method = "HEAD" })
  ok(world.module("fs").read("f"))
  ok(world.module("hash").random(3))
  eq(#called, 4)
end)

test("a program runs for what reads by its contract, in its task alone", function()
  local world, called = stage()
  local other
  plan_world.reading(function()
    ok(world.module("proc").run { "readlink", "x" })
    other = task.spawn(function() return world.module("proc").run { "x" } end)
    eq(other:join(), nil)
  end)
  local value, err = world.module("proc").run { "x" }
  refused(value, err, "proc.run afterwards")
  local fine = pcall(plan_world.reading, error, "raised")
  eq({ fine, (world.module("proc").run { "x" }) }, { false })
  eq(called, { "proc.run" })
end)

test("no table leads around it, and no function of it can be exchanged", function()
  local world = stage()
  local client = world.cluster "c"
  check.raises("this cannot be changed", function() client.get = print end)
  check.raises("modules are read-only", function() world.module("fs").read = print end)
  eq({ getmetatable(client), getmetatable(world.module "fs") }, { "cluster", "module" })
end)
