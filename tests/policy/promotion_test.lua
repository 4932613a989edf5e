-- Production gets what another environment proved, by digest, where its settings ask for a proof.
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local simulation = require "simulation"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

check.virtual_time()

local C <const> = simulation.commit

local function stage(settings)
  local world = simulation.new {}
  check.defer(function() world:close() end)
  local web = world:app("web", { environments = { staging = {}, production = { settings = settings } } })
  web:push "a"
  web:tag("v1.0.0", "a")
  world:settle()
  web:release("production", "v1.0.0")
  world:settle()
  return world, web
end

local function lines(world, pattern)
  local found = {}
  for _, line in ipairs(world:effects()) do
    if line:find(pattern) then found[#found + 1] = line end
  end
  return found
end

test("a tag waits until staging has run its commit, and gets that very image, although the registry's tag moved",
  function()
    local world, web = stage { proven_by = "staging" }
    web:breaks("b", "check")
    web:push "b"
    web:tag("v1.1.0", "b")
    world:settle()
    eq(web:running("production").commit, C "a")
    has(web:decision("production", "v1.1.0").reason, "staging has not proved " .. C("b"):sub(1, 7))
    web:push "c"
    world:settle()
    local proved = web:running("staging").digest
    local images = world.state.images[next(world.state.images)]
    images.tags["sha-" .. C "c"] = images.tags["sha-" .. C "a"] -- somebody moved it
    web:push "d"
    world:settle()
    web:tag("v1.2.0", "c")
    world:settle()
    eq({ web:running("production").version, web:running("production").digest }, { "v1.2.0", proved })
    eq(#lines(world, "^build web c"), 1)
  end)

test("a tag waits for a commit that is on its way to staging, and goes on when it is there", function()
  local world, web = stage { proven_by = "staging" }
  web:hold "staging"
  web:push "b"
  web:tag("v1.1.0", "b")
  world:settle()
  eq(web:running("production").commit, C "a")
  web:unhold "staging"
  world:settle()
  world:pass "10m"
  eq({ web:running("production").version, web:running("production").digest },
    { "v1.1.0", web:running("staging").digest })
end)

test("a person may put out what is not proved", function()
  local world, web = stage { proven_by = "staging" }
  web:hold "staging"
  web:push "b"
  web:tag("v1.1.0", "b")
  world:settle()
  web:release("production", "v1.1.0")
  world:settle()
  eq(web:running("production").version, "v1.1.0")
end)

test("without that setting a tag goes out as it is, built if need be", function()
  local world, web = stage()
  web:hold "staging"
  web:push "b"
  web:tag("v1.1.0", "b")
  world:settle()
  eq({ web:running("production").version, web:running("staging").commit }, { "v1.1.0", C "a" })
end)

test("an image that was proved and is gone from the registry is not built anew", function()
  local world, web = stage { proven_by = "staging" }
  web:push "b"
  world:settle()
  local images = world.state.images[next(world.state.images)]
  images.labels[web:running("staging").digest] = nil
  web:tag("v1.1.0", "b")
  world:settle()
  eq(web:running("production").commit, C "a")
  ok(web:runs("production")[1].error)
  has(web:runs("production")[1].error.message, "there is no sha256:")
end)
