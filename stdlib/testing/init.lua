-- Tests of policies (`moontide test`): a process for each file runs its tests (worker.lua) and tells what came of them;
-- this one starts them, ends one that hangs, and gives the results to who reports them (tap.lua, junit.lua).
local json, proc, sys, task, time = require "json", require "proc", require "base.sys", require "task", require "time"

local M = {}

---@class TestFailure
---@field message string[]
---@field where? string "scripts/staging_test.lua:12"
---@field got? string[]
---@field expected? string[]
---@field story? string[] What happened until then.

---@class TestResult
---@field file string
---@field name string
---@field ok boolean
---@field seconds number Real ones.
---@field said? string How much was tried: "121 lives".
---@field failure? TestFailure

---@class TestOptions
---@field name? string Only tests whose name holds it.
---@field timeout? Seconds Real time without any news of a test, after which it is ended; 60.
---@field only? integer Of the lives of everywhere and the worlds of explore, only this one.
---@field coverage? boolean Count the lines that run.
---@field on_result? fun(result: TestResult)

local absolute = require("config.load").absolute

local TIMEOUT <const>, GRACE <const> = 60, 3
local INHERIT <const> = { "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" }

local function start(file, options, after)
  local argv = {
    sys.exe(), "test", "--worker", file.path, "--scripts", absolute(file.scripts), "--after", tostring(after),
    stdin = false, stderr = "inherit", inherit = INHERIT,
  }
  if options.only then table.move({ "--only", tostring(options.only) }, 1, 2, #argv + 1, argv) end
  if options.coverage then argv[#argv + 1] = "--coverage" end
  if options.name then table.move({ "--name", options.name }, 1, 2, #argv + 1, argv) end
  return assert(proc.spawn(argv))
end

-- Calls on_event for each line of JSON that a worker writes.
local function read(child, on_event)
  local rest = ""
  for piece in function() return child:read "stdout" end do
    rest = rest .. piece
    while true do
      local line, more = rest:match("^([^\n]*)\n(.*)$")
      if not line then break end
      rest = assert(more)
      local event = json.decode(line)
      if event then on_event(event) end
    end
  end
end

-- Ends a worker of which nothing was heard for too long: it may still say where it is, then it is killed.
local function watch(child, heard, seconds)
  while true do
    local left = heard.at + seconds - time.monotonic()
    if left <= 0 then break end
    time.sleep(left)
  end
  child:kill "TERM"
  time.sleep(GRACE)
  child:kill "KILL"
end

-- Adds what one worker counted.
local function tally(counts, covered)
  for path, list in pairs(covered) do
    counts[path] = counts[path] or {}
    for i = 1, #list, 2 do counts[path][list[i]] = (counts[path][list[i]] or 0) + list[i + 1] end
  end
end

-- One worker's life; it may end before the file's last test.
---@return integer begun The last test that it began.
---@return boolean done
local function life(file, options, after, add, counts)
  local child <close> = start(file, options, after)
  local heard, begun, name, done = { at = time.monotonic() }, after, nil, false ---@type any, integer, any, boolean
  local since = heard.at
  local covered = {}
  local _ <close> = task.spawn(watch, child, heard, options.timeout or TIMEOUT)
  read(child, function(event)
    heard.at = time.monotonic()
    if event.began then
      begun, name, since = event.began, event, heard.at
    elseif event.ended then
      add {
        name = name.name, ok = event.ok, said = event.said, seconds = heard.at - since, failure = event.failure,
      }
      name = nil
    elseif event.broken then
      add { name = "the file loads", ok = false, seconds = 0, failure = event.broken }
      done = true
    elseif event.covered then
      covered = event.covered
    elseif event.done then
      done = true
    end
  end)
  local ended = child:wait()
  tally(counts, covered)
  if name then
    local how = ended and (ended.signal or "exit status " .. tostring(ended.code)) or "an error"
    add {
      name = name.name, ok = false, seconds = time.monotonic() - heard.at,
      failure = { message = { "the process that ran it ended with " .. how }, where = name.where },
    }
  elseif not done and begun == after then
    add {
      name = "the file runs", ok = false, seconds = 0,
      failure = { message = { "the process that runs its tests ended before the first one" } },
    }
    done = true
  end
  return begun, done
end

---Runs the tests of files, one after the other.
---@async
---@param files TestFile[]
---@param options TestOptions
---@return TestResult[] results
---@return table<string, table<integer, integer>> counts How often each line of each script ran.
function M.run(files, options)
  local results, counts = {}, {}
  for _, file in ipairs(files) do
    local begun, done = 0, false
    while not done do
      begun, done = life(file, options, begun, function(result)
        result.file = file.path
        results[#results + 1] = result
        if options.on_result then options.on_result(result) end
      end, counts)
    end
  end
  return results, counts
end

return M
