-- Policies, tests and shared modules of others: whatever they try while they are tested, it fails clearly, nothing
-- happens outside, and the tests after it are run.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check, fs, serve, suite = require "check", require "fs", require "serve", require "testing.suite"
local test, eq, has, ok = check.test, check.eq, check.has, check.ok

-- A test that reaches for each of these; none may come back with what it wanted.
local REACHES <const> = {
  'io.open("MARK", "w")', 'os.execute("touch MARK")', 'os.remove("KEPT")', 'load("return 1")()', 'dofile("KEPT")',
  'debug.getregistry()', 'package.loaded.x()', 'coroutine.create(print)', 'collectgarbage()',
  'require "fs".write("MARK", "x")', 'require "fs".read("/etc/passwd")', 'require "fs".read("/proc/self/environ")',
  'require "proc".run { "/usr/bin/touch", "MARK" }', 'require "proc".spawn { "/usr/bin/touch", "MARK" }',
  'require "http".get("ADDRESS")', 'require "serve".listen {}', 'require "core.fs"', 'require "base.sys".exe()',
  'require "testing.worker"', 'require "simulation"', 'require "task".spawn(print)', 'require "shared.out"',
  'rawset(world, "push", 1)', 'setmetatable(world, {})', 'getmetatable(world).__index()', 'world.state.effects[1]()',
  'world.tested()', 'getmetatable("").__index = print', 'world.push(1)',
}

local function filled(text, dir, address)
  return (text:gsub("MARK", dir .. "/mark"):gsub("KEPT", dir .. "/kept"):gsub("ADDRESS", address))
end

-- A server that nobody may reach.
local function trap()
  local asked = { n = 0 }
  local server = ok(serve.listen { port = 0, handler = function()
    asked.n = asked.n + 1
    return { body = "reached" }
  end })
  check.defer(function() server:close(0) end)
  return "http://127.0.0.1:" .. server.port .. "/", asked
end

local function untouched(dir, asked)
  eq(fs.exists(dir .. "/mark"), false)
  eq(fs.read(dir .. "/kept"), "kept")
  eq(asked.n, 0)
end

test("a test reaches neither files nor programs, network or the program's own objects", function()
  local dir = suite.folder { kept = "kept", ["scripts/a_test.lua"] = "" }
  local address, asked = trap()
  ok(fs.mkdir(dir .. "/scripts/shared"))
  ok(require("proc").run { "ln", "-s", "/etc/hostname", dir .. "/scripts/shared/out.lua" })
  local lines = {}
  for i, code in ipairs(REACHES) do
    lines[i] = ("test(%q, function(world) %s end)"):format(i .. " " .. code, filled(code, dir, address))
  end
  lines[#lines + 1] = 'test("the end", function() equal(("x"):rep(2), "xx") end)'
  -- What is required is found before anything runs: by itself.
  local text = table.concat(lines, "\n"):gsub('require "shared.out"', 'require("shared" .. ".out")')
  ok(fs.write(dir .. "/scripts/a_test.lua", text))
  local result = suite.run(dir)
  has(result.stdout, ("1 passed, %d failed"):format(#REACHES))
  untouched(dir, asked)
  ok(fs.write(dir .. "/scripts/a_test.lua", 'local out = require "shared.out"'))
  result = suite.run(dir)
  has(result.stdout, "leads out of the scripts folder")
end)

test("a test's configuration leads to no code and no folder of this machine", function()
  local dir = suite.folder { kept = "kept", ["extensions/x.lua"] = "" }
  ok(fs.write(dir .. "/extensions/x.lua", filled('require("fs").write("MARK", "x")', dir, "")))
  ok(fs.mkdir(dir .. "/scripts"))
  for _, key in ipairs { "extensions", "scripts", "state", "journal", "on_change", "disturb", "listen", "hosts" } do
    ok(fs.write(dir .. "/scripts/a_test.lua", ([[
test("x", { %s = "%s/extensions" }, function(world) world:app("web", {}) world:settle() end)]]):format(key, dir)))
    has(suite.run(dir).stdout, ('a test\'\'s configuration has no "%s"; it may have builder,'):format(key))
  end
  untouched(dir, { n = 0 })
end)

test("neither do a policy, the answer that a test gives for the world, and a shared module", function()
  local address, asked = trap()
  local reach = [[
    local proc, http, fs = require "proc", require "http", require "fs"
    local tried = {}
    for _, fn in ipairs {
      function() return proc.run { "/usr/bin/touch", "MARK" } end, function() return http.get("ADDRESS") end,
      function() return http.post("ADDRESS", "x") end, function() return fs.read("/etc/passwd") end,
      function() return fs.read("../../../../etc/passwd") end, function() return fs.read("/proc/self/environ") end,
    } do
      local fine, value = pcall(fn)
      tried[#tried + 1] = fine and value ~= nil and "got it" or "no"
    end
  ]]
  local dir = suite.folder { kept = "kept" }
  for path, text in pairs {
    ["hostile.lua"] = [[
      local reach = require "shared.reach"
      return policy {
        watch = function(place)
          reach()
          return place:head()
        end,
        run = function(run, head)
          run:notify("tried %s", reach())
          run:step("inside", {}, function() return reach() end)
          require("http").get("https://answers.invalid/")
          run:release(run:image(head.commit))
        end,
      }]],
    ["shared/reach.lua"] = "return function()" .. reach .. " return table.concat(tried, ' ') end",
    ["shared/early.lua"] = reach .. " return {}",
    ["hostile_test.lua"] = [[
      test("a policy", function(world)
        local said
        world:answer("https://answers.invalid/", function()
          said = require("shared.reach")()
          return "x"
        end)
        local web = world:app("web", { environments = { staging = { policy = "hostile" } } })
        web:push("a")
        world:settle()
        equal(web:running("staging").commit, commit("a"))
        equal(said, "no no no no no no")
        has(world:told(), "tried no no no no no no")
      end)]],
    ["early_test.lua"] = 'require "shared.early" test("x", function() end)',
  } do
    ok(fs.mkdir(dir .. "/scripts/shared", { parents = true }))
    ok(fs.write(dir .. "/scripts/" .. path, filled(text, dir, address)))
  end
  local result = suite.run(dir)
  has(result.stdout, "ok 1 - x\n")
  has(result.stdout, "2 passed, 0 failed")
  untouched(dir, asked)
end)

local POLICY <const> = "return policy { watch = function(place) %s return place:head() end, "
  .. "run = function(run, head) run:release(run:image(head.commit)) end }"
local USES <const> = [[
test("%s", function(world)
  local web = world:app("web", { environments = { staging = { policy = "%s" } } })
  web:push("a")
  world:settle()
  equal(web:running("staging"), nil)
  assert(false, "the end")
end)
]]

test("what hangs, allocates for ever or catches every error ends, and the others go on", function()
  local spin = "while true do pcall(function() while true do end end) end"
  local eat = "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end"
  local dir = suite.folder {
    ["scripts/a_test.lua"] = spin, ["scripts/b_test.lua"] = eat,
    ["scripts/c_test.lua"] = ([[
test("spins", function() SPIN end)
test("eats", function() EAT end)
test("a pattern without end", function() (("a"):rep(100000)):find((".-"):rep(30) .. "b") end)
test("deep", function() local function f(n) return 1 + f(n) end f(1) end)
test("a table in itself", function(world) local t = {} t.t = t world:app("web", t) end)
test("the end", function() end)
]]):gsub("SPIN", spin):gsub("EAT", eat),
    ["scripts/spins.lua"] = POLICY:format(spin), ["scripts/eats.lua"] = POLICY:format(eat),
    ["scripts/d_test.lua"] = USES:format("watch spins", "spins") .. USES:format("watch eats", "eats"),
  }
  local result = suite.run(dir)
  has(result.stdout, "# scripts/a_test.lua\nnot ok 1 - the file loads\n  ---\n"
    .. "  message: 'its own code used more than 5 s of processor time'\n  at: 'scripts/a_test.lua:1'")
  has(result.stdout, "# scripts/b_test.lua\nnot ok 2 - the file loads\n  ---\n"
    .. "  message: 'its own code used more than 256 MiB of memory'\n  at: 'scripts/b_test.lua:1'")
  has(result.stdout, "at: 'scripts/c_test.lua:1'")
  has(result.stdout, "at: 'scripts/c_test.lua:2'")
  has(result.stdout, "at: 'scripts/c_test.lua:3'")
  has(result.stdout, "ok 8 - the end\n")
  local ends = select(2, result.stdout:gsub("message: 'the end'", ""))
  eq(ends, 2, result.stdout)
end)

test("what goes on for ever without using anything up is ended in real time, with the line where it was", function()
  local result = suite.text([[
test("for ever", function(world)
  while true do
    world:pass("1d")
  end
end)
test("the end", function() end)
]], { "--timeout", "2" })
  has(result.stdout, "'it went on for too long and was ended'\n  at: 'scripts/a_test.lua:3'\n  story: |2-")
  has(result.stdout, "ok 2 - the end")
end)

test("what a test answers for the world is bounded as the test is, and gets plain data", function()
  local dir = suite.folder {
    ["scripts/asks.lua"] = POLICY:format("local fine, err = pcall(require('http').get, 'https://x/') "
      .. "if not fine then return nil, tostring(err) end"),
    ["scripts/a_test.lua"] = [[
local function reason(world, answer)
  world:answer("https://x/", answer)
  local web = world:app("web", { environments = { staging = { policy = "asks" } } })
  web:push("a")
  world:poll()
  return web:decision("staging").reason
end
test("eats", function(world)
  has(reason(world, function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end), "memory")
end)
test("spins", function(world)
  has(reason(world, function() while true do pcall(function() while true do end end) end end), "processor time")
end)
test("plain", function(world)
  reason(world, function(request)
    request.headers.changed, request.url = 1, nil
    return setmetatable({}, { __index = function() error("called") end })
  end)
end)]],
  }
  has(suite.run(dir).stdout, "3 passed, 0 failed")
end)

test("stories do not multiply: one that is told many times tells no other ones", function()
  local result = suite.text [[
test("everywhere in everywhere", function() everywhere(function() everywhere(function() end) end) end)
test("explore in everywhere", function() everywhere(function() explore(1, 1000000) end) end)
test("everywhere in explore", function()
  explore(1, 1000000, { invariant = function() everywhere(function() end) end })
end)
test("one after the other", function() everywhere(function() end) everywhere(function() end) end)
]]
  has(result.stdout, "everywhere inside of everywhere: a story tells no other ones")
  has(result.stdout, "explore inside of everywhere")
  has(result.stdout, "everywhere inside of explore")
  has(result.stdout, "1 passed, 3 failed")
end)

test("escapes, forged lines and other bytes are shown, not printed", function()
  local result = suite.text [[
test("x\27]0;title\7\nok 9 - forged \226\128\174 \255", function(world)
  print("\27[2J\nok 8 - forged too")
  world:freeze("\27[2J\n  ...\nok 6 - in the story \255", "\27[31mann\n1 passed, 0 failed")
  error("\27[31m\n  ...\nok 7 - forged as well\n\255")
end)
]]
  eq(result.stdout:find("[\0-\9\11-\31\127]"), nil)
  ok(utf8.len(result.stdout))
  eq(select(2, ("\n" .. result.stdout):gsub("\nok ", "")), 0)
  eq(select(2, ("\n" .. result.stdout):gsub("\n  %.%.%.", "")), 1)
  has(result.stdout, "0 passed, 1 failed")
end)
