-- Every allocation that tasks, waits, deadlines, clocks and signals need, failed in turn. A task that could not be
-- started never runs, and one that ended says how, or that memory ran out: never that it was something else.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local errors, proc, sys, task = require "errors", require "proc", require "base.sys", require "task"
local time = require "time"
local sweep = require "lib.sweep"

local wrong = {}

local function is_memory(why)
  return errors.is(why, "memory") or tostring(why):find("memory", 1, true) ~= nil
end

-- Runs fn and notes a failure that is told as something else, and tasks that stay alive.
local function told(name, fn)
  local alive = task.count()
  sweep.run(name, function()
    local fine, value, err = pcall(fn)
    local why = not fine and value or value == nil and err or nil
    if why and not is_memory(why) then wrong[#wrong + 1] = name .. ": " .. tostring(why) end
    return fine and value ~= nil
  end)
  time.sleep(0.05)
  if task.count() ~= alive then
    wrong[#wrong + 1] = ("%s: %d tasks are left"):format(name, task.count() - alive)
  end
end

local ran
told("task.spawn, join", function()
  ran = false
  local child, err = task.spawn(function(...)
    ran = true
    return select("#", ...), ...
  end, 1, "two", {})
  if not child then return nil, err end
  local count, one, two = child:join()
  if count == nil then return nil, one end
  return ran and child:done() and child:id() > 0 and count == 3 and one == 1 and two == "two" or nil, "lost"
end)

told("task.spawn: one that is not there did not run", function()
  local started = 0
  local fine, why = pcall(task.spawn, function() started = started + 1 end)
  time.sleep(0)
  if not fine then return started == 0 and error(why, 0) or nil, "it ran all the same" end
  return started == 1 or nil, "it did not run"
end)

told("task.start with limits", function()
  local child = task.start({ name = "limited", cpu = 10, memory = 64 << 20 }, function() return ("x"):rep(5000) end)
  local text, err = child:join(10)
  return text and #text == 5000 or nil, err
end)

told("task.join of one that fails", function()
  local child = task.spawn(function() error("on purpose", 0) end)
  local value, err = child:join()
  if value == nil and errors.is(err, "internal") and err.message == "on purpose" then return true end
  return nil, err or "no error"
end)

told("task.join that is over before", function()
  local child <close> = task.spawn(time.sleep, 60)
  local _, err = child:join(0.001)
  return errors.is(err, "timeout") or nil, err
end)

told("task.cancel", function()
  local child <close> = task.spawn(function()
    local inner = task.spawn(time.sleep, 60)
    inner:join()
  end)
  time.sleep(0)
  child:cancel()
  local value, err = child:join()
  return value == nil and errors.is(err, "cancelled") or nil, err
end)

told("task.cancel before it began", function()
  local child = task.spawn(time.sleep, 60)
  child:cancel()
  local value, err = child:join()
  return value == nil and errors.is(err, "cancelled") or nil, err
end)

told("task.all", function()
  local list = task.all { function() time.sleep(0) return 1 end, function() return 2 end }
  return list[1] == 1 and list[2] == 2 or nil, "lost"
end)

told("task.deadline", function()
  local fine, err = pcall(task.deadline, 0.001, time.sleep, 60)
  return not fine and errors.is(err, "deadline") or nil, err
end)

told("task.deadline inside another", function()
  return task.deadline(60, function()
    local fine, err = pcall(task.deadline, 0.001, time.sleep, 60)
    if fine or not errors.is(err, "deadline") then return nil, err end
    time.sleep(0.001)
    return true
  end)
end)

told("task.signal, wait, notify", function()
  local signal, woken = task.signal(), 0
  local function wait() if signal:wait(10) then woken = woken + 1 end end
  local one <close> = task.spawn(wait)
  local two <close> = task.spawn(wait)
  time.sleep(0)
  signal:notify()
  one:join()
  two:join()
  signal:notify()
  return signal:wait(1) and signal:wait(0.001) == false and woken == 2 or nil, "memory"
end)

told("task.current, count", function() return task.current() > 0 and task.count() > 0 end)
told("task.asked, asked_file", function()
  task.asked "nothing that keeps the loop"
  task.asked_file("/tmp/none")
  task.asked_file(nil)
  return true
end)
told("tostring of a task", function()
  local child <close> = task.spawn(time.sleep, 60)
  return tostring(child):find("task %d+ %(task%)") ~= nil
end)

told("time.sleep", function()
  time.sleep(0.001)
  return true
end)
told("time.iso, parse_iso", function() return time.parse_iso(time.iso(1e9)) == 1e9 end)
told("time.clock", function() return time.clock(1e9).year == 2001 end)
told("time.now, monotonic, cpu", function() return time.now() + time.monotonic() + time.cpu() > 0 end)

told("sys.catch, next_signal", function()
  sys.catch("USR1")
  local child <close> = proc.spawn { "kill", "-s", "USR1", tostring(sys.pid()) }
  if not child then return nil, "memory" end
  return task.deadline(10, sys.next_signal) == "USR1"
end)

-- sys.read needs a stream of its own: a child that sweeps it asks for each text.
local reader <close> = assert(proc.spawn { sys.exe(), "exec", "tests/fault/lib/reader.lua", stderr = "inherit" })
for line in reader:lines("stdout") do
  if line == "more" then assert(reader:write "text\n") else print(line) end
end
assert(assert(reader:wait(10)).ok, "the reader failed")

for _, line in ipairs(wrong) do print("not ok " .. line) end
return #wrong > 0 and 1 or 0
