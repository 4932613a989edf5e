-- A simulated world for policy tests and the crash sweep: repository, builder, registry, targets, checks, people.
--
-- Its state is files in a folder, so that it survives a killed host as the real world does. Every effect that changes
-- something is a line of effects.log, written by the world, never by Moontide. The real parts keep it honest: the same
-- story is told with them by the demo.
local errors, fs, hash, json, time = require "errors", require "fs", require "hash", require "json",
  require "time"

local M = {}

local Sim = {}
Sim.__index = Sim

---Opens a world in `dir`, made when it is not there. `delay`: seconds each effect takes.
function M.open(dir, delay)
  assert(fs.mkdir(dir, { parents = true }))
  return setmetatable({ dir = dir, delay = delay or 0 }, Sim)
end

function Sim:load(name, default)
  local text = fs.read(self.dir .. "/" .. name .. ".json")
  return text and assert(json.decode(text)) or default
end

function Sim:save(name, value) assert(fs.write(self.dir .. "/" .. name .. ".json", json.encode(value), { sync = false })) end

---What happened to the world, in order.
function Sim:effects()
  local list = {}
  for line in (fs.read(self.dir .. "/effects.log") or ""):gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

local function effect(self, text)
  assert(fs.append(self.dir .. "/effects.log", text .. "\n", { sync = false }))
  if self.delay > 0 then time.sleep(self.delay) end
end

-- ---- what the test does ----

function M.commit(name) return (hash.sha256(name):sub(1, 40)) end

function Sim:push(branch, name)
  local source = self:load("source", { branches = {}, tags = {} })
  source.branches[branch] = M.commit(name)
  self:save("source", source)
end

function Sim:tag(tag, name)
  local source = self:load("source", { branches = {}, tags = {} })
  source.tags[tag] = name and M.commit(name) or nil
  self:save("source", source)
end

---Makes the image of a commit fail its checks, build badly, or turn unhealthy.
function Sim:trouble(name, kind)
  local troubles = self:load("troubles", {})
  troubles[M.commit(name)] = kind
  self:save("troubles", troubles)
end

function Sim:source_down(down) self:save("down", { down = down }) end

function Sim:running(environment) return self:load("target-" .. environment, {}).current end
function Sim:image_tags() return self:load("registry", { tags = {} }).tags end
function Sim:messages() return self:load("messages", {}) end

-- ---- the world that the engine sees ----

local function digest_of(commit) return "sha256:" .. hash.sha256("image of " .. commit) end

function Sim:world()
  local sim = self
  local snapshots, last = {}, nil
  local function source()
    if sim:load("down", {}).down then return errors.fail("refused", "nobody listens there", { op = "git.refs" }) end
    local text = fs.read(sim.dir .. "/source.json") or '{"branches":{},"tags":{}}'
    if not snapshots[text] then snapshots = { [text] = json.decode(text) } end
    last = snapshots[text]
    return last
  end
  local repo = {}
  function repo.refs() return source() end
  function repo.expire() end
  function repo.head(_, branch)
    local s, err = source()
    if not s then return nil, err end
    if not s.branches[branch] then return errors.fail("not_found", "there is no branch " .. branch) end
    return { commit = s.branches[branch], key = s.branches[branch], ref = "refs/heads/" .. branch }
  end
  function repo.tags()
    local s, err = source()
    if not s then return nil, err end
    local list = {}
    for name, commit in pairs(s.tags) do list[#list + 1] = { name = name, commit = commit, oid = commit } end
    table.sort(list, function(a, b) return a.name < b.name end)
    return list
  end
  function repo.compare() return { status = "ahead" } end

  local function registry(name)
    return {
      tag = function(_, digest, tag)
        local r = sim:load("registry", { tags = {} })
        if r.tags[name .. ":" .. tag] ~= digest then
          r.tags[name .. ":" .. tag] = digest
          sim:save("registry", r)
          effect(sim, ("tag %s %s"):format(tag, digest))
        end
        return true
      end,
    }
  end

  local function ensure_image(request)
    local name, commit = request.app.image, request.commit
    local r = sim:load("registry", { tags = {} })
    local digest = r.tags[name .. ":sha-" .. commit]
    if not digest then
      if sim:load("troubles", {})[commit] == "build" then
        return errors.fail("exit", "the build ended with status 1", { op = "image.build", target = commit })
      end
      request.hooks.output("stdout", "building " .. commit)
      digest = digest_of(commit)
      effect(sim, "build " .. commit)
      r = sim:load("registry", { tags = {} })
      r.tags[name .. ":sha-" .. commit] = digest
      sim:save("registry", r)
      return { repository = name, commit = commit, digest = digest, image = name .. "@" .. digest, built = true }
    end
    return { repository = name, commit = commit, digest = digest, image = name .. "@" .. digest, built = false }
  end

  local function target(environment)
    local file = "target-" .. environment.name
    return {
      current = function()
        local current = sim:load(file, {}).current
        if not current then return nil end
        current.healthy = sim:load("troubles", {})[current.commit] ~= "later"
        current.state = "running"
        return current
      end,
      apply = function(_, request)
        local t = sim:load(file, {})
        if t.current and t.current.digest == request.digest and t.current.release == request.release then return true end
        if not (t.current and t.current.digest == request.digest) then
          effect(sim, ("roll out %s %s"):format(environment.name, request.commit))
        end
        t.current = { digest = request.digest, commit = request.commit, version = request.version, image = request.image, release = request.release }
        sim:save(file, t)
        return true
      end,
      wait = function() return true end,
      settle = function() return true end,
    }
  end

  return {
    repository = function() return repo end,
    registry = registry,
    ensure_image = ensure_image,
    target = target,
    verify = function(_, request)
      local kind = sim:load("troubles", {})[request.commit]
      if kind == "sick" or kind == "later" and request.within then
        return errors.fail("unhealthy", "the check got status 500", { op = "verify" })
      end
      return true
    end,
    notify = function(_, _, message)
      local list = sim:load("messages", {})
      list[#list + 1] = message.text
      sim:save("messages", list)
      return true
    end,
  }
end

-- ---- a host in this world ----

---The configuration of one app with staging and production, as config.load gives it.
---@param options? {poll?: number, watch_for?: number, accept?: string, rollback?: string|false, scripts?: string}
function M.config(state, options)
  options = options or {}
  local function environment(name)
    return {
      name = name, app = "web", policy = name, rollback = options.rollback == nil and "rollback" or options.rollback,
      accept = options.accept or "major", match_prerelease = true, watch_for = options.watch_for or 300, notify = { "ops" },
      target = { kind = "command" }, verify = { { http = "http://127.0.0.1/", status = 200, within = 1, every = 1 } },
    }
  end
  local app = {
    name = "web", source = { url = "http://git.invalid/web.git" }, branch = "main", image = "registry.invalid/team/web",
    dockerfile = "Dockerfile", context = ".", build = { args = {}, timeout = 60 }, poll = options.poll or 3600,
    environment_list = { environment "staging", environment "production" },
  }
  app.environments = { staging = app.environment_list[1], production = app.environment_list[2] }
  return {
    file = "sim.lua", dir = ".", poll = 3600, state = state, scripts = options.scripts, registries = {}, credentials = {},
    github = { api = "https://api.github.com" }, builder = { kind = "auto", env = {} }, notify = {},
    retention = { runs = 500, days = 90 }, apps = { web = app }, app_list = { app },
  }
end

---Opens an engine on a simulated world and polls until nothing more happens.
---@return table engine
function M.host(sim, state, options)
  local config = M.config(state, options)
  return assert(require("engine").open {
    config = config, world = sim:world(), load = function() return M.config(state, options) end,
    on_event = options and options.on_event,
  })
end

---Polls and waits for the lanes until a poll starts nothing.
function M.settle(engine)
  for _ = 1, 20 do
    local result = assert(engine:poll())
    local worked = #result.changes > 0
    local quiet = time.monotonic() + 20
    repeat
      local active = false
      for _, lane in pairs(engine.lanes) do active = active or lane.active end
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
