-- sys: what the process tells of itself, and what scripts cannot reach.
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "sys"
local test, eq, ok, has, raises = check.test, check.eq, check.ok, check.has, check.raises

test("the process knows itself", function()
  ok(sys.pid() > 1)
  eq(fs.exists(sys.exe()), true)
  ok(#sys.hostname() > 0)
  ok(#sys.version > 0)
  local resident, lua, peak = sys.memory()
  ok(resident > lua and peak >= lua and lua > 0)
  eq(sys.env("MOONTIDE_SURELY_UNSET"), nil)
end)

test("every embedded file is there, and nothing else", function()
  local names = sys.embedded_list()
  ok(#names > 50)
  for _, name in ipairs(names) do eq(sys.embedded(name), assert(fs.read(name)), name) end
  eq(sys.embedded("stdlib/nothing.lua"), nil)
  eq(sys.embedded("../etc/passwd"), nil)
end)

test("only text is compiled", function()
  eq(select("#", sys.compile("return 1", "=x", {})), 1)
  local fn, message = sys.compile("\27Lua", "=x", {})
  eq(fn, nil)
  has(message, "binary")
  local _, syntax = sys.compile("x = = 1", "@file.lua", {})
  has(syntax, "file.lua:1:")
end)

test("a script in which everybody waits for everybody is told so", function()
  local dir <close> = assert(fs.temp_dir())
  assert(fs.write(dir.path .. "/script.lua", [[require("task").signal():wait()]]))
  local result = assert(proc.run { sys.exe(), "exec", dir.path .. "/script.lua", timeout = 10 })
  eq(result.code, 70)
  has(result.stderr, "deadlock")
end)

test("scripts do not reach the tables of C, nor what only the host may", function()
  for _, name in ipairs { "core.sys", "core.http", "prelude" } do
    raises("not for scripts", require, name)
  end
  raises("undefined variable 'io'", function() return io end) -- luacheck: ignore
  raises("undeclared variable", function() leaked = 1 end) -- luacheck: ignore
  raises("not found", require, "no_such_module")
end)

test("the dead man's switch ends a process that is busy, sleeps or stands still, and not one that goes on", function()
  local function child(word)
    return assert(proc.spawn { sys.exe(), "exec", "tests/probe_deadman.lua", word })
  end
  for _, word in ipairs { "busy", "asleep" } do
    local result = assert(child(word):wait(5))
    eq(result.code, 75, word)
  end
  eq(assert(child("alive"):wait(5)).code, 0)
  local stopped = child("stopped")
  local lines = stopped:lines()
  eq(lines(), "set")
  stopped:kill("STOP")
  eq(assert(stopped:wait(5)).signal, "SIGKILL")
end)
