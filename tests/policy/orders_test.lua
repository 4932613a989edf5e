-- Orders about a whole environment: apply, destroy, what they leave, and what they are refused.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, sim = require "fs", require "sim"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local C = sim.commit

-- A host whose targets can be taken down.
local function stage()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { world = sim.open(dir.path .. "/world"), told = {} }
  local function config(state)
    local made = sim.config(state)
    for _, environment in ipairs(made.app_list[1].environment_list) do
      environment.target = { kind = "helmsman" }
      environment.protected = environment.name == "production"
    end
    return made
  end
  local world = s.world:world()
  local simulated = world.target
  world.target = function(environment)
    local target = simulated(environment)
    local destroy = target.destroy
    function target.destroy(at, request)
      s.told[#s.told + 1] = request
      if s.trouble then return require("errors").fail("busy", s.trouble) end
      return destroy(at, request)
    end
    return target
  end
  s.host = ok(require("engine").open {
    config = config(dir.path .. "/state"), world = world, load = function() return config(dir.path .. "/state") end,
  })
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  function s.settle() sim.settle(s.host) end
  function s.environment(name)
    for _, e in ipairs(s.host:status().apps[1].environments) do
      if e.name == name then return e end
    end
  end
  return s
end

local function order(more)
  local act = { app = "web", environment = "staging", by = "ann@box" }
  for key, value in pairs(more or {}) do act[key] = value end
  return act
end

test("destroy takes an environment down, and nothing comes up until somebody says apply", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local run = ok(s.host:destroy(order { reason = "moving house" }))
  eq({ run.kind, run.policy, run.by, run.title }, { "release", "destroy", "ann@box", "destroy web staging" })
  s.settle()
  eq(s.world:running("staging"), nil)
  eq(s.host.journal:run_by_id(run.id).state, "done")
  eq(s.told[1].release, "d" .. run.id)
  local now = s.environment "staging"
  eq({ now.state, now.current }, { "held", nil })
  has(now.reason, "taken down by ann@box; apply brings it up again")
  s.world:push("main", "b")
  s.settle()
  eq(s.world:running("staging"), nil)
  ok(s.host:apply(order()))
  s.settle()
  eq(s.world:running("staging").commit, C "b")
  eq(s.environment("staging").state, "idle")
  s.world:push("main", "c") -- and its policy works on
  s.settle()
  eq(s.world:running("staging").commit, C "c")
end)

test("apply is done once more when there is nothing new, and says so when there is nothing at all", function()
  local s = stage()
  has(fails("conflict", s.host:apply(order { environment = "production" })).message, "nothing to apply: ")
  s.world:push("main", "a")
  s.settle()
  local before = s.world:running("staging").release
  s.world:change(function(w) w.targets["web/staging"].digest = "somebody was here" end)
  ok(s.host:apply(order()))
  s.settle()
  local now = s.world:running("staging")
  eq({ now.commit, now.release > before, now.digest:sub(1, 7) }, { C "a", true, "sha256:" })
end)

test("a hold by a person is not lifted by apply, but does not stop an order", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  ok(s.host:hold(order { reason = "sale" }))
  ok(s.host:apply(order()))
  s.settle()
  eq(s.environment("staging").hold.reason, "sale")
end)

test("a protected environment, an unknown one and a target that cannot are refused", function()
  local s = stage()
  has(fails("denied", s.host:destroy(order { environment = "production" })).message,
    "web production is protected: set protected = false")
  fails("invalid", s.host:destroy { app = "web", by = "ann" }) -- never guessed
  fails("invalid", s.host:apply { app = "web", by = "ann" })
  fails("not_found", s.host:destroy(order { app = "nope" }))
  fails("not_found", s.host:destroy(order { environment = "nope" }))
  s.host.config.apps.web.environments.staging.target = { kind = "other" }
  has(fails("unsupported", s.host:destroy(order())).message, "kind other cannot be taken down")
  eq(#s.told, 0)
end)

test("versions that are no versions are refused", function()
  local s = stage()
  for _, versions in ipairs { {}, { api = 1 }, { ["a b"] = "1" }, { api = "1 2" }, { api = "x=y" }, { "1.0.0" } } do
    fails("invalid", s.host:apply(order { versions = versions }))
  end
end)

test("a removal that fails leaves the environment as it is known, and free", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.trouble = "release api is in the middle of an operation"
  local run = ok(s.host:destroy(order()))
  check.eventually(function() return s.host.journal:run_by_id(run.id).state == "failed" end)
  local now = s.environment "staging"
  eq(now.hold, nil)
  eq(now.current.commit, C "a")
  has(s.host.journal:run_by_id(run.id).error.message, "in the middle")
end)

test("what happens is numbered for those who ask from outside", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local page = s.host:events { app = "web", environment = "staging" }
  local words = {}
  for _, event in ipairs(page.events) do words[event.event] = (words[event.event] or 0) + 1 end
  ok(words.change == 1 and words.run >= 2 and words.step >= 4)
  eq(words.output, nil)
  eq(page.events[1].id < page.events[2].id, true)
end)
