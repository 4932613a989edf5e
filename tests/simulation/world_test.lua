-- The simulated world: hosts of the real engine live in it, in virtual time.
---@diagnostic disable: need-check-nil -- a nil fails the test
local check = require "check"
local fs, simulation = require "fs", require "simulation"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

check.virtual_time()

local function both(options)
  local world = simulation.new(options)
  return world, world:app("web", {
    environments = { staging = {}, production = { accept = "minor" } },
  })
end

test("a push and a tag go out, and the world says what was done", function()
  local world <close>, web = both()
  web:push "a"
  world:settle()
  eq(web:running("staging").commit, simulation.commit "a")
  eq(web:running "production", nil)
  web:tag("v1.0.0", "a")
  world:settle()
  eq(web:running("production").version, "v1.0.0")
  eq(world:effects(), {
    "build web a", "tag web:staging a", "roll out web/staging a", "tag web:v1.0.0 a", "roll out web/production a",
  })
  eq(#world:told(), 2)
  eq(web:status("production").state, "idle")
  eq(web:decision("production").reason, "no new version")
  has(table.concat(world:story(), "\n"), "web: tag v1.0.0 at a")
end)

test("what does not build, fails its checks or turns unhealthy later", function()
  local world <close>, web = both()
  web:push "a"
  world:settle()
  web:breaks("b", "build")
  web:push "b"
  world:settle()
  eq(web:runs("staging")[1].state, "failed")
  eq(web:running("staging").commit, simulation.commit "a")
  web:breaks("c", "check")
  web:push "c"
  world:settle()
  eq(web:running("staging").commit, simulation.commit "a")
  web:push "d"
  world:settle()
  eq(web:running("staging").commit, simulation.commit "d")
  web:breaks("d", "later")
  world:settle()
  world:pass "10m"
  eq(web:running("staging").commit, simulation.commit "a")
end)

test("what is down is tried again, and days pass", function()
  local world <close>, web = both()
  world:down "registry"
  web:push "a"
  world:settle()
  eq(web:running "staging", nil)
  world:up "registry"
  world:pass "10m"
  eq(web:running("staging").commit, simulation.commit "a")
  world:down "target web/staging"
  web:push "b"
  world:pass "1d"
  eq(web:running("staging").commit, simulation.commit "a")
  world:up "target web/staging"
  world:pass "10m"
  eq(web:running("staging").commit, simulation.commit "b")
end)

test("people order", function()
  local world <close>, web = both()
  web:push "a"
  web:tag("v1.0.0", "a")
  world:settle()
  ok(web:release("production", "v1.0.0", "ann"))
  world:settle()
  eq(web:running("production").version, "v1.0.0")
  ok(web:hold("production", "bob", "friday"))
  web:push "b"
  web:tag("v1.1.0", "b")
  world:settle()
  eq(web:running("production").version, "v1.0.0")
  eq(web:status("production").hold.by, "bob")
  ok(web:unhold "production")
  world:settle()
  eq(web:running("production").version, "v1.1.0")
  ok(web:rollback("production", "ann"))
  world:settle()
  eq(web:running("production").version, "v1.0.0")
  local nothing, err = web:approve("production", "ann")
  eq(nothing, nil)
  eq(err.code, "conflict")
end)

test("an app is judged as the configuration is, and may change", function()
  local world <close> = simulation.new()
  check.raises("enviroments", function() world:app("web", { enviroments = {} }) end)
  local target = { kind = "kubernetes", workload = "deployment/w" }
  local web = world:app("web", { environments = { staging = { target = target } } })
  web:push "a"
  world:settle()
  eq(web:running("staging").commit, simulation.commit "a")
  web:configure { branch = "next", environments = { staging = {} } }
  web:push("b", { branch = "next" })
  world:settle()
  eq(web:running("staging").commit, simulation.commit "b")
  local api = world:app("api", { environments = { staging = {} } })
  api:push "c"
  world:settle()
  eq(api:running("staging").commit, simulation.commit "c")
end)

local PROBE <const> = [[
local fs, hash, http, proc = require "fs", require "hash", require "http", require "proc"
return policy {
  watch = function(place)
    local answer, err = http.get "https://flags.test/web"
    if not answer then return nil, err.message end
    if not answer:json().open then return nil, "closed" end
    return place:head()
  end,
  run = function(run, change)
    assert(http.expect(http.post("https://hooks.test/released", change.commit)))
    fs.append("log", change.commit .. "\n")
    assert(proc.check(proc.run { "/usr/bin/migrate", "up" }))
    run:log(hash.hex(hash.random(8)))
    run:release(run:image(change.commit))
  end,
}]]

local function probe(world)
  world:answer("https://flags.test/", { open = true })
  world:answer("https://hooks.test/", 204)
  world:program("/usr/bin/migrate", { stdout = "done" })
  return world:app("web", { environments = { staging = { policy = "probe" } } })
end

test("policies reach what the test answers for, and nothing else", function()
  local dir <close> = assert(fs.temp_dir())
  assert(fs.write(dir.path .. "/probe.lua", PROBE))
  local world <close> = simulation.new { scripts = dir.path }
  local web = probe(world)
  world:answer("https://flags.test/web", { status = 200, body = '{"open":false}' })
  web:push "a"
  world:settle()
  eq(web:decision("staging").reason, "closed")
  world:answer("https://flags.test/web", function(request)
    eq(request.method, "GET")
    return { open = true }
  end)
  world:settle()
  eq(web:running("staging").commit, simulation.commit "a")
  eq(world:effects(), {
    "POST https://hooks.test/released", "append to file log", "run /usr/bin/migrate up", "build web a",
    "roll out web/staging a",
  })
  world:down "https://flags.test"
  world:poll()
  has(web:decision("staging").reason, "is down")
end)

-- The same story with the world disturbed at every place ends the same.
local function everywhere(story, options)
  local function once(disturb)
    local with = { disturb = disturb }
    for k, v in pairs(options or {}) do with[k] = v end
    local world <close> = simulation.new(with)
    story(world)
    local runs = {}
    for at, release in pairs(world.state.targets) do runs[at] = release.commit end
    local images = {}
    for name, image in pairs(world.state.images) do images[name] = image.tags end
    local effects = world:effects()
    table.sort(effects) -- places are independent of each other
    return { runs = runs, images = images }, world:places(), effects
  end
  local expected, places, effects = once {}
  for how, n in pairs { kill = places.kills, fail = places.effects, lose = places.effects } do
    for k = 1, n do
      local got, there, done = once { [how] = k }
      if how == "kill" and not there.disturbed then error(("place %d of %d was not reached"):format(k, n)) end
      eq(got, expected, ("%s at %d: %s"):format(how, k, tostring(there.disturbed)))
      if how ~= "fail" then eq(done, effects, ("%s at %d: %s"):format(how, k, tostring(there.disturbed))) end
    end
  end
  return places
end

test("a story ends the same wherever the host is killed and whatever fails in passing", function()
  local places = everywhere(function(world)
    local web = world:app("web", { environments = { staging = {}, production = {} } })
    web:push "a"
    world:settle()
    web:tag("v1.0.0", "a")
    world:settle()
    web:breaks("b", "check")
    web:push "b"
    world:settle()
    web:push "c"
    web:tag("v1.1.0", "c")
    world:settle()
    web:rollback("production", "ann")
    world:settle()
  end)
  ok(places.kills > 100)
  ok(places.effects > 8)
end)

test("a test kills a host where it likes", function()
  local world <close>, web = both()
  web:push "a"
  world:settle()
  web:push "b"
  world:kill()
  world:settle()
  eq(web:running("staging").commit, simulation.commit "b")
end)

test("workloads of a cluster follow their images", function()
  local world <close> = simulation.new()
  world:keel {}
  local annotations = { ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll" }
  local web = world:workload("deployment", "shop/web", {
    annotations = annotations, images = { { "web", "r.test/web:1.0.0" } },
  })
  world:publish("r.test/web", "1.0.0", "one")
  world:settle()
  eq(world:image("deployment", "shop/web"), "r.test/web:1.0.0")
  world:publish("r.test/web", "1.1.0", "two")
  world:publish("r.test/web", "2.0.0", "three")
  world:pass "10m"
  has(world:image("deployment", "shop/web"), "r.test/web:1.1.0@sha256:")
  has(web:decision("deployment", "2.0.0").reason, "major")
  eq(web:runs("deployment")[1].state, "done")
  world:kill()
  world:publish("r.test/web", "1.2.0", "four")
  world:pass "10m"
  has(world:image("deployment", "shop/web"), "r.test/web:1.2.0@sha256:")
end)
