-- What staging.lua promises: staging is whatever the branch says, forwards or back.
local function delivered(world) return world:app("web", { environments = { staging = {} } }) end

test("a push is built, tagged and put out, and people are told", function(world)
  local web = delivered(world)
  web:push("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  equal(world:effects(), { "build web a", "tag web:staging a", "roll out web/staging a" })
  has(world:told(), "released")
end)

test("a reset goes back to the image that is there: nothing is built", function(world)
  local web = delivered(world)
  web:push("a")
  world:settle()
  web:push("b")
  world:settle()
  web:reset("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  equal(world:effects(), {
    "build web a", "tag web:staging a", "roll out web/staging a",
    "build web b", "tag web:staging b", "roll out web/staging b",
    "tag web:staging a", "roll out web/staging a",
  })
end)

test("of pushes that come at once only the newest goes out", function(world)
  local web = delivered(world)
  web:push("a")
  web:push("b")
  web:push("c")
  world:settle()
  equal(world:effects(), { "build web c", "tag web:staging c", "roll out web/staging c" })
end)

test("what does not build is not put out, and the next push is", function(world)
  local web = delivered(world)
  web:push("a")
  world:settle()
  web:breaks("b", "build")
  web:push("b")
  world:settle()
  equal(web:runs("staging")[1].state, "failed")
  equal(web:running("staging").commit, commit("a"))
  web:push("c")
  world:settle()
  equal(web:running("staging").commit, commit("c"))
end)

test("other branches and tags are not its business", function(world)
  local web = delivered(world)
  web:push("a")
  world:settle()
  web:push("b", { branch = "feature" })
  web:tag("v1.0.0", "a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  equal(#web:runs("staging"), 1)
end)

test("what is out of reach delays a push and loses none", function(world)
  local web = delivered(world)
  for _, part in ipairs { "git", "registry", "builder", "target web/staging" } do
    local name = "push while " .. part .. " is down"
    world:down(part)
    web:push(name)
    world:pass("1h")
    assert(not web:running("staging") or web:running("staging").commit ~= commit(name), part)
    world:up(part)
    world:pass("1h")
    equal(web:running("staging").commit, commit(name), part)
  end
end)

everywhere("a push and a reset end the same wherever the host dies and whatever fails once", function(world)
  local web = delivered(world)
  web:push("a")
  world:settle()
  web:push("b")
  world:settle()
  web:reset("a")
  world:settle()
end)

explore(1, 30, { apps = { web = { environments = { staging = {} } } } })
