-- What the prompt evaluates, and how each command is bounded.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local repl = require "people.prompt"
local task, time = require "task", require "time"

local function eval(code, options)
  return repl.open():eval(code, options)
end

test("an expression gives its values, a statement none", function()
  eq(eval("1 + 1").values, { "2" })
  eq(eval("1, nil, 'x'").values, { "1", "nil", '"x"' })
  eq(eval("nil").values, { "nil" })
  eq(eval("local x = 3").values, {})
  eq(eval("  ").values, {})
  eq(eval("return 5").values, { "5" })
  eq(eval("-- only a comment").values, {})
  eq(eval("1 -- with a comment").values, { "1" })
end)

test("incomplete input asks for more, wrong input says what is wrong", function()
  for _, code in ipairs {
    "for i = 1, 3 do", "function f()", "if x then", "local t = {", "print(", "x =", "1 +", "'a' ..", "[[ text", "f {",
  } do eq(eval(code).state, "incomplete", code) end
  for _, code in ipairs { "1 1", "end", "for for", "x = = 1", "'open", "]]", "local 5" } do
    local reply = eval(code)
    eq(reply.state, "error", code)
    ok(reply.message)
  end
  eq(eval("for i = 1, 3 do\nprint(i)\nend", { on_output = function() end }).state, "done")
end)

test("names stay, and _ is the last value", function()
  local session = repl.open()
  session:eval("x = 20")
  eq(session:eval("x + 1").values, { "21" })
  eq(session:eval("_ * 2").values, { "42" })
  session:eval("y = 1")
  eq(session:eval("_").values, { "42" })
  eq(repl.open():eval("x").state, "error")
end)

test("modules of the API are there without require", function()
  eq(eval("semver.compare('1.0.0', '2.0.0')").values, { "-1" })
  eq(eval("json.decode '[1,2]'").values, { "{ 1, 2 }" })
  eq(eval("require('hash').hex('a')").values, { '"61"' })
  has(eval("nonsense").message, "nonsense")
end)

test("the C tables and Lua's dangerous libraries are out of reach", function()
  for _, code in ipairs {
    "os.exit()", "io.open('/etc/passwd')", "debug.getregistry()", "package.loaded", "require 'core.sys'",
    "require 'base.prelude'", "dofile('/etc/passwd')", "loadfile('/etc/passwd')", "load(string.dump(function() end))()",
  } do eq(eval(code).state, "error", code) end
end)

test("waiting calls work", function()
  local reply = eval("time.sleep(0.05) return task.current() ~= nil")
  eq(reply.values, { "true" })
  ok(reply.elapsed >= 0.045)
end)

test("prints go to the session, capped", function()
  local out = {}
  eval("print(1, nil, 'x') print()", { on_output = function(text) out[#out + 1] = text end })
  eq(table.concat(out), "1\tnil\tx\n\n")
  out = {}
  local reply = eval("for i = 1, 100000 do print(('y'):rep(100)) end return 'done'",
    { on_output = function(text) out[#out + 1] = text end, timeout = 30 })
  eq(reply.values, { '"done"' })
  local all = table.concat(out)
  ok(#all < 300000, #all)
  has(all, "not shown")
end)

test("an error shows its words and where it was, and keeps its code", function()
  local reply = eval("local function f() error 'boom' end f()")
  eq(reply.state, "error")
  has(reply.message, "boom")
  has(reply.message, "prompt:1")
  eq(reply.message, "prompt:1: boom\n  prompt:1: in local 'f'\n  prompt:1: in main chunk")
  eq(eval("undefined_name").message, "prompt:1: undefined variable 'undefined_name'")
  reply = eval("error(setmetatable({ code = 'timeout' }, { __tostring = function() return 'too slow' end }))")
  eq(reply.code, "timeout")
  eq(eval("error(nil)").state, "error")
  eq(eval("error({})").state, "error")
end)

test("a command that takes too long is ended", function()
  local reply = eval("time.sleep(600)", { timeout = 0.2 })
  eq(reply.state, "error")
  eq(reply.code, "deadline")
  local session = repl.open()
  session:eval("time.sleep(600)", { timeout = 0.1 })
  eq(session:eval("1").values, { "1" })
end)

test("a command that spins is ended by its budget, not by its own leave", function()
  local reply = eval("while true do pcall(function() while true do end end) end", { timeout = 60, cpu = 0.5 })
  eq(reply.state, "error")
  eq(reply.code, "budget")
end, 120)

test("endless recursion and endless text are errors", function()
  eq(eval("local function f() return 1 + f() end f()").state, "error")
  eq(eval(("x"):rep(300000)).state, "error")
  eq(eval(("("):rep(1000)).state, "error")
end)

test("cancelling the caller ends the command", function()
  local session = repl.open({ ticks = { 0 } })
  local caller = task.spawn(function()
    return session:eval("while true do time.sleep(0.02) ticks[1] = ticks[1] + 1 end")
  end)
  check.eventually(function() return session.env.ticks[1] > 2 end)
  caller:cancel()
  time.sleep(0.1)
  local before = session.env.ticks[1]
  time.sleep(0.2)
  eq(session.env.ticks[1], before)
  eq(session:eval("1").values, { "1" })
end)

test("two commands at once do not mix", function()
  local begun, over = false, false
  local session = repl.open { begin = function() begun = true end, over = function() return over end }
  local first = task.spawn(function()
    return session:eval("begin() while not over() do time.sleep(0.01) end return 1")
  end)
  check.eventually(function() return begun end)
  eq(session:eval("2").state, "error")
  over = true
  eq(first:join().values, { "1" })
end)

test("secrets do not leave through the prompt", function()
  require("log").secret("MOONCANARY-repl-1")
  local out = {}
  local reply = eval("print('MOONCANARY-repl-1') return 'x MOONCANARY-repl-1'",
    { on_output = function(text) out[#out + 1] = text end })
  ok(not table.concat(out):find("CANARY", 1, true))
  ok(not reply.values[1]:find("CANARY", 1, true))
  ok(not eval("error 'MOONCANARY-repl-1'").message:find("CANARY", 1, true))
end)

test("values that are too large are cut", function()
  local reply = eval("local t = {} for i = 1, 100000 do t[i] = i end return t, ('z'):rep(1000000)", { timeout = 30 })
  eq(reply.state, "done")
  ok(#reply.values[1] < 20000)
  ok(#reply.values[2] < 20000)
end)
