-- What the recipe nightly does. A world begins on Monday, 2 March 2026, 08:00 UTC: 9 o'clock in Berlin.
local function nightly(world)
  return world:app("web", { environments = {
    nightly = { policy = "nightly", settings = { at = "daily 02:30", zone = "Europe/Berlin" } },
  } })
end

test("each night what the branch is then goes out, and nothing does in between", function(world)
  local web = nightly(world)
  web:push("a")
  world:settle()
  equal(web:running("nightly").commit, commit("a")) -- nothing ran yet: the first goes out at once
  web:push("b")
  world:pass("8h")
  equal(web:running("nightly").commit, commit("a"))
  has(web:decision("nightly").reason, "waits until 2026-03-03T01:30:00Z")
  web:push("c")
  world:pass("16h")
  equal(web:running("nightly").commit, commit("c"))
  for _, line in ipairs(world:effects()) do assert(line ~= "build web b", "b was never due") end
end)

test("a push after a night with nothing new waits for the next night", function(world)
  local web = nightly(world)
  web:push("a")
  world:pass("1d")
  web:push("b")
  world:pass("6h")
  equal(web:running("nightly").commit, commit("a"))
  world:pass("1d")
  equal(web:running("nightly").commit, commit("b"))
end)

test("a night whose release failed is followed by the next", function(world)
  local web = nightly(world)
  web:push("a")
  world:settle()
  web:push("b")
  web:breaks("b", "build")
  world:pass("1d")
  equal(web:running("nightly").commit, commit("a"))
  web:breaks("b", nil)
  world:pass("1d")
  equal(web:running("nightly").commit, commit("b"))
end)
