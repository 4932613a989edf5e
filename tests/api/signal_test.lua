-- Signals from outside: caught ones are kept and handed out, the others do what they always do.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sys, time = require "fs", require "proc", require "base.sys", require "time"
local test, eq = check.test, check.eq

local READY <const> = [[
  local path, sent = ...
  local fs, sys, task, time = require "fs", require "base.sys", require "task", require "time"
  local function ready() assert(fs.write(path, "")) end
]]

-- A host of its own that runs the text; begun is what it said by calling ready().
local function started(text)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/script.lua", READY .. text))
  local handle = assert(proc.spawn { sys.exe(), "exec", dir.path .. "/script.lua", dir.path .. "/ready",
    dir.path .. "/sent" })
  check.defer(function() handle:kill("KILL") end)
  check.eventually(function() return fs.exists(dir.path .. "/ready") end, 20, "the script is ready")
  return handle, dir.path .. "/sent"
end

test("signals are kept and handed out, one waiter at a time", function()
  local handle = started [[
    sys.catch("TERM", "HUP")
    print(pcall(sys.catch, "KILL") == false)
    local first = task.spawn(sys.next_signal)
    time.sleep(0)
    print(pcall(sys.next_signal) == false)
    ready()
    print(first:join())
    time.sleep(0.2)
    print(sys.next_signal())
    return 7]]
  handle:kill("HUP")
  time.sleep(0.1)
  handle:kill("TERM")
  local result = assert(handle:wait(100))
  eq({ result.code, result.stdout }, { 7, "true\ntrue\nHUP\nTERM\n" })
end)

test("what came while nobody waited is there for the next one, each kind once", function()
  local handle, sent = started [[
    sys.catch("USR1", "USR2", "INT")
    sys.catch("USR1") -- again is no mistake
    ready()
    while not fs.exists(sent) do time.sleep(0.01) end
    local got = { sys.next_signal(), sys.next_signal(), sys.next_signal() }
    print(table.concat(got, " "))
    print(pcall(task.deadline, 0.05, sys.next_signal) == false)]]
  for _, name in ipairs { "USR2", "USR1", "INT", "USR1" } do handle:kill(name) end
  assert(fs.write(sent, ""))
  eq(assert(handle:wait(100)).stdout, "INT USR1 USR2\ntrue\n")
end)

test("a waiter that was cancelled makes room for the next", function()
  local handle = started [[
    sys.catch("TERM")
    local first = task.spawn(sys.next_signal)
    time.sleep(0)
    first:cancel()
    time.sleep(0.01)
    ready()
    print(sys.next_signal())]]
  handle:kill("TERM")
  eq(assert(handle:wait(100)).stdout, "TERM\n")
end)

test("waiting before anything is caught is a mistake", function()
  local handle = started [[
    print(select(2, pcall(sys.next_signal)))
    ready()]]
  check.has(assert(handle:wait(100)).stdout, "call catch first")
end)

test("without a catch, TERM ends the process as it ends any", function()
  local handle = started [[
    ready()
    time.sleep(20)]]
  handle:kill("TERM")
  eq(assert(handle:wait(100)).signal, "SIGTERM")
end)
