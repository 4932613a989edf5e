-- Values as text: readable, bounded, and without anybody's control characters.
local check = require "check"
local test, eq, ok = check.test, check.eq, check.ok
local inspect = require "base.inspect"

test("prints plain values as Lua reads them", function()
  eq(inspect.text(nil), "nil")
  eq(inspect.text(true), "true")
  eq(inspect.text(42), "42")
  eq(inspect.text(3.0), "3.0")
  eq(inspect.text(1e300), "1e+300")
  eq(inspect.text(0 / 0), "0/0")
  eq(inspect.text(-math.huge), "-math.huge")
  eq(inspect.text("a\"b\\c\n"), [["a\"b\\c\n"]])
end)

test("sorts keys, lists first, and quotes what is no name", function()
  eq(inspect.text({ "x", b = 1, a = 2, ["end"] = 3, ["two words"] = 4 }),
    '{ "x", a = 2, b = 1, ["end"] = 3, ["two words"] = 4 }')
  eq(inspect.text({ [3] = "c", [1.5] = "f", [true] = "t" }), '{ [1.5] = "f", [3] = "c", [true] = "t" }')
end)

test("what it prints of plain data reads back equal", function()
  local value = { 1, 2, { "a\0b", nested = { deep = true, n = -0.1 } }, key = "ä€\u{1f680}", [10] = "far", ["\27"] = 1 }
  local back = assert(load("return " .. inspect.text(value)))()
  eq(back, value)
end)

test("breaks wide tables over lines and keeps narrow ones on one", function()
  eq(inspect.text({ a = 1, b = { 2 } }, { width = 10 }), "{\n  a = 1,\n  b = { 2 },\n}")
end)

test("names cycles and stops at depth", function()
  local cycle = { name = "c" }
  cycle.self = cycle
  eq(inspect.text(cycle), '{ name = "c", self = <cycle> }')
  local shared = { 1 }
  eq(inspect.text({ shared, shared }), "{ { 1 }, { 1 } }")
  eq(inspect.text({ { { 1 } } }, { depth = 2 }), "{ { {...} } }")
end)

test("a huge table costs little and says what is left out", function()
  local big = {}
  for i = 1, 200000 do big[i] = i end
  local text = inspect.text(big, { items = 50 })
  ok(#text < 1000)
  check.has(text, "more>")
  local wide = {}
  for i = 1, 50000 do wide["k" .. i] = i end
  check.has(inspect.text(wide, { items = 50 }), "more>")
end)

test("long text is cut between characters", function()
  eq(inspect.text(("é"):rep(10), { text = 5 }), '"éé" .. <16 more bytes>')
end)

test("runs no code of the value but __tostring, and survives that one failing", function()
  local nasty = setmetatable({ a = 1 }, {
    __index = function() error "index" end,
    __pairs = function() error "pairs" end,
    __len = function() error "len" end,
  })
  eq(inspect.text(nasty), "{ a = 1 }")
  eq(inspect.text(setmetatable({}, { __tostring = function() error "no" end })), "{}")
  eq(inspect.text(setmetatable({}, { __tostring = function() return "[secret env X]" end })), "<[secret env X]>")
  eq(inspect.text(setmetatable({ 1 }, { __metatable = "locked" })), "{ 1 }")
end)

test("hidden, direction and control characters become visible", function()
  eq(inspect.printable("a\27[31mb\r\n\0\127"), "a\\x1b[31mb\\r\\n\\x00\\x7f")
  eq(inspect.printable("abc\u{202e}def\u{200b}"), "abc\\u{202e}def\\u{200b}")
  eq(inspect.printable("caf\u{e9} \u{2026} \u{20ac}"), "caf\u{e9} \u{2026} \u{20ac}")
  eq(inspect.printable("\u{9b}31m"), "\\u{9b}31m")
  eq(inspect.printable("a\u{e0041}\u{feff}\u{61c}\u{fff9}"), "a\\u{e0041}\\u{feff}\\u{61c}\\u{fff9}")
  eq(inspect.printable("ok\xff\xc3"), "ok\\xff\\xc3")
end)

test("every byte string stays printable and cannot move a cursor", function()
  math.randomseed(42)
  for _ = 1, 2000 do
    local bytes = {}
    for i = 1, math.random(0, 30) do bytes[i] = string.char(math.random(0, 255)) end
    local text = inspect.printable(table.concat(bytes))
    ok(utf8.len(text), "not UTF-8")
    ok(not text:find("%c"), "holds control characters")
  end
end)

test("functions, tasks and handles show their kind, not their address", function()
  eq(inspect.text(print), "<function>")
  eq(inspect.text(coroutine.create(print)), "<thread>")
  eq(inspect.text({ [print] = 1 }), "{ [<function>] = 1 }")
end)
