-- A simulated world for policy tests and the crash sweep: repository, builder, registry, targets, checks, people.
--
-- Its state is one file, changed in one stroke, so that it survives a killed host as the real world does. Every effect
-- that changes something adds a line to `effects`, written by the world, never by Moontide. The real parts keep it
-- honest: the same story is told with them by the demo.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local errors, fs, hash, json, refs, task, time = require "errors", require "fs", require "hash", require "json",
  require "sources.git.refs", require "task", require "time"

local M = {}

---@class Sim
local Sim = {}
Sim.__index = Sim

local FRESH <const> = [[{"branches":{},"tags":{},"images":{},"targets":{},"troubles":{},"messages":[],"effects":[],
  "down":false}]]

---Opens a world in `dir`, made when it is not there. `delay`: seconds each effect takes.
function M.open(dir, delay)
  assert(fs.mkdir(dir, { parents = true }))
  return setmetatable({
    dir = dir, path = dir .. "/world.json", delay = delay or 0, busy = false, waiting = task.signal(),
  }, Sim)
end

---The whole world as it is now.
function Sim:look() return assert(json.decode(fs.read(self.path) or FRESH)) end

---Changes the world, in one stroke: what a kill finds is the world before or the world after. One at a time.
---@param change fun(world: table): string? The effect's line, when it is one.
function Sim:change(change)
  while self.busy do self.waiting:wait() end
  self.busy = true
  local guard <close> = setmetatable({}, { __close = function() self.busy = false self.waiting:notify() end })
  local world = self:look()
  local line = change(world, guard)
  if line then table.insert(world.effects, line) end
  assert(fs.write(self.path, json.encode(world), { sync = false }))
  if line and self.delay > 0 then time.sleep(self.delay) end
end

---What happened to the world, in order.
function Sim:effects() return self:look().effects end

-- ---- what the test does ----

function M.commit(name) return (hash.sha256(name):sub(1, 40)) end

function Sim:push(branch, name) self:change(function(w) w.branches[branch] = M.commit(name) end) end
function Sim:tag(tag, name) self:change(function(w) w.tags[tag] = name and M.commit(name) or nil end) end

---Makes the image of a commit fail: "build", "sick" (its checks), "later" (unhealthy after a while).
function Sim:trouble(name, kind) self:change(function(w) w.troubles[M.commit(name)] = kind end) end
function Sim:source_down(down) self:change(function(w) w.down = down end) end
function Sim:put(environment, release) self:change(function(w) w.targets[environment] = release end) end

function Sim:running(environment) return self:look().targets[environment] end
function Sim:image_tags() return self:look().images end
function Sim:messages() return self:look().messages end

-- ---- the world that the engine sees ----

local function digest_of(commit) return "sha256:" .. hash.sha256("image of " .. commit) end

local function simulated_repository(sim)
  local believed, seen_text = require("sources.git.shrunken").new("sim"), nil
  local repo = { shrunken = believed }
  function repo.refs()
    local w = sim:look()
    if w.down then return errors.fail("refused", "nobody listens there", { op = "git.refs" }) end
    local text = json.encode { branches = w.branches, tags = w.tags }
    if text == seen_text then return believed:again() end -- the same object while nothing changed, as git.lua does
    seen_text = text
    return believed:take(refs.snapshot(w.branches, w.tags))
  end
  function repo.expect(_, branch, head, tags) believed:expect(refs.snapshot({ [branch] = head }, tags)) end
  function repo.expire() end
  function repo.compare() return { status = "ahead" } end
  function repo.head(_, branch)
    local s, err = repo.refs()
    if not s then return nil, err end
    local ref = s.refs["refs/heads/" .. branch]
    if not ref then return errors.fail("not_found", "there is no branch " .. branch) end
    return { commit = ref.commit, key = ref.commit, ref = "refs/heads/" .. branch }
  end
  function repo.tags()
    local s, err = repo.refs()
    if not s then return nil, err end
    return refs.tag_list(s)
  end
  return repo
end

local function simulated_target(sim, name)
  return {
    current = function()
      local w = sim:look()
      local current = w.targets[name]
      if not current then return nil end
      current.healthy, current.state = w.troubles[current.commit] ~= "later", "running"
      return current
    end,
    apply = function(_, request)
      local found = sim:look().targets[name]
      if found and (found.generation or 0) > (request.generation or 0) then
        return errors.fail("conflict", ("%s released here in generation %d"):format(found.host, found.generation),
          { generation = found.generation, op = "target.apply" })
      end
      sim:change(function(w)
        local current = w.targets[name]
        w.targets[name] = {
          digest = request.digest, commit = request.commit, version = request.version, image = request.image,
          release = request.release, generation = request.generation, host = request.host,
        }
        if current and current.digest == request.digest then return end
        return ("roll out %s %s"):format(name, request.commit)
      end)
      return true
    end,
    wait = function() return true end,
    settle = function() return true end,
  }
end

function Sim:world()
  local sim, repo = self, simulated_repository(self)
  return {
    repository = function() return repo end,
    cluster = require("engine.world").real().cluster, -- of tests that have one: it is not simulated
    registry = function(name)
      local registry = {}
      function registry.tag(_, digest, tag)
        sim:change(function(w)
          if w.images[name .. ":" .. tag] == digest then return nil end
          w.images[name .. ":" .. tag] = digest
          return ("tag %s %s"):format(tag, digest)
        end)
        return true
      end
      function registry.digest(_, tag)
        local digest = sim:look().images[name .. ":" .. tag]
        if not digest then return errors.fail("not_found", "there is no tag " .. tag) end
        return digest
      end
      function registry.labels(_, digest)
        for tag, found in pairs(sim:look().images) do
          local commit = tag:match(":sha%-(%x+)$")
          if commit and found == digest then return { ["org.opencontainers.image.revision"] = commit } end
        end
        return errors.fail("not_found", "there is no such image")
      end
      return registry
    end,
    ensure_image = function(request)
      local name, commit = request.app.image, request.commit
      local tag, w = name .. ":sha-" .. request.commit, sim:look()
      local digest = w.images[tag]
      if not digest and w.troubles[commit] == "build" then
        return errors.fail("exit", "the build ended with status 1", { op = "image.build", target = commit })
      end
      if not digest then
        request.hooks.output("stdout", "building " .. commit)
        sim:change(function(now)
          now.images[tag] = digest_of(commit)
          return "build " .. commit
        end)
      end
      digest = digest_of(commit)
      return {
        repository = name, commit = commit, digest = digest, image = name .. "@" .. digest, built = not w.images[tag],
      }
    end,
    target = function(environment)
      return simulated_target(sim, require("targets").called(environment, "/"))
    end,
    verify = function(_, request)
      local kind = sim:look().troubles[request.commit]
      local here = request.part and kind == "sick in " .. request.part
      if kind == "sick" or here or kind == "later" and request.within then
        return errors.fail("unhealthy", "the check got status 500", { op = "verify" })
      end
      return true
    end,
    notify = function(_, _, message)
      sim:change(function(w) table.insert(w.messages, message.text) end)
      return true
    end,
  }
end

-- ---- a host in this world ----

---The configuration of one app with staging and production, as config.load gives it.
---@param options? {poll?: number, watch_for?: number, accept?: string, rollback?: string|false, scripts?: string,
--- settings?: table, parts?: string[]} parts: staging has several targets, with these names.
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
    name = "web", follows = "git", source = { url = "http://git.invalid/web.git" }, branch = "main",
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
