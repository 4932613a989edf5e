-- core.task and the loop: waiting, cancelling, deadlines, limits, fairness.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sys, task, time = require "fs", require "proc", require "base.sys", require "task", require "time"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

test("a task's results reach whoever joins it, also twice and late", function()
  local t = task.spawn(function(a, b) return a + b, nil, "x" end, 1, 2)
  eq({ t:join() }, { 3, nil, "x" })
  eq(select("#", t:join()), 3)
  ok(t:done())
end)

test("a failure reaches the joiner as nil and an error", function()
  local t = task.spawn(function() error("boom") end)
  local err = fails("internal", t:join())
  check.has(err.message, "boom")
  check.has(err.traceback, "traceback")
  fails("refused", task.spawn(function() error({ code = "refused" }) end):join())
end)

test("a handler makes of what is raised what the joiner gets, and is asked where it is raised", function()
  local where
  local t = task.start({ handler = function(raised)
    where = sys.traceback()
    return { code = "script", message = "handled: " .. tostring(raised) }
  end }, function(...)
    local text = select("#", ...) .. ": "
    error(text .. "boom", 0)
  end, 1, nil)
  eq(fails("script", t:join()).message, "handled: 2: boom")
  check.has(where, "task_test.lua:")
  eq({ task.start({ handler = error }, function(...) return ... end, 1, 2):join() }, { 1, 2 })
  fails("internal", task.start({ handler = function() return "no table" end }, error, "x"):join())
  fails("internal", task.start({ handler = error }, error, "x"):join())
  raises("'handler' must be a function", task.start, { handler = 1 }, error)
end)

test("a script that was cut has a little time for its closers, which run to their end; endless ones do not", function()
  for _, cut in ipairs { "budget", "deadline" } do
    local closed, spun = 0, 0
    local t = task.start({ cpu = cut == "budget" and 0.05 or 5, timeout = cut == "deadline" and 0.05 or 0 }, function()
      local outer <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
      local _ <close> = setmetatable({}, { __close = function()
        spun = spun + 1
        while outer do pcall(function() while true do end end) end
      end })
      local inner <close> = setmetatable({}, { __close = function() closed = closed + 10 end })
      while inner do end
    end)
    local err = fails(cut, t:join())
    check.has(err.where, "task_test.lua:")
    eq({ closed, spun }, { 10, 1 }, cut) -- the endless one used up the time of those after it
  end
end)

test("a cut that was caught is a failure all the same", function()
  fails("budget", task.start({ cpu = 0.05 }, function()
    pcall(function() while true do end end)
    return "fine"
  end):join())
end)

test("join gives up after its timeout and the task goes on", function()
  local t = task.spawn(function() time.sleep(0.05) return "late" end)
  fails("timeout", t:join(0.01))
  eq(t:join(), "late")
end)

test("a cancelled wait raises, and raises again at the next wait", function()
  local seen = {}
  local t = task.spawn(function()
    for i = 1, 3 do
      local _, e = pcall(time.sleep, 10)
      seen[i] = e.code
    end
  end)
  time.sleep(0.01)
  t:cancel()
  t:join()
  eq(seen, { "cancelled", "cancelled", "cancelled" })
end)

test("a task that was cancelled before it began never runs", function()
  local ran = false
  local t = task.spawn(function() ran = true end)
  t:cancel()
  fails("cancelled", t:join())
  eq(ran, false)
end)

test("a task ends with the task that started it, and its closers run", function()
  local closed = false
  task.spawn(function()
    task.spawn(function()
      local guard <close> = setmetatable({}, { __close = function() closed = true end })
      eq(guard ~= nil, true)
      time.sleep(10)
    end)
    time.sleep(0.01)
  end):join()
  check.eventually(function() return closed end)
end)

test("all returns results in order and cancels the rest on failure", function()
  local slow_ended
  eq(task.all { function() time.sleep(0.02) return "a" end, function() return "b" end }, { "a", "b" })
  raises("no luck", function()
    task.all {
      function()
        local _, e = pcall(time.sleep, 10)
        slow_ended = e.code
      end,
      function() error(require("errors").new("failed", "no luck")) end,
    }
  end)
  check.eventually(function() return slow_ended == "cancelled" end)
end)

test("a deadline ends the waits inside and nothing outside", function()
  local passed, e = pcall(task.deadline, 0.02, time.sleep, 10)
  eq({ passed, e.code }, { false, "deadline" })
  time.sleep(0.001)
  eq({ task.deadline(1, function(...) return ... end, 1, 2) }, { 1, 2 })
end)

test("an inner deadline cannot outlast the outer one", function()
  local _, e = pcall(task.deadline, 0.03, function() task.deadline(600, time.sleep, 600) end)
  eq(e.code, "deadline")
end)

test("the end of a wait and the deadline around it do not get in each other's way", function()
  local s, ends = task.signal(), {}
  local _, e = pcall(task.deadline, 0.05, function()
    for _ = 1, 2 do ends[#ends + 1] = s:wait(0.001) end
    s:wait(600)
  end)
  eq({ ends, e.code }, { { false, false }, "deadline" })
  local _, long = pcall(task.deadline, 0.02, function() s:wait(600) end)
  eq(long.code, "deadline")
  eq(s:wait(0.001), false) -- the deadline is over, and a wait ends by itself again
  eq(task.deadline(600, function() return s:wait(0.001) end), false)
end)

test("pcall in a loop does not survive a deadline", function()
  local rounds = 0
  local _, e = pcall(task.deadline, 0.03, function()
    while true do
      rounds = rounds + 1
      pcall(time.sleep, 10)
      if rounds > 100 then return "escaped" end
    end
  end)
  eq(e, "escaped") -- waits fail at once; only processor time is taken away by force
  local _, spin = pcall(task.deadline, 0.03, function()
    while true do pcall(function() while true do end end) end
  end)
  eq(spin.code, "deadline")
end)

test("a processor budget is final, with and without pcall", function()
  for _, body in ipairs {
    function() while true do end end,
    function() while true do pcall(function() while true do end end) end end,
    function() local function f() return pcall(f) end; while true do f() end end,
    function() table.sort({ 1, 2, 3, 4 }, function() while true do end end) end,
    function() setmetatable({}, { __index = function() while true do end end }).x = nil; while true do end end,
  } do
    fails("budget", task.start({ cpu = 0.03 }, body):join(100))
  end
end)

test("a task that is cut ends at once, however many protected calls it has under way", function()
  local before = time.cpu()
  for _, deadline in ipairs { 60, 0.5 } do
    fails("budget", task.start({ cpu = 1 }, function()
      local function f()
        local _ <close> = setmetatable({}, { __close = function() while true do pcall(f) end end })
        while true do pcall(f) end
      end
      task.deadline(deadline, f)
    end):join())
  end
  local used = time.cpu() - before
  eq(used < 4 or used, true)
end)

-- The most processor time between two turns of another task, until this one was cut.
local function kept_beside(limits, fn)
  local most, over = 0, false
  local other <close> = task.spawn(function()
    local last = time.cpu()
    while not over do
      time.sleep(0)
      local now = time.cpu()
      most, last = math.max(most, now - last), now
    end
  end)
  eq((task.start(limits, fn):join()), nil)
  over = true
  other:join()
  return most
end

test("a deadline that unwinds very many protected calls leaves the others their turns", function()
  local kept = kept_beside({ cpu = 1, timeout = 0.05 }, function()
    local function f()
      pcall(f)
      f()
    end
    f()
  end)
  ok(kept < 0.3, kept)
end)

test("a thousand tasks of one script take no more of a turn than one", function()
  local kept = kept_beside({ cpu = 1 }, function()
    for _ = 1, 900 do
      task.spawn(function() while true do pcall(error) end end)
    end
    while true do time.sleep(0) end
  end)
  ok(kept < 0.3, kept)
end)

test("time that others have the processor is not the script's", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/sorts.lua", [[
    local task, time = require "task", require "time"
    print "begins"
    print(task.start({ cpu = 0.3 }, function()
      local stop = time.cpu() + 0.1
      while time.cpu() < stop do end
      return "well"
    end):join(60))]]))
  local child <close> = assert(proc.spawn { sys.exe(), "exec", dir.path .. "/sorts.lua" })
  local lines = child:lines()
  eq(lines(), "begins")
  for _ = 1, 15 do -- in many slices: together more than the budget
    child:kill "STOP"
    time.sleep(0.1)
    child:kill "CONT"
    time.sleep(0.005)
  end
  eq(lines(), "well")
end)

test("a memory limit is final, counts only what is held, and covers children", function()
  fails("memory", task.start({ memory = 2 << 20 }, function()
    local t = {}
    while true do
      pcall(function() for i = 1, 1e9 do t[#t + 1] = ("x"):rep(1000) .. i end end)
    end
  end):join(100))
  eq(task.start({ memory = 2 << 20 }, function()
    for i = 1, 20000 do local _ = ("x"):rep(1000) .. i end
    return "garbage is free"
  end):join(100), "garbage is free")
  fails("memory", task.start({ memory = 2 << 20 }, function()
    return assert(task.spawn(function()
      local t = {}
      for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end
      return t
    end):join())
  end):join(100))
end)

test("a spinning script leaves turns to the others", function()
  local ticks = 0
  local ticker = task.spawn(function() for _ = 1, 50 do time.sleep(0.005) ticks = ticks + 1 end end)
  local stop = time.cpu() + 0.2 -- not by the clock: others may have the processors
  task.spawn(function() while time.cpu() < stop do end end):join()
  ok(ticks >= 8, "only " .. ticks .. " turns")
  ticker:cancel()
end)

-- Each child starts with nothing loaded, and asks for a module from two tasks that use their slices up to the last.
test("a module that several tasks ask for at once is loaded once, and loading is never met half-way", function()
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/ask.lua", [[
local task, time = require "task", require "time"
local function ask(name, spin)
  return task.spawn(function()
    local last = time.monotonic() + spin
    while time.monotonic() < last do end
    return require(name)
  end)
end
local NAMES <const> = { "targets.kubernetes", "config.load", "targets.docker", "sources.git", "people.cli" }
for i, name in ipairs(NAMES) do
  local asked, first = {}, nil
  for j = 1, 4 do asked[j] = ask(name, 0.0048 - (i + j) % 4 * 0.0005) end
  for _, each in ipairs(asked) do
    local module = assert(each:join())
    first = first or module
    assert(module == first, name .. " was loaded twice")
  end
end
]]))
  for _ = 1, 5 do
    local result = ok(proc.run { sys.exe(), "exec", dir.path .. "/ask.lua" })
    eq({ result.code, result.stderr }, { 0, "" })
  end
end)

test("waiting is refused where it cannot work, with the reason", function()
  raises("own coroutine", coroutine.wrap(function() time.sleep(0) end))
  local waits = setmetatable({}, { __index = function() time.sleep(0) end })
  raises("cannot wait here", table.concat, waits, "", 1, 1)
  raises("cannot wait here", function() return ("x"):gsub("x", waits) end)
end)

test("a signal wakes waiters, keeps one notification, and times out", function()
  local s = task.signal()
  s:notify()
  eq(s:wait(100), true)
  eq(s:wait(0.01), false)
  local woken = 0
  for _ = 1, 3 do task.spawn(function() if s:wait(100) then woken = woken + 1 end end) end
  time.sleep(0.01)
  s:notify()
  check.eventually(function() return woken == 3 end)
end)

test("waits work through pcall, metamethods, iterators and block exits", function()
  local meta = setmetatable({}, { __index = function(_, k) time.sleep(0.001) return k end })
  eq(meta.word, "word")
  for v in function(_, n) time.sleep(0.001) return not n and 1 or nil end do eq(v, 1) end
  do
    local guard <close> = setmetatable({}, { __close = function() time.sleep(0.001) end })
    eq(type(guard), "table")
  end
  eq(select(2, pcall(function() time.sleep(0.001) return 7 end)), 7)
end)

test("ten thousand tasks come and go without a trace", function()
  local before = task.count()
  for _ = 1, 10 do
    local all = {}
    for i = 1, 1000 do all[i] = task.spawn(function() time.sleep(0.001) return i end) end
    for i = 1, 1000 do eq(all[i]:join(), i) end
  end
  eq(task.count(), before)
end)

test("the usage of a wrong call is told", function()
  raises("usage: task.spawn(fn, ...)", task.spawn, 1)
  raises("did you mean 'memory'", task.start, { memroy = 1 }, print)
  raises("cannot wait for itself", function()
    local t
    t = task.spawn(function() return t:join() end)
    error(select(2, t:join()))
  end)
end)

-- Keeps the loop from turning: what runs in a comparison cannot be set aside.
local function keep_the_loop(seconds)
  local stop = time.monotonic() + seconds
  table.sort({ 2, 1 }, function(a, b)
    while time.monotonic() < stop do end
    return a < b
  end)
end

test("a cancel is not lost when the deadline of a part passes in the same turn", function()
  local seen
  local t = task.spawn(function()
    local _, first = pcall(task.deadline, 0.02, time.sleep, 100)
    local _, second = pcall(time.sleep, 100)
    seen = { first.code, second.code }
  end)
  task.spawn(function()
    time.sleep(0.01)
    t:cancel()
  end)
  time.sleep(0)
  keep_the_loop(0.1) -- now both are over at once, and the cancel comes when the deadline has cut the wait
  t:join(100)
  eq(seen, { "cancelled", "cancelled" })
end)

test("a long chain of tasks is cancelled in one walk", function()
  local before = task.count()
  for _, end_it in ipairs {
    function(chain) chain:cancel() end, -- all are told, then they end one by one
    function(chain, release) release:notify() chain:join() end, -- each end ends the next
  } do
    local release, deepest = task.signal(), task.signal()
    local function link(n)
      if n > 0 then return task.spawn(link, n - 1):join() end
      deepest:notify()
      time.sleep(1000)
    end
    local chain = task.spawn(function()
      local first <close> = task.spawn(link, 100000)
      release:wait()
      return first ~= nil
    end)
    ok(deepest:wait(150))
    end_it(chain, release)
    check.eventually(function() return task.count() == before end, 150)
  end
end, 600)

test("a crowd that waits for one task or one signal is cancelled as fast as it came", function()
  local before, signal = task.count(), task.signal()
  local asleep = task.spawn(time.sleep, 1000)
  local crowd = task.spawn(function()
    for i = 1, 100000 do
      if i % 2 == 0 then
        task.spawn(function() signal:wait() end)
      else
        task.spawn(function() asleep:join() end)
      end
    end
    time.sleep(1000)
  end)
  check.eventually(function() return task.count() == before + 100002 end, 150)
  time.sleep(0)
  crowd:cancel()
  check.eventually(function() return task.count() == before + 1 end, 150)
  local woken = task.spawn(function() return signal:wait() end)
  time.sleep(0)
  signal:notify()
  eq(woken:join(100), true)
  asleep:cancel()
end, 600)

test("waiters of a signal wake in their order, whoever left in between", function()
  local signal, order, waiting = task.signal(), {}, {}
  for i = 1, 6 do
    waiting[i] = task.spawn(function()
      if signal:wait() then order[#order + 1] = i end
    end)
  end
  time.sleep(0.001)
  for _, i in ipairs { 1, 3, 6 } do
    waiting[i]:cancel()
    waiting[i]:join()
  end
  waiting[7] = task.spawn(function()
    if signal:wait() then order[#order + 1] = 7 end
  end)
  time.sleep(0.001)
  signal:notify()
  waiting[7]:join(100)
  eq(order, { 2, 4, 5, 7 })
end)

test("what a cancelled task starts does not begin", function()
  local began = false
  local t = task.spawn(function()
    pcall(time.sleep, 100)
    task.spawn(function() began = true end)
    local stop = time.cpu() + 0.05
    while time.cpu() < stop do end -- set aside meanwhile
  end)
  time.sleep(0)
  t:cancel()
  t:join()
  eq(began, false)
end)

test("what still works when the limited task above it has ended pays for itself", function()
  local finished = false
  task.start({ name = "limited", cpu = 10, memory = 1 << 26 }, function()
    task.spawn(function()
      task.spawn(function()
        pcall(time.sleep, 100)
        for _ = 1, 10 do coroutine.yield() end -- meanwhile both above are gone
        finished = true
      end)
      time.sleep(0)
    end):join()
  end):join()
  check.eventually(function() return finished end)
end)

test("garbage goes while a slice lasts that nobody can interrupt", function()
  local most = select(2, sys.memory()) + (1 << 30)
  local busy = setmetatable({}, { __index = function()
    for i = 1, 20000 do
      local _ = ("x"):rep(100000 + i)
      if select(2, sys.memory()) > most then return "too much" end
    end
    return "done"
  end })
  eq(busy.x, "done")
end)

test("what is deferred is called when its scope ends, however it ends", function()
  local order = {}
  pcall(function()
    local _ <close> = task.defer(function() order[#order + 1] = "outer" end)
    local _ <close> = task.defer(function() order[#order + 1] = "inner" end)
    error "out"
  end)
  eq(order, { "inner", "outer" })
end)

test("a lock has one holder a key; who waits gets it in turn, or nothing when its time is over", function()
  local owner, inside, most, done = {}, 0, 0, 0
  local function work(key)
    local _ <close> = task.lock(owner, key)
    inside = inside + 1
    most = math.max(most, inside)
    time.sleep(0)
    inside, done = inside - 1, done + 1
  end
  local jobs = {}
  for i = 1, 5 do jobs[i] = function() work "a" end end
  task.all(jobs)
  eq({ most, done }, { 1, 5 })
  local held = task.lock(owner, "a")
  eq(task.lock(owner, "a", 0), nil)
  eq(task.lock(owner, "a", 0.01), nil)
  ok(task.lock(owner, "b", 0), "another key is another lock")
  ok(task.lock({}, "a", 0), "so is the key of another owner")
  local _ <close> = held
end)

test("a holder that is cancelled frees its lock", function()
  local owner, held = {}, false
  local holder = task.spawn(function()
    local _ <close> = task.lock(owner, "a")
    held = true
    task.signal():wait()
  end)
  check.eventually(function() return held end)
  eq(task.lock(owner, "a", 0), nil)
  holder:cancel()
  ok(task.lock(owner, "a"))
end)

test("calls under one key share a result; when the first is cancelled or raises, another makes the call", function()
  local owner, calls, asked, go = {}, 0, 0, task.signal()
  local function ask()
    asked = asked + 1 -- and then it waits in the same slice
    return task.once(owner, "a", function()
      calls = calls + 1
      local call = calls
      go:wait()
      if call == 2 then error "broken" end
      return call, nil, "third"
    end)
  end
  local first = task.spawn(ask)
  check.eventually(function() return calls == 1 end)
  local others = {}
  for i = 1, 3 do others[i] = task.spawn(function() return pcall(ask) end) end
  check.eventually(function() return asked == 4 end)
  eq(calls, 1)
  first:cancel() -- the second call raises for its own caller; the third answers the two that are left
  for call = 2, 3 do
    check.eventually(function() return calls == call end)
    go:notify()
  end
  local raised, shared = 0, 0
  for _, other in ipairs(others) do
    local fine, a, b, c = other:join()
    if fine then
      shared = shared + 1
      eq({ a, b == nil, c }, { 3, true, "third" })
    else
      raised = raised + 1
      ok(tostring(a):find("broken"), a)
    end
  end
  eq({ calls, raised, shared }, { 3, 1, 2 })
  eq(task.once(owner, "a", function() return "anew" end), "anew")
end)

test("a time that is over already is no wait without an end", function()
  local signal, sleeper <close> = task.signal(), task.spawn(time.sleep, 3600)
  for _, left in ipairs { 0, -0.0001, -1, -math.huge } do
    eq(signal:wait(left), false)
    fails("timeout", sleeper:join(left))
  end
end)
