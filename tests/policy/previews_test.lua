-- Places of branches, in the simulated world: they come, follow their branch, and go.
---@diagnostic disable: assign-type-mismatch -- a template has a list, too
---@diagnostic disable: need-check-nil -- a nil fails the test
---@diagnostic disable: param-type-mismatch -- wrong ones on purpose
---@diagnostic disable: undefined-field -- a nil fails the test
local check = require "check"
local simulation, sys = require "simulation", require "base.sys"
local eq, ok, has = check.eq, check.ok, check.has

sys.virtual_time(simulation.START)

local commit = simulation.commit

local function test(name, fn) check.test(name, fn, 1e9) end

local function template(more)
  local t = {
    policy = "preview", branches = "feature/*", host = "{branch}.preview.test",
    target = { kind = "command", apply = { "/simulated", "{place}" }, destroy = { "/simulated" } },
  }
  for k, v in pairs(more or {}) do t[k] = v end
  return t
end

local function stage(more)
  local world = simulation.new {}
  check.defer(function() world:close() end)
  local app = { environments = { staging = {}, preview = template(more) } }
  local web = world:app("web", app)
  web:push("a")
  world:settle()
  return world, web, app
end

local function apps_of(web)
  return web.world:ask(function(engine) return engine:status() end).apps[1].environments
end

local function names(web)
  local list = {}
  for _, environment in ipairs(apps_of(web)) do list[#list + 1] = environment.name end
  table.sort(list)
  return table.concat(list, " ")
end

local function effects(world, text)
  local n = 0
  for _, line in ipairs(world:effects()) do
    if line:find(text, 1, true) then n = n + 1 end
  end
  return n
end

test("a branch that matches has a place, which follows it, and is taken down when it is gone", function()
  local world, web = stage()
  eq(names(web), "preview staging")
  web:push("b", { branch = "feature/Login_Form" })
  web:push("c", { branch = "other" })
  world:settle()
  eq(names(web), "preview preview-feature-login-form staging")
  eq(web:running("preview-feature-login-form").commit, commit "b")
  web:push("d", { branch = "feature/Login_Form" })
  world:settle()
  eq(web:running("preview-feature-login-form").commit, commit "d")
  eq(web:running("staging").commit, commit "a")
  web:delete_branch("feature/Login_Form")
  world:settle()
  has(web:status("preview-feature-login-form").reason, "its branch feature/Login_Form is gone")
  eq(web:running("preview-feature-login-form").commit, commit "d", "for a while it stays")
  world:pass("30m")
  eq({ names(web), web:running("preview-feature-login-form") }, { "preview staging" })
  eq(effects(world, "take down web/preview-feature-login-form"), 1)
  world:pass("1d")
  eq(effects(world, "take down"), 1)
end)

-- What the next poll would do, by places: their runs' titles, or the reason why there is none.
local function planned(web)
  local world = web.world
  return world:ask(function(engine)
    local made = assert(require("engine.plan").make {
      config = engine.config, journal = engine.journal,
      world = require("simulation.openers").of(world.life, world.outside, world.answered),
    })
    local told = {}
    for _, place in ipairs(made.places) do
      local run, said = place.runs[1], {}
      for i, step in ipairs(run and run.steps or {}) do said[i] = step.text end
      told[place.environment] = run and ("%s %s: %s"):format(run.state, run.title, table.concat(said, "; "))
        or place.decisions[#place.decisions].reason
    end
    return told
  end)
end

test("a plan sees the places that come and those that go, and makes none", function()
  local world, web = stage { keep_for = 0 }
  web:push("b", { branch = "feature/x" })
  local told, before = planned(web), world:effects()
  has(told["preview-feature-x"], "new feature/x at " .. commit("b"):sub(1, 7))
  eq(names(web), "preview staging")
  world:settle()
  eq(#world:effects() > #before, true)
  web:delete_branch("feature/x")
  told = planned(web)
  has(told["preview-feature-x"], "new destroy web preview-feature-x: the branch feature/x is gone: ")
  has(told["preview-feature-x"], "takes down everything, ")
  eq(web:running("preview-feature-x").commit, commit "b")
end)

test("names are safe, bounded and each branch's own, also when two look the same", function()
  local _, web = stage { at_most = 50 }
  local branches = {
    "feature/x", "feature/X", "feature-x", "feature/x_", "feature/ä", "feature/" .. ("long"):rep(40),
    "feature/" .. ("long"):rep(41), "feature/$(reboot)`id`", "feature/a/b",
  }
  for i, branch in ipairs(branches) do web:push("b" .. i, { branch = branch }) end
  web.world:settle()
  local count, places = 0, {}
  for _, environment in ipairs(apps_of(web)) do
    if environment.name:find "^preview%-" then
      count, places[environment.name] = count + 1, true
      ok(environment.name:find "^preview%-[a-z0-9-]+$" and #environment.name <= #"preview-" + 30, environment.name)
      eq(environment.host, environment.name:sub(9) .. ".preview.test")
    end
  end
  eq(count, #branches - 1) -- feature-x is none of them
  ok(places["preview-feature-x"] and places["preview-feature-a-b"])
  for _, environment in ipairs(apps_of(web)) do eq(environment.state, "idle", environment.reason) end
end)

test("beyond the limit a branch is refused, with the reason, until another goes", function()
  local world, web = stage { at_most = 2, keep_for = "1m" }
  for _, name in ipairs { "one", "two", "zero" } do web:push(name, { branch = "feature/" .. name }) end
  world:settle()
  eq(names(web), "preview preview-feature-one preview-feature-two staging")
  local said = web:decision("preview", "feature/zero")
  eq(said.verdict, "refused")
  has(said.reason, "there are 2 places of branches already, and at most 2 may be")
  has(web:decision("preview").reason, "2 of at most 2 places, one for each branch that matches feature/*; 1 have none")
  web:delete_branch("feature/one")
  world:pass("1h")
  eq(names(web), "preview preview-feature-two preview-feature-zero staging")
  eq(web:running("preview-feature-zero").commit, commit "zero")
end)

test("a branch that comes back within its time keeps its place; later it gets its name anew", function()
  local world, web = stage()
  web:push("b", { branch = "feature/x" })
  world:settle()
  web:delete_branch("feature/x")
  world:settle()
  web:push("c", { branch = "feature/x" })
  world:pass("1h")
  eq({ web:running("preview-feature-x").commit, effects(world, "take down") }, { commit "c", 0 })
  web:delete_branch("feature/x")
  world:pass("1h")
  eq(names(web), "preview staging")
  web:push("c", { branch = "feature/x" }) -- the very same commit
  world:pass("1h")
  eq({ web:running("preview-feature-x").commit, names(web) }, { commit "c", "preview preview-feature-x staging" })
  ok(#web:runs("preview-feature-x") >= 4, "its history is kept")
end)

test("a host that dies in between goes on where it was; a restart alone takes nothing down", function()
  local world, web = stage()
  web:push("b", { branch = "feature/x" })
  web:push("b2", { branch = "feature/y" })
  world:settle()
  world:kill()
  world:pass("2h")
  eq({ names(web), effects(world, "take down") }, { "preview preview-feature-x preview-feature-y staging", 0 })
  web:delete_branch("feature/x")
  world:settle()
  world:kill()
  world:pass("1h")
  eq({ names(web), effects(world, "take down") }, { "preview preview-feature-y staging", 1 })
  world:kill()
  world:down("git")
  world:pass("2h")
  eq({ names(web), effects(world, "take down") }, { "preview preview-feature-y staging", 1 })
  world:up("git")
  world:pass("1h")
  eq(web:running("preview-feature-y").commit, commit "b2")
end)

test("a source that shrank is not believed: nothing is taken down until it is", function()
  local world, web = stage { keep_for = "1m" }
  web:push("b", { branch = "feature/x" })
  world:settle()
  web:delete_branch("feature/x")
  web:delete_branch("main") -- all of them
  world:pass("6m")
  eq(effects(world, "take down"), 0)
  world:kill()
  world:pass("6m")
  eq(effects(world, "take down"), 0)
end)

test("when half of the branches go at once, their places stay for ten minutes, whatever keep_for says", function()
  local world, web = stage { keep_for = "1s" }
  for _, name in ipairs { "one", "two", "three", "four" } do web:push(name, { branch = "feature/" .. name }) end
  world:settle()
  for _, name in ipairs { "one", "two", "three" } do web:delete_branch("feature/" .. name) end
  world:pass("9m")
  eq(effects(world, "take down"), 0)
  web:push("one", { branch = "feature/one" })
  world:pass("1h")
  eq({ names(web), effects(world, "take down") },
    { "preview preview-feature-four preview-feature-one staging", 2 })
end)

test("another pattern moves the places: those that match no more go, new ones come", function()
  local world, web, app = stage { keep_for = "1m" }
  web:push("b", { branch = "feature/x" })
  web:push("c", { branch = "fix/y" })
  world:settle()
  app.environments.preview.branches = { "fix/*" }
  web:configure(app)
  world:pass("1h")
  eq({ names(web), effects(world, "take down web/preview-feature-x") }, { "preview preview-fix-y staging", 1 })
end)

test("people's orders work on a place by its name", function()
  local world, web = stage()
  web:push("b", { branch = "feature/x" })
  world:settle()
  web:hold("preview-feature-x", "ann", "looking")
  web:push("c", { branch = "feature/x" })
  world:settle()
  eq({ web:running("preview-feature-x").commit, web:status("preview-feature-x").state }, { commit "b", "held" })
  web:unhold("preview-feature-x", "ann")
  world:settle()
  eq(web:running("preview-feature-x").commit, commit "c")
  web:hold("preview-feature-x", "ann", "looking")
  web:delete_branch("feature/x")
  world:pass("1h")
  eq(names(web), "preview staging", "also one that is held goes")
end)

test("what cannot be told apart or taken down is a fault of the configuration", function()
  local function fault(more, what)
    local world = simulation.new {}
    check.defer(function() world:close() end)
    local fine, why = pcall(world.app, world, "web", { environments = { preview = template(more) } })
    ok(not fine, what)
    has(tostring(why), what)
  end
  fault({ host = "preview.test" }, "every branch would be found at the same host")
  fault({ target = { kind = "command", apply = { "/x" } } }, "apps.web.environments.preview.target.destroy: is missing")
  fault({ target = { kind = "docker", ports = { "80:80" } } }, "every branch would publish the same ports")
  fault({ target = { kind = "kubernetes", workload = "deployment/web" } }, "manifests: is missing")
  fault({ target = { kind = "kubernetes", workload = "deployment/web", manifests = "k8s" } },
    "every branch would replace the same workload")
  fault({ at_most = 0 }, "at_most")
end)

test("killed anywhere, or with any effect that fails once, it ends the same", function()
  local function story(disturb)
    local world <close> = simulation.new { disturb = disturb }
    local web = world:app("web", { environments = { preview = template { keep_for = "1m" } } })
    web:push("a")
    web:push("b", { branch = "feature/x" })
    web:push("c", { branch = "feature/y" })
    world:pass("30m")
    web:delete_branch("feature/x")
    world:pass("1h")
    local gone, rest = web:running("preview-feature-x"), web:running("preview-feature-y")
    return { names(web), gone, rest and rest.commit, effects(world, "take down") > 0 }, world:places()
  end
  local want, places = story()
  eq(want, { "preview preview-feature-y", nil, commit "c", true })
  ok(places.kills > 20, places.kills)
  for kind, count in pairs { kill = places.kills, fail = places.effects } do
    for k = 1, count do
      local got, where = story { [kind] = k }
      eq(got, want, ("%s %d, %s"):format(kind, k, tostring(where.where)))
    end
  end
end)
