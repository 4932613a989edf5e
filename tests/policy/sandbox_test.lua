-- The world of a policy: what is there (a golden list), what is not, and what cannot be changed or outlasted.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local policy = require "policy.load"
local test, eq, ok, has, fails = check.test, check.eq, check.ok, check.has, check.fails

-- Loads a chunk as the body of a policy's watch, asks it, and gives what it returned.
local function ask(body, timeout)
  local text = "return policy { run = function() end, watch = function(place)\n" .. body .. "\nend }"
  local compiled, fault = policy.compile("probe", text, "scripts/probe.lua")
  if not compiled then return nil, fault.message end
  local place = require("policy.place").maker { state = "/proc/nonexistent" }({ name = "probe" }, { name = "staging" })
  local change, reason = policy.ask(compiled, place, timeout or 2)
  if change then return change.key end
  return nil, tostring(reason)
end

local GOLDEN <const> = [[
_G _VERSION assert error getmetatable ipairs math math.abs math.acos math.asin math.atan math.ceil math.cos math.deg
math.exp math.floor math.fmod math.huge math.log math.max math.maxinteger math.min math.mininteger math.modf math.pi
math.rad math.random math.sin math.sqrt math.tan math.tointeger math.type math.ult next os os.clock os.time pairs pcall
policy print rawequal rawget rawlen rawset require select setmetatable string string.byte string.char string.find
string.format string.gmatch string.gsub string.len string.lower string.match string.pack string.packsize string.rep
string.reverse string.sub string.unpack string.upper table table.concat table.insert table.move table.pack table.remove
table.sort table.unpack tonumber tostring type utf8 utf8.char utf8.charpattern utf8.codepoint utf8.codes utf8.len
utf8.offset xpcall]]

test("the environment holds exactly what the golden list says", function()
  local env, names = policy.environment(), { "_G" }
  eq(env._G, env)
  for name in pairs(policy.LIBRARIES) do eq(type(env[name]), "table") end -- they are copied when they are first named
  for k, v in next, env do
    names[#names + 1] = k
    if type(v) == "table" and v ~= env then
      for name in next, v do names[#names + 1] = k .. "." .. name end
    end
  end
  table.sort(names)
  eq(table.concat(names, " "), (GOLDEN:gsub("\n", " ")))
end)

test("whoever looks at the environment as a table finds all of it, by any of its names", function()
  for _, word in ipairs { "_G", "_ENV" } do
    eq(ask(([[
      local names, fresh = {}, rawget(WORD, "xpcall") ~= nil and rawget(WORD, "_VERSION") ~= nil
      for name in next, WORD do names[#names + 1] = name end
      table.sort(names)
      return { key = tostring(fresh) .. " " .. table.concat(names, " ", 1, 5) } ]]):gsub("WORD", word)),
      "true _VERSION assert error getmetatable ipairs")
  end
  eq(ask("print = tostring return { key = print(1) .. rawget(_G, 'print')(2) }"), "12") -- before and after a look
  eq(ask("local g = _G; g.type = g.tostring return { key = type(3) }"), "3")
  local _, reason = ask("_G.invented = 1")
  has(reason, "assignment to undeclared variable 'invented'")
  eq(ask("return { key = print == tostring and 'kept' or 'fresh' }"), "fresh")
end)

test("nothing of the host is reachable by any known way", function()
  for _, attempt in ipairs {
    "return { key = tostring(io) }", "return { key = tostring(debug) }", "return { key = tostring(package) }",
    "return { key = tostring(load) }", "return { key = tostring(loadstring) }", "return { key = tostring(dofile) }",
    "return { key = tostring(collectgarbage) }", "return { key = tostring(coroutine) }",
    "return { key = os.getenv('HOME') }", "return { key = tostring(os.execute('true')) }",
    "return { key = string.dump(policy) }",
    "return { key = tostring(getmetatable('').__index.rep) }", "getmetatable('').__index = nil return { key = 'done' }",
    "setmetatable(_G, {}) return { key = 'done' }",
    "return { key = tostring(require 'core.sys') }", "return { key = tostring(require 'core.proc') }",
    "return { key = tostring(require 'base.sys') }", "return { key = tostring(require 'engine') }",
    "return { key = tostring(require 'store') }",
    "return { key = tostring(require 'base.prelude') }", "return { key = tostring(require 'config.load') }",
    "return { key = tostring(require '../../etc/passwd') }", "return { key = tostring(require(setmetatable({}, {}))) }",
    "require('http').get = nil return { key = 'done' }",
    "rawset(require('http'), 'get', print) return { key = tostring(require('http').get == print and nil) }",
    "setmetatable(require('json'), nil) return { key = 'done' }",
    "setmetatable({}, { __gc = function() end }) return { key = 'done' }",
    "setmetatable({}, { __mode = 'k' }) return { key = 'done' }",
    "local m = {} local t = setmetatable({}, m) m.__mode = 'k' return { key = type(t) }",
    "leaked = 1 return { key = 'done' }", "return { key = undefined_name }",
    "return { key = require('http').post('http://127.0.0.1:1/') and 'x' }",
    "require('fs').write('x', 'y') return { key = 'done' }",
    "require('fs').remove('x') return { key = 'done' }",
  } do
    local key, reason = ask(attempt)
    eq(key, nil, attempt)
    ok(reason and reason ~= "nothing to do", attempt)
  end
end)

test("a watch only reads: no command, no file as an option, no UNIX socket, no method but GET and HEAD", function()
  local url = "'http://127.0.0.1:1/'"
  for attempt, word in pairs {
    ["require('proc').run { 'true' }"] = "watch only reads", ["require('proc').spawn { 'true' }"] = "watch only reads",
    ["require('http').get(" .. url .. ", { sink = 'x' })"] = "option 'sink'",
    ["require('http').get(" .. url .. ", { body_file = 'x' })"] = "option 'body_file'",
    ["require('http').get(" .. url .. ", { ca = 'x' })"] = "option 'ca'",
    ["require('http').get(" .. url .. ", { cert = 'x', key = 'x' })"] = "is about a file",
    ["require('http').head(" .. url .. ", { unix = '/run/docker.sock' })"] = "goes over the network",
    ["require('http').get(" .. url .. ", setmetatable({ unix = '/x' }, { __index = { sink = 'x' } }))"] = "the network",
    ["require('http').put(" .. url .. ", 'x')"] = "watch only reads",
    ["require('http').patch(" .. url .. ")"] = "watch only reads",
    ["require('http').delete(" .. url .. ")"] = "watch only reads",
    ["require('http').request { url = " .. url .. ", method = 'OPTIONS' }"] = "watch only reads",
    ["require('http').request { url = " .. url .. ", method = 'GET', unix = '/x' }"] = "goes over the network",
  } do
    local key, reason = ask(attempt .. " return { key = 'done' }")
    eq(key, nil, attempt)
    has(reason, word)
  end
end)

test("what one policy does to its tables another does not see", function()
  eq(ask("string.upper = function() return 'EVIL' end math.floor = nil table.sort = nil return { key = 'x' }"), "x")
  eq(ask("return { key = ('ok'):upper() .. math.floor(1.5) .. string.upper('a') }"), "OK1A")
  eq((("host"):upper()), "HOST")
end)

test("every question finds a fresh instance: nothing at file level survives the one before", function()
  local compiled = policy.compile("probe", [[
    local asked, kept = 0, {}
    return policy { run = function() end, watch = function()
      asked = asked + 1
      kept[#kept + 1] = ("x"):rep(1 << 20) .. #kept
      string.asked = (string.asked or 0) + 1
      return { key = ("%d %d %d"):format(asked, #kept, string.asked) }
    end }]], "scripts/probe.lua")
  local place = require("policy.place").maker { state = "/proc/nonexistent" }({ name = "probe" }, { name = "staging" })
  for _ = 1, 100 do eq(policy.ask(compiled, place, 5).key, "1 1 1") end -- together more than a watch may hold
end)

test("at file level a policy has nothing to read and nobody to ask", function()
  for _, line in ipairs { "math.random()", "require('time').now()", "require('fs').read('x')", "os.time()" } do
    local compiled, fault = policy.compile("probe", line .. "\nreturn policy { watch = print, run = print }",
      "scripts/probe.lua")
    eq(compiled, nil, line)
    has(fault.message, "inside watch and run")
  end
end)

test("a file is one chunk: no text closes what the program wraps around it", function()
  for _, text in ipairs {
    "return 1 end end leaked = 1 return function() return function()",
    "end return policy { watch = print, run = print } function f()",
  } do
    local compiled, fault = policy.compile("probe", text, "scripts/probe.lua")
    eq(compiled, nil, text)
    eq({ fault.file, fault.line }, { "scripts/probe.lua", 1 })
  end
  local last = policy.compile("probe", "return policy { watch = print, run = print } -- the end", "scripts/probe.lua")
  eq(last.queue, "latest")
end)

test("files are those of the app's own folder", function()
  for _, path in ipairs { "/etc/passwd", "../../journal.db", "a/../../b" } do
    local _, reason = ask(([[local text, err = require('fs').read(%q)
      if text then return { key = text } end
      error(err, 0)]]):format(path))
    ok(reason, path)
  end
end)

test("loops, patterns, memory, recursion and handlers that spin all end, and nobody else waits for them", function()
  local task, time = require "task", require "time"
  local worst, stop = 0, false
  local ticker = task.spawn(function()
    while not stop do
      local before = time.cpu()
      time.sleep(0.005)
      worst = math.max(worst, time.cpu() - before)
    end
  end)
  for _, bomb in ipairs {
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "local function f() return pcall(f) end while true do f() end",
    "local function f() f() end f()",
    "local function f() return f() end f()",
    "xpcall(error, function() while true do end end) while true do end",
    "local s = ('a'):rep(30) while true do s:find(('a?'):rep(30) .. ('a'):rep(30)) end",
    "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
    "local s = 'x' while true do s = s .. s end",
    "return { key = ('x'):rep(1 << 40) }",
    "return { key = ('%99.99f'):rep(1000000):format() }",
    "table.move({}, 1, 1 << 50, 2)",
    "table.concat(setmetatable({}, { __len = function() return 1 << 50 end, __index = function() return 'x' end }))",
    "table.insert(setmetatable({}, { __len = function() return 1 << 50 end }), 1, 'x')",
    "table.sort({ 3, 1, 2 }, function() while true do end end)",
    "return { key = tostring(select('#', table.unpack({}, 1, 1e7))) }",
    "for k in pairs(setmetatable({}, { __index = function() while true do end end })) do end while true do end",
    "return { key = setmetatable({}, { __index = function(t, k) return t[k .. 'x'] end }).a }",
    "require('task').all { function() while true do end end, function() while true do end end }",
    "local t = require('task') for i = 1, 1e9 do t.spawn(function() require('time').sleep(1000) end) end",
    "return { key = tostring(require('json').decode(('['):rep(1e6))) .. tostring(nil .. 1) }",
    "return { key = require('json').encode((function() local t = {} t.t = t return t end)()) }",
    "local x <close> = setmetatable({}, { __close = function() while true do end end }) error('x')",
    "local function spin() while true do pcall(function() while true do end end) end end "
      .. "local x <close> = setmetatable({}, { __close = spin }) error('x')",
    "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
    "local function spin() while true do pcall(function() while true do end end) end end "
      .. "local x <close> = setmetatable({}, { __close = spin }) while true do end",
    "local meta = { __close = function() while true do end end } "
      .. "local a <close>, b = setmetatable({}, meta) local c <close> = setmetatable({}, meta) while true do end",
    "table.sort({ 3, 1, 2 }, function() local x <close> = setmetatable({}, "
      .. "{ __close = function() while true do end end }) while true do end end)",
    "local loops = function() while true do end end local meta = { __lt = loops, __eq = loops, __concat = loops } "
      .. "table.sort({ setmetatable({}, meta), setmetatable({}, meta) })",
    "local loops = function() while true do end end local meta = { __eq = loops } "
      .. "return { key = tostring(setmetatable({}, meta) == setmetatable({}, meta)) }",
    "error('x' .. setmetatable({}, { __concat = function() while true do end end }))",
    "for _ in function() return 1 end do end",
    "return { key = ('x'):gsub('x', function() while true do end end) }",
    "return { key = ('x'):gsub('x', setmetatable({}, { __index = function() while true do end end })) }",
    "error(setmetatable({}, { __tostring = function() while true do end end }))",
    "error(setmetatable({}, { __index = function() while true do end end }))",
    "require('task').spawn(function() error(setmetatable({}, { __tostring = function() while true do end end })) end) "
      .. "for i = 1, 50 do ('x'):rep(1 << 20) end require('time').sleep(0.05) return nil, 'nobody joined it'",
    "return { key = 'x', title = setmetatable({}, { __concat = function() while true do end end }) }",
    "return setmetatable({}, { __index = function() while true do end end })",
    "return nil, setmetatable({}, { __tostring = function() while true do end end })",
    "place:refuse('v1', setmetatable({}, { __tostring = function() while true do end end })) return nil, 'x'",
  } do
    local used = time.cpu()
    local key, reason = ask(bomb, 5)
    ok(time.cpu() - used < 8, bomb)
    eq(key, nil, bomb)
    ok(reason, bomb)
  end
  stop = true
  ticker:join()
  ok(worst < 0.5, ("somebody waited for %.3f s of work"):format(worst)) -- a goal of 0.25 s; others' work does not count
end, 900)

test("what a policy raises comes with its line, and nothing of it runs any more", function()
  local SPIN <const> = "function() while true do end end"
  for text, expected in pairs {
    ["\nerror(setmetatable({}, { __tostring = " .. SPIN .. " }))"] = { 2, "without a message was raised" },
    ["\nerror(setmetatable({ message = 'no' }, { __index = " .. SPIN .. " }))"] = { 2, "no" },
    ["\n\nerror({})"] = { 3, "without a message was raised" },
    ["\nerror('plain')"] = { 2, "plain" },
    ["\nlocal x <close> = setmetatable({}, { __close = " .. SPIN .. " })\n\nwhile true do end"] =
      { 4, "processor time" },
    ["\nwhile true do pcall(" .. SPIN .. ") end"] = { 2, "processor time" },
    ["\nlocal t = {}\nfor i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end"] = { 3, "its memory" },
    ["\nerror(setmetatable({}, { __name = 'x', __tostring = error, __concat = error }))"] =
      { 2, "without a message was raised" },
  } do
    local compiled, fault = policy.compile("probe", text, "scripts/probe.lua")
    eq(compiled, nil, text)
    has(fault.message, expected[2])
    ok(fault.line and math.abs(fault.line - expected[1]) <= (expected[2]:find("time") and 1 or 0), fault.line)
    if expected[2]:find("processor time") == nil then
      local body = "return policy { run = print, watch = function()" .. text .. "\nend }"
      local place = require("policy.place").maker { state = "/proc/nonexistent" }(
        { name = "probe" }, { name = "staging" })
      local change, err = policy.ask(assert(policy.compile("probe", body, "scripts/probe.lua")), place, 5)
      eq(change, nil)
      eq(err.where, "scripts/probe.lua:" .. expected[1])
    end
  end
end, 120)

test("what a base function was called with is the script's mistake, at its line", function()
  for body, words in pairs {
    ["setmetatable('', {})"] = "bad argument #1 to 'setmetatable'",
    ["tostring(setmetatable({}, { __tostring = function() return {} end }))"] = "'__tostring' must return a string",
    ["pairs(setmetatable({}, { __pairs = 1 }))"] = "attempt to call a number value",
    ["xpcall(error, 1)"] = "attempt to call a number value",
  } do
    local _, reason = ask(body)
    has(reason, "script: scripts/probe.lua:2: ")
    has(reason, words)
  end
end)

test("random numbers stay within any interval of integers", function()
  ok(ask [[
    for i = 1, 100 do
      assert(math.random(math.mininteger, 0) <= 0 and math.random(-1, math.maxinteger) >= -1)
      assert(math.type(math.random(math.mininteger, math.maxinteger)) == "integer")
    end
    return { key = "within" }
  ]])
end)

test("a policy file is checked before it is taken", function()
  for text, word in pairs {
    ["return 1"] = "return policy", ["return policy {}"] = "needs a function 'watch'", ["x ="] = "near",
    ["return policy { watch = 1, run = 2 }"] = "must be a function", ["while true do end"] = "processor time",
    ["return policy { watch = print, run = print, wacth = 1 }"] = "no field 'wacth'", ["\27Lua"] = "binary",
    ["return policy { watch = print, run = print, queue = 'newest' }"] = "'latest' or 'all'",
    ["local p = policy { watch = print, run = print }\nerror 'no'"] = "no",
  } do
    local compiled, fault = policy.compile("probe", text, "scripts/probe.lua")
    eq(compiled, nil, text)
    has(fault.message, word)
    eq(fault.file, "scripts/probe.lua")
  end
  local _, fault = policy.compile("probe", "local a = 1\nlocal b = = 2", "scripts/probe.lua")
  eq(fault.line, 2)
end)

test("iteration and text are the same in every process", function()
  local key = ask([[
    local t = { b = 1, a = 2, [3] = 3, [1] = 1, [true] = 4 }
    local seen = {}
    for k in pairs(t) do seen[#seen + 1] = tostring(k) end
    local order = table.concat(seen, ",") .. " " .. tostring(next({ z = 1, y = 2 }))
    return { key = order .. " " .. tostring({}) .. " " .. tostring(print) }]])
  eq(key, "1,3,a,b,true y table function")
  local _, reason = ask("for k in pairs({ [print] = 1 }) do end return { key = 'x' }")
  has(reason, "numbers, strings or booleans")
end)

test("an address does not show behind a zero either", function()
  has(select(2, ask [[return { key = ("\0%p"):format("x") }]]), "%p shows an address")
end)

test("what watch returns is checked", function()
  for _, body in ipairs {
    "return 1", "return { kei = 'x' }", "return { key = 5 }", "return { key = '' }", "return { key = ('x'):rep(600) }",
  } do
    local key, reason = ask(body)
    eq(key, nil)
    has(reason, "watch must return")
  end
  local three = policy.compile("p", "return policy { watch = function() return 3 end, run = print }", "p.lua")
  fails("invalid", policy.ask(three, require("policy.place").maker({})({ name = "x" }, { name = "y" }), 1))
end)
