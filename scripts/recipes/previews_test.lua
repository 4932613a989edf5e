-- What the recipe previews does.
local function shop(world)
  local web = world:app("web", { environments = { feature = {
    policy = "previews", branches = "feature/*", settings = { address = "http://{branch}.preview.example.com/" },
    target = { kind = "docker" },
  } } })
  web:push("a")
  world:settle()
  return web
end

test("a branch that matches gets an environment of its own, and people are told where", function(world)
  local web = shop(world)
  web:push("b", { branch = "feature/Login" })
  web:push("c", { branch = "fix/typo" })
  world:settle()
  equal(web:running("feature-feature-login").commit, commit("b"))
  has(world:told(), "feature/Login")
  has(world:told(), "http://feature-login.preview.example.com/")
  web:push("d", { branch = "feature/Login" })
  world:settle()
  equal(web:running("feature-feature-login").commit, commit("d"))
end)

test("it goes with its branch", function(world)
  local web = shop(world)
  web:push("b", { branch = "feature/login" })
  world:settle()
  web:delete_branch("feature/login")
  world:pass("1h")
  equal(web:running("feature-feature-login"), nil)
  has(world:effects(), "take down web/feature-feature-login")
end)

everywhere(function(world)
  local web = shop(world)
  web:push("b", { branch = "feature/login" })
  world:settle()
  web:delete_branch("feature/login")
  world:pass("1h")
  equal(web:running("feature-feature-login"), nil)
end)
