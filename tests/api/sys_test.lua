-- sys and signal: what the process tells of itself, and what reaches it from outside.
local check = require "check"
local fs, proc, sys, time = require "fs", require "proc", require "sys", require "time"
local test, eq, ok, has, raises = check.test, check.eq, check.ok, check.has, check.raises

local function run(text, options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/script.lua", text))
  local argv = options or {}
  table.move({ sys.exe(), "exec", dir.path .. "/script.lua" }, 1, 3, 1, argv)
  return argv
end

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

test("signals are kept and handed out, one waiter at a time", function()
  local handle <close> = assert(proc.spawn(run [[
    local sys, task, time = require "sys", require "task", require "time"
    sys.catch("TERM", "HUP")
    print(pcall(sys.catch, "KILL") == false)
    local first = task.spawn(sys.next_signal)
    time.sleep(0)
    print(pcall(sys.next_signal) == false)
    print(first:join())
    time.sleep(0.2)
    print(sys.next_signal())
    return 7]]))
  time.sleep(0.3)
  handle:kill("HUP")
  time.sleep(0.1)
  handle:kill("TERM")
  local result = assert(handle:wait(10))
  eq({ result.code, result.stdout }, { 7, "true\ntrue\nHUP\nTERM\n" })
end)

test("without a catch, TERM ends the process as it ends any", function()
  local handle <close> = assert(proc.spawn(run [[require("time").sleep(10)]]))
  time.sleep(0.3)
  handle:kill("TERM")
  eq(assert(handle:wait(10)).signal, "SIGTERM")
end)

test("a script in which everybody waits for everybody is told so", function()
  local result = assert(proc.run(run([[require("task").signal():wait()]], { timeout = 10 })))
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
