-- What the recipe freeze-days does, over some frozen days in March.
local function frozen(world, days)
  return world:app("web", { environments = {
    staging = { policy = "freeze-days", settings = { freeze = days, zone = "Europe/Berlin" } },
  } })
end

test("on a day that is not frozen the branch is followed", function(world)
  local web = frozen(world, "12-20..01-06")
  web:push("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)

test("what comes on frozen days goes out after them, and only the last of it", function(world)
  local web = frozen(world, "2026-03-05..2026-03-07")
  web:push("a")
  world:settle()
  world:pass("3d")
  web:push("b")
  world:pass("1d")
  web:push("c")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  has(web:decision("staging").reason, "frozen until 2026-03-07T23:00:00Z")
  world:pass("2d")
  equal(web:running("staging").commit, commit("c"))
  for _, line in ipairs(world:effects()) do assert(line ~= "build web b", "b was never due") end
end)

test("a person's release does not wait", function(world)
  local web = frozen(world, "always")
  web:push("a")
  world:settle()
  equal(web:running("staging"), nil)
  web:release("staging", "a", "ann")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)
