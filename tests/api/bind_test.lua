-- What C reads of a script's tables: the raw fields, once. A metatable that changes the table under C's hands, or
-- that answers with other strings, is never asked; a weak table loses nothing while C works.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, gzip, http, json, log, proc = require "fs", require "gzip", require "http", require "json", require "log",
  require "proc"
local semver, store, sys, task = require "semver", require "store", require "base.sys", require "task"
local yaml = require "yaml"
local httpd = require "fixture.httpd"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises

-- Garbage of all sizes, so that the collector runs and freed memory is used again.
local function churn()
  for i = 1, 40 do
    local _ = { ("%08d"):format(i):rep(i), { i }, ("x"):rep(i * 97) }
  end
end

local asked = 0

-- The fields in a table whose metatable does everything that could hurt: answers with other strings, empties and
-- fills the table, runs the collector. Tables inside are as evil.
local function evil(fields)
  local t, meta = {}, { __mode = "kv" }
  local function hurt()
    asked = asked + 1
    for key in next, fields do rawset(t, key, nil) end
    churn()
    for key in next, fields do rawset(t, key, ("other%d"):format(asked):rep(50)) end
  end
  for _, event in ipairs { "__index", "__newindex", "__len", "__pairs", "__eq", "__tostring", "__concat", "__call" } do
    meta[event] = function()
      hurt()
      if event == "__len" then return 3 end
      if event == "__pairs" then return next, { other = "other" }, nil end
      return ("other"):rep(60)
    end
  end
  local inner = {} -- what a weak table would not keep alive
  for key, value in next, fields do
    if type(value) == "table" then
      value = evil(value)
      inner[#inner + 1] = value
    end
    rawset(t, key, value)
  end
  return setmetatable(t, meta), inner
end

-- A body that shows the request: its headers came in whatever order their table has.
local function in_order(body)
  local lines = {}
  for line in tostring(body):gmatch("[^\r\n]+") do lines[#lines + 1] = line end
  table.sort(lines)
  return lines
end

-- What a call gave, as data that is the same for two calls that did the same.
local function outcome(called, value, more)
  if type(value) == "userdata" and tostring(value) ~= "null" then return { called, "userdata" } end
  if not called then return { called, tostring(value):gsub("^.-:%d+: ", "") } end
  if value == nil then return { called, nil, type(more) == "table" and more.code or more } end
  if type(value) == "table" and rawget(value, "status") then
    return { called, value.status, in_order(value.body), value.etag }
  end
  if type(value) == "table" and rawget(value, "code") then return { called, value.code, value.stdout, value.stderr } end
  if type(value) == "table" and rawget(value, "pid") then return { called, "child" } end
  if type(value) == "table" and rawget(value, "handle") then return { called, "handle" } end
  return { called, value, more }
end

local function close(value)
  if type(value) == "table" and type(value.close) == "function" then value:close() end
  if type(value) == "userdata" and value ~= json.null and value.close then value:close() end
end

-- Calls with plain options and with evil ones, which hold the same.
local function compare(name, call, options)
  local good = table.pack(pcall(call, options))
  close(good[2])
  local before = asked
  local bad = table.pack(pcall(call, (evil(options))))
  close(bad[2])
  eq(outcome(table.unpack(bad, 1, bad.n)), outcome(table.unpack(good, 1, good.n)), name)
  eq(asked, before, name .. ": a metatable was asked")
end

local dir = ok(fs.temp_dir { prefix = "moontide-bind-" })
check.at_end(function() dir:close() end)
local path = dir.path .. "/a"
local PEM <const> = "tests/fixture/none.pem"

-- The options that a call's usage, or its class in the stdlib, names.
local function named(call, module, class)
  local names = {}
  if class then
    local text = ok(sys.embedded("stdlib/" .. module .. ".lua")):match("%-%-%-@class " .. class .. "\n(.-)\n\n")
    for name in text:gmatch("%-%-%-@field ([%l_]+)") do names[name] = true end
  else
    local _, message = pcall(call, { no_option_at_all = 1 })
    for name in tostring(message):match("usage: .*{([^{}]*)}"):gmatch("[%l_]+") do names[name] = true end
  end
  return names
end

local db = ok(store.open(":memory:"))

-- Each primitive with a good value for each of its options, and what always comes along.
local function primitives()
  local url = httpd.open():to("echo")
  local big = ("body "):rep(4000)
  return {
    {
      name = "http.request", call = http.request, module = "http", class = "HttpOptions",
      always = { url = url, method = "POST" },
      options = {
        auth = { user = ("name"):rep(20), password = ("secret"):rep(20) }, body = big, body_file = path, ca = PEM,
        cert = PEM, connect_timeout = 5, connect_to = httpd.open().url:sub(8), etag = ('"tag"'):rep(9),
        headers = { ["X-One"] = ("one"):rep(30), ["X-Many"] = { ("two"):rep(30), ("three"):rep(30) }, ["X-N"] = 7 },
        idle_timeout = 5, insecure = true, key = PEM, max_body = 1 << 20, method = "PUT", redirects = 2,
        sink = dir.path .. "/sink", stream = false, timeout = 20, unix = dir.path .. "/no.sock", url = url,
      },
      more = { { auth = { bearer = ("token"):rep(40) } }, { body = { a = { 1, 2 }, b = ("x"):rep(90) } } },
    },
    {
      name = "proc.run", call = proc.run, module = "proc", class = "ProcSpec",
      always = { "/bin/sh", "-c", "cat; echo $0 $X " .. ("long"):rep(40) },
      options = {
        cwd = dir.path, env = { X = ("value"):rep(30) }, inherit = { "HOME", "PATH" }, stdin = ("in"):rep(200),
        stdout = { file = dir.path .. "/out", append = true }, stderr = { file = dir.path .. "/err" }, timeout = 20,
        grace = 1, max_output = 5000, on_line = function() churn() end,
      },
      more = { { stdin = { file = path } }, { stdout = "capture", stderr = "stdout" } },
    },
    { name = "proc.spawn", call = proc.spawn, always = { "/bin/cat", "-" }, options = {}, more = { { stdin = "x" } } },
    {
      name = "fs.read", call = function(o) return fs.read(path, o) end,
      options = { max = 100, root = "/", offset = 1, length = 2 },
    },
    {
      name = "fs.write", call = function(o) return fs.write(path, "text", o) end,
      options = { mode = tonumber("600", 8), root = "/", sync = false },
    },
    {
      name = "fs.append", call = function(o) return fs.append(path, "", o) end,
      options = { mode = tonumber("600", 8), root = "/", sync = true },
    },
    { name = "fs.list", call = function(o) return fs.list("/proc/tty", o) end, options = { root = "/", max = 9 } },
    { name = "fs.stat", call = function(o) return (fs.stat(path, o) or {}).size end,
      options = { root = "/", follow = false } },
    {
      name = "fs.mkdir", call = function(o)
        fs.remove(dir.path .. "/d")
        return fs.mkdir(dir.path .. "/d", o)
      end,
      options = { root = "/", mode = tonumber("700", 8), parents = true },
    },
    { name = "fs.remove", call = function(o) return fs.remove(dir.path .. "/none", o) end,
      options = { root = "/", recursive = true } },
    {
      name = "fs.rename", call = function(o) return fs.rename(path, path, o) end,
      options = { root = "/", replace = false, sync = false },
    },
    { name = "fs.lock", call = function(o) return fs.lock(dir.path .. "/lock", o) end,
      options = { root = "/", shared = true } },
    { name = "fs.temp_dir", call = fs.temp_dir, options = { dir = dir.path, prefix = ("p"):rep(30) } },
    {
      name = "store.open", call = function(o) return store.open(dir.path .. "/db", o) end,
      options = { readonly = false, durable = false, busy_timeout = 1, budget = 2, max_rows = 7,
        from = dir.path .. "/none" },
    },
    { name = "transaction", call = function(o) return db:transaction(function() churn() end, o) end,
      options = { durable = false } },
    {
      name = "task.start", call = function(o) return task.start(o, function() return "done" end):join() end,
      options = { name = ("name"):rep(8), detached = true, cpu = 5, memory = 1 << 24, timeout = 9 }, unnamed = true,
    },
    {
      name = "log.configure", call = log.configure,
      options = { level = "info", format = "json", color = "never", burst = 20 },
    },
    { name = "gzip.decode", call = function(o) return gzip.decode(ok(gzip.encode "text"), o) end,
      options = { max = 9 } },
    { name = "json.decode", call = function(o) return json.decode('{"a":null}', o) end,
      options = { null_as_nil = true, max = 100 } },
    { name = "json.encode", call = function(o) return json.encode({ 1, "\xff" }, o) end,
      options = { pretty = true, clean = true, max = 100 } },
    { name = "yaml.decode", call = function(o) return yaml.decode("a: ~", o) end,
      options = { marks = true, null_as_nil = true, kubernetes = true, max = 100, nodes = 20 } },
    { name = "yaml.decode_all", call = function(o) return yaml.decode_all("a: ~", o) end,
      options = { marks = true, null_as_nil = true, kubernetes = true, max = 100, nodes = 20 } },
    { name = "yaml.encode", call = function(o) return yaml.encode({ a = 1 }, o) end, options = { max = 100 } },
    {
      name = "yaml.encode_all", call = function(o) return yaml.encode_all({ { a = 1 } }, o) end,
      options = { max = 100 },
    },
    { name = "semver.allows", call = function(o) return semver.allows("all", "1.0.0", "1.1.0-a", o) end,
      options = { match_prerelease = false, match_tag = true } },
  }
end

local function with(always, more)
  local all = {}
  for key, value in pairs(always or {}) do all[key] = value end
  for key, value in pairs(more) do all[key] = value end
  return all
end

test("each option of each primitive is read raw, and no metatable is asked", function()
  ok(fs.write(path, "content of a file"))
  for _, p in ipairs(primitives()) do
    compare(p.name, p.call, with(p.always, {}))
    for key, value in pairs(p.options) do compare(p.name .. " " .. key, p.call, with(p.always, { [key] = value })) end
    for _, more in ipairs(p.more or {}) do compare(p.name, p.call, with(p.always, more)) end
  end
end)

test("every option that a primitive knows is among them", function()
  for _, p in ipairs(primitives()) do
    if not p.unnamed and p.name ~= "proc.spawn" and p.name ~= "semver.allows" then
      for name in pairs(named(p.call, p.module, p.class)) do
        if p.options[name] == nil then error(p.name .. ": no case for the option " .. name) end
      end
    end
  end
end)

test("an option that only a metatable has is none", function()
  local inherited = setmetatable({}, { __index = { timeout = "no number", no_option = 1, body = "x", root = 1 } })
  eq(ok(http.get(httpd.open():to("echo"), inherited)).status, 200)
  eq(fs.read(path, inherited), "text")
  raises("unknown option", fs.read, path, setmetatable({ no_option = 1 }, { __index = { root = "/" } }))
end)

-- A table of a script whose parts only the script's weak table knows.
local function weak(fields)
  return setmetatable(fields, { __mode = "kv" })
end

test("what a weak table holds stays while C works with it", function()
  local url = httpd.open():to("echo")
  for i = 1, 60 do
    local word = ("%03d"):format(i):rep(40)
    local answer = http.get(url, weak {
      auth = weak { user = "u" .. word, password = "p" .. word },
      headers = weak { ["X-" .. word] = weak { "a" .. word, "b" .. word } },
    })
    if answer then eq(answer.status, 200) end
    local list = {}
    for k = 1, 50 do list[("key %d %s"):format(k, word)] = weak { ("value "):rep(k) } end
    local text = ok(json.encode(weak(list)))
    ok(json.decode(text)) -- whatever the collector left of it
    list = {}
    for k = 1, 50 do list[("key %d %s"):format(k, word)] = weak { ("value "):rep(k) } end
    ok(yaml.encode(weak(list)))
    churn()
  end
end)

test("a marked list stays one when it is empty, inside of any table", function()
  eq(json.encode(setmetatable({ a = json.array() }, { __index = churn })), '{"a":[]}')
  eq(yaml.encode(setmetatable({ a = json.array() }, { __index = churn })), "a: []\n")
end)

test("the body of a streamed request stays while the answer is read", function()
  local answer <close> = ok(http.post(httpd.open():to("early", { ms = 100 }), ("0123456789abcdef"):rep(1 << 18), {
    stream = true, timeout = 20,
  }))
  local size, wrong = 0, false
  for _ = 1, 50 do churn() end
  local mega = {}
  for i = 1, 12 do mega[i] = ("z"):rep(1 << 20) .. i end -- the collector runs, and what it frees is used again
  for data in function() return answer:read() end do
    size, wrong = size + #data, wrong or data:find("z", 1, true) ~= nil
  end
  eq({ size, wrong, #mega }, { 4 << 20, false, 12 })
end)
