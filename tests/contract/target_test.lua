-- The statements of targets (target.lua), proved of the simulated one, of docker and of the command target.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local check = require "check"
local kit, lab = require "contract.kit", require "lab"
local hash = require "hash"

---@return TargetPart
local function simulated()
  local world, open = kit.simulated()
  local web = world:app("web", { environments = { staging = {} } })
  return {
    generations = true, away = "refused",
    open = function() return open().target(web:config().environments.staging) end,
    request = function(name, release)
      local digest = "sha256:" .. hash.sha256(name)
      return {
        image = "registry.simulated/web@" .. digest, digest = digest, commit = hash.sha256(name):sub(1, 40),
        version = "v1." .. release, release = release, generation = 1, host = "host-one",
      }
    end,
    changes = function() return #world.state.effects end,
    down = function() world:down "target web/staging" end, up = function() world:up "target web/staging" end,
  }
end

local registry ---@type LabRegistry

-- Requests for images that can run.
local function request(name, release)
  registry = registry or lab.registry {}
  local image = lab.image(registry, { version = name })
  return {
    image = image.image, digest = image.digest, commit = image.commit, version = "v1." .. release, release = release,
    generation = 1, host = "host-one",
  }
end

---@return TargetPart
local function docker()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local engine = lab.docker()
  check.defer(function() engine:clear() end)
  local target = {
    kind = "docker", socket = engine.socket, network = "host", env = { PORT = tostring(lab.port()) }, timeout = "20s",
    stop_timeout = "2s",
  }
  local relay, world = nil, kit.real({}, { web = { environments = { staging = { target = target } } } })
  local environment = world.config.apps.web.environments.staging
  return {
    request = request, open = function() return world.target(environment) end, away = "refused",
    changes = function()
      local list = engine:containers()
      table.sort(list, function(a, b) return a.id < b.id end)
      return list
    end,
    down = function() environment.target.socket, relay = lab.dir "nowhere" .. "/socket", environment.target.socket end,
    up = function() environment.target.socket = relay end,
  }
end

---@return TargetPart
local function command()
  local where = lab.dir "command"
  lab.write(where .. "/apply", "#!/bin/sh\necho apply >> " .. where .. "/done\n", 493)
  lab.write(where .. "/destroy", "#!/bin/sh\necho destroy >> " .. where .. "/done\n", 493)
  lab.write(where .. "/done", "")
  local world = kit.real({}, { web = { environments = { staging = {
    target = { kind = "command", apply = { where .. "/apply" }, destroy = { where .. "/destroy" } },
  } } } })
  return {
    request = request, open = function() return world.target(world.config.apps.web.environments.staging) end,
    changes = function() return require("fs").read(where .. "/done") end, blind = true,
  }
end

require("contract.target").statements { simulated = simulated, docker = docker, command = command }
