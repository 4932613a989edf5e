-- The docker target: one container on this machine, through the Engine's socket.
--
-- A container is known by its labels, never by what we remember. The way from one release to the next:
--   pull by digest; the old container steps aside (stopped first when the two would fight for a port); the new one is
--   created and started; wait sees it well; settle removes what is older than the one before.
-- The one before stays, stopped: going back to its digest is a start. Every call looks before it acts, so the way can
-- be walked again from the beginning after a crash at any point.
local errors, registry, time = require "errors", require "registry", require "time"
local engines = require "target.engine"

local M = {}

local PREFIX <const> = "moontide."
-- Seconds a container without a health check must stay up: moments when checks follow, longer when nothing else looks.
local STABLE <const>, STABLE_UNCHECKED <const> = 0.1, 2
local LOG_LINES <const> = 12

---@class DockerTarget: Target
local Docker = {}
Docker.__index = Docker

---@param environment EnvironmentConfig
---@param cfg Config
---@return DockerTarget
function M.open(environment, cfg)
  local config = environment.target
  return setmetatable({
    environment = environment, cfg = cfg, config = config, engine = engines.open(config.socket),
    name = config.name or environment.app .. "-" .. environment.name,
  }, Docker)
end

local function label(container, key) return container.Labels and container.Labels[PREFIX .. key] end

-- All containers of this place, newest first.
function Docker:all()
  local list, err = self.engine:list { [PREFIX .. "app"] = self.environment.app, [PREFIX .. "environment"] = self.environment.name }
  if not list then return nil, err end
  table.sort(list, function(a, b)
    if a.Created ~= b.Created then return a.Created > b.Created end
    return a.Id > b.Id
  end)
  return list
end

-- The one that runs; when an interrupted change left two, the one with the higher release.
local function running_of(list)
  local best
  for _, c in ipairs(list) do
    if c.State == "running" or c.State == "restarting" then
      if not best or (tonumber(label(c, "release")) or 0) > (tonumber(label(best, "release")) or 0) then best = c end
    end
  end
  return best
end

---@async
function Docker:current()
  local list, err = self:all()
  if not list then return nil, err end
  local c = running_of(list)
  if not c then return nil end
  local details
  details, err = self.engine:inspect(c.Id)
  if not details then return nil, err end
  local health = details.State.Health and details.State.Health.Status
  local healthy
  if health == "healthy" then healthy = true end
  if health == "unhealthy" or details.State.Restarting then healthy = false end
  return {
    digest = label(c, "digest"), commit = label(c, "commit"), version = label(c, "version"), image = c.Image,
    state = details.State.Restarting and "restarting" or details.State.Status, healthy = healthy,
    release = math.tointeger(tonumber(label(c, "release"))),
  }
end

-- Would two containers at once fight for something?
function Docker:exclusive() return self.config.network == "host" or #self.config.ports > 0 end

local function ports_of(config)
  local bindings, exposed = {}, {}
  for _, text in ipairs(config.ports) do
    local address, host, inside, protocol = text:match("^(.-):?(%d+):(%d+)/?(%a*)$")
    local key = inside .. "/" .. (protocol ~= "" and protocol or "tcp")
    exposed[key] = require("json").decode("{}")
    bindings[key] = bindings[key] or {}
    table.insert(bindings[key], { HostIp = address, HostPort = host })
  end
  return bindings, exposed
end

local function env_of(config)
  local env = {}
  for name, value in pairs(config.env) do
    if type(value) == "table" then
      local revealed, err = value:reveal()
      if not revealed then return nil, err end
      value = revealed
    end
    env[#env + 1] = name .. "=" .. tostring(value)
  end
  table.sort(env)
  return env
end

function Docker:description(request)
  local config = self.config
  local env, err = env_of(config)
  if not env then return nil, err end
  local labels = {}
  for k, v in pairs(config.labels) do labels[k] = v end
  for k, v in pairs { app = self.environment.app, environment = self.environment.name, commit = request.commit,
    version = request.version, digest = request.digest, release = tostring(request.release) } do
    labels[PREFIX .. k] = v
  end
  local bindings, exposed = ports_of(config)
  return {
    Image = request.image, Cmd = config.command, User = config.user, Labels = labels, Env = #env > 0 and env or nil,
    ExposedPorts = next(exposed) and exposed or nil,
    StopTimeout = math.floor(config.stop_timeout),
    HostConfig = {
      NetworkMode = config.network, PortBindings = next(bindings) and bindings or nil, Memory = config.memory,
      Binds = #config.volumes > 0 and config.volumes or nil, RestartPolicy = { Name = config.restart },
    },
  }
end

-- What was asked for is done when the engine says that it is so already.
local function settled(answer, err, ...)
  if answer then return true end
  for _, code in ipairs { ... } do
    if errors.is(err, code) then return true end
  end
  return nil, err
end

function Docker:stop(c)
  local seconds = math.floor(self.config.stop_timeout)
  return settled(self.engine:call("POST", ("/containers/%s/stop?t=%d"):format(c.Id, seconds), nil, { timeout = seconds + 30 }))
end

function Docker:remove(c)
  local answer, err = self.engine:call("DELETE", ("/containers/%s?force=1&v=1"):format(c.Id))
  return settled(answer, err, "not_found", "conflict")
end

function Docker:start(id) return settled(self.engine:call("POST", ("/containers/%s/start"):format(id))) end

-- A container of this digest that can be started again, or that runs: the one kept from before.
local function kept_of(list, digest)
  for _, c in ipairs(list) do
    if label(c, "digest") == digest and c.State ~= "dead" and c.State ~= "removing" then return c end
  end
end

function Docker:create(request)
  local body, err = self:description(request)
  if not body then return nil, err end
  local name = ("%s-%d"):format(self.name, request.release)
  local answer
  answer, err = self.engine:call("POST", "/containers/create?name=" .. name, body)
  if errors.is(err, "conflict") then -- a name of ours from an attempt that did not get far
    local old = self.engine:inspect(name)
    if old and old.Config and old.Config.Labels[PREFIX .. "app"] == self.environment.app then
      self:remove { Id = old.Id }
      answer, err = self.engine:call("POST", "/containers/create?name=" .. name, body)
    end
  end
  if not answer then return nil, err end
  local created = answer:json()
  return created and created.Id
end

---@async
function Docker:apply(request)
  local repository = request.image:match("^(.-)@")
  local auth, err = registry.repository(repository, self.cfg):engine_auth()
  if not auth then return nil, err end
  local list
  list, err = self:all()
  if not list then return nil, err end
  local running, wanted = running_of(list), kept_of(list, request.digest)
  local ok
  if not wanted then -- everything that can fail without harm comes before the old one is touched
    ok, err = self.engine:pull(request.image, auth, request.hooks)
    if not ok then return nil, err end
    local id
    id, err = self:create(request)
    if not id then return nil, err end
    wanted = { Id = id, State = "created" }
  end
  if wanted.State == "running" then return self:only(list, wanted) end
  if self:exclusive() then
    ok, err = self:only(list, wanted)
    if not ok then return nil, err end
  end
  ok, err = self:start(wanted.Id)
  if not ok then
    local said = self.engine:tail(wanted.Id, LOG_LINES)
    if self:exclusive() and running and running.Id ~= wanted.Id then self:start(running.Id) end -- back as it was
    return errors.fail("unhealthy", ("it cannot start: %s%s"):format(err.message, said ~= "" and "; it said: " .. said or ""),
      { op = "target.apply", target = self.name })
  end
  return true
end

-- Stops every other container of this place.
function Docker:only(list, wanted)
  for _, c in ipairs(list) do
    if c.Id ~= wanted.Id and (c.State == "running" or c.State == "restarting" or c.State == "paused") then
      local ok, err = self:stop(c)
      if not ok then return nil, err end
    end
  end
  return true
end

-- Why a container is not well: its state and its last words.
function Docker:complaint(id, details, words)
  local said = self.engine:tail(id, LOG_LINES)
  local state = details.State
  local text = words or ("it is %s with exit status %s%s"):format(state.Status, tostring(state.ExitCode), state.OOMKilled and ", out of memory" or "")
  return errors.fail("unhealthy", text .. (said ~= "" and "; it said: " .. said or ""), { op = "target.wait", target = self.name })
end

---@async
function Docker:wait(request)
  local list, err = self:all()
  if not list then return nil, err end
  local c = kept_of(list, request.digest)
  if not c then return errors.fail("not_found", "the container is gone", { op = "target.wait", target = self.name }) end
  local last = time.monotonic() + (request.timeout or self.config.timeout)
  local stable = #self.environment.verify > 0 and STABLE or STABLE_UNCHECKED
  local since, restarts
  while true do
    local details
    details, err = self.engine:inspect(c.Id)
    if not details then return nil, err end
    local state, now = details.State, time.monotonic()
    local health = state.Health and state.Health.Status
    restarts = restarts or details.RestartCount
    if state.Restarting or details.RestartCount > restarts or (not state.Running and state.Status ~= "created") then
      return self:complaint(c.Id, details, state.Restarting and ("it restarts again and again, exit status %s"):format(tostring(state.ExitCode)) or nil)
    end
    if health == "unhealthy" then return self:complaint(c.Id, details, "its health check says unhealthy") end
    if state.Running and (health == "healthy" or not health) then
      since = since or now
      if health == "healthy" or now - since >= stable then break end
    end
    if now > last then return self:complaint(c.Id, details, "it did not become healthy in " .. time.words(request.timeout or self.config.timeout)) end
    time.sleep(0.05)
  end
  if not self:exclusive() then return self:only(list, c) end -- the old one has done its duty
  return true
end

---@async
function Docker:settle(request)
  local list, err = self:all()
  if not list then return nil, err end
  local spare
  for _, c in ipairs(list) do
    local mine = label(c, "digest") == request.digest
    if not mine and not spare and c.State == "exited" then
      spare = c -- the newest of the others: the way back
    elseif not mine then
      local ok
      ok, err = self:remove(c)
      if not ok then return nil, err end
    end
  end
  return true
end

return M
