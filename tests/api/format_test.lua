-- string.format of the host: Lua's own, but for addresses (those of policies: policy/durable_test.lua).
local check = require "check"
local test, eq, ok = check.test, check.eq, check.ok

test("format shows addresses outside of policies, as Lua's own does", function()
  ok(("%s"):format({}):find "^table: 0x")
  ok(("%p"):format({}):find "^0x")
  eq(("%s %%p"):format(setmetatable({}, { __tostring = function() return "own" end })), "own %p")
  eq(pcall(string.format, "%s"), false)
end)
