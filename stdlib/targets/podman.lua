-- The podman target: the pods of one YAML file on this machine, through `podman kube play`.
--
-- The image is put in by digest, everything is pulled first, then one `kube play --replace` tears the old pods down
-- and starts the new ones. The YAML that proved itself is kept in the state folder (good.yaml, and before.yaml: the
-- one before): a failed play puts it back at once, and a rollback plays what was good then, whatever the file says
-- now.
local errors, fs, hash, json, log = require "errors", require "fs", require "hash", require "json", require "log"
local proc, task, time = require "proc", require "task", require "time"
local manifest, network = require "targets.manifest", require "base.network"
local targets = require "targets"
local containers, labels, reference = require "containers.spec", require "base.labels", require "images.reference"

local M = {}

-- Seconds that pods must stay up: moments when checks follow, longer when nothing else checks.
local STABLE <const>, STABLE_UNCHECKED <const> = 0.1, 2
local LOG_LINES <const> = 12
local CALL <const> = 60 -- seconds for a podman command that only reads
local PULL <const> = 1800
-- Podman removes a container whose end still unmounts its files, and finds them busy; a moment later they are not. All
-- that it is called for may be done again.
local ATTEMPTS <const> = 4
local INHERIT <const> = {
  "HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY",
  "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

---@class PodmanTarget: Target
---@field environment EnvironmentConfig
---@field config table
---@field cfg Config
---@field world World
---@field name string
---@field folder string
local Podman = {}
Podman.__index = Podman

---@param environment EnvironmentConfig
---@param world World
---@return PodmanTarget
function M.open(environment, world)
  return setmetatable({
    environment = environment, world = world, config = environment.target,
    name = environment.app .. "@" .. targets.called(environment, "@"),
    folder = ("%s/podman/%s@%s"):format(world.config.state, environment.app, targets.called(environment, "@")),
  }, Podman)
end

---Runs podman; gives its output. Its own words are the error's.
---@private
function Podman:call(argv)
  local timeout, hooks = argv.timeout or CALL, argv.hooks
  local spec = {
    "podman", env = self.config.env, inherit = INHERIT, cwd = self.world.config.dir, stdin = false, timeout = timeout,
    max_output = 16 << 20,
  }
  table.move(argv, 1, #argv, 2, spec)
  if hooks then spec.on_line = function(line, stream) hooks.output(stream, line) end end
  local fields = { op = "podman " .. argv[1], target = self.name }
  local result, err
  for attempt = 1, ATTEMPTS do
    result, err = proc.run(spec)
    local busy = result and not result.ok and result.stderr:find("device or resource busy", 1, true)
    if not busy or attempt == ATTEMPTS then break end
    time.sleep(1)
  end
  if not result then
    if errors.is(err, "not_found") then err.message = "podman is not installed, or not in the PATH" end
    return targets.complain(err.code, err.message, err.result and targets.last_words(err.result.stderr, 3), fields)
  end
  if result.ok then return result.stdout end
  fields.status = result.code
  local how = result.signal or "exit status " .. result.code
  return targets.complain(network.code(result.stderr) or "failed", ("podman %s ended with %s"):format(argv[1], how),
    targets.last_words(result.stderr, 3), fields)
end

---@private
function Podman:list(what)
  local text, err = self:call { table.unpack(what) }
  if not text then return nil, err end
  local value = json.decode(text)
  if type(value) ~= "table" then
    return errors.fail("protocol", "podman gave no JSON", { op = "podman " .. what[1], target = self.name })
  end
  return value
end

local function number(text) return math.tointeger(tonumber(text)) or 0 end
local function release_of(c) return number(labels.get(c.Labels, "release")) end

---Our containers, those of the newest release first; infra containers are not among them.
---@private
function Podman:containers()
  local list, err = labels.containers(self.world.config, "podman " .. self.name, function(prefix)
    return self:list {
      "ps", "--all", "--format", "json", "--filter", ("label=%sapp=%s"):format(prefix, self.environment.app),
      "--filter", ("label=%senvironment=%s"):format(prefix, self.environment.name),
    }
  end)
  if not list then return nil, err end
  list = containers.of_part(list, self.environment.part)
  table.sort(list, function(a, b)
    if release_of(a) ~= release_of(b) then return release_of(a) > release_of(b) end
    return tostring(a.Id) < tostring(b.Id)
  end)
  return list
end

local function of_release(list, release)
  local out = {}
  for _, c in ipairs(list) do
    if release_of(c) == release then out[#out + 1] = c end
  end
  return out
end

local function inspect(self, list)
  local argv = { "inspect", "--type", "container" }
  for i, c in ipairs(list) do argv[i + 3] = c.Id end
  return self:list(argv)
end

-- ---- health ----

-- When a container was first seen and its health check run last, by configuration and name: podman has no daemon that
-- runs it where there is no systemd.
local checked = setmetatable({}, { __mode = "k" }) ---@type table<Config, table<string, table>>

local function seconds(nanoseconds) return (tonumber(nanoseconds) or 0) / 1e9 end

---"healthy", "unhealthy" or "starting"; nil without a health check. Podman counts the failures, but it starts an
---unhealthy container again at once and forgets the verdict: ours is that of the try that led to it.
---@private
function Podman:health(details)
  local probe, health = details.Config and details.Config.Healthcheck, details.State.Health
  if not probe or not health or not details.State.Running then return nil end
  local cfg = self.world.config
  checked[cfg] = checked[cfg] or {}
  local all, now = checked[cfg], time.monotonic()
  local known = all[details.Name]
  if not known or known.id ~= details.Id then
    known = { id = details.Id, since = now, at = -math.huge, verdict = health.Status }
    all[details.Name] = known
  end
  if now - known.at < seconds(probe.Interval) then return known.verdict end
  known.at = now
  local _, err = self:call { "healthcheck", "run", details.Id, timeout = seconds(probe.Timeout) + CALL }
  if not err then
    known.verdict = "healthy"
  elseif err.message:find("turned unhealthy", 1, true) or err.status == 1
    and now - known.since >= seconds(probe.StartPeriod) and health.FailingStreak + 1 >= probe.Retries then
    known.verdict = "unhealthy" -- the first: 4.3 says so when it could not start the container again
  end
  return known.verdict
end

-- A container that did its work and is not meant to run on: one that prepares, or one that is never restarted.
local function finished(details)
  local policy = details.HostConfig and details.HostConfig.RestartPolicy and details.HostConfig.RestartPolicy.Name
  return details.State.Status == "exited" and details.State.ExitCode == 0
    and policy ~= "always" and policy ~= "unless-stopped"
end

-- What is wrong with a container now; nil when nothing is.
local function trouble(details, health)
  local state = details.State
  if health == "unhealthy" then return ("the health check of %s says unhealthy"):format(details.Name) end
  if state.Running or finished(details) then return nil end
  return ("%s is %s with exit status %s%s"):format(details.Name, state.Status, tostring(state.ExitCode),
    state.OOMKilled and ", out of memory" or "")
end

---@async
function Podman:current()
  local list, err = self:containers()
  if not list then return nil, err end
  if #list == 0 then return nil end
  list = of_release(list, release_of(list[1]))
  local details
  details, err = inspect(self, list)
  if not details then return nil, err end
  local ours = list[1].Labels
  local container = labels.get(ours, "container")
  local main, healthy, state = nil, nil, "running"
  for _, d in ipairs(details) do
    local health = self:health(d)
    if d.Name:sub(-#container - 1) == "-" .. container then main = d end
    if health == "healthy" and healthy == nil then healthy = true end
    if trouble(d, health) then
      healthy = false
      if not d.State.Running then state = d.State.Status end
    end
  end
  if not main then state, healthy = "incomplete", false end
  return {
    digest = main and reference.digest(main.ImageName), image = main and main.ImageName,
    commit = labels.get(ours, "commit"), version = labels.get(ours, "version"), release = release_of(list[1]),
    state = state, healthy = healthy,
  }
end

-- ---- what is kept ----

local function header(request)
  return ("# moontide: release %d, image %s\n"):format(request.release, request.image)
end

---A kept YAML, with the digest and the release in its first line.
---@private
function Podman:kept(name)
  local text, err = fs.read(("%s/%s.yaml"):format(self.folder, name))
  if not text then
    if errors.is(err, "not_found") then return nil end
    return nil, err
  end
  local release, digest = text:match("^# moontide: release (%d+), image %S+@(%S+)\n")
  return { text = text, release = number(release), digest = digest, path = ("%s/%s.yaml"):format(self.folder, name) }
end

---@private
function Podman:keep(name, text)
  -- 0600: there may be passwords in it.
  return fs.write(("%s/%s.yaml"):format(self.folder, name), text, { mode = 384 })
end

---The YAML of a release: as it was good then when it comes back, from the configured file otherwise.
---@private
function Podman:manifest(request)
  local text, path = nil, self.config.yaml ---@type string?, string
  if request.restored then
    for _, name in ipairs { "good", "before" } do
      local kept, err = self:kept(name)
      if err then return nil, err end
      if kept and kept.digest == request.digest and not text then text, path = kept.text, kept.path end
    end
  end
  if not text then
    local err
    text, err = fs.read(path)
    if not text then return nil, err end
    if self.environment.branch then text = require("config.previews").fill(text, self.environment) end
  end
  ---@type any
  local own = {
    app = self.environment.app, environment = self.environment.name, release = tostring(request.release),
    commit = request.commit, version = request.version, part = self.environment.part,
  }
  return manifest.render(text, {
    path = path, container = self.config.container, image = request.image, labels = own,
  })
end

-- ---- pulling ----

-- Options that let podman log in to the registry of an image. Credentials go through a file that goes with `dir`.
local function login(self, image, dir)
  local repository = self.world.registry((reference.parts(image)))
  local known, argv = repository.config, {}
  local host = repository.host == reference.HUB and "docker.io" or repository.host
  if repository.plain then argv[1] = "--tls-verify=false" end
  if known.username then
    local password, err = assert(known.password):reveal()
    if not password then return nil, err end
    local auth = hash.base64(known.username .. ":" .. password)
    log.secret(auth)
    local body = assert(json.encode { auths = { [host] = { auth = auth } } })
    local ok
    ok, err = fs.write(dir .. "/auth.json", body, { mode = 384, sync = false })
    if not ok then return nil, err end
    argv[#argv + 1] = "--authfile=" .. dir .. "/auth.json"
  end
  if known.ca then
    local ca, err = fs.read(known.ca)
    if not ca then return nil, err end
    local ok
    ok, err = fs.write(dir .. "/ca.crt", ca, { sync = false })
    if not ok then return nil, err end
    argv[#argv + 1] = "--cert-dir=" .. dir
  end
  return argv
end

---Pulls an image unless it is there. `always`: a tag that may have moved.
---@private
function Podman:pull(image, always, hooks)
  if not always and self:call { "image", "exists", image } then return true end
  local dir <close>, err = fs.temp_dir()
  if not dir then return nil, err end
  local argv
  argv, err = login(self, image, dir.path)
  if not argv then return nil, err end
  table.insert(argv, 1, "pull")
  argv[#argv + 1], argv.timeout, argv.hooks = image, PULL, hooks
  local text
  text, err = self:call(argv)
  return text and true, err
end

-- ---- the way from one release to the next ----

---@private
function Podman:play(path, hooks)
  local argv = { "kube", "play", "--replace", "--build=false", timeout = self.config.timeout, hooks = hooks }
  if self.config.network then argv[#argv + 1] = "--network=" .. self.config.network end
  argv[#argv + 1] = path
  local text, err = self:call(argv)
  return text and true, err -- containers that end at once are wait's matter
end

---Removes pods of ours that the new YAML does not replace: they would go on beside it. Podman calls a container
---POD-CONTAINER, and the pod of a Deployment NAME-pod-0 or NAME-pod.
---@private
function Podman:remove_strangers(list, pods)
  local argv, seen = { "pod", "rm", "--force", "--ignore" }, {}
  for _, c in ipairs(list) do
    local full, stays = c.Names and c.Names[1] or "", false
    for _, name in ipairs(pods) do stays = stays or full:sub(1, #name + 1) == name .. "-" end
    if not stays and type(c.Pod) == "string" and not seen[c.Pod] then
      seen[c.Pod], argv[#argv + 1] = true, c.Pod
    end
  end
  if #argv == 4 then return true end
  local text, err = self:call(argv)
  return text and true, err
end

-- Everything of this release is there and runs.
local function complete(list, request, wanted)
  local mine, running = of_release(list, request.release), 0
  for _, c in ipairs(mine) do
    if c.State == "running" then running = running + 1 end
  end
  return running >= wanted.count and running > 0
end

---@async
---@param request TargetRequest
function Podman:apply(request)
  local wanted, err = self:manifest(request)
  if not wanted then return nil, err end
  local list, there, ok, _
  task.all {
    function() list, err = self:containers() end,
    function() there = self:call { "image", "exists", request.image } end,
  }
  if not list then return nil, err end
  if complete(list, request, wanted) then return true end
  ok = there
  if not ok then ok, err = self:pull(request.image, true, request.hooks) end
  for _, image in ipairs(ok and wanted.images or {}) do
    if ok then ok, err = self:pull(image.name, image.always, request.hooks) end
  end
  if ok then ok, err = fs.mkdir(self.folder, { parents = true, mode = 448 }) end -- 0700
  if ok then ok, err = self:keep("applied", header(request) .. wanted.text) end
  if ok then ok, err = self:remove_strangers(list, wanted.pods) end
  if not ok then return nil, err end
  _, err = self:play(self.folder .. "/applied.yaml", request.hooks)
  if not err then return true end
  local words = err.message
  local good = self:kept("good")
  if good and good.release ~= request.release then -- back as it was
    _, err = self:play(good.path, request.hooks)
    words = words .. (err and "; what ran before did not come back: " .. err.message or "; what ran before is back")
  end
  return errors.fail("unhealthy", "it cannot start: " .. words, { op = "target.apply", target = self.name })
end

---@private
function Podman:complaint(details, what)
  local result = proc.run {
    "podman", "logs", "--tail", tostring(LOG_LINES), details.Id, env = self.config.env, inherit = INHERIT,
    stdin = false, stderr = "stdout", timeout = CALL,
  }
  local said = result and targets.last_words(result.stdout, LOG_LINES)
  return targets.complain("unhealthy", what, said, { op = "target.wait", target = self.name })
end

-- The containers of a release, inspected: those that bear its number, else those that run its image under the number
-- that a host of another state gave them.
local function of_request(self, request)
  local list, err = self:containers()
  if not list then return nil, err end
  local mine = of_release(list, request.release)
  if #mine > 0 then return inspect(self, mine) end
  local all = {}
  if #list > 0 then all, err = inspect(self, of_release(list, release_of(list[1]))) end
  if not all then return nil, err end
  for _, details in ipairs(all) do
    if reference.digest(details.ImageName) == request.digest then return all end
  end
  return errors.fail("unhealthy", "its pods are gone", { op = "target.wait", target = self.name })
end

---One observation of a release: true when all is well, false when it is on its way, nil and the complaint otherwise.
---@private
function Podman:look(request)
  local all, err = of_request(self, request)
  if not all then return nil, err end
  local well, running = true, false
  for _, details in ipairs(all) do
    local health = self:health(details)
    local wrong = trouble(details, health)
    if details.RestartCount > 0 and not finished(details) then
      wrong = ("%s restarts again and again, exit status %s"):format(details.Name, tostring(details.State.ExitCode))
    end
    if wrong and details.State.Status ~= "created" and details.State.Status ~= "initialized" then
      return self:complaint(details, wrong)
    end
    running = running or details.State.Running
    if wrong or health == "starting" then well = false end
  end
  return well and running, nil, all[1]
end

---@async
---@param request TargetRequest
function Podman:wait(request)
  local within = request.timeout or self.config.timeout
  local last, since = time.monotonic() + within, nil
  local stable = #self.environment.verify > 0 and STABLE or STABLE_UNCHECKED
  while true do
    local well, err, details = self:look(request)
    if well == nil then return nil, err end
    local now = time.monotonic()
    since = well and (since or now) or nil
    if since and now - since >= stable then return true end
    if now > last then return self:complaint(details, "it did not become healthy in " .. time.words(within)) end
    time.sleep(0.1)
  end
end

---@async
---@param request TargetRequest
function Podman:settle(request)
  local applied, err = self:kept("applied")
  if err then return nil, err end
  if not applied or applied.release ~= request.release then return true end
  local good
  good, err = self:kept("good")
  if err then return nil, err end
  if good and good.digest ~= applied.digest then
    local ok
    ok, err = fs.rename(good.path, self.folder .. "/before.yaml")
    if not ok then return nil, err end
  end
  return self:keep("good", applied.text)
end

---Removes all pods of the place, and what is kept of it.
---@async
function Podman:destroy()
  local list, err = self:containers()
  if not list then return nil, err end
  local ok
  ok, err = self:remove_strangers(list, {})
  if ok then ok, err = fs.remove(self.folder, { recursive = true }) end
  if not ok and not errors.is(err, "not_found") then return nil, err end
  return true
end

return M
