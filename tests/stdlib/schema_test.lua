-- Shapes: how often they look, and that what they give belongs to who asked.
local check = require "check"
local test, eq = check.test, check.eq
local s = require "base.schema"

local function source_line(keys) return #keys end

test("entries that are right are checked once, wrong ones once more, with their paths", function()
  local seen = {}
  local odd = s.integer { doc = "odd", verify = function(value, at)
    seen[value] = (seen[value] or 0) + 1
    if value % 2 == 0 then return at:fault("is even") end
    return value
  end }
  local inner = s.map(s.text(), s.record { { "n", odd } }, { doc = "inner" })
  local shape = s.map(s.text(), s.record { { "inner", inner } })
  local at = s.cursor("file", source_line)
  local value = shape:check({ a = { inner = { x = { n = 1 } } }, b = { inner = { x = { n = 3 }, y = { n = 4 } } } }, at)
  eq(value.a, { inner = { x = { n = 1 } } })
  eq(value.b.inner.x, { n = 3 })
  eq(value.b.inner.y.n, nil)
  eq(#at.source.faults, 1)
  eq(at.source.faults[1], { file = "file", line = 4, path = "b.inner.y.n", message = "is even" })
  eq(seen[1], 1)
  eq(seen[4], 3) -- once on the outer trial, once on the inner one
end)

test("a default is checked once, and shared by all who leave it out", function()
  local count = 0
  local shape = s.record {
    { "wait", s.duration { doc = "d", default = "1m", verify = function(value)
      count = count + 1
      return value
    end } },
    { "off", s.boolean { doc = "d", default = false } },
    { "list", s.list(s.text(), { doc = "d", default = { "a" } }) },
  }
  local at = s.cursor("file", source_line)
  local one, two = shape:check({}, at), shape:check({}, at)
  eq(one, { wait = 60, off = false, list = { "a" } })
  eq(two, one)
  eq(count, 1)
  eq(rawequal(one.list, two.list), true)
  eq(shape:check({ wait = "2m", off = true }, at), { wait = 120, off = true, list = { "a" } })
end)

test("a record reads what a table has, not what its metatable gives", function()
  local shape = s.record { { "name", s.text { doc = "d" } } }
  local at = s.cursor("file", source_line)
  eq(shape:check(setmetatable({}, { __index = function() error("run") end }), at), {})
  eq(shape:check(setmetatable({ name = "x" }, { __index = { name = "y" } }), at), { name = "x" })
end)

test("a variant's kind is no unknown key, and needs none of its own", function()
  local shape = s.variant { { "a", s.record { { "x", s.text { doc = "d" } } } } }
  local at = s.cursor("file", source_line)
  eq(shape:check({ kind = "a", x = "1" }, at), { kind = "a", x = "1" })
  shape:check({ kind = "a", other = "1" }, at)
  eq(#at.source.faults, 1)
  eq(at.source.faults[1].suggestion, "known keys: x")
end)
