-- The Docker Engine's API as far as a target needs it: containers, pulls, logs. Errors carry the engine's own words.
local api, errors, json, text = require "containers.api", require "errors", require "json", require "base.text"
local escape, network, targets = require("http").escape, require "base.network", require "targets"
local reference = require "images.reference"

local M = {}

---@class DockerEngine
---@field socket string
local Engine = {}
Engine.__index = Engine

---@param socket string
---@return DockerEngine
function M.open(socket) return setmetatable({ socket = socket }, Engine) end

---One call whose answer is taken as it is, whatever its status.
---@async
---@param call DockerCall
---@return HttpAnswer? answer
---@return Err? err
function Engine:send(call) return api.request(self.socket, call) end

---The version of the API that is spoken with it.
---@async
---@return string? version "1.41"
---@return Err? err
function Engine:version() return api.version(self.socket) end

---Whether it answers.
---@async
---@return boolean
---@return Err? err
function Engine:answers() return api.answers(self.socket) end

---One call. Statuses below 400 are answers, the others errors.
---@async
---@param method string
---@param path string
---@param body? table Sent as JSON.
---@param options? {headers?: table, timeout?: number, stream?: boolean, max_body?: integer}
---@return HttpAnswer? answer
---@return Err? err
function Engine:call(method, path, body, options)
  options = options or {}
  local answer, err = self:send {
    method = method, path = path, body = body, headers = options.headers, timeout = options.timeout,
    stream = options.stream, max_body = options.max_body,
  }
  if not answer then return nil, err end
  if answer.status < 400 then return answer end
  return nil, api.failure(answer, path)
end

---The containers that carry labels, running or not.
---@async
---@param labels table<string, string>
---@return table[]? containers
---@return Err? err
function Engine:list(labels)
  local wanted = {}
  for k, v in pairs(labels) do wanted[#wanted + 1] = k .. "=" .. v end
  table.sort(wanted)
  local answer, err = self:call("GET", "/containers/json?all=1&filters=" .. escape(json.encode { label = wanted }))
  if not answer then return nil, err end
  return answer:json()
end

---@async
---@param id string A container.
---@return table? container nil with not_found when it is gone.
---@return Err? err
function Engine:inspect(id)
  local answer, err = self:call("GET", ("/containers/%s/json"):format(id))
  if not answer then return nil, err end
  return answer:json()
end

---Pulls by digest, unless the image is there. The engine checks the digest itself.
---@async
---@param image string "repository@sha256:..."
---@param auth string X-Registry-Auth
---@param hooks? table
---@return true? ok
---@return Err? err
function Engine:pull(image, auth, hooks)
  local there, err = self:call("GET", ("/images/%s/json"):format(image))
  if there then return true end
  if not errors.is(err, "not_found") then return nil, err end
  local repository, _, digest = reference.parts(image) ---@cast digest string
  ---@cast repository string
  local path = ("/images/create?fromImage=%s&tag=%s"):format(escape(repository), escape(digest))
  local answer <close>, problem = self:call("POST", path, nil,
    { headers = { ["X-Registry-Auth"] = auth }, stream = true, timeout = 1800 })
  if not answer then return nil, problem end
  for line in answer:lines() do
    local event = json.decode(line)
    if type(event) == "table" then
      if event.error then
        return errors.fail(network.code(tostring(event.error)) or "failed", text.clean(tostring(event.error), 500),
          { op = "docker.pull", target = image })
      end
      if hooks and event.id and event.status then
        hooks.progress(("pulling %s: %s"):format(tostring(event.id), tostring(event.status)))
      end
    end
  end
  there, err = self:call("GET", ("/images/%s/json"):format(image))
  return there and true, err
end

---The last lines of a container's output, clean and without secrets.
---@async
---@param id string
---@param count integer
---@return string
function Engine:tail(id, count)
  local answer = self:call("GET", ("/containers/%s/logs?stdout=1&stderr=1&tail=%d"):format(id, count))
  if not answer then return "" end
  local body, at = answer.body or "", 1
  if body:match("^[\0\1\2]\0\0\0") then -- frames of 8 header bytes; a container with a terminal has none
    local parts = {}
    while at + 8 <= #body + 1 do
      local len = (">I4"):unpack(body, at + 4)
      parts[#parts + 1] = body:sub(at + 8, at + 7 + len)
      at = at + 8 + len
    end
    body = table.concat(parts)
  end
  return targets.last_words(body, count)
end

return M
