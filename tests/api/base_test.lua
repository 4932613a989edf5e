-- Coroutines and metatables as scripts have them: what Lua promises, and nothing that the watchdog cannot end.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, task, time = require "fs", require "task", require "time"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises

-- Runs fn under a deadline; tells how that ended and that it ended soon.
local function ends_by(code, fn)
  local started = time.cpu()
  local done, err = pcall(task.deadline, 0.2, fn)
  eq(done, false)
  eq(type(err) == "table" and err.code, code)
  ok(time.cpu() - started < 2, "took too long")
end

test("values pass both ways, nil and none included", function()
  local co = coroutine.create(function(...)
    local n = select("#", ...)
    local a, b = coroutine.yield(n, nil)
    return a, b, nil
  end)
  eq({ n = select("#", coroutine.resume(co, nil, 2, nil)) }, { n = 3 })
  eq(coroutine.status(co), "suspended")
  local r = table.pack(coroutine.resume(co, "x", "y"))
  eq(r, { true, "x", "y", nil, n = 4 })
  eq(coroutine.status(co), "dead")
  eq({ coroutine.resume(co) }, { false, "cannot resume dead coroutine" })
  eq({ coroutine.resume(coroutine.running()) }, { false, "cannot resume non-suspended coroutine" })
end)

test("a generator works in a loop, across pcall and within another", function()
  local function count(n)
    return coroutine.wrap(function()
      for i = 1, n do pcall(coroutine.yield, i) end
    end)
  end
  local seen = {}
  for i in count(3) do
    for k in count(2) do seen[#seen + 1] = i * 10 + k end
  end
  eq(seen, { 11, 12, 21, 22, 31, 32 })
  eq(coroutine.wrap(function() return coroutine.isyieldable() end)(), true)
end)

test("an error comes out with the place of the caller, or as the value it is", function()
  local failing = coroutine.wrap(function() error("boom") end)
  local message = raises("boom", function()
    failing()
    return nil -- not a tail call: the caller has a place
  end)
  ok(message:find("base_test.lua:%d+: .*base_test.lua:%d+: boom"), message)
  local value = {}
  local done, err = pcall(coroutine.wrap(function() error(value) end))
  eq(done, false)
  ok(rawequal(err, value))
  local co = coroutine.create(function() error(value) end)
  ok(rawequal(select(2, coroutine.resume(co)), value))
  raises("cannot resume dead coroutine", function()
    local f = coroutine.wrap(function() end)
    f()
    f()
  end)
end)

test("what a coroutine has open is closed: by an error, and by close", function()
  local log = {}
  local function body(fail)
    local _ <close> = setmetatable({}, { __close = function(_, e) log[#log + 1] = tostring(e) end })
    if fail then error("bad", 0) end
    coroutine.yield()
  end
  pcall(coroutine.wrap(body), true)
  eq(log, { "bad" })
  local co = coroutine.create(body)
  coroutine.resume(co)
  eq({ coroutine.close(co) }, { true })
  eq(log, { "bad", "nil" })
  eq(coroutine.status(co), "dead")
  eq({ coroutine.close(co) }, { true })
  eq({ coroutine.close(coroutine.create(print)) }, { true })

  local failed = coroutine.create(function() error("why", 0) end)
  coroutine.resume(failed)
  eq({ coroutine.close(failed) }, { false, "why" })

  local closer = coroutine.create(function()
    local _ <close> = setmetatable({}, { __close = function() error("in closer", 0) end })
    coroutine.yield()
  end)
  coroutine.resume(closer)
  eq({ coroutine.close(closer) }, { false, "in closer" })
end)

test("only an idle coroutine can be closed, and only a coroutine", function()
  raises("cannot close a running coroutine", coroutine.close, (coroutine.running()))
  local outer
  outer = coroutine.create(function()
    return coroutine.wrap(function() return pcall(coroutine.close, outer) end)()
  end)
  local _, done, message = coroutine.resume(outer)
  eq(done, false)
  check.has(message, "cannot close a normal coroutine")
  raises("coroutine expected", coroutine.resume, 1)
  raises("coroutine expected", coroutine.close, {})
  raises("function expected", coroutine.wrap, "x")
end)

test("the coroutine of a task is resumed and closed by the loop alone", function()
  local dir <close> = ok(fs.temp_dir())
  local text = ("x"):rep(1 << 20)
  ok(fs.write(dir.path .. "/file", text))
  local co
  local t = task.spawn(function()
    co = coroutine.running()
    return fs.read(dir.path .. "/file")
  end)
  time.sleep(0)
  eq(coroutine.status(co), "suspended")
  eq({ coroutine.resume(co, "x") }, { false, "cannot resume the coroutine of a task" })
  raises("cannot close the coroutine of a task", coroutine.close, co)
  eq(select(2, coroutine.wrap(function() return coroutine.resume(co) end)()), "cannot resume the coroutine of a task")
  ok(t:join() == text, "the read was disturbed")
  eq(coroutine.resume(co), false)
  local own = coroutine.running()
  coroutine.wrap(function()
    eq(coroutine.resume(own), false)
    raises("cannot close the coroutine of a task", coroutine.close, own)
  end)()
end)

test("many values are refused, not crashed on", function()
  local co = coroutine.create(function(...) return select("#", ...) end)
  eq({ coroutine.resume(co, table.unpack({}, 1, 100000)) }, { true, 100000 })
  local deep = coroutine.wrap(function() coroutine.yield(table.unpack({}, 1, 200000)) end)
  eq(select("#", deep()), 200000)
end)

test("endless recursion of coroutines is an error", function()
  local function nest() return coroutine.wrap(nest)() end
  raises("C stack overflow", nest)
end)

test("a deadline reaches a coroutine that a script resumed", function()
  ends_by("deadline", function() coroutine.wrap(function() while true do end end)() end)
  ends_by("deadline", function()
    local co = coroutine.create(function() while true do end end)
    while true do pcall(coroutine.resume, co) end
  end)
  ends_by("deadline", function()
    while true do
      coroutine.wrap(function()
        while true do pcall(function() while true do end end) end
      end)()
    end
  end)
  ends_by("deadline", function()
    local ping = coroutine.wrap(function() while true do coroutine.yield() end end)
    while true do ping() end
  end)
end)

test("a deadline reaches the closer of a coroutine that a script closed", function()
  ends_by("deadline", function()
    local co = coroutine.create(function()
      local _ <close> = setmetatable({}, { __close = function() while true do end end })
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co)
    while true do end -- the closer's error is close's result
  end)
end)

test("others get their turn while a coroutine works in slices", function()
  local ticks = 0
  local ticker = task.spawn(function()
    while true do
      time.sleep(0.001)
      ticks = ticks + 1
    end
  end)
  local step = coroutine.wrap(function()
    while true do
      for _ = 1, 1000 do end
      coroutine.yield()
    end
  end)
  local stop = time.cpu() + 0.2
  while time.cpu() < stop do step() end
  ticker:cancel()
  ok(ticks > 3, "the loop stood still: " .. ticks)
end)

test("chains of C functions end at the deadline too", function()
  local bomb = ("a?"):rep(14) .. ("a"):rep(15)
  local line = ("a"):rep(14) .. "|" .. bomb .. ";"
  ends_by("deadline", function() return line:rep(3000):gsub("(.-)|(.-);", string.find) end)
  local mixed = {}
  for i = 1, 600 do mixed[i] = i % 2 == 0 and ("a"):rep(14) or bomb end
  ends_by("deadline", function() table.sort(mixed, string.find) end)
  ends_by("deadline", function()
    while true do
      local slow = setmetatable({}, { __index = line:rep(3000):gmatch("(a*)(a*)(a*)b") })
      pcall(table.concat, slow, "", 1, 1 << 19)
    end
  end)
  local long, texts = ("x"):rep(1 << 20), {}
  for i = 1, 1 << 11 do texts[i] = i % 2 == 0 and long .. "y" or long .. "z" end
  ends_by("deadline", function() while true do table.sort(texts) end end)
end)

test("a table of a script cannot have a finaliser", function()
  raises("cannot have __gc", setmetatable, {}, { __gc = function() end })
  raises("cannot have __gc", setmetatable, {}, { __gc = true })
  local t, meta = {}, { __index = { a = 1 } }
  ok(rawequal(setmetatable(t, meta), t))
  eq(t.a, 1)
  ok(rawequal(getmetatable(t), meta))
  setmetatable(t, nil)
  eq(t.a, nil)
  raises("cannot change a protected metatable", setmetatable, setmetatable({}, { __metatable = 1 }), {})
  raises("nil or table expected", setmetatable, {})
  raises("table expected", setmetatable, "x", {})
end)
