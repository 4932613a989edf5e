-- The docker target: one container on this machine, through the Engine's socket.
--
-- The way from one release to the next: pull by digest and create; the old container steps aside (first, when the two
-- would fight for a port; else when the new one is well); start; wait sees it well; settle removes what is older than
-- the one before. A container is known by its labels and its name, NAME-RELEASE, never by what we remember, and every
-- call observes before it acts: after a crash at any point the procedure starts again from its beginning.
--
-- The one before is kept: stopped, its restart policy off, with its image, its own files and its logs. A rollback
-- renames it to its new release and starts it again as it was. So does any release that would make the very same
-- container (same digest, version and configuration); with another configuration a new one is made. What is kept is
-- the container before, good or bad, until the next release has settled.
local errors, log, time = require "errors", require "log", require "time"
local containers, targets = require "containers.spec", require "targets"
local labels, reference = require "base.labels", require "images.reference"

local M = {}

-- Seconds a container without a health check must stay up: moments when checks follow, longer when nothing else
-- looks.
local STABLE <const>, STABLE_UNCHECKED <const> = 0.1, 2
local STOPPED <const>, STOPPED_FOR_GOOD <const> = 20, 2
local LOG_LINES <const> = 12
local LOOK_EVERY <const> = 0.05

local label, release_of = containers.label, containers.release

---@class DockerTarget: Target
---@field environment EnvironmentConfig
---@field config table
---@field cfg Config
---@field world World
---@field engine DockerEngine
---@field name string
local Docker = { takes_over = true }
Docker.__index = Docker

---@param environment EnvironmentConfig
---@param world World
---@return DockerTarget
function M.open(environment, world)
  local config = environment.target
  return setmetatable({
    environment = environment, world = world, config = config, engine = world.containers(config.socket),
    name = config.name or environment.app .. "-" .. targets.called(environment, "-"),
  }, Docker)
end

---All containers of this place, or of this part of it, that of the newest release first.
---@private
function Docker:all()
  local list, err = labels.containers(self.world.config, "docker " .. self.name, function(prefix)
    return self.engine:list {
      [prefix .. "app"] = self.environment.app, [prefix .. "environment"] = self.environment.name,
    }
  end)
  if not list then return nil, err end
  list = containers.of_part(list, self.environment.part)
  table.sort(list, function(a, b)
    if release_of(a) ~= release_of(b) then return release_of(a) > release_of(b) end
    return a.Id > b.Id
  end)
  return list
end

local function runs(c) return c.State == "running" or c.State == "restarting" or c.State == "paused" end

-- The one that runs; when an interrupted change left two, the newer release.
local function running_of(list)
  for _, c in ipairs(list) do
    if runs(c) then return c end
  end
end

---@private
function Docker:name_of(release) return ("%s-%d"):format(self.name, release) end

-- The container that serves a release.
local function of_release(self, list, release)
  for _, c in ipairs(list) do
    if containers.name(c) == self:name_of(release) then return c end
  end
end

---@async
function Docker:current()
  local list, err = self:all()
  if not list then return nil, err end
  local c = running_of(list)
  if not c then return nil end
  local details
  details, err = self.engine:inspect(c.Id)
  if not details then
    if errors.is(err, "not_found") then return nil end -- it was removed meanwhile
    return nil, err
  end
  local state, healthy = details.State, nil
  local health = state.Health and state.Health.Status
  if health == "healthy" then healthy = true end
  if health == "unhealthy" or state.Restarting or state.Paused then healthy = false end
  return {
    digest = label(c, "digest"), commit = label(c, "commit"), version = label(c, "version"), image = c.Image,
    state = state.Restarting and "restarting" or state.Status, healthy = healthy, release = release_of(c),
  }
end

---Would two containers at once fight for something? Only over ports of the machine: published, or all of them.
---@private
function Docker:exclusive() return self.config.network == "host" or #self.config.ports > 0 end

-- ---- single acts; each may be repeated ----

-- What was asked for is done when the engine says that it is so already.
local function done(answer, err, ...)
  if answer then return true end
  for _, code in ipairs { ... } do
    if errors.is(err, code) then return true end
  end
  return nil, err
end

---@private
function Docker:set_restart(id, name)
  return done(self.engine:call("POST", ("/containers/%s/update"):format(id), { RestartPolicy = { Name = name } }))
end

---Stopped for good: an engine that restarts must not bring it back beside its successor.
---@private
function Docker:put_aside(c)
  local set, err = self:set_restart(c.Id, "no")
  if errors.is(err, "not_found") then return true end
  if not set and errors.passing(err) then return nil, err end
  local seconds = math.floor(self.config.stop_timeout)
  local path = ("/containers/%s/stop?t=%d"):format(c.Id, seconds)
  local answer
  answer, err = self.engine:call("POST", path, nil, { timeout = seconds + 30 })
  local ok
  ok, err = done(answer, err, "not_found")
  if not ok or set then return ok, err end
  ok, err = self:set_restart(c.Id, "no") -- one that just ended and starts again cannot be updated (dockerd 20.10)
  return done(ok, err, "not_found")
end

---@private
function Docker:remove(c)
  local answer, err = self.engine:call("DELETE", ("/containers/%s?force=1&v=1"):format(c.Id))
  return done(answer, err, "not_found", "conflict") -- conflict: its removal is under way
end

---@private
function Docker:start(id) return done(self.engine:call("POST", ("/containers/%s/start"):format(id))) end

---Puts every other container of this place aside.
---@private
function Docker:only(list, wanted)
  for _, c in ipairs(list) do
    if c.Id ~= wanted.Id and runs(c) then
      local ok, err = self:put_aside(c)
      if not ok then return nil, err end
    end
  end
  return true
end

-- ---- apply ----

-- The container that may serve this release as it is: its own from an attempt before, or one that was kept.
local function reusable(list, request, fingerprint)
  for _, c in ipairs(list) do
    if label(c, "digest") == request.digest and (request.restored or label(c, "fingerprint") == fingerprint)
      and c.State ~= "dead" and c.State ~= "removing" then
      return c
    end
  end
end

---@private
function Docker:rename(c, name)
  return done(self.engine:call("POST", ("/containers/%s/rename?name=%s"):format(c.Id, name)))
end

---Takes a name back from a container of ours that cannot serve its release as it is. One that runs was numbered by a
---host of another state: it goes on under another name until this release is well.
---@private
function Docker:free_name(list, request, wanted)
  local c = of_release(self, list, request.release)
  if not c or wanted and c.Id == wanted.Id then return true end
  if runs(c) then return self:rename(c, ("%s-%s-before"):format(self.name, c.Id:sub(1, 12))) end
  return self:remove(c)
end

---@private
function Docker:create(list, request, body)
  local ok, err = self:free_name(list, request)
  if not ok then return nil, err end
  local name = self:name_of(request.release)
  local answer
  answer, err = self.engine:call("POST", "/containers/create?name=" .. name, body)
  if answer then
    local created = answer:json()
    if type(created) == "table" and created.Id then
      return { Id = created.Id, State = "created", Names = { "/" .. name } }
    end
    return errors.fail("protocol", "the engine made a container without an id", { op = "target.apply", target = name })
  end
  if not errors.is(err, "conflict") then return nil, err end
  -- Ours after all, from a request that was still under way when we listed? Otherwise the name is taken.
  local again = self:all()
  local c = again and of_release(self, again, request.release)
  if c and label(c, "fingerprint") == labels.get(body.Labels, "fingerprint") then return c end
  err.message = ("the name %s is taken by a container that is not ours"):format(name)
  return nil, err
end

---Gives a kept container its new release and its restart policy.
---@private
function Docker:bring_back(list, request, c)
  local ok, err = self:free_name(list, request, c)
  if not ok then return nil, err end
  local name = self:name_of(request.release)
  if containers.name(c) ~= name then
    ok, err = self:rename(c, name)
    if not ok then return nil, err end
  end
  return self:set_restart(c.Id, self.config.restart)
end

---@private
function Docker:all_soon(hooks)
  local last = time.monotonic() + self.config.timeout
  while true do
    local list, err = self:all()
    if list or not errors.passing(err) or time.monotonic() > last then return list, err end
    if hooks then hooks.progress("waiting for the container engine: " .. assert(err).message) end
    time.sleep(0.5)
  end
end

---@async
---@param request TargetRequest
function Docker:apply(request)
  local body, fingerprint = containers.describe(self.environment, request)
  if not body then return nil, fingerprint end
  local list, err = self:all_soon(request.hooks)
  if not list then return nil, err end
  local wanted = reusable(list, request, fingerprint)
  local ok
  if wanted then
    ok, err = self:bring_back(list, request, wanted)
    if not ok then return nil, err end
  else -- everything that can fail without harm comes before the old one is touched
    local auth
    auth, err = self.world.registry((reference.parts(request.image))):engine_auth()
    if not auth then return nil, err end
    ok, err = self.engine:pull(request.image, auth, request.hooks)
    if not ok then return nil, err end
    wanted, err = self:create(list, request, body)
    if not wanted then return nil, err end
  end
  if self:exclusive() then
    ok, err = self:only(list, wanted)
    if not ok then return nil, err end
  end
  if runs(wanted) then return true end
  ok, err = self:start(wanted.Id)
  if ok then return true end
  return self:cannot_start(list, wanted, err)
end

---A container that does not even start: what it replaces runs again at once.
---@private
function Docker:cannot_start(list, wanted, err)
  local words = "it cannot start: " .. err.message
  for _, c in ipairs(self:exclusive() and list or {}) do
    if c.Id ~= wanted.Id and (runs(c) or c.State == "exited") then
      local ok, problem = self:set_restart(c.Id, self.config.restart)
      if ok then ok, problem = self:start(c.Id) end
      words = words .. "; what ran before " .. (ok and "runs again" or "does not run: " .. assert(problem).message)
      break
    end
  end
  return self:complain(wanted.Id, words, "target.apply")
end

-- ---- wait and settle ----

---@private
function Docker:complain(id, words, op)
  -- A container may say its own secrets; the filter knows those that are in files only once they have been read.
  local _, err = targets.variables(self.config.env)
  local said = not err and self.engine:tail(id, LOG_LINES) or nil
  return targets.complain("unhealthy", words, said, { op = op, target = self.name })
end

-- Why a container is not well, in words; nil when it is, or may still become so.
local function fault_of(details, restarts)
  local state = details.State
  if state.Restarting or details.RestartCount > restarts then
    return ("it restarts again and again, exit status %s"):format(tostring(state.ExitCode))
  end
  if state.Paused then return "somebody paused it" end
  if not state.Running then
    if state.Status == "created" then return "it was never started" end
    return ("it is %s with exit status %s%s"):format(state.Status, tostring(state.ExitCode),
      state.OOMKilled and ", out of memory" or "")
  end
  local health = state.Health
  if health and health.Status == "unhealthy" then
    local last = type(health.Log) == "table" and health.Log[#health.Log]
    local said = last and targets.last_words(tostring(last.Output), 2) or ""
    return "its health check says unhealthy" .. (said ~= "" and " (" .. said .. ")" or "")
  end
end

---How long a stopped container must stay so. An engine that goes down has stopped its containers up to 15 s before it
---answers no more (dockerd --shutdown-timeout); by itself only one that is never restarted stays so.
---@private
function Docker:believed() return self.config.restart == "no" and STOPPED_FOR_GOOD or STOPPED end

-- The container of a release that bears another number, given to it by a host of another state: what runs of its image.
local function taken_over(list, request)
  for _, c in ipairs(list) do
    if runs(c) and label(c, "digest") == request.digest then return c end
  end
end

---@async
---@param request TargetRequest
function Docker:wait(request)
  local within = request.timeout or self.config.timeout
  local last, since, restarts, id, stopped = time.monotonic() + within, nil, nil, nil, nil
  local stable = #self.environment.verify > 0 and STABLE or STABLE_UNCHECKED
  local list, err, details
  repeat
    if not list then
      list, err = self:all()
      local c = list and (of_release(self, list, request.release) or taken_over(list, request))
      id = c and label(c, "digest") == request.digest and c.Id
    end
    details = nil
    if id then details, err = self.engine:inspect(id) end
    local going = details and (details.State.Status == "removing" or details.State.Dead)
    if list and not id or going or errors.is(err, "not_found") then
      return errors.fail("unhealthy", "its container is gone: somebody removed it",
        { op = "target.wait", target = self.name })
    end
    if details then
      restarts = restarts or details.RestartCount
      local fault, now = fault_of(details, restarts), time.monotonic()
      stopped = fault and details.State.Status == "exited" and (stopped or now) or nil
      if fault and not (stopped and now - stopped < self:believed()) then
        return self:complain(id, fault, "target.wait")
      end
      local health = details.State.Health and details.State.Health.Status
      since = not fault and health ~= "starting" and (since or now) or nil
      -- One that was restarted must show that it stays up.
      local long = restarts > 0 and STABLE_UNCHECKED or stable
      if not fault and health == "healthy" or since and now - since >= long then
        return self:only(list, { Id = id }) -- the old one has done its duty
      end
    elseif errors.passing(err) then
      since, restarts, stopped = nil, nil, nil -- what an engine starts again is not yet what it was
    else
      return nil, err
    end
    time.sleep(LOOK_EVERY)
  until time.monotonic() > last
  if not details then return nil, err end
  return self:complain(id, fault_of(details, restarts) or "it did not become healthy in " .. time.words(within),
    "target.wait")
end

---@async
---@param request TargetRequest
function Docker:settle(request)
  local list, err = self:all()
  if not list then return nil, err end
  local mine = of_release(self, list, request.release)
  if not mine or not runs(mine) then -- then what is kept is all there is
    log.warn("the released container does not run; nothing is removed", { container = self:name_of(request.release) })
    return true
  end
  local ok
  ok, err = self:only(list, mine)
  if not ok then return nil, err end
  local spare
  for _, c in ipairs(list) do
    if c.Id ~= mine.Id and not spare and (c.State == "exited" or runs(c)) then
      spare = c
    elseif c.Id ~= mine.Id then
      ok, err = self:remove(c)
      if not ok then return nil, err end
    end
  end
  return true
end

---Stops and removes all containers of the place.
---@async
function Docker:destroy()
  local list, err = self:all()
  if not list then return nil, err end
  for _, c in ipairs(list) do
    local ok = true ---@type true?
    if runs(c) then ok, err = self:put_aside(c) end
    if ok then ok, err = self:remove(c) end
    if not ok then return nil, err end
  end
  return true
end

return M
