-- sys.virtual_time: the clocks and waits of a whole process, so each test is a process of its own.
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local HEAD <const> = [[
local fs, log, proc, sys, task, time = require "fs", require "log", require "proc", require "base.sys", require "task",
  require "time"
sys.virtual_time(1000000000)
]]

local function run(script)
  local dir <close> = assert(fs.temp_dir())
  assert(fs.write(dir.path .. "/script.lua", HEAD .. script))
  return assert(proc.run { sys.exe(), "exec", dir.path .. "/script.lua", timeout = 60 })
end

local function says(script, expected)
  local result = run(script)
  eq(result.stderr, "")
  eq((result.stdout:gsub("\t", " ")), expected)
end

test("a year of an hourly timer passes at once, and all clocks agree", function()
  says([[
    local began = time.monotonic()
    for _ = 1, 365 * 24 do time.sleep(3600) end
    print(time.iso(), time.now(), time.monotonic() - began)]],
    "2002-09-09T01:46:40Z 1031536000.0 31536000.0\n")
end)

test("waits, timeouts and deadlines end in the order of their moments", function()
  says([[
    local function after(seconds, name) task.spawn(function() time.sleep(seconds) print(name, time.iso()) end) end
    after(86400, "day") after(3600, "hour") after(60, "minute")
    print(pcall(task.deadline, 120, time.sleep, 1e9))
    print(task.signal():wait(600), time.iso())
    print(task.start({ timeout = 5 }, time.sleep, 100):join())
    print(task.spawn(time.sleep, 1e9):join(10))
    time.sleep(90000)]], [[
minute 2001-09-09T01:47:40Z
false task: deadline: the time allowed for this is over
false 2001-09-09T01:58:40Z
nil task: deadline: the time allowed for this is over
nil task.join: timeout: the task is still running
hour 2001-09-09T02:46:40Z
day 2001-09-10T01:46:40Z
]])
end)

test("the clock stands still while a task is ready or real work is under way", function()
  says([[
    local busy = task.spawn(function() for _ = 1, 1000 do time.sleep(0) end end)
    local read = task.spawn(function() for _ = 1, 50 do assert(fs.stat "/") end end)
    local child = task.spawn(function() assert(proc.check(proc.run { "/bin/sleep", "0.1" })) end)
    task.spawn(function() time.sleep(1) print("a second later") end)
    for _, t in ipairs { busy, read, child } do t:join() end
    print(time.now())
    time.sleep(1)
    print(time.now())]], "1000000000.0\na second later\n1000000001.0\n")
end)

test("a wait until a moment ends, however close the moment is", function()
  says([[
    local last = time.monotonic() + 0.0001
    while time.monotonic() < last do time.sleep(last - time.monotonic()) end
    print(time.now())]], "1000000000.001\n")
end)

test("limits of processor time stay real", function()
  local result = run [[
    local t = task.start({ cpu = 0.05 }, function() while true do end end)
    print(t:join())
    print(time.now())]]
  has(result.stdout, "budget")
  has(result.stdout, "1000000000.0")
end)

test("log lines have the time of the process", function()
  local result = run [[
    time.sleep(86400)
    log.warn("here")]]
  has(result.stderr, "2001-09-10T01:46:40.000Z")
end)

test("time that is virtual stays so, its clock may be set, and a deadlock is still found", function()
  local result = run [[
    local before = time.monotonic()
    sys.virtual_time(0)
    time.sleep(1)
    print(time.now(), time.monotonic() - before)
    task.signal():wait()]]
  has(result.stdout, "1.0\t1.0")
  has(result.stderr, "deadlock")
  eq(result.code, 70)
end)

test("waits from before go on in virtual time", function()
  local dir <close> = assert(fs.temp_dir())
  assert(fs.write(dir.path .. "/script.lua", [[
    local sys, task, time = require "base.sys", require "task", require "time"
    local waits = task.spawn(function() time.sleep(100000) return "slept" end)
    time.sleep(0)
    sys.virtual_time(0)
    print(waits:join())]]))
  local result = ok(proc.run { sys.exe(), "exec", dir.path .. "/script.lua", timeout = 60 })
  eq(result.stdout, "slept\n")
end)
