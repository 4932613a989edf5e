-- What the recipe chart-after-image does.
local function shop(world)
  local web = world:app("web", { environments = { staging = { policy = "chart-after-image" } } })
  web:push("a")
  world:settle()
  return web
end

-- Where a line stands in what was done.
local function position(world, line)
  for i, effect in ipairs(world:effects()) do
    if effect == line then return i end
  end
end

test("the image is released before anything names it", function(world)
  local web = shop(world)
  equal(web:running("staging").commit, commit("a"))
  assert(position(world, "roll out web/staging a") < position(world, "tag web:staging a"))
end)

test("an image that fails its checks gets neither a tag nor a chart", function(world)
  local web = shop(world)
  web:push("b")
  web:breaks("b", "check")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  equal(position(world, "tag web:staging b"), nil)
end)
