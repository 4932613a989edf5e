-- sys: what the process tells of itself, and what scripts cannot reach.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: global-in-non-module -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
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

test("a program whose file an update replaced still starts itself", function()
  local dir <close> = assert(fs.temp_dir())
  local copy, other = dir.path .. "/moontide", dir.path .. "/other.lua"
  check.ok(proc.run { "cp", sys.exe(), copy })
  assert(fs.write(other, "print 'the same program'"))
  assert(fs.write(dir.path .. "/script.lua", [[
    local fs, proc, sys = require "fs", require "proc", require "base.sys"
    local copy, other = ...
    assert(fs.remove(copy))
    local function start() return assert(proc.run { sys.exe(), "exec", other }).stdout end
    print((start()))
    assert(fs.write(copy, "an update that is no program yet"))
    print((start()))]]))
  local result = assert(proc.run { copy, "exec", dir.path .. "/script.lua", copy, other, timeout = 60 })
  eq({ result.stdout, result.stderr }, { ("the same program\n\n"):rep(2), "" })
end)

test("a script in which everybody waits for everybody is told so", function()
  local dir <close> = assert(fs.temp_dir())
  assert(fs.write(dir.path .. "/script.lua", [[
    local task = require "task"
    local s = task.signal()
    task.spawn(s.notify, s)
    assert(task.deadline(600, s.wait, s, 600)) -- ends early, and leaves no timer that could wake anybody
    s:wait()]]))
  local result = assert(proc.run { sys.exe(), "exec", dir.path .. "/script.lua", timeout = 10 })
  eq(result.code, 70)
  has(result.stderr, "deadlock")
end)

-- Runs a shell's line; $MOONTIDE is this program and $DIR a folder with the given scripts.
local function shell(scripts, line)
  local dir <close> = assert(fs.temp_dir())
  for name, text in pairs(scripts) do assert(fs.write(dir.path .. "/" .. name .. ".lua", text)) end
  return assert(proc.run { "/bin/sh", "-c", line, env = { MOONTIDE = sys.exe(), DIR = dir.path }, timeout = 20 })
end

test("output that is lost is a failure, however it was printed; a reader that had enough is none", function()
  local printing = { hello = [[print "hello"]], writing = [[require("base.sys").write(1, "hello\n")]] }
  for name in pairs(printing) do
    local run = "$MOONTIDE exec $DIR/" .. name .. ".lua"
    local full = shell(printing, run .. " >/dev/full")
    eq(full.code, 1)
    has(full.stderr, "what was printed is lost: No space left on device")
    eq(shell(printing, run .. " >&-").code, 1)
    eq(shell(printing, run .. " | true; " .. run).stdout, "hello\n")
  end
  local piped = "($MOONTIDE exec $DIR/many.lua; echo $? >&2) | head -1"
  eq(shell({ many = [[for i = 1, 20000 do print(i) end]] }, piped).stderr, "0\n")
  eq(shell({ code = [[print "x" return 7]] }, "$MOONTIDE exec $DIR/code.lua >/dev/full").code, 7)
  eq(shell({}, "$MOONTIDE version >/dev/full").code, 1)
  eq(shell({}, "$MOONTIDE help >/dev/full").code, 1)
end)

test("a file that is opened never takes the place of a closed standard descriptor", function()
  local dir <close> = assert(fs.temp_dir())
  assert(fs.write(dir.path .. "/script.lua", [[
    local fs = require "fs"
    local lock = assert(fs.lock(... .. "/lock"))
    local db = assert(require("store").open(... .. "/db"))
    print "stray"
    require("base.sys").write(2, "stray")
    assert(db:exec "CREATE TABLE t (a)")
    assert(db:check())
    lock:close()
    assert(fs.write(... .. "/done", assert(fs.read(... .. "/lock"))))]]))
  for _, closed in ipairs { ">&-", "2>&-", "<&-", "<&- >&- 2>&-" } do
    fs.remove(dir.path .. "/done")
    assert(proc.run {
      "/bin/sh", "-c", "exec " .. sys.exe() .. " exec $0/script.lua $0 " .. closed, dir.path, timeout = 20,
    })
    eq(fs.read(dir.path .. "/done"), "", closed)
    fs.remove(dir.path .. "/db")
  end
end)

test("one task reads a descriptor at a time; a second is told, and nobody stands still", function()
  local script = [[
    local sys, task, time = require "base.sys", require "task", require "time"
    local first = task.spawn(sys.read, 0)
    time.sleep(0)
    print(select(2, pcall(sys.read, 0)))
    local ticks = 0
    for _ = 1, 3 do time.sleep(0.001) ticks = ticks + 1 end
    print(ticks, first:join())
    print(sys.read(0))]]
  local result = shell({ read = script }, "(sleep 0.3; echo line) | $MOONTIDE exec $DIR/read.lua")
  has(result.stdout, "another task already reads descriptor 0")
  has(result.stdout, "3\tline\n")
  eq(result.code, 0)
  local read = [[print((require("base.sys").read(0)))]]
  eq(shell({ read = read }, "$MOONTIDE exec $DIR/read.lua </dev/null").stdout, "nil\n")
  eq(shell({ read = read }, "$MOONTIDE exec $DIR/read.lua <$DIR/read.lua").stdout, read .. "\n")
end)

test("scripts do not reach the tables of C, nor what only the host may", function()
  for _, name in ipairs { "core.sys", "core.http", "base.prelude" } do
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
    local result = assert(child(word):wait(100))
    eq(result.code, 75, word)
  end
  eq(assert(child("alive"):wait(100)).code, 0)
  local stopped = child("stopped")
  local lines = stopped:lines()
  eq(lines(), "set")
  stopped:kill("STOP")
  eq(assert(stopped:wait(100)).signal, "SIGKILL")
end)
