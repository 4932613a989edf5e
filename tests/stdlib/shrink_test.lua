-- Lists that lost much at once, and when that is believed.
local check = require "check"
local shrink = require "base.shrink"
local test, eq = check.test, check.eq

test("half of four or more is suspicious, and nothing of a short list", function()
  for _, case in ipairs {
    { 4, 2, true }, { 4, 3, false }, { 3, 0, false }, { 3, 1, false }, { 100, 50, true }, { 100, 51, false },
    { 4, 0, true }, { 0, 0, false }, { 4, 9, false },
  } do
    eq(shrink.suspicious(case[1], case[2]), case[3], case[1] .. " to " .. case[2])
  end
end)

test("a shrink is confirmed when it was observed often enough and long enough", function()
  local found = shrink.new(3, 600)
  eq({ found:observe(), found:observe(), found:observe(), found:observe() }, { false, false, false, false })
  found.since = found.since - 600
  eq(found:confirmed(), true)
  found = shrink.new(3, 600)
  found.since = found.since - 601
  eq({ found:observe(), found:observe(), found:confirmed(), found:observe() }, { false, false, false, true })
  found = shrink.new(2, 0)
  eq({ found:observe(), found:observe() }, { false, true })
  found = shrink.new()
  eq(found:till(), found.at + 600)
end)

test("people are told some names and how many there are", function()
  local names = { "a", "b", "c", "d", "e", "f", "g" }
  eq(shrink.held("gone", names, 1, 2), {
    complaint = "gone", names = { "a", "b", "c", "d", "e" }, count = 7, since = 1, till = 2,
  })
  eq(shrink.held("gone", { "a" }, 1).till, nil)
end)
