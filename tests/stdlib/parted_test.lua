-- Large tables in parts: what is put in is found, gone through and taken out, and the parts stay small.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check, parted = require "check", require "base.parted"
local eq, ok, test = check.eq, check.ok, check.test

local function name(i) return "refs/tags/v1." .. i // 100 .. "." .. i % 100 end

test("a parted table is like any other, and no part of it grows large", function()
  local t, plain = parted.table(), {}
  ok(parted.empty(t))
  for i = 1, 50000 do t[name(i)], plain[name(i)] = i, i end
  eq({ t[name(1)], t[name(50000)], t[name(50001)] or "none" }, { 1, 50000, "none" })
  for i = 1, 50000, 3 do t[name(i)], plain[name(i)] = nil, nil end
  for i = 2, 50000, 3 do t[name(i)], plain[name(i)] = -i, -i end
  t[""], plain[""] = "empty", "empty"
  local seen, n = {}, 0
  for key, value in pairs(t) do seen[key], n = value, n + 1 end
  eq(n, 33334)
  for key, value in pairs(plain) do eq(seen[key], value) end
  ok(not parted.empty(t))
  local parts = 0
  for _, part in ipairs(setmetatable({}, { __index = function(_, i) return rawget(t, i) end })) do
    local fields = 0
    for _ in pairs(part) do fields = fields + 1 end
    ok(fields <= 2048, "a part holds " .. fields)
    parts = parts + 1
  end
  ok(parts > 50, "only " .. parts .. " parts")
end)

test("fields are changed and taken out while a parted table is gone through", function()
  local t = parted.table()
  for i = 1, 3000 do t[name(i)] = i end
  local n = 0
  for key, value in pairs(t) do
    n = n + 1
    t[key] = value % 2 == 0 and -value or nil
  end
  eq(n, 3000)
  eq({ t[name(1)] or "none", t[name(2)] }, { "none", -2 })
  for key in pairs(t) do t[key] = nil end
  ok(parted.empty(t))
end)
