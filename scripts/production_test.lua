-- What production.lua promises: production follows SemVer tags, the number always rises, and nothing else goes out.
local function delivered(world, accept)
  local web = world:app("web", { environments = { production = { accept = accept } } })
  web:push("a")
  world:settle()
  return web
end

local function released(world, web, version, name)
  web:tag(version, name)
  world:settle()
  equal(web:running("production").version, version)
end

test("a push alone changes nothing; its tag puts it out, under that version", function(world)
  local web = delivered(world)
  equal(web:running("production"), nil)
  equal(web:decision("production").reason, "no new version")
  released(world, web, "v1.0.0", "a")
  equal(web:running("production").commit, commit("a"))
  has(world:effects(), "tag web:v1.0.0 a")
end)

test("a lower number is refused, with the reason", function(world)
  local web = delivered(world)
  released(world, web, "v1.1.0", "a")
  web:tag("v1.0.9", "a")
  world:settle()
  equal(web:running("production").version, "v1.1.0")
  equal(web:decision("production", "v1.0.9").verdict, "refused")
  has(web:decision("production", "v1.0.9").reason, "v1.0.9 is below v1.1.0")
end)

test("a higher number on an older commit goes back in seconds: nothing is built", function(world)
  local web = delivered(world)
  released(world, web, "v1.0.0", "a")
  web:push("b")
  released(world, web, "v1.1.0", "b")
  released(world, web, "v1.2.0", "a")
  equal(web:running("production").commit, commit("a"))
  local builds = 0
  for _, line in ipairs(world:effects()) do
    if line:find("^build") then builds = builds + 1 end
  end
  equal(builds, 2)
end)

test("of tags that come at once the newest is put out, and each of the others gets its image", function(world)
  local web = delivered(world)
  released(world, web, "v1.0.0", "a")
  web:push("b")
  web:push("c")
  web:tag("v1.0.1", "b")
  web:tag("v1.0.2", "c")
  world:settle()
  equal(web:running("production").version, "v1.0.2")
  has(world:effects(), "tag web:v1.0.1 b")
  for _, line in ipairs(world:effects()) do assert(line ~= "roll out web/production b") end
end)

test("one that does not build holds up none", function(world)
  local web = delivered(world)
  released(world, web, "v1.0.0", "a")
  web:breaks("b", "build")
  web:push("b")
  web:push("c")
  web:tag("v1.0.1", "b")
  web:tag("v1.0.2", "c")
  world:settle()
  equal(web:running("production").version, "v1.0.2")
  has(world:told(), "v1.0.1 came with v1.0.2 and gets no image")
end)

test("accept bounds how far a version may rise by itself", function(world)
  local web = delivered(world, "patch")
  released(world, web, "v1.0.0", "a")
  for _, version in ipairs { "v1.1.0", "v2.0.0" } do
    web:tag(version, "a")
    world:settle()
    equal(web:running("production").version, "v1.0.0")
    equal(web:decision("production", version).verdict, "refused")
  end
  released(world, web, "v1.0.1", "a")
end)

test("a tag that moves is an alarm, and what runs stays", function(world)
  local web = delivered(world)
  released(world, web, "v1.0.0", "a")
  web:push("b")
  web:tag("v1.0.0", "b")
  world:settle()
  equal(web:running("production").commit, commit("a"))
  has(world:told(), "a published version must not change")
end)

test("what is no version is refused", function(world)
  local web = delivered(world)
  for _, name in ipairs { "nightly", "v1", "release/1.0.0" } do
    web:tag(name, "a")
    world:settle()
    equal(web:decision("production", name).verdict, "refused", name)
  end
  equal(web:running("production"), nil)
end)

test("while production is held tags wait; then the newest goes out", function(world)
  local web = delivered(world)
  released(world, web, "v1.0.0", "a")
  web:hold("production", "ann", "an incident")
  web:tag("v1.0.1", "a")
  world:pass("1h")
  equal(web:running("production").version, "v1.0.0")
  web:unhold("production", "ann")
  world:settle()
  equal(web:running("production").version, "v1.0.1")
end)

everywhere("a version after another ends the same in every life", function(world)
  local web = delivered(world)
  web:tag("v1.0.0", "a")
  world:settle()
  web:push("b")
  web:tag("v1.1.0", "b")
  world:settle()
  equal(web:running("production").version, "v1.1.0")
end)

explore(1, 30)
