-- Builds and pushes through the Docker Engine's API; no docker client is needed. The engine's own BuildKit is
-- asked first; an engine without it builds the classic way.
local api = require "containers.api"
local errors, fs, hash, json, log, proc = require "errors", require "fs", require "hash", require "json",
  require "log", require "proc"
local targets, task, time = require "targets", require "task", require "time"
local failure, trace = require "images.builder.failure", require "images.builder.trace"
local escape = require("http").escape

local M = {}

local BUILDKIT_SINCE <const> = 39 -- minor version of the API

-- The container engine that builds.
local function engine_of(world) return world.containers(world.config.builder.socket or api.SOCKET) end

-- Why this machine is one where docker builds, whether its engine answers now or not.
local function belongs_here(cfg)
  if cfg.builder.socket then return "the configuration names its socket" end
  if fs.exists(api.SOCKET) then return api.SOCKET .. " is there" end
  for _, app in pairs(cfg.apps or {}) do
    for _, environment in pairs(app.environments or {}) do
      for _, part in ipairs(targets.parts(environment)) do
        if part.target and part.target.kind == "docker" then return ("%s runs in docker"):format(app.name) end
      end
    end
  end
  local installed = proc.run { "dockerd", "--version", timeout = 10, max_output = 4096 }
  return installed and installed.ok and "dockerd is installed" or nil
end

---@async
---@param cfg Config
---@param world World
---@return boolean? available nil: docker belongs here, but its engine does not answer
---@return Err? err
---@return_overload nil, Err
function M.available(cfg, world)
  if cfg.builder.command then return false end -- a program is for the other builders
  local answers, err = engine_of(world):answers()
  if not err then return answers end
  local why = belongs_here(cfg)
  if not why then return false end
  err.message = ("%s (%s; another builder is chosen with builder.kind)"):format(err.message, why)
  return nil, err
end

-- The error of an answer that refuses.
local function refusal(answer, op)
  local message = api.words(answer)
  if answer.status == 404 then return errors.new("not_found", message, { op = op }) end
  return failure.new(message, message, { op = op })
end

local function of(op, err)
  err.op = op
  return err
end

-- Ends what takes longer than a build may, however busy it seems.
local function in_time(request, op, fn, ...)
  local limit, started = request.app.build.timeout, time.monotonic()
  local ok, value, err = pcall(task.deadline, limit, fn, ...)
  if ok then return value, err end
  -- A deadline of the caller is raised again.
  if not errors.is(value, "deadline") or time.monotonic() - started < limit then error(value, 0) end
  return failure.too_long(("it took longer than %s"):format(time.words(limit)), { op = op, target = request.name })
end

-- Reads the engine's stream of JSON lines; calls each(event). A stream that ends without an error is success.
local function follow(answer, op, each)
  for line in answer:lines() do
    local event = json.decode(line)
    if type(event) == "table" then
      if event.error or event.errorDetail then
        local detail = type(event.errorDetail) == "table" and event.errorDetail.message or event.error
        local message = tostring(detail):gsub("[%c]+", " "):sub(1, 1000)
        return nil, failure.new(message, message, { op = op })
      end
      each(event)
    end
  end
  return true
end

local function say(hooks, text)
  for line in tostring(text):gmatch("[^\r\n]+") do hooks.output("stdout", line) end
end

local function build_path(request, version)
  local app, args = request.app, {}
  for k, v in pairs(app.build.args) do args[k] = tostring(v) end
  local query = {
    "version=" .. version, "t=" .. escape(request.name), "dockerfile=" .. escape(request.dockerfile),
    "labels=" .. escape(json.encode(request.labels)), "rm=1", "forcerm=1",
  }
  if next(args) then query[#query + 1] = "buildargs=" .. escape(json.encode(args)) end
  if app.build.target then query[#query + 1] = "target=" .. escape(app.build.target) end
  local network = request.cfg.builder.network
  if network then query[#query + 1] = "networkmode=" .. escape(network) end
  return "/build?" .. table.concat(query, "&")
end

local function run_build(request, version)
  local answer <close>, err = engine_of(request.world):send {
    method = "POST", path = build_path(request, version), stream = true,
    headers = { ["Content-Type"] = "application/x-tar" }, body_file = request.archive,
    timeout = request.app.build.timeout,
  }
  if not answer then return nil, of("image.build", err) end
  if answer.status ~= 200 then return nil, refusal(answer, "image.build") end
  local reader = trace.reader(request.hooks)
  return follow(answer, "image.build", function(event)
    if event.stream then say(request.hooks, event.stream) end
    if event.id == "moby.buildkit.trace" and type(event.aux) == "string" then
      local bytes = hash.unbase64(event.aux)
      if bytes then reader(bytes) end
    end
  end)
end

local function push(request)
  local auth, err = request.registry:engine_auth()
  if not auth then return nil, err end
  local answer <close>, problem = engine_of(request.world):send {
    method = "POST", path = ("/images/%s/push?tag=%s"):format(request.repository, escape(request.tag)),
    stream = true, headers = { ["X-Registry-Auth"] = auth }, timeout = request.app.build.timeout,
  }
  if not answer then return nil, of("image.push", problem) end
  if answer.status ~= 200 then return nil, refusal(answer, "image.push") end
  local digest, layers, done = nil, {}, {}
  local ok
  ok, err = follow(answer, "image.push", function(event)
    if type(event.aux) == "table" and type(event.aux.Digest) == "string" then digest = event.aux.Digest end
    if type(event.id) == "string" and type(event.status) == "string" then
      layers[event.id] = true
      if event.status:match("^Pushed") or event.status:match("exists") then done[event.id] = true end
      local total, finished = 0, 0
      for id in pairs(layers) do
        total = total + 1
        if done[id] then finished = finished + 1 end
      end
      local words = ("pushing layer %d of %d"):format(math.min(finished + 1, total), total)
      request.hooks.progress(words, finished, total)
    end
  end)
  if not ok then return nil, err end
  if not digest then
    return errors.fail("protocol", "the engine pushed without telling a digest",
      { op = "image.push", target = request.name })
  end
  return digest
end

---@async
---@param request BuildRequest
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.build(request)
  local speaks, ok, err
  speaks, err = engine_of(request.world):version()
  if not speaks then return nil, of("image.build", err) end
  local classic = request.cfg.builder.classic or tonumber(speaks:match("%d+$")) --[[@as number]] < BUILDKIT_SINCE
  ok, err = in_time(request, "image.build", run_build, request, classic and 1 or 2)
  if not ok and err and err.code == "failed" and tostring(err.message):lower():find("buildkit", 1, true) then
    log.info("the engine has no BuildKit; building the classic way")
    ok, err = in_time(request, "image.build", run_build, request, 1)
  end
  if not ok then return nil, err end
  return in_time(request, "image.push", push, request)
end

return M
