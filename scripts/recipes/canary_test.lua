-- What the recipe canary does, on docker and in a cluster.
local PROMETHEUS <const> = "http://127.0.0.1:9090"

-- What Prometheus answers to an instant query.
local function errors_a_second(number)
  return { status = "success", data = { resultType = "vector", result = {
    { metric = {}, value = { 1772438400, tostring(number) } },
  } } }
end

local function shop(world, targets)
  world:answer(PROMETHEUS, errors_a_second(0.2))
  local web = world:app("web", { environments = { production = {
    policy = "canary", targets = targets or {
      { name = "canary", kind = "docker" }, { name = "main", kind = "docker" },
    },
    settings = { metric = { prometheus = PROMETHEUS, query = "sum(rate(http_errors_total[1m]))", below = 1 } },
  } } })
  web:push("a")
  world:settle()
  web:tag("v1.0.0", "a")
  world:pass("15m")
  equal(web:running("production", "main").version, "v1.0.0")
  return web
end

test("a version is measured on the canary before the others get it", function(world)
  local web = shop(world)
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("6m")
  equal(web:running("production", "canary").version, "v1.1.0")
  equal(web:running("production", "main").version, "v1.0.0")
  world:pass("15m")
  equal(web:running("production", "main").version, "v1.1.0")
end)

test("one that is worse than its bound never reaches the others, and the canary goes back", function(world)
  local web = shop(world)
  world:answer(PROMETHEUS, errors_a_second(7))
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("1h")
  equal(web:running("production", "main").version, "v1.0.0")
  equal(web:running("production", "canary").version, "v1.0.0")
  has(world:told(), "v1.1.0")
end)

test("two Deployments of a cluster are a canary, too", function(world)
  local web = shop(world, {
    { name = "canary", kind = "kubernetes", namespace = "shop", workload = "deployment/web-canary" },
    { name = "main", kind = "kubernetes", namespace = "shop", workload = "deployment/web" },
  })
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("6m")
  equal(web:running("production", "canary").version, "v1.1.0")
  equal(web:running("production", "main").version, "v1.0.0")
  world:pass("15m")
  equal(web:running("production", "main").version, "v1.1.0")
end)

everywhere(function(world)
  local web = shop(world)
  web:push("b")
  web:tag("v1.1.0", "b")
  world:pass("30m")
  equal(web:running("production", "main").version, "v1.1.0")
  equal(web:running("production", "canary").version, "v1.1.0")
end)
