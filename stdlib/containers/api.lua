-- The way to the Docker Engine's API: the socket, the version that both sides speak, and the engine's own words.
--
-- Everything in this program that talks to an engine does so through here. The version is asked for once for each
-- socket (GET /version; where a proxy shuts that, GET /_ping) and again when the engine went away or says that it is
-- another one now. Rules: the Docker Engine API's notes on versions; a path without a version would mean the engine's
-- newest.
local errors, http, json, log = require "errors", require "http", require "json", require "log"
local text = require "base.text"

local M = {}

-- What this program was written for, the oldest that has all it needs, and what every engine since 25.0 speaks.
local OURS <const>, OLDEST <const>, FLOOR <const> = { 1, 41 }, { 1, 25 }, { 1, 44 }
local TIMEOUT <const>, LOOK <const> = 60, 10 -- seconds

M.SOCKET = "/var/run/docker.sock"

local versions = {} ---@type table<string, {version: string, newest: integer[]}> by socket

---@class DockerCall
---@field method string
---@field path string Without the version.
---@field body (table|string)?
---@field body_file string?
---@field headers table?
---@field timeout Seconds? 60
---@field stream boolean?
---@field max_body integer?
---@field since string? "1.42": spoken instead of ours by engines that know it, for what this call asks for

local function number(version)
  local major, minor = tostring(version):match("^v?(%d+)%.(%d+)$")
  return major and { tonumber(major), tonumber(minor) } or nil
end

local function below(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end

---Chooses the version nearest to ours that an engine speaks.
---@param newest any As the engine says it, "1.47".
---@param oldest any Its floor; nil when it does not say.
---@return string? version
---@return string? why
function M.choose(newest, oldest)
  local top, floor = number(newest), number(oldest)
  if not top then return nil, "the engine does not tell which versions of its API it speaks" end
  local chosen = OURS
  if floor and below(chosen, floor) then chosen = floor end
  -- Without its floor: one that could be too high for us speaks what all engines of its age speak.
  if not floor and not below(top, FLOOR) then chosen = FLOOR end
  if below(top, chosen) then chosen = top end
  if below(chosen, OLDEST) then
    return nil, ("the engine speaks at most version %d.%d of its API, and the oldest that will do is %d.%d: it needs an"
      .. " upgrade"):format(chosen[1], chosen[2], OLDEST[1], OLDEST[2])
  end
  return ("%d.%d"):format(chosen[1], chosen[2])
end

-- The error of an engine that cannot be reached, in words that tell what to do.
local function unreachable(socket, err)
  if errors.is(err, "not_found") or errors.is(err, "refused") then
    return errors.new("refused", ("no container engine listens on %s; is docker started?"):format(socket),
      { op = "docker", target = socket, cause = err })
  end
  local words = "the docker engine does not answer at " .. socket
  if errors.is(err, "denied") then
    words = words .. ": this user may not open the socket (its group is often called docker)"
  end
  return errors.new(err.code, words, { op = "docker", target = socket, cause = err })
end

---The engine's own words for a refusal.
---@async
---@param answer HttpAnswer
---@return string
function M.words(answer)
  local body = answer.body or answer:read(65536) or ""
  local decoded = json.decode(body)
  local said = type(decoded) == "table" and decoded.message or body
  return log.redact(text.clean(tostring(said), 500))
end

-- The error of who answers for the engine, that it cannot be asked now.
local function shut(socket, answer)
  local code = answer.status == 429 and "rate_limited" or "busy"
  return errors.fail(code, ("the docker engine at %s cannot be asked: HTTP %d: %s"):format(socket, answer.status,
    M.words(answer)), { op = "docker", target = socket, status = answer.status })
end

-- Asks the engine what it speaks.
local function ask(socket)
  local answer, err = http.get("http://docker/version", { unix = socket, timeout = LOOK, max_body = 1 << 20 })
  if not answer then return nil, unreachable(socket, err) end
  local about = answer.status == 200 and json.decode(answer.body or "")
  local newest, oldest
  if type(about) == "table" then newest, oldest = about.ApiVersion, about.MinAPIVersion end
  if not number(newest) and not errors.passing(answer.status) then
    answer, err = http.get("http://docker/_ping", { unix = socket, timeout = LOOK })
    if not answer then return nil, unreachable(socket, err) end
    newest, oldest = answer.headers["api-version"], nil
  end
  if not number(newest) and errors.passing(answer.status) then return shut(socket, answer) end
  local version, why = M.choose(newest, oldest)
  if version then
    log.debug("the docker engine's API", { socket = socket, version = version, newest = newest, oldest = oldest })
    return { version = version, newest = number(newest) }
  end
  return errors.fail("unsupported", why .. " (at " .. socket .. ")", { op = "docker", target = socket })
end

---The version of the API that is spoken with an engine.
---@async
---@param socket string
---@return string? version "1.41"
---@return Err? err
---@return_overload nil, Err
function M.version(socket)
  if not versions[socket] then
    local found, err = ask(socket)
    if not found then return nil, err end
    versions[socket] = found
  end
  return versions[socket].version
end

local function send(socket, version, call)
  local since, known = call.since and number(call.since), versions[socket]
  if since and known and not below(known.newest, since) and below(number(version), since) then version = call.since end
  return http.request {
    method = call.method, url = ("http://docker/v%s%s"):format(version, call.path), unix = socket, body = call.body,
    body_file = call.body_file, headers = call.headers, timeout = call.timeout or TIMEOUT, stream = call.stream,
    max_body = call.max_body,
  }
end

---One call. Any status is an answer; of a refusal `M.words` tells why.
---@async
---@param socket string
---@param call DockerCall
---@return HttpAnswer? answer
---@return Err? err
---@return_overload nil, Err
function M.request(socket, call)
  local version, err = M.version(socket)
  if not version then return nil, err end
  local answer
  answer, err = send(socket, version, call)
  if not answer then
    versions[socket] = nil -- it may come back as another one
    return nil, unreachable(socket, err)
  end
  if answer.status ~= 400 then return answer end
  -- An engine that was exchanged while we were running refuses the version before it looks at anything else.
  local now = ask(socket)
  if not now or now.version == version then return answer end
  answer:close()
  versions[socket] = now
  answer, err = send(socket, now.version, call)
  if not answer then return nil, unreachable(socket, err) end
  return answer
end

---Tells whether an engine answers.
---@async
---@param socket string
---@return boolean
---@return Err? err
function M.answers(socket)
  versions[socket] = nil
  local version, err = M.version(socket)
  return version ~= nil, err
end

return M
