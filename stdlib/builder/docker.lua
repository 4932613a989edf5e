-- Builds and pushes through the Docker Engine's API; no docker client is needed. The engine's own BuildKit is
-- asked first; an engine without it builds the classic way.
local errors, hash, http, json, log = require "errors", require "hash", require "http", require "json",
  require "log"
local task, time = require "task", require "time"
local failure, trace = require "builder.failure", require "builder.trace"
local escape = http.escape

local M = {}

local API <const> = "http://docker/v1.41"
local DEFAULT_SOCKET <const> = "/var/run/docker.sock"

local function socket(cfg) return cfg.builder.socket or DEFAULT_SOCKET end

---@async
---@param cfg Config
---@return boolean
function M.available(cfg)
  local answer = http.get("http://docker/_ping", { unix = socket(cfg), timeout = 3 })
  return answer ~= nil and answer.status == 200
end

-- The engine's own words for a refusal.
local function refusal(answer, op)
  local body = answer.body or ""
  if not answer.body and answer.read then body = answer:read(65536) or "" end
  local decoded = json.decode(body)
  local words = type(decoded) == "table" and decoded.message or body
  local message = tostring(words):gsub("%c", " "):sub(1, 500)
  if answer.status == 404 then return errors.new("not_found", message, { op = op }) end
  return failure.new(message, message, { op = op })
end

local function unreachable(request, err, op)
  local words = "the docker engine does not answer at " .. socket(request.cfg)
  return errors.new(err.code, words, { op = op, cause = err })
end

-- Ends what takes longer than a build may, however busy it looks.
local function in_time(request, op, fn, ...)
  local limit, started = request.app.build.timeout, time.monotonic()
  local ok, value, err = pcall(task.deadline, limit, fn, ...)
  if ok then return value, err end
  -- The deadline of somebody around us is not ours to turn into an answer.
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
  return API .. "/build?" .. table.concat(query, "&")
end

local function run_build(request, version)
  local answer <close>, err = http.request {
    method = "POST", url = build_path(request, version), unix = socket(request.cfg), stream = true,
    headers = { ["Content-Type"] = "application/x-tar" }, body_file = request.archive,
    timeout = request.app.build.timeout,
  }
  if not answer then return nil, unreachable(request, err, "image.build") end
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
  local answer <close>, problem = http.request {
    method = "POST", url = ("%s/images/%s/push?tag=%s"):format(API, request.repository, escape(request.tag)),
    unix = socket(request.cfg), stream = true, headers = { ["X-Registry-Auth"] = auth },
    timeout = request.app.build.timeout,
  }
  if not answer then return nil, unreachable(request, problem, "image.push") end
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
function M.build(request)
  local ok, err = in_time(request, "image.build", run_build, request, request.cfg.builder.classic and 1 or 2)
  if not ok and errors.is(err, "failed") and tostring(err.message):lower():find("buildkit", 1, true) then
    log.info("the engine has no BuildKit; building the classic way")
    ok, err = in_time(request, "image.build", run_build, request, 1)
  end
  if not ok then return nil, err end
  return in_time(request, "image.push", push, request)
end

return M
