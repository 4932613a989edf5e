-- What the recipe monorepo does, for two apps of one repository.
local function shop(world)
  local apps = {}
  for _, name in ipairs { "web", "api" } do
    apps[name] = world:app(name, {
      source = "https://git.example.com/shop.git",
      environments = { staging = { policy = "monorepo", settings = { paths = { name .. "/", "shared/" } } } },
    })
  end
  apps.web:push("a", { paths = { "web/index.html", "api/main.go" } })
  world:settle()
  equal(apps.web:running("staging").commit, commit("a"))
  equal(apps.api:running("staging").commit, commit("a"))
  return apps.web, apps.api
end

test("only the apps that a commit touches are released", function(world)
  local web, api = shop(world)
  web:push("b", { paths = { "web/index.html" } })
  world:settle()
  equal(web:running("staging").commit, commit("b"))
  equal(api:running("staging").commit, commit("a"))
  has(api:decision("staging").reason, "none of 1 new commits touches api/, shared/")
  web:push("c", { paths = { "shared/log.go" } })
  world:settle()
  equal(web:running("staging").commit, commit("c"))
  equal(api:running("staging").commit, commit("c"))
end)

test("several commits in one push all count", function(world)
  local web, api = shop(world)
  web:push("b", { paths = { "api/main.go" } })
  web:push("c", { paths = { "README.md" } })
  world:settle()
  equal(api:running("staging").commit, commit("c"))
  equal(web:running("staging").commit, commit("a"))
end)

test("[skip ci] skips", function(world)
  local web = shop(world)
  web:push("b", { paths = { "web/index.html" }, message = "Fix a typo [skip ci]" })
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)

test("a branch that is reset is followed", function(world)
  local web = shop(world)
  web:push("b", { paths = { "web/index.html" } })
  world:settle()
  web:reset("a")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
end)
