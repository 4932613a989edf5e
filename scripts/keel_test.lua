-- What keel.lua promises: a workload follows its image repository as its annotations say.
local MINOR <const> = { ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll" }

local function shop(world, more)
  local annotations = {}
  for _, list in ipairs { MINOR, more or {} } do
    for name, value in pairs(list) do annotations[name] = value end
  end
  world:keel {}
  world:publish("registry.test/web", "1.2.0", "one")
  return world:workload("deployment", "shop/web", {
    annotations = annotations, images = { { "web", "registry.test/web:1.2.0" } },
  })
end

test("the best tag that the policy allows is rolled out, by digest", function(world)
  local web = shop(world)
  world:publish("registry.test/web", "1.3.0", "two")
  world:publish("registry.test/web", "2.0.0", "three")
  world:pass("10m")
  has(world:image("deployment", "shop/web"), "registry.test/web:1.3.0@sha256:")
  has(web:decision("deployment", "2.0.0").reason, "changes the major number")
end)

test("nothing goes back by itself", function(world)
  shop(world)
  world:publish("registry.test/web", "1.3.0", "two")
  world:pass("10m")
  world:publish("registry.test/web", "1.3.0", nil)
  world:pass("1h")
  has(world:image("deployment", "shop/web"), ":1.3.0@")
end)

test("with keel.sh/approvals it waits for people", function(world)
  local web = shop(world, { ["keel.sh/approvals"] = "1" })
  world:publish("registry.test/web", "1.3.0", "two")
  world:pass("10m")
  equal(world:image("deployment", "shop/web"), "registry.test/web:1.2.0")
  web:approve("deployment", "ann")
  world:settle()
  has(world:image("deployment", "shop/web"), ":1.3.0@")
end)

everywhere(function(world)
  shop(world)
  world:publish("registry.test/web", "1.3.0", "two")
  world:pass("10m")
  has(world:image("deployment", "shop/web"), ":1.3.0@")
end)
