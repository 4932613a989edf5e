-- What the recipe regions does, with two regions.
local function shop(world)
  local web = world:app("web", { environments = { production = {
    policy = "regions", settings = { regions = { "eu", "us" }, pause = "30m" },
    targets = { { name = "eu", kind = "docker" }, { name = "us", kind = "docker" } },
  } } })
  web:push("a")
  world:settle()
  web:tag("v1.0.0", "a")
  world:pass("1h")
  equal(web:running("production", "us").version, "v1.0.0")
  return web
end

test("a version goes to one region after another, with a pause between", function(world)
  local web = shop(world)
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("10m")
  equal(web:running("production", "eu").version, "v1.1.0")
  equal(web:running("production", "us").version, "v1.0.0")
  world:pass("40m")
  equal(web:running("production", "us").version, "v1.1.0")
end)

test("one that fails in a region does not reach the next, and goes back where it was", function(world)
  local web = shop(world)
  web:push("b")
  web:breaks("b", "check")
  web:tag("v1.1.0", "b")
  world:pass("2h")
  equal(web:running("production", "eu").version, "v1.0.0")
  equal(web:running("production", "us").version, "v1.0.0")
end)

everywhere(function(world)
  local web = shop(world)
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("2h")
  equal(web:running("production", "eu").version, "v1.1.0")
  equal(web:running("production", "us").version, "v1.1.0")
end)
