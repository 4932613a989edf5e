-- `make demo` tells its whole story, and leaves nothing behind: it is the first thing that a newcomer types.
local check = require "check"
local docker = require "lab.docker"
local proc, sys = require "proc", require "base.sys"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

test("the demo tells its whole story", function()
  local missing = docker.unavailable()
  if missing then check.skip(missing) end
  local told = ok(proc.run { sys.exe(), "exec", "tests/demo.lua", timeout = 280, stderr = "stdout" })
  eq(told.code, 0, told.stdout)
  has(told.stdout, "The whole story in ")
end)
