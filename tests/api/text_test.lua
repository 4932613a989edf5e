-- The budgeted string functions inside of the host: nothing that a script calls can hold the loop.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local task, time = require "task", require "time"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises

local function code_of(fn, ...)
  local done, err = pcall(fn, ...)
  return not done and type(err) == "table" and err.code or "done"
end

test("patterns work as ever, as functions and as methods", function()
  eq({ ("key = value"):match("^(%w+)%s*=%s*(%w+)$") }, { "key", "value" })
  eq({ string.find("a.b", ".", 1, true) }, { 2, 2 })
  eq({ ("hello world"):gsub("o", "0") }, { "hell0 w0rld", 2 })
  eq({ ("THE (quick) fox"):find("%((%a+)%)") }, { 5, 11, "quick" })
  eq(("abc"):gsub("%w", "%0%0"), "aabbcc")
  eq(("$name is $age"):gsub("%$(%w+)", { name = "Lua", age = 30 }), "Lua is 30")
  eq({ ("THE (quick) fox"):match("()%f[%a]%a+%f[%A]()") }, { 1, 4 })
  local words = {}
  for word in ("one two  three"):gmatch("%a+") do words[#words + 1] = word end
  eq(words, { "one", "two", "three" })
  raises("malformed pattern (ends with '%')", string.find, "a", "%")
  raises("string/function/table expected", string.gsub, "a", "a", nil)
end)

test("a hostile pattern raises budget after a moment of processor time", function()
  local s = ("a"):rep(60)
  for _, attack in ipairs {
    function() return s:find(("a?"):rep(60) .. s) end,
    function() return ("a"):rep(5000):match(".-.-.-.-b") end,
    function() return ("a"):rep(5000):gsub(".*.*.*b", "") end,
    function() return ("a"):rep(5000):gmatch("(.-)(.-)(.-)b")() end,
    function() return ("("):rep(1 << 20):find("%b()") end,
  } do
    local started = time.cpu()
    eq(code_of(attack), "budget")
    ok(time.cpu() - started < 1, "took too long")
  end
end)

test("a loop of hostile patterns ends at its task's deadline, whatever it catches", function()
  local s = ("a"):rep(60)
  local bomb = ("a?"):rep(60) .. s
  eq(code_of(task.deadline, 0.2, function()
    while true do pcall(string.find, s, bomb) end
  end), "deadline")
end)

test("what is made has a size", function()
  eq(code_of(string.rep, "x", 1 << 40), "too_large")
  eq(code_of(string.gsub, ("a"):rep(1 << 17), "a", ("b"):rep(1 << 10)), "too_large")
  eq(("ab"):rep(3, ","), "ab,ab,ab")
  eq(#("x"):rep(64 << 20), 64 << 20)
end)

test("the metatable of strings is out of reach", function()
  eq(getmetatable("x"), false)
  ok(not pcall(setmetatable, "x", {}))
  local before = ("x").rep
  rawset(string, "rep", nil) -- a script's own copy of the library
  eq(("x").rep, before)
end)

test("a gsub callback may be set aside, and the text comes out the same", function()
  local function twice(x)
    time.sleep(0)
    return x ~= "b" and x .. x or nil
  end
  eq({ ("a b c"):gsub("%w", twice) }, { "aa b cc", 3 })
  eq({ ("a b c"):gsub("%w", twice, 1) }, { "aa b c", 1 })
  eq({ ("b"):gsub("^%w", twice) }, { "b", 1 })
  local long = ("abc, "):rep(2000) -- the result outgrows the buffer while callbacks wait
  eq({ long:gsub("%w", twice) }, { ("aabcc, "):rep(2000), 6000 })
  eq({ pcall(string.gsub, "a", "a", function() time.sleep(0) return {} end) },
    { false, "invalid replacement value (a table)" })
  local inner = ("ab"):gsub("%w", function(x) return (x:gsub("%w", twice)) end)
  eq(inner, "aab")
end)
