-- The simulated world (stdlib/simulation) for tests that also need what is real: a state folder, the clock, hosts in
-- processes of their own that are killed.
--
-- Its state is one file, changed in one stroke, so that it survives a killed host as the real world does.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local fs, json, task, time = require "fs", require "json", require "task", require "time"
local git, openers, outside = require "simulation.git", require "simulation.openers", require "simulation.outside"

local M = {}

---@class Sim
---@field app string Whose places are meant.
---@field delay number
---@field outside Outside
local Sim = {}
Sim.__index = Sim

local URL <const> = "http://git.invalid/web.git"

M.URL = URL

-- Hosts here die by SIGKILL.
M.IMMORTAL = { check = function() end, kill = function() end }

---Opens a world in `dir`, made when it is not there. `delay`: seconds each effect takes.
function M.open(dir, delay)
  assert(fs.mkdir(dir, { parents = true }))
  local path, busy, waiting = dir .. "/world.json", false, task.signal()
  local self = setmetatable({ app = "web", delay = delay or 0, outside = outside.new {} }, Sim)
  function self.outside.look()
    local text = fs.read(path)
    return text and assert(json.decode(text)) or outside.fresh()
  end
  -- In one stroke: what a kill finds is the world before or the world after. One at a time.
  function self.outside.change(_, change, line)
    while busy do waiting:wait() end
    busy = true
    local _ <close> = task.defer(function() busy = false waiting:notify() end)
    local state = self.outside:look()
    change(state)
    assert(fs.write(path, json.encode(state), { sync = false }))
    if line and self.delay > 0 then time.sleep(self.delay) end
  end
  return self
end

---The whole world as it is now.
function Sim:look() return self.outside:look() end

---Changes the world. What `change` returns is the line of an effect.
---@param change fun(state: SimulatedState): string?
function Sim:change(change)
  self.outside:change(function(state)
    local line = change(state)
    if line then table.insert(state.effects, line) end
  end)
end

---What happened to the world, in order.
function Sim:effects() return self:look().effects end

-- ---- what the test does ----

M.commit = git.commit

function Sim:push(branch, name)
  self:change(function(w)
    local parent = git.of(w, URL).branches[branch]
    git.point(w, URL, "branches", branch, git.make(w, URL, name, { parent = parent }))
  end)
end

function Sim:tag(tag, name)
  self:change(function(w) git.point(w, URL, "tags", tag, name and git.make(w, URL, name, {})) end)
end

---Takes every branch and tag away.
function Sim:empty()
  self:change(function(w)
    local repository = git.of(w, URL)
    repository.branches, repository.tags, repository.edition = {}, {}, repository.edition + 1
  end)
end

---Makes the image of a commit fail: "build", "check" (its checks), "later" (unhealthy after a while).
function Sim:trouble(name, kind) self:change(function(w) w.troubles[M.commit(name)] = kind end) end
function Sim:source_down(down) self:change(function(w) w.down.git = down or nil end) end
function Sim:put(environment, release)
  self:change(function(w) w.targets[self.app .. "/" .. environment] = release end)
end

function Sim:running(environment) return self:look().targets[self.app .. "/" .. environment] end

---Every tag of every image, as "image:tag" to its digest.
function Sim:image_tags()
  local all = {}
  for name, image in pairs(self:look().images) do
    for tag, digest in pairs(image.tags) do all[name .. ":" .. tag] = digest end
  end
  return all
end

function Sim:messages()
  local texts = {}
  for i, message in ipairs(self:look().told) do texts[i] = message.text end
  return texts
end

---What engine.open is given: a table of its own, parts of which a test may replace.
function Sim:world()
  local world, of = {}, openers.of(M.IMMORTAL, self.outside)
  for _, name in ipairs { "repository", "registry", "target", "ensure_image", "verify", "notify" } do
    world[name] = of[name]
  end
  world.cluster = require("engine.world").real().cluster -- of tests that have one: it is not simulated
  return world
end

-- ---- a host in this world ----

---The configuration of one app with staging and production, as config.load gives it.
---@param options? {poll?: number, watch_for?: number, accept?: string, rollback?: string|false, scripts?: string,
--- settings?: table, parts?: string[]} parts: staging has several targets, with these names.
---@return any config Tests put in what they need.
function M.config(state, options)
  options = options or {}
  local function environment(name)
    return {
      name = name, app = "web", policy = name, rollback = options.rollback == nil and "rollback" or options.rollback,
      accept = options.accept or "major", match_prerelease = true, watch_for = options.watch_for or 300,
      notify = { "ops" }, target = { kind = "command" },
      verify = { { http = "http://127.0.0.1/", status = 200, within = 1, every = 1 } },
    }
  end
  local app = {
    name = "web", follows = "git", source = { url = URL }, branch = "main",
    image = "registry.invalid/team/web",
    dockerfile = "Dockerfile", context = ".", build = { args = {}, timeout = 60 }, poll = options.poll or 3600,
    settings = options.settings,
    environment_list = { environment "staging", environment "production" },
  }
  local parts = {}
  for i, name in ipairs(options.parts or {}) do parts[i] = { name = name, target = { kind = "command" } } end
  if #parts > 0 then app.environment_list[1].target, app.environment_list[1].targets = nil, parts end
  app.environments = { staging = app.environment_list[1], production = app.environment_list[2] }
  return {
    file = "sim.lua", dir = ".", poll = 3600, state = state, hosts = {}, scripts = options.scripts, registries = {},
    credentials = {}, github = { api = "https://api.github.com" }, builder = { kind = "auto", env = {} }, notify = {},
    retention = { runs = 500, days = 90 }, apps = { web = app }, app_list = { app },
  }
end

---Opens an engine on a simulated world. `options.engine`: more options of engine.open.
---@return table engine
function M.host(sim, state, options)
  local config = M.config(state, options)
  local how = {
    config = config, world = sim:world(), load = function() return M.config(state, options) end,
    on_event = options and options.on_event,
  }
  for name, value in pairs(options and options.engine or {}) do how[name] = value end
  local engine = assert(require("engine").open(how))
  engine.health_checks.every = 0 -- as often, without the time between
  return engine
end

---Polls and waits for the lanes until a poll starts nothing.
function M.settle(engine)
  for _ = 1, 20 do
    local result = assert(engine:poll())
    local worked = #result.changes > 0
    local quiet = time.monotonic() + 20
    repeat
      local active = false
      for _, lane in pairs(engine.lanes) do active = active or lane:busy() end
      if active then
        worked = true
        time.sleep(0.002)
      end
    until not active or time.monotonic() > quiet
    if not worked then return end
  end
  error("the engine does not come to rest")
end


return M
