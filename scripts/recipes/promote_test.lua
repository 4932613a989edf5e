-- What the recipe promote does.
local function shop(world)
  local web = world:app("web", { environments = {
    staging = { policy = "staging" }, production = { policy = "promote" },
  } })
  web:push("a")
  world:settle()
  web:approve("production", "ann")
  world:settle()
  equal(web:running("production").commit, commit("a"))
  return web
end

test("what staging proved goes out when somebody agrees, as the same image", function(world)
  local web = shop(world)
  web:push("b")
  world:settle()
  equal(web:running("staging").commit, commit("b"))
  equal(web:running("production").commit, commit("a"))
  web:approve("production", "ann")
  world:settle()
  equal(web:running("production").digest, web:running("staging").digest)
end)

test("what fails on staging is not even asked about", function(world)
  local web = shop(world)
  local told = #world:told()
  web:push("b")
  web:breaks("b", "check")
  world:settle()
  equal(web:running("staging").commit, commit("a"))
  equal(web:running("production").commit, commit("a"))
  for i, text in ipairs(world:told()) do assert(i <= told or not text:find("needs 1 vote", 1, true), text) end
end)

everywhere(function(world)
  local web = shop(world)
  web:push("b")
  world:settle()
  web:approve("production", "ann")
  world:settle()
  equal(web:running("production").digest, web:running("staging").digest)
end)
