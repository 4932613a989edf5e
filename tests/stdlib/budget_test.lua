-- Budgets: nobody crowds a server, nobody ignores its wishes, nobody is forgotten in the queue.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local budget = require "base.budget"
local check = require "check"
local errors = require "errors"
local task = require "task"
local time = require "time"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

test("the same key is the same budget", function()
  eq(budget.of "https://one:443", budget.of "https://one:443")
  ok(budget.of "https://one:443" ~= budget.of "https://two:443")
  ok(budget.new "https://one:443" ~= budget.of "https://one:443")
end)

test("at most so many at once, the others in their order", function()
  local share, now, most, order = budget.new("k", 3), 0, 0, {}
  local tasks = {}
  for i = 1, 20 do
    tasks[i] = task.spawn(function()
      local _ <close> = ok(share:enter())
      now = now + 1
      most = math.max(most, now)
      order[#order + 1] = i
      time.sleep(0.005)
      now = now - 1
    end)
  end
  for _, t in ipairs(tasks) do t:join() end
  eq(most, 3)
  eq(#order, 20)
  for i, v in ipairs(order) do eq(v, i) end
end)

test("a place that was left twice is left once", function()
  local share = budget.new("k", 1)
  local slot = ok(share:enter())
  slot:close()
  slot:close()
  local _ <close> = ok(share:enter())
  fails("busy", share:enter(0.01))
end)

test("a task that is cancelled in the queue or in its place holds nobody up", function()
  local share = budget.new("k", 1)
  local slot = ok(share:enter())
  local waiting, done = {}, false
  for i = 1, 3 do
    waiting[i] = task.spawn(function() local _ <close> = ok(share:enter()) time.sleep(600) end)
  end
  local last = task.spawn(function() local _ <close> = ok(share:enter()) done = true end)
  time.sleep(0.01)
  waiting[2]:cancel()
  time.sleep(0.01)
  slot:close() -- number 1 gets it
  waiting[1]:cancel() -- before it could run, or in its sleep
  time.sleep(0.01)
  waiting[3]:cancel()
  last:join(100)
  ok(done)
end)

test("a waiter that gives up leaves the queue", function()
  local share = budget.new("k", 1)
  local slot = ok(share:enter())
  local err = fails("busy", share:enter(0.02))
  eq(err.target, "k")
  slot:close()
  local _ <close> = ok(share:enter(0.01))
end)

test("a server that asks for silence gets it, also from those who already wait", function()
  local share = budget.new("k", 1)
  local slot = ok(share:enter())
  local answer
  local waiting = task.spawn(function() answer = table.pack(share:enter(100)) end)
  time.sleep(0.01)
  ok(share:hold(30) >= 30)
  slot:close()
  waiting:join(100)
  fails("rate_limited", answer[1], answer[2])
  local err = fails("rate_limited", share:enter())
  ok(err.retry_after > 29 and err.retry_after <= 33)
  ok(share:held() > 29)
end)

test("silence has its limits", function()
  for _, case in ipairs { { -5, 1 }, { 0, 1 }, { 1e9, 3600 }, { math.huge, 3600 }, { 0 / 0, 1 } } do
    local held = budget.new("k", 1):hold(case[1])
    ok(held >= case[2] and held <= case[2] * 1.1, ("%s gave %s"):format(case[1], held))
  end
end)

test("a shorter wish does not shorten a longer one", function()
  local share = budget.new("k", 1)
  share:hold(100)
  share:hold(1)
  ok(share:held() > 90)
end)

test("a server that keeps failing is left alone for a while, never longer than the asker's interval",
  function()
  local share, err = budget.new("k", 4), errors.new("refused", "nobody listens")
  for _ = 1, 3 do
    share:failed(err, 2)
    eq(share:held(), 0)
  end
  share:failed(err, 2)
  local refusal = fails("refused", share:enter())
  check.has(refusal.message, "nobody listens")
  ok(share:held() <= 2)
  check.eventually(function() return share:held() == 0 end)
  for _ = 1, 40 do share:failed(err, 0.2) end
  ok(share:held() <= 0.2)
  check.eventually(function() return share:held() == 0 end)
  do local _ <close> = ok(share:enter()) end
  share:succeeded()
  share:failed(err, 0.2)
  eq(share:held(), 0)
end)

test("reads Retry-After in both forms", function()
  local at = 784111777 -- Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
  eq(budget.http_date "Sun, 06 Nov 1994 08:49:37 GMT", at)
  eq(budget.http_date "Sunday, 06-Nov-94 08:49:37 GMT", at)
  eq(budget.http_date "Sun Nov  6 08:49:37 1994", at)
  eq(budget.http_date "Sunday, 29-Nov-26 08:49:37 GMT", budget.http_date "Sun, 29 Nov 2026 08:49:37 GMT")
  eq(budget.http_date "Thu, 01 Jan 1970 00:00:00 GMT", 0)
  eq(budget.http_date "Thu, 29 Feb 2024 12:00:00 GMT", 1709208000)
  eq(budget.retry_after "120", 120)
  eq(budget.retry_after " 7 ", 7)
  eq(budget.retry_after "0", 1)
  eq(budget.retry_after "99999999999999999999", 3600)
  eq(budget.retry_after("Sun, 06 Nov 1994 08:50:37 GMT", at), 60)
  eq(budget.retry_after("Sun, 06 Nov 1994 08:00:00 GMT", at), 1)
  eq(budget.retry_after("Sun, 06 Nov 2094 08:00:00 GMT", at), 3600)
  for _, junk in ipairs { "", "soon", "-1", "1.5", "Sunday, 06-Nov-94 08:49:37", "Sun Nov 06 1994",
    "Sun, 06 Foo 1994 08:49:37 GMT" } do
    eq(budget.retry_after(junk), nil)
  end
  eq(budget.retry_after(nil), nil)
end)
