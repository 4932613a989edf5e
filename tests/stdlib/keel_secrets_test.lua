-- Credentials that workloads bring along: what is rotated away is forgotten, with what was answered to it.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local hash, json, log = require "hash", require "json", require "log"
local observations, secrets = require "extensions.keel.observations",
  require "extensions.keel.secrets"
local test, eq = check.test, check.eq

local WORKLOAD <const> = { namespace = "shop", settings = { pull_secret = "pull" }, pull_secrets = {} }

-- A world whose cluster holds one secret, with the password that is set.
local function world_of()
  local config = { apps = { web = {} }, keel = { pull_secrets = true, cluster = "c" }, registries = {} }
  local world
  world = require("engine.world").of(config, {
    registry = function(_, w) return { config = (w.config.registries or {})["r.test"] } end,
    cluster = function()
      return { get = function()
        local auths = { auths = { ["r.test"] = { username = "bot", password = world.password } } }
        return { data = { [".dockerconfigjson"] = hash.base64(json.encode(auths)) } }
      end }
    end,
  })
  world.password = ""
  return world
end

local function password(i) return ("rotated-password-%06d"):format(i) end

test("a pull secret that is rotated 300 times leaves one set of answers, and no old passwords", function()
  local world = world_of()
  local memory = observations.memory(world)
  for i = 1, 300 do
    world.password = password(i)
    local _, who = secrets.registry(world, memory, "r.test/team/web", WORKLOAD)
    memory.answers["tags r.test/team/web" .. who] = { users = { web = true }, value = {}, at = 0 }
    memory.secrets["c shop/pull"].at = -math.huge -- it is time to look again
  end
  local kept = 0
  for _ in pairs(memory.answers) do kept = kept + 1 end
  eq(kept, 1)
  eq(log.redact("x " .. password(300) .. " y"), "x [redacted] y")
  eq(log.redact("x " .. password(299) .. " y"), "x [redacted] y") -- some text may still hold it
  eq(log.redact(password(1)), password(1))
end)

test("a secret that stays is registered once, however often it is looked at", function()
  local world = world_of()
  local memory = observations.memory(world)
  world.password = "stays-the-same-always"
  for _ = 1, 5 do
    secrets.registry(world, memory, "r.test/team/web", WORKLOAD)
    memory.secrets["c shop/pull"].at = -math.huge
  end
  secrets.tidy(memory)
  eq(memory.secrets, {})
  for i = 1, 200 do log.passing_secret(("another-one-%04d"):format(i)) end
  eq(log.redact("stays-the-same-always"), "stays-the-same-always")
end)

test("answers that only apps asked for that are gone are dropped; those under way and in use stay", function()
  local world = world_of()
  local memory = observations.memory(world)
  memory.answers.old = { users = { gone = true }, at = 0 }
  memory.answers.both = { users = { gone = true, web = true }, at = 0 }
  memory.answers.busy = { users = { gone = true }, at = 0, asking = {} }
  memory.due["gone/deployment"], memory.due["web/deployment"] = {}, {}
  observations.tidy(world)
  eq({ memory.answers.old, memory.due["gone/deployment"] }, {})
  eq(memory.answers.both.users, { web = true })
  eq({ memory.answers.busy ~= nil, memory.due["web/deployment"] ~= nil }, { true, true })
end)
