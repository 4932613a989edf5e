-- string.format of the host: Lua's own, but for addresses (those of policies: policy/durable_test.lua).
local check = require "check"
local test, eq, ok = check.test, check.eq, check.ok

test("format shows addresses outside of policies, as Lua's own does", function()
  ok(("%s"):format({}):find "^table: 0x")
  ok(("%p"):format({}):find "^0x")
  eq(("%s %%p"):format(setmetatable({}, { __tostring = function() return "own" end })), "own %p")
  eq(pcall(string.format, "%s"), false)
end)

test("formats are read in one go, and so within a limit", function()
  local long = (" "):rep(65536)
  eq(#long:format(), 65536)
  eq(string.packsize(long), 0)
  for _, name in ipairs { "format", "pack", "unpack", "packsize" } do
    local fine, err = pcall(string[name], long .. " ", "")
    eq({ fine, err.code, err.op }, { false, "too_large", "string." .. name })
  end
end)
