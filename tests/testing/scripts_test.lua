-- The shipped policies pass the tests that are beside them: moontide test over scripts/.
local check, proc, sys = require "check", require "proc", require "base.sys"

check.test("the tests of scripts/ pass", function()
  local result = check.ok(proc.run { sys.exe(), "test", timeout = 3000, max_output = 8 << 20, stderr = "stdout" })
  check.ok(result.ok, result.stdout)
  local passed = tonumber(result.stdout:match("\n(%d+) passed, 0 failed\n$"))
  check.ok(passed and passed >= 25, result.stdout)
end, 3000)
