-- Every allocation that versions and policies need, failed in turn.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local semver = require "semver"
local sweep = require "lib.sweep"

sweep.run("semver.parse", function() return semver.parse("1.2.99999999999999999999-rc.1.x+b.7") end)
sweep.run("semver.parse of what is none", function() return select(2, semver.parse("1.2")).code == "invalid" end)
sweep.run("semver.compare", function() return semver.compare("1.2.3", "1.2.4") == -1 end)
sweep.run("semver.satisfies", function() return semver.satisfies("1.2.3", "^1.2 || 3.x") end)
sweep.run("semver.satisfies of no range", function()
  return select(2, semver.satisfies("1.2.3", "what")).code == "invalid"
end)
sweep.run("semver.sort", function() return semver.sort({ "1.2.0", "1.10.0", "1.2.0-rc" })[1] == "1.2.0-rc" end)
sweep.run("semver.allows", function() return semver.allows("minor", "1.2.3", "1.3.0") end)
sweep.run("semver.allows by an expression", function()
  return semver.allows("regexp:^b-(?P<compare>\\d+)$", "b-1", "b-2")
end)
sweep.run("semver.candidates", function() return #semver.candidates("glob:b-*", { "b-1", "b-2" }) == 2 end)
sweep.run("semver.candidates by an expression", function()
  return #semver.candidates("regexp:^b-(?P<compare>\\d+)$", { "b-1", "x", "b-2" }) == 2
end)
