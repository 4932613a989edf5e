-- moontide test: finding and running test files, what it prints, its exit codes.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check, fs, json, suite = require "check", require "fs", require "json", require "testing.suite"
local test, eq, has = check.test, check.eq, check.has

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return lines
end

test("results are TAP 14 with a last line of counts, and the exit code says whether all passed", function()
  local result = suite.text [[
test("adds", function() equal(1 + 1, 2) end)
test("knows tables", function() equal({ a = { 1, 2 } }, { a = { 1, 2 } }) end)
]]
  eq(lines_of(result.stdout), {
    "TAP version 14", "# scripts/a_test.lua", "ok 1 - adds", "ok 2 - knows tables", "1..2", "2 passed, 0 failed",
  })
  eq(result.stderr, "")
  eq(result.code, 0)
end)

test("a failure says what was expected, what came, and where", function()
  local result = suite.text [[
test("a # of \\ things", function()
  equal({ a = { 1, 2 } }, { a = { 1, 3 } }, "the list")
end)
test("the others go on", function() end)
]]
  eq(lines_of(result.stdout), {
    "TAP version 14", "# scripts/a_test.lua", "not ok 1 - a \\# of \\\\ things", "  ---",
    "  message: 'the list: this is not what was expected; it first differs at .a[2]'", "  at: 'scripts/a_test.lua:2'",
    "  expected: '{ a = { 1, 3 } }'", "  got: '{ a = { 1, 2 } }'", "  ...", "ok 2 - the others go on", "1..2",
    "1 passed, 1 failed",
  })
  eq(result.code, 1)
end)

test("has and raises say what there was", function()
  local result = suite.text [[
test("one text", function() has("abc", "b") has({ "x", "yz" }, "z") raises("boo", function() error("boom") end) end)
test("has", function() has({ "x" }, "b") end)
test("raises nothing", function() raises("boom", function() end) end)
test("raises another", function() raises("boom", error, "bang") end)
test("assert", function() assert(false, "no such thing") end)
]]
  has(result.stdout, "ok 1 - one text\nnot ok 2")
  has(result.stdout, "'the part is not in it'\n  at: 'scripts/a_test.lua:2'")
  has(result.stdout, "'nothing was raised'\n  at: 'scripts/a_test.lua:3'")
  has(result.stdout, "'something else was raised'\n  at: 'scripts/a_test.lua:4'")
  has(result.stdout, "message: 'no such thing'\n  at: 'scripts/a_test.lua:5'")
end)

test("a file that does not load is a failure with its line; the other files are run", function()
  local dir = suite.folder {
    ["scripts/a_test.lua"] = "test('x', function()\n", ["scripts/shared/b_test.lua"] = "test('fine', function() end)",
    ["scripts/c_test.lua"] = "local x = undefined_thing",
    ["scripts/.d_test.lua"] = "not lua", ["scripts/d.lua"] = "not a test",
  }
  local result = suite.run(dir)
  has(result.stdout, "# scripts/a_test.lua\nnot ok 1 - the file loads\n")
  has(result.stdout, "at: 'scripts/a_test.lua:2'")
  has(result.stdout, "# scripts/c_test.lua\nnot ok 2 - the file loads\n  ---\n"
    .. "  message: 'undefined variable ''undefined_thing'''")
  has(result.stdout, "ok 3 - fine")
  has(result.stdout, "1 passed, 2 failed\n")
  eq(result.code, 1)
end)

test("files are named by path, by the policy that they test, by folder", function()
  local dir = suite.folder {
    ["scripts/a_test.lua"] = "test('of a', function() end)", ["scripts/a.lua"] = "",
    ["scripts/shared/b_test.lua"] = "test('of b', function() end)",
    ["else/c_test.lua"] = "test('of c', function() end)",
  }
  local function names(...)
    local found = {}
    for name in suite.run(dir, { ... }).stdout:gmatch("ok %d+ %- of (%a)") do found[#found + 1] = name end
    return table.concat(found)
  end
  eq(names(), "ab")
  eq(names "a", "a")
  eq(names "scripts/a.lua", "a")
  eq(names "shared/b", "b")
  eq(names("scripts/shared", "else"), "bc")
  eq(names("--scripts", "else"), "c")
  eq(names("--name", "of b"), "b")
end)

test("with nothing to run it says so and how to write a test, and ends with 2", function()
  local dir = suite.folder { ["scripts/a.lua"] = "", ["scripts/b_test.lua"] = "" }
  local none = suite.run(dir, { "--name", "x" })
  has(none.stderr, 'no test has "x" in its name')
  eq(none.code, 2)
  local empty = suite.run(dir)
  has(empty.stderr, "the files hold no test")
  eq(empty.code, 2)
  local missing = suite.run(dir, { "nothing" })
  has(missing.stderr, "there is no test nothing: neither that file nor scripts/nothing_test.lua")
  eq(missing.code, 2)
  local dir_without = suite.folder { ["scripts/a.lua"] = "" }
  local without = suite.run(dir_without)
  has(without.stderr, "the tests of NAME.lua are NAME_test.lua beside it")
  eq(without.code, 2)
end)

test("--output json is one document", function()
  local result = suite.text("test('a', function() end) test('b', function() error('x') end)", { "--output", "json" })
  local data = json.decode(result.stdout)
  eq({ data.passed, data.failed, #data.tests }, { 1, 1, 2 })
  eq({ data.tests[2].name, data.tests[2].ok, data.tests[2].failure.message[1] }, { "b", false, "x" })
  eq(result.code, 1)
end)

test("--junit writes valid XML for whatever names and messages there are", function()
  local result, dir = suite.text([[
test("<a> & 'b' \"c\" \27[31m \255 \239\191\191", function() error("]" .. "]> <x> \0 \1 \255") end)
test("fine", function() end)
]], { "--junit", "out.xml" })
  eq(result.code, 1)
  local xml = check.ok(fs.read(dir .. "/out.xml"))
  eq(xml:find("[\0-\9\11-\31]"), nil)
  check.ok(utf8.len(xml))
  eq(xml:find("\239\191\191", 1, true), nil)
  has(xml, '<testsuites tests="2" failures="1" errors="0" skipped="0"')
  has(xml, 'classname="scripts.a_test" name="fine" file="scripts/a_test.lua"')
  has(xml, "&lt;a&gt; &amp; &apos;b&apos; &quot;c&quot;")
  local linted = require("proc").run { "xmllint", "--noout", dir .. "/out.xml", stderr = "stdout" }
  check.ok(not linted or linted.ok, linted and linted.stdout) -- where it is installed
  check.ok(fs.write(dir .. "/scripts/b\27[31m\n,_test.lua", 'test("x", function() end)'))
  suite.run(dir, { "--junit", "out.xml" })
  xml = check.ok(fs.read(dir .. "/out.xml"))
  eq(xml:find("[\0-\9\11-\31]"), nil)
  has(xml, 'file="scripts/b\\x1b[31m\\n,_test.lua"')
  local none = suite.run(dir, { "--junit", "no/such/out.xml" })
  has(none.stderr, "no/such/out.xml cannot be written")
  eq(none.code, 2)
end)
