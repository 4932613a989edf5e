-- What the recipe hotfix-lane does. A world begins on Monday, 2 March 2026, 08:00 UTC.
local function shop(world)
  local web = world:app("web", { environments = { production = {
    policy = "hotfix-lane", accept = "major", settings = { hours = "Mon-Fri 9:00-16:00", votes = 1 },
  } } })
  web:push("a")
  world:pass("2h") -- Monday, 10:00
  web:tag("v1.0.0", "a")
  world:settle()
  web:approve("production", "ann")
  world:settle()
  equal(web:running("production").version, "v1.0.0")
  world:pass("10h") -- Monday, 20:00
  return web
end

test("a patch goes out at night, without a vote", function(world)
  local web = shop(world)
  web:push("b")
  web:tag("v1.0.1", "b")
  world:settle()
  equal(web:running("production").version, "v1.0.1")
end)

test("a minor version waits for office hours and a vote", function(world)
  local web = shop(world)
  web:push("b")
  web:tag("v1.1.0", "b")
  world:settle()
  has(web:decision("production").reason, "v1.1.0 is no patch, and waits: Mon-Fri 9:00-16:00 UTC opens at")
  world:pass("14h")
  equal(web:running("production").version, "v1.0.0")
  web:approve("production", "ann")
  world:settle()
  equal(web:running("production").version, "v1.1.0")
end)

