-- Fails each allocation of a log line, a redaction and a new secret in turn: the call may fail, the next one works.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local errors, log, sys = require "errors", require "log", require "base.sys"

local function is_memory(raised)
  return errors.is(raised, "memory") or tostring(raised):find("not enough memory", 1, true) ~= nil
    or tostring(raised):find("out of memory", 1, true) ~= nil
end

local failures = 0

-- Calls fn again and again, each time with a later allocation failing, until none fails any more.
local function sweep(name, fn, check)
  local tried = 0
  for n = 1, 5000 do
    sys.fail_allocations(n)
    local fine, result, err = pcall(fn, n)
    local left = sys.fail_allocations(0)
    local raised = not fine and result or result == nil and err or nil
    if raised and not is_memory(raised) then
      failures = failures + 1
      print(("not ok %s: allocation %d: %s"):format(name, n, tostring(raised)))
    end
    check(n)
    tried = n
    if left > 0 and fine then break end
  end
  print(("ok %s: %d allocations"):format(name, tried - 1))
end

local lines = 0
local _ <close> = log.sink(function(line)
  if line:find('"message":"after"', 1, true) then lines = lines + 1 end
end)

sweep("log.info", function(n)
  log.info("a line", { n = n, text = ("x"):rep(3000), list = { "a", "b" }, nested = { a = { b = 1 } } })
  return true
end, function()
  local before = lines
  log.info("after", {})
  assert(lines == before + 1, "the next line is missing")
end)

sweep("log.redact", function() return log.redact(("text "):rep(1000)) end, function()
  assert(log.redact("text") == "text")
end)

sweep("log.secret", function(n)
  return log.secret(("secret number %d, longer than a line"):format(n))
end, function(n)
  local secret = ("another secret number %d"):format(n)
  assert(log.secret(secret))
  assert(log.redact("x" .. secret .. "y") == "x[redacted]y")
end)

-- One more than are remembered: each makes the oldest one forgotten.
for i = 1, 200 do assert(log.passing_secret(("an early token, number %d"):format(i))) end
sweep("log.passing_secret, forget", function(n)
  return log.passing_secret(("a token of an hour, number %d"):format(n))
end, function(n)
  local token = ("a later token, number %d"):format(n)
  assert(log.passing_secret(token))
  assert(log.redact("x" .. token .. "y") == "x[redacted]y")
end)

sweep("log.redactor", function()
  local filter = log.redactor()
  return filter:feed("another secret numb") .. filter:feed("er 1", true)
end, function()
  local filter = log.redactor()
  assert(filter:feed("another secret numb") == "")
  assert(filter:feed("er 1.", true) == "[redacted].")
end)

sweep("log.configure, looks", function()
  log.configure { burst = 50 }
  return log.looks()
end, function() end)

return failures > 0 and 1 or 0
