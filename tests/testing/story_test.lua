-- Stories in the simulated world: what tests see of it, what a failure shows, and the same story in many lives.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check, suite = require "check", require "testing.suite"
local test, eq, has = check.test, check.eq, check.has

test("a story is told in virtual time, and a failure shows it", function()
  local result = suite.text [[
test("days pass", function(world)
  local web = world:app("web", { environments = { staging = {} } })
  web:push("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  print("so far", #world:effects())
  world:pass("30d")
  equal(web:running("staging").commit, commit("b"), "what runs")
end)
]]
  has(result.stdout, "what runs: this is not what was expected'\n  at: 'scripts/a_test.lua:8'\n"
    .. "  expected: 'commit \"b\"'\n  got: 'commit \"a\"'\n  story: |2-\n    2026-03-02T08:00:00Z  web: push a\n")
  has(result.stdout, "roll out web/staging a\n")
  local _, lines = result.stdout:gsub("web staging: tag\n", "")
  eq(lines, 1) -- a step that went well is one line
  has(result.stdout, "    print: so far  3\n    2026-03-02T08:02:00Z  pass 30d\n  ...\n")
  eq(result.code, 1)
end)

test("what is tested is the policy beside the test, with its shared modules, and their lines are counted", function()
  local dir = suite.folder {
    ["scripts/shared/names.lua"] = "local M = {}\nfunction M.ends(text)\n  return text:sub(-1)\nend\nfunction M.no()\n"
      .. "  return 1\nend\nreturn M\n",
    ["scripts/last.lua"] = [[
local names = require "shared.names"
return policy {
  watch = function(place)
    local head = place:head()
    if names.ends(head.commit) == "!" then
      return nil, "never"
    end
    return head
  end,
  run = function(run, head)
    run:release(run:image(head.commit))
  end,
}
]],
    ["scripts/last_test.lua"] = [[
local names = require "shared.names"
test("alone", function() equal(names.ends("abc"), "c") end)
test("in a policy", function(world)
  local web = world:app("web", { environments = { staging = { policy = "last" } } })
  web:push("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)
]],
  }
  local result = suite.run(dir, { "--coverage", "--lcov", "out.info" })
  has(result.stdout, "2 passed, 0 failed")
  has(result.stdout, "# scripts/last.lua              7        6   85 %  6\n")
  has(result.stdout, "# scripts/shared/names.lua      6        5   83 %  6\n")
  has(require("fs").read(dir .. "/out.info"), ("SF:%s/scripts/shared/names.lua\nDA:1,"):format(dir))

  -- Where the folder is known by its whole path, as from a configuration, each file is still one line.
  local whole = suite.run(dir, { "--coverage", "--scripts", dir .. "/scripts" })
  local _, lines = whole.stdout:gsub("shared/names%.lua", "")
  eq(lines, 1)
end)

test("a policy that fails in the world fails the test that expects otherwise, with its words", function()
  local dir = suite.folder {
    ["scripts/odd.lua"] = "return policy { watch = function(place) return plaice:head() end, run = function() end }",
    ["scripts/odd_test.lua"] = [[
local function app(staging) return { environments = { staging = staging } } end
test("odd", function(world) world:app("web", app { policy = "odd" }):push("a") world:settle() end)
test("no such", function(world) world:app("web", app { polisy = "odd" }) end)
test("wrong word", function(world) world:pusch("a") end)
test("dot", function(world) world.app("web", {}) end)
]],
  }
  local result = suite.run(dir)
  has(result.stdout, "scripts/odd.lua:1: there is nothing called ''plaice''")
  has(result.stdout, "polisy")
  has(result.stdout, "0 passed, 4 failed")
  for line = 2, 5 do has(result.stdout, ("at: 'scripts/odd_test.lua:%d'"):format(line)) end
end)

local COUNTING <const> = [[
return policy {
  watch = function(place) return place:head() end,
  run = function(run, head)
    run:release(run:image(head.commit))
    run:step("announce", {}, function()
      require("http").post("https://chat.invalid/say", head.commit)
    end)
  end,
}
]]

test("everywhere: the shipped staging policy ends the same in every life", function()
  local result = suite.text [[
everywhere("a push", function(world)
  local web = world:app("web", { environments = { staging = {} } })
  web:push("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)
]]
  has(result.stdout, "ok 1 - a push (")
  local lives = tonumber(result.stdout:match("%((%d+) lives%)"))
  check.ok(lives > 30, result.stdout)
  eq(result.code, 0)
end)

test("everywhere: an effect of a step that is not idempotent is found, and how to repeat the life is said", function()
  local dir = suite.folder {
    ["scripts/counting.lua"] = COUNTING,
    ["scripts/counting_test.lua"] = [[
test("announced once", function(world)
  everywhere(function(world)
    world:answer("https://chat.invalid/", 200)
    local web = world:app("web", { environments = { staging = { policy = "counting" } } })
    web:push("a")
    world:settle()
  end)
end)
]],
  }
  local result = suite.run(dir)
  has(result.stdout, "not ok 1 - announced once\n")
  has(result.stdout, "'POST https://chat.invalid/say' happened 2 times, and should have happened 1 times")
  has(result.stdout, "after POST https://chat.invalid/say")
  has(result.stdout, "performed again: step announce of web staging")
  has(result.stdout, "  story: |2-")
  local only = check.ok(result.stdout:match("repeat only this life with %-%-only (%d+)"))
  local again = suite.run(dir, { "--only", only })
  has(again.stdout, "'POST https://chat.invalid/say' happened 2 times")
end)
