-- string.format of the host: Lua's own, but for addresses (those of policies: policy/durable_test.lua).
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
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
