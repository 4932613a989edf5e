-- The way to the Docker Engine's API: the socket, the version that both sides speak, and the engine's own words.
--
-- Everything in this program that talks to an engine does so through here. The version is asked for once for each
-- socket (GET /version; where a proxy shuts that, GET /_ping) and again when the engine went away or says that it is
-- another one now. Rules: the Docker Engine API's notes on versions; a path without a version would mean the engine's
-- newest.
local api, errors, json, log = require "base.api", require "errors", require "json", require "log"
local network, text = require "base.network", require "base.text"

local M = {}

-- What this program was written for, the oldest that has all it needs, and what every engine since 25.0 speaks.
local OURS <const>, OLDEST <const>, FLOOR <const> = { 1, 41 }, { 1, 25 }, { 1, 44 }
local TIMEOUT <const>, LOOK <const> = 60, 10 -- seconds

M.SOCKET = "/var/run/docker.sock"

local versions = {} ---@type table<string, {version: string, newest: integer[]}> by socket
local engines = {} ---@type table<string, Api> by socket

---@class DockerCall: ApiCall
---@field path string Without the version.
---@field since? string "1.42": spoken instead of ours by engines that know it, for what this call asks for.

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

-- The error of an engine that cannot be reached, with what to do about it.
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

-- The engine's own words for a refusal.
local function words_of(body, raw)
  return log.redact(text.clean(tostring(type(body) == "table" and body.message or raw), 500))
end

local renewed, spoken ---@type function, function

-- The service behind a socket. Nothing is tried again: an engine is on this machine, and answers or is down.
local function engine(socket)
  engines[socket] = engines[socket] or api.open {
    name = "the docker engine", http = { unix = socket, timeout = TIMEOUT },
    options = function(call) return spoken(socket, call) end,
    renew = function(answer, options, call) return renewed(socket, answer, options, call) end,
    on_error = function(err)
      versions[socket] = nil -- it may come back as another one
      return unreachable(socket, err)
    end,
  }
  return engines[socket]
end

---The engine's own words for a refusal.
---@async
---@param answer HttpAnswer
---@return string
function M.words(answer)
  local body = api.body(answer)
  return words_of(json.decode(body), body)
end

---The error of an answer that refuses. An engine's 500 says anything from a port that is taken to a registry that is
---out of reach: there its words tell the code.
---@async
---@param answer HttpAnswer
---@param path string
---@return Err
function M.failure(answer, path)
  local code, words = api.code(answer.status), M.words(answer)
  if code == "status" then code = network.code(words) or "failed" end
  return errors.new(code, words, { op = "docker", target = path:match("^[^?]*"), status = answer.status })
end

-- The error of who answers for the engine, that it cannot be asked now.
local function shut(socket, answer)
  local code = answer.status == 429 and "rate_limited" or "busy"
  return errors.fail(code, ("the docker engine at %s cannot be asked: HTTP %d: %s"):format(socket, answer.status,
    M.words(answer)), { op = "docker", target = socket, status = answer.status })
end

-- Asks the engine what it speaks.
local function ask(socket)
  local function get(path)
    return engine(socket):send { url = "http://docker" .. path, options = {}, timeout = LOOK }
  end
  local answer, err = get("/version")
  if not answer then return nil, err end
  local about = answer.status == 200 and json.decode(answer.body or "")
  local newest, oldest
  if type(about) == "table" then newest, oldest = about.ApiVersion, about.MinAPIVersion end
  if not number(newest) and not errors.passing(answer.status) then
    answer, err = get("/_ping")
    if not answer then return nil, err end
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

-- Where a call goes, by the version that it is to be made in.
function spoken(socket, call)
  local version, err = M.version(socket)
  if not version then return nil, err end
  local since, newest = call.since and number(call.since), versions[socket].newest
  if since and not below(newest, since) and below(number(version), since) then version = call.since end
  return { base = "http://docker/v" .. version }
end

-- An engine that was exchanged while we were running refuses the version before anything else.
function renewed(socket, answer, options, call)
  if answer.status ~= 400 then return nil end
  local known, now = versions[socket], ask(socket)
  if not now or known and now.version == known.version then return nil end
  versions[socket] = now
  local other = spoken(socket, call)
  return other and other.base ~= options.base and other or nil
end

---One call. Any status is an answer; of a refusal `M.failure` makes an error.
---@async
---@param socket string
---@param call DockerCall
---@return HttpAnswer? answer
---@return Err? err
---@return_overload nil, Err
function M.request(socket, call) return engine(socket):send(call) end

---Whether an engine answers.
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
