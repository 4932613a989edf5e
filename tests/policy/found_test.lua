-- Apps that are found while the host runs: polled like the others, forgotten when they go, untouched when they stay.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, sim, discovery = require "fs", require "sim", require "engine.discovery"
local test, eq, ok = check.test, check.eq, check.ok

local SCRIPT <const> = [[
return policy {
  watch = function(place) return { key = place.name .. " as it is", title = "what " .. place.name .. " wants" } end,
  run = function(run, change) run:log("done for %s: %s", run.app, change.reason or "no reason") end,
}]]

local function stage()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.mkdir(dir.path .. "/scripts"))
  assert(fs.write(dir.path .. "/scripts/finds.lua", SCRIPT))
  for _, name in ipairs { "staging", "production", "rollback" } do
    assert(fs.write(("%s/scripts/%s.lua"):format(dir.path, name), assert(fs.read(("scripts/%s.lua"):format(name)))))
  end
  local world = sim.open(dir.path .. "/world")
  world:push("main", "a")
  local host = sim.host(world, dir.path .. "/state", { scripts = dir.path .. "/scripts" })
  check.defer(function() pcall(host.close, host) end)
  host.policies.finds = assert(require("policy.load").load({ "finds" }, dir.path .. "/scripts")).finds
  host.config.keel = {}
  return host
end

local function found(name)
  local environment = {
    name = "deployment", app = name, policy = "finds", rollback = false, accept = "major", match_prerelease = true,
    watch_for = 0, notify = {}, target = { kind = "command" }, verify = {},
  }
  return {
    name = name, follows = "workload", source = { url = "kubernetes deployment " .. name }, poll = 3600,
    environment_list = { environment }, environments = { deployment = environment },
  }
end

local function titles(host, app)
  local list = {}
  for i, run in ipairs(host:history({ app = app }).runs) do list[i] = run.state .. " " .. run.title end
  return list
end

test("an app that was found is polled, runs, and answers why and status under its name with a slash", function()
  local host = stage()
  discovery.replace(host, "keel", { found "shop/web" })
  sim.settle(host)
  eq(titles(host, "shop/web"), { "done what shop/web wants" })
  local why = assert(host:why "shop/web")
  eq(why.decisions[1].verdict, "unchanged")
  local status = host:status().apps[2]
  eq({ status.name, status.source }, { "shop/web", "kubernetes deployment shop/web" })
  check.has(select(2, host:release { app = "shop/web", by = "me", what = "v1" }).message, "follows no repository")
end)

test("an app that stays keeps its place; one that goes is polled no more, and its history stays", function()
  local host = stage()
  local web, api = found "shop/web", found "shop/api"
  discovery.replace(host, "keel", { web, api })
  sim.settle(host)
  local place, edition = host:place("shop/web", "deployment"), host.app_edition
  discovery.replace(host, "keel", { web, api })
  eq(host.app_edition, edition) -- nothing changed
  discovery.replace(host, "keel", { web })
  ok(host.app_edition > edition)
  ok(host:place("shop/web", "deployment") == place)
  eq(host.config.apps["shop/api"], nil)
  eq(#host.config.app_list, 2)
  eq(titles(host, "shop/api"), { "done what shop/api wants" })
  check.fails("not_found", host:poll "shop/api")
end)

test("a reload keeps what was found, and the apps of the file", function()
  local host = stage()
  discovery.replace(host, "keel", { found "shop/web" })
  local config = sim.config(host.state, { scripts = host.config.scripts })
  config.keel = {}
  discovery.keep(host, config)
  eq({ config.app_list[1].name, config.app_list[2].name }, { "web", "shop/web" })
  eq(config.apps["shop/web"].found, "keel")
end)
