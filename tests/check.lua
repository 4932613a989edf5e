-- The words that tests are written in. A test file registers tests; one.lua runs them.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local task = require "task"

local M = { tests = {} }

-- How long something takes is nothing that a test proves: on a busy machine it takes many times longer. Only what
-- never happens meets these limits, so that they are generous, whatever less a test asks for.
local LONGEST_TEST <const>, LONGEST_WAIT <const> = 300, 100 -- seconds

---Registers a test: a task of its own, ended after LONGEST_TEST seconds, or after `timeout` where that is more.
---@param name string What it proves, as a sentence.
---@param fn fun()
---@param timeout? number
function M.test(name, fn, timeout)
  M.tests[#M.tests + 1] = { name = name, fn = fn, timeout = math.max(timeout or 0, LONGEST_TEST) }
end

local function show(value, depth)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" or (depth or 0) > 3 then return tostring(value) end
  if type(rawget(value, "code")) == "string" then return "error<" .. tostring(value) .. ">" end
  local keys, parts = {}, {}
  for k in pairs(value) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, k in ipairs(keys) do parts[#parts + 1] = "[" .. show(k, 9) .. "]=" .. show(value[k], (depth or 0) + 1) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function same(a, b)
  if a == b then return true end
  if a ~= a and b ~= b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

---Fails unless both are deeply equal; integers and floats of one value count as different.
function M.eq(got, want, what)
  if math.type(got) ~= math.type(want) or not same(got, want) then
    error((what and what .. ": " or "") .. "got " .. show(got) .. "\n    want " .. show(want), 2)
  end
  return got
end

---Fails when the value is nil or false; returns all its arguments otherwise.
---@generic T, T1
---@param value T
---@param err? any
---@param ... T1...
---@return std.NotNull<T>, any, T1...
function M.ok(value, err, ...)
  if not value then error("not ok: " .. show(err), 2) end
  return value, err, ...
end

---Fails unless the call gave nil and an error of that code: fails("timeout", http.get(url)).
---@param code string
---@param value any
---@param err? any
---@return table err
function M.fails(code, value, err)
  if value ~= nil and value ~= false then error("expected " .. code .. ", got the result " .. show(value), 2) end
  if type(err) ~= "table" or err.code ~= code then error("expected " .. code .. ", got " .. show(err), 2) end
  return err
end

---Fails unless fn raises a text (or error) that holds `text` (plain).
---@return any raised
function M.raises(text, fn, ...)
  local ok, e = pcall(fn, ...)
  if ok then error("nothing was raised", 2) end
  if not tostring(e):find(text, 1, true) then error("raised " .. show(e) .. ", want " .. show(text), 2) end
  return e
end

---Fails unless the text holds `part` (plain).
function M.has(text, part)
  if type(text) ~= "string" or not text:find(part, 1, true) then
    error(show(text) .. "\n    does not hold " .. show(part), 2)
  end
end

---Ends the test as skipped, with the reason.
function M.skip(reason) error({ skip = reason }, 0) end

---Calls fn when the test ends, however it ends; last in, first out.
function M.defer(fn) M.deferred[#M.deferred + 1] = fn end

---Calls fn when all tests of this file have run; last in, first out.
function M.at_end(fn) M.endings[#M.endings + 1] = fn end

---Waits until fn() gives something true, trying every 20 ms: LONGEST_WAIT seconds, or `seconds` where that is more.
---@async
---@generic T
---@param fn fun(): T
---@param seconds? number
---@param what? string
---@return std.NotNull<T>
function M.eventually(fn, seconds, what)
  local time = require "time"
  local last = time.monotonic() + math.max(seconds or 0, LONGEST_WAIT)
  repeat
    local value = fn()
    if value then return value end
    time.sleep(0.02)
  until time.monotonic() > last
  error("did not happen in time: " .. (what or "condition"), 2)
end

---From now on the tests of this file live in virtual time.
function M.virtual_time()
  require("base.sys").virtual_time(require("simulation").START)
  M.is_virtual = true
end

M.deferred, M.endings = {}, {}

---Runs the registered tests in order and prints a line for each.
---@async
---@return integer passed
---@return integer failed
---@return integer skipped
function M.run(filter)
  local passed, failed, skipped = 0, 0, 0
  for _, t in ipairs(M.tests) do
    if not filter or t.name:find(filter, 1, true) then
      M.deferred = {}
      local clock = M.is_virtual and "cpu" or "monotonic"
      local started = require("time")[clock]()
      local handle = task.spawn(function()
        if M.is_virtual then return pcall(t.fn) end -- run.lua limits the file
        return pcall(task.deadline, t.timeout, t.fn)
      end)
      local ok, err = handle:join()
      for i = #M.deferred, 1, -1 do
        local cleaned, why = pcall(M.deferred[i])
        if not cleaned and ok then ok, err = false, why end
      end
      local took = require("time")[clock]() - started
      local suffix = took > 0.5 and (" (%.1f s)"):format(took) or ""
      if ok then
        passed = passed + 1
        print("ok " .. t.name .. suffix)
      elseif type(err) == "table" and err.skip then
        skipped = skipped + 1
        print("skip " .. t.name .. ": " .. tostring(err.skip))
      else
        failed = failed + 1
        print("not ok " .. t.name .. suffix .. "\n    " .. (type(err) == "table" and show(err) or tostring(err)))
      end
    end
  end
  for i = #M.endings, 1, -1 do
    local tidy, why = pcall(M.endings[i])
    if not tidy then
      failed = failed + 1
      print("not ok tidying up after the tests\n    " .. tostring(why))
    end
  end
  return passed, failed, skipped
end

return M
