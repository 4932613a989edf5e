-- A class of several parts: all methods are there, and a name that is taken is an error.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local compose = require "base.compose"
local test, eq = check.test, check.eq

test("a class gets the methods of its parts", function()
  local class = { own = function() return 1 end }
  compose(class, { runs = { begin = function() return 2 end }, holds = { hold = function() return 3 end } })
  eq({ class.own(), class.begin(), class.hold() }, { 1, 2, 3 })
end)

test("a name that the class or another part has is an error that names both", function()
  local function nothing() end
  check.raises("holds gives close, which the class itself has", compose, { close = nothing }, {
    holds = { close = nothing },
  })
  local fine, err = pcall(compose, {}, { runs = { finish = nothing }, steps = { finish = nothing } })
  eq(fine, false)
  check.has(tostring(err), "gives finish, which")
end)
