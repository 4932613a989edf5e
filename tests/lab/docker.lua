-- The docker engine of this test process: own data, own socket, host networking only, gone with the process.
--
-- An engine that already runs on the machine is left alone: tests must neither fill it nor depend on its settings.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local cage = require "lab.cage"
local fs, http, json = require "fs", require "http", require "json"

local M = {}

---@class LabDocker
---@field socket string path
---@field host string for DOCKER_HOST
---@field env table<string, string> for a docker client
local Docker = {}
Docker.__index = Docker

local opened

---Why there can be no engine here, nil when there can.
---@return string?
function M.unavailable()
  if not base.exists("dockerd") then return "dockerd is not installed" end
  return cage.unavailable()
end

---The engine, started at the first call. Raises when there can be none.
---@async
---@return LabDocker
function M.open()
  if opened then return opened end
  local why = M.unavailable()
  if why then error(why, 2) end
  local c = cage.open()
  local dir = c.dir
  local self = setmetatable({ cage = c, socket = dir .. "/docker.sock", api = "v1.41" }, Docker)
  self.host = "unix://" .. self.socket
  self.env = base.env { DOCKER_HOST = self.host, DOCKER_CONFIG = dir .. "/docker-client", HOME = dir }
  base.write(dir .. "/daemon.json", "{}\n")
  self:start()
  base.on_close(function()
    opened = nil
    self.service.handle:kill("KILL") -- its graceful end waits ten seconds for each container
    self.service:stop()
  end)
  opened = self
  return self
end

---Starts the engine, with whatever it had before.
---@async
function Docker:start()
  local c = self.cage
  local dir = c.dir
  self.service = base.start {
    name = "dockerd", dir = dir,
    argv = cage.enter(c, {
      "dockerd", "--config-file", dir .. "/daemon.json", "--storage-driver=overlay2", "--iptables=false",
      "--ip6tables=false", "--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs",
      "--cgroup-parent=/" .. c.cgroup, "--data-root", dir .. "/data", "--exec-root", dir .. "/exec",
      "-p", dir .. "/docker.pid", "-H", self.host,
    }),
    ready = function() return self:call("GET", "/_ping") end,
    within = 30,
  }
end

---Stops it as an operator does: its containers end first.
---@async
function Docker:stop()
  -- To the engine alone: whoever ends the program that entered the cage ends all that it started, at once.
  local pid = assert(fs.read(self.cage.dir .. "/docker.pid")):match("%d+")
  base.run(cage.enter(self.cage, { "kill", "-TERM", pid }))
  base.eventually("dockerd ends", 60, function() return self.service.ended end)
end

---One call of the Engine API.
---@async
---@param method string
---@param path string "/images/json"
---@param options? table More of http.request's options; `json` becomes the body.
---@return any? decoded The body, decoded when it is JSON; nil when the status is not 2xx.
---@return any err
function Docker:call(method, path, options)
  local request = { method = method, url = "http://docker/" .. self.api .. path, unix = self.socket, timeout = 120 }
  for k, v in pairs(options or {}) do request[k] = v end
  if request.json ~= nil then
    request.body, request.headers = json.encode(request.json), { ["Content-Type"] = "application/json" }
    request.json = nil
  end
  local response, err = http.request(request)
  if not response then return nil, err end
  if response.status >= 300 then return nil, ("%d: %s"):format(response.status, response.body) end
  if (response.headers["content-type"] or ""):find("json", 1, true) and #response.body > 0 then
    local value = json.decode(response.body)
    if value ~= nil then return value end
  end
  return response.body
end

---Names of the containers, running or not; `label` filters ("app=web").
---@async
---@param label? string
---@return {name: string, state: string, image: string, id: string}[]
function Docker:containers(label)
  local path = "/containers/json?all=1"
  if label then path = path .. "&filters=%7B%22label%22%3A%5B%22" .. label:gsub("=", "%%3D") .. "%22%5D%7D" end
  local list = {}
  for _, c in ipairs(assert(self:call("GET", path))) do
    list[#list + 1] = { name = c.Names[1]:sub(2), state = c.State, image = c.Image, id = c.Id }
  end
  return list
end

---Removes all containers, so that the next test starts with none.
---@async
function Docker:clear()
  for _, c in ipairs(self:containers()) do self:call("DELETE", "/containers/" .. c.id .. "?force=1") end
end

return M
