-- moontide test --watch: again when a script was saved, however it was; and in the conditions of a CI.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check, fs, proc, suite, sys = require "check", require "fs", require "proc", require "testing.suite",
  require "base.sys"
local test, eq, has, ok = check.test, check.eq, check.has, check.ok

-- Reads a run's output up to its last line.
local function one_run(lines)
  local text = {}
  for line in lines do
    text[#text + 1] = line
    if line:find("^%d+ passed, %d+ failed$") then return table.concat(text, "\n") end
  end
  error("the output ended: " .. table.concat(text, "\n"))
end

test("a saved test, policy or shared module runs the tests again; nothing is cleared without a terminal", function()
  local dir = suite.folder {
    ["scripts/a_test.lua"] = "local n = require 'shared.n' test('one', function() equal(n.n, 1) end)",
    ["scripts/shared/n.lua"] = "return { n = 1 }",
  }
  local child <close> = ok(proc.spawn { sys.exe(), "test", "--watch", cwd = dir, stderr = "stdout" })
  local lines = child:lines "stdout"
  local first = one_run(lines)
  has(first, "1 passed, 0 failed")
  eq(first:find("\27", 1, true), nil)
  ok(fs.write(dir .. "/scripts/shared/n.lua", "return { n = 2 }"))
  has(one_run(lines), "0 passed, 1 failed")
  ok(fs.write(dir .. "/new", "return { n = 1 } -- once more"))
  ok(fs.rename(dir .. "/new", dir .. "/scripts/shared/n.lua")) -- as many editors save
  has(one_run(lines), "1 passed, 0 failed")
  ok(fs.write(dir .. "/scripts/.a_test.lua.swp", "x"))
  ok(fs.write(dir .. "/scripts/b_test.lua", "test('two', function() end)"))
  has(one_run(lines), "2 passed, 0 failed")
  child:kill "TERM"
  eq(child:wait().code, 0)
end)

test("no terminal, LANG=C, no configuration, no home, and folders that cannot be written", function()
  local dir = suite.folder {
    ["scripts/a_test.lua"] = [[
test("Überprüfung läuft", function(world)
  local web = world:app("web", { environments = { staging = {} } })
  web:push("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)
]],
  }
  ok(proc.check(proc.run { "chmod", "-R", "a-w", dir .. "/scripts" }))
  check.defer(function() ok(proc.run { "chmod", "-R", "u+w", dir .. "/scripts" }) end)
  local before = fs.list(dir)
  -- As nobody, where we may: root writes anywhere.
  local argv = { sys.exe(), "test" } ---@type any
  if sys.uid() == 0 then
    ok(proc.check(proc.run { "chmod", "a+rx", dir }))
    argv = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", table.unpack(argv) }
    if not (proc.run { "setpriv", "--reuid=65534", "--clear-groups", "--", sys.exe(), "version" } or {}).ok then
      argv = { sys.exe(), "test" } -- the program lies where nobody may read it
    end
  end
  argv.cwd, argv.env, argv.stdin = dir, { LANG = "C" }, false
  local result = ok(proc.run(argv))
  has(result.stdout, "ok 1 - Überprüfung läuft\n")
  eq({ result.code, result.stderr }, { 0, "" })
  eq(fs.list(dir), before)
end)
