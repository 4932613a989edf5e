-- explore: random worlds of a seed against invariants; what fails is repeated exactly, and shrunk.
local check, suite = require "check", require "testing.suite"
local test, eq, has = check.test, check.eq, check.has

test("the shipped policies keep the invariants", function()
  local result = suite.text "explore(7, 40)"
  has(result.stdout, "ok 1 - explore(7, 40) (40 worlds)\n")
  eq(result.code, 0)
end)

test("a run that is held in its midst does not keep the host busy: a world that once did", function()
  local result = suite.text("explore(5, 150)", { "--only", "34" })
  has(result.stdout, "1 passed, 0 failed")
end)

-- Goes to whatever tag comes first in the alphabet.
local BACK <const> = [[
return policy {
  watch = function(place)
    local tags = place:tags()
    table.sort(tags, function(a, b) return a.name < b.name end)
    local tag = tags[1]
    if not tag then return nil, "no tag" end
    return { key = tag.name .. tag.commit, title = tag.name, version = tag.name, commit = tag.commit }
  end,
  run = function(run, change) run:release(run:image(change.commit), { version = change.version }) end,
}
]]

test("a policy that goes back is found, with few events, the same each time", function()
  local dir = suite.folder {
    ["scripts/back.lua"] = BACK,
    ["scripts/back_test.lua"] = [[
test("keeps the invariants", function()
  explore(3, 100, { apps = { web = { environments = { production = { policy = "back", rollback = false } } } } })
end)
]],
  }
  local result = suite.run(dir)
  has(result.stdout, "without an intent")
  local number = check.ok(result.stdout:match("repeat only this world with %-%-only (%d+)"))
  check.ok(tonumber(result.stdout:match("(%d+) of its %d+ events are enough")) <= 8, result.stdout)
  eq(suite.run(dir).stdout, result.stdout)
  eq(suite.run(dir, { "--only", number }).stdout, result.stdout)
end)

test("a test's own invariant is asked, within the test's limits", function()
  local result = suite.text [[
explore(1, 5, { invariant = function(world) assert(#world:effects() < 2, "too much happens") end })
explore(1, 5, { invariant = function() while true do end end })
]]
  has(result.stdout, "scripts/a_test.lua:1: too much happens\n")
  has(result.stdout, "its own code used more than 5 s of processor time")
  has(result.stdout, "0 passed, 2 failed")
end)
