-- What the recipe office-hours does.
-- The world's time begins on Monday, 2 March 2026, 08:00 UTC: 9 o'clock in Berlin.
local function office(world, hours)
  return world:app("web", {
    environments = { production = { policy = "office-hours", settings = { hours = hours, zone = "Europe/Berlin" } } },
  })
end

test("a version goes out at once in office hours", function(world)
  local web = office(world, "Mon-Fri 9:00-17:00")
  web:push("a")
  world:settle()
  web:tag("v1.0.0", "a")
  world:settle()
  equal(web:running("production").version, "v1.0.0")
end)

test("one of the evening waits for the morning, and says so", function(world)
  local web = office(world, "Mon-Fri 9:00-17:00")
  web:push("a")
  world:pass("10h")
  web:tag("v1.0.0", "a")
  world:settle()
  equal(web:running("production"), nil)
  has(web:decision("production").reason, "v1.0.0 waits: Mon-Fri 9:00-17:00 Europe/Berlin opens at 2026-03-03 09:00 CET")
  world:pass("15h")
  equal(web:running("production").version, "v1.0.0")
end)

test("of several that wait the newest goes out", function(world)
  local web = office(world, "Mon-Fri 9:00-17:00")
  web:push("a")
  world:pass("4d12h") -- Friday evening
  web:tag("v1.0.0", "a")
  world:pass("1d")
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("1d")
  equal(web:running("production"), nil)
  world:pass("1d")
  equal(web:running("production").version, "v1.1.0")
end)

test("a person's order does not wait", function(world)
  local web = office(world, "never")
  web:push("a")
  world:settle()
  web:release("production", "a", "ann")
  world:settle()
  equal(web:running("production").commit, commit("a"))
end)
