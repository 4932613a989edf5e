-- What the recipe soak does.
local function shop(world)
  local web = world:app("web", { environments = {
    staging = { policy = "staging" }, production = { policy = "soak", settings = { soak = "2d" } },
  } })
  web:push("a")
  world:pass("3d")
  equal(web:running("production").commit, commit("a"))
  return web
end

test("what staging ran for two days goes to production, as the same image", function(world)
  local web = shop(world)
  web:push("b")
  world:pass("1d")
  equal(web:running("production").commit, commit("a"))
  has(web:decision("production").reason, "soaks on staging until 2026-03-07")
  world:pass("2d")
  equal(web:running("production").digest, web:running("staging").digest)
  local builds = 0
  for _, line in ipairs(world:effects()) do builds = builds + (line == "build web b" and 1 or 0) end
  equal(builds, 1)
end)

test("the days begin anew with each release on staging", function(world)
  local web = shop(world)
  for _, name in ipairs { "b", "c", "d" } do
    web:push(name)
    world:pass("1d")
  end
  equal(web:running("production").commit, commit("a"))
  world:pass("2d")
  equal(web:running("production").commit, commit("d"))
end)

test("what staging took back never reaches production", function(world)
  local web = shop(world)
  web:push("b")
  web:breaks("b", "later")
  world:pass("5d")
  equal(web:running("production").commit, commit("a"))
end)
