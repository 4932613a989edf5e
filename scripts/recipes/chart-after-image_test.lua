-- What the recipe chart-after-image does: charts are published once their image has proved itself, and not otherwise.
local function shop(world)
  local web = world:app("web", {
    publish = { charts = { "charts/web", "charts/jobs" } },
    environments = { staging = { policy = "chart-after-image" } },
  })
  web:push("a")
  world:settle()
  return web
end

-- The effects that speak of a commit.
local function effects_of(world, name)
  local found = {}
  for _, line in ipairs(world:effects()) do
    if line:find(" " .. name .. "$") then found[#found + 1] = line end
  end
  return found
end

test("the image is released before anything names it", function(world)
  shop(world)
  equal(world:effects(), {
    "build web a", "roll out web/staging a", "tag web:staging a", "push chart web 0.0.0-staging.1 a",
    "push chart jobs 0.0.0-staging.1 a",
  })
end)

test("an image that fails its checks gets neither a tag nor a chart", function(world)
  local web = shop(world)
  web:breaks("b", "check")
  web:push("b")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  equal(effects_of(world, "b"), { "build web b", "roll out web/staging b" })
end)

test("an image that does not build gets no chart", function(world)
  local web = shop(world)
  web:breaks("b", "build")
  web:push("b")
  world:settle()
  equal(effects_of(world, "b"), {})
end)

test("the numbers of charts rise, also when a branch is reset", function(world)
  local web = shop(world)
  web:push("b")
  world:settle()
  has(effects_of(world, "b"), "push chart web 0.0.0-staging.2 b")
  web:reset("a")
  world:settle()
  has(effects_of(world, "a"), "push chart web 0.0.0-staging.3 a")
end)

test("charts are late while their repository is down, and not forgotten", function(world)
  local web = shop(world)
  world:down("charts")
  web:push("b")
  world:settle()
  equal(web:running("staging").commit, commit("b"))
  equal(effects_of(world, "b"), { "build web b", "roll out web/staging b", "tag web:staging b" })
  world:up("charts")
  world:pass("1h")
  has(effects_of(world, "b"), "push chart web 0.0.0-staging.2 b")
end)

test("whoever follows the charts gets what has proved itself", function(world)
  local web = shop(world)
  local shop_of_all = world:app("all", {
    charts = { web = {} }, environments = { staging = { policy = "charts", accept = "staging" } },
  })
  world:settle()
  equal(shop_of_all:running("staging").version, "web=0.0.0-staging.1")
  web:breaks("b", "check")
  web:push("b")
  world:settle()
  web:push("c")
  world:settle()
  equal(shop_of_all:running("staging").version, "web=0.0.0-staging.3")
end)

everywhere("each chart is published once, wherever the host dies", function(world)
  local web = shop(world)
  web:push("b")
  world:settle()
end)
