-- The host's two servers: the control API on a unix socket in its state folder, and a TCP port for health, metrics and
-- the API.
--
-- Access to the socket is operator access: it is in a folder of mode 0700 and has mode 0600 itself. On the TCP port
-- only health and metrics need no token; the token gives the right to order runs (api.lua).
local errors, serve = require "errors", require "serve"
local router = require "base.router"
local extensions = require "extensions"
local api, health = require "people.control.api", require "people.control.health"
local reply, wire = require "people.control.reply", require "people.control.wire"
local prompt = require "people.prompt"

local M = {}

---Where the control socket of a state folder is, unless the configuration says something else.
---@param state string
---@return string
function M.socket(state)
  return state .. "/control.sock"
end

---Where the control socket of a host is. Hosts that may share a state folder have one each, by their names.
---@param config {state: string, control?: string, leader?: LeaderConfig}
---@return string
function M.socket_path(config)
  if config.control then return config.control end
  if not config.leader then return M.socket(config.state) end
  local name = config.leader.identity or require("base.sys").hostname()
  return ("%s/control-%s.sock"):format(config.state, (name:gsub("[^%w.-]", "_"):sub(1, 63)))
end

-- ---- the control socket ----

local function elsewhere(engine) return reply.refuse(engine:elsewhere(), { ["Retry-After"] = "2" }) end

-- What a standby answers; everything else is for the host that acts.
local STANDBY <const> = { ["GET /v1/status"] = true, ["POST /v1/reload"] = true }

-- What is made of the extensions, made anew when they are others.
---@param make fun(): RouteTable
---@return fun(): RouteTable
local function by_extensions(make)
  local set ---@type Extensions?
  local made ---@type RouteTable
  return function()
    if set ~= extensions.current() then set, made = extensions.current(), make() end
    return made
  end
end

local function operator_routes()
  local own = {}
  for _, entry in ipairs(extensions.all "route") do
    if entry.socket then own[entry.name] = entry.handle end
  end
  return router.table(own)
end

---Makes the handler of the control socket; for tests, too.
---@param engine Engine
---@return fun(request: serve.Request): serve.Answer
function M.handler(engine)
  local sessions, routes = prompt.sessions(engine), by_extensions(operator_routes)
  return function(request)
    if engine.elsewhere and not STANDBY[request.method .. " " .. request.path] then return elsewhere(engine) end
    request.query = request.query or {}
    local handler, methods = routes():find(request)
    if handler then return reply.call("the control API", request, handler, engine, request, sessions) end
    if methods then return reply.wrong_method(methods) end
    return reply.refuse(errors.new("not_found",
      ("this host speaks version %d of the control API and knows no such path"):format(wire.VERSION)))
  end
end

-- ---- the TCP port ----

-- The routes of the TCP port, each with the gate that refuses a request without permission before its body is read.
local function public_routes()
  local routes = {}
  for _, entry in ipairs(extensions.all "route") do
    if not entry.socket then
      routes[entry.name] = { gate = entry.gate or not entry.open and api.gate or nil, handler = entry.handle }
    end
  end
  return router.table(routes)
end

---Makes the gate of the TCP port.
---@param engine Engine
---@return fun(request: serve.Request): serve.Answer?
function M.public_gate(engine)
  local routes = by_extensions(public_routes)
  return function(request)
    local route, methods = routes():find(request)
    if engine.elsewhere and not (route and not route.gate) then return elsewhere(engine) end
    if route then return route.gate and route.gate(engine, request) end
    if methods then return reply.wrong_method(methods) end
    if request.method ~= "GET" and request.method ~= "HEAD" then
      return reply.text(405, "only GET\n", { Allow = "GET, HEAD" })
    end
  end
end

---Makes the handler of the TCP port, for requests that the gate let in.
---@param engine Engine
---@return fun(request: serve.Request): serve.Answer
function M.public_handler(engine)
  local routes = by_extensions(public_routes)
  return function(request)
    request.query = request.query or {}
    local route = routes():find(request)
    if not route then return reply.text(404, health.HERE) end
    return reply.call("the API", request, route.handler, engine, request)
  end
end

---The names by which the TCP server is reached, beside addresses and localhost.
---@param config Config
---@return string[]
function M.hosts(config)
  local hosts = table.move(config.hosts or {}, 1, #(config.hosts or {}), 1, {})
  for _, name in ipairs(config.api and config.api.hosts or {}) do hosts[#hosts + 1] = name end
  return hosts
end

---@class Control
---@field port? integer of the TCP server
---@field private answering {handler: serve.Handler, gate: serve.Gate, public_handler: serve.Handler} Who answers now.
---@field private socket serve.Server
---@field private public? serve.Server
---@field private listens? string Where the TCP server is, and by which names.
local Control = {}
Control.__index = Control

-- Identifies a TCP server.
local function place_of(config)
  local listen = config.listen
  return listen and ("%s:%d %s"):format(listen.address, listen.port, table.concat(M.hosts(config), " ")) or nil
end

local function open_public(self, config)
  local public, err = serve.listen {
    address = config.listen.address, port = config.listen.port,
    gate = function(request) return self.answering.gate(request) end,
    handler = function(request) return self.answering.public_handler(request) end,
    max_body = 65536, connections = 256, per_address = 64, timeout = 10, hosts = M.hosts(config),
  }
  if not public then
    return errors.fail(err.code, ("%s:%d: %s"):format(config.listen.address, config.listen.port, err.code == "busy"
      and "another program listens there: end it, or change `listen`" or err.message), { op = "listen", cause = err })
  end
  self.public, self.port, self.listens = public, public.port, place_of(config)
  return true
end

---Makes `engine` the one that answers; the servers stay open.
---@param engine Engine|Standby
function Control:switch(engine)
  ---@cast engine Engine
  self.answering = {
    handler = M.handler(engine), gate = M.public_gate(engine), public_handler = M.public_handler(engine),
  }
end

-- What is read once, when the host starts.
local AT_START <const> = { "control", "control_group", "leader" }

---Moves the TCP server to where a new configuration wants it, and tells what of the configuration has to wait. When it
---cannot listen there, there is none: nobody configured the old address.
---@async
---@param before Config
---@param config Config
---@return string[] words What was done, and what was not, for people.
function Control:follow(before, config)
  local words, same = {}, require("engine.differences").same
  for _, key in ipairs(AT_START) do
    if not same(before[key], config[key]) then
      words[#words + 1] = ("`%s` changed: NOT done, it takes effect when the host starts again"):format(key)
    end
  end
  if place_of(config) == self.listens then return words end
  if self.public then self.public:close() end
  self.public, self.port, self.listens = nil, nil, nil
  if not config.listen then
    words[#words + 1] = "listens on no address any more"
    return words
  end
  local ok, err = open_public(self, config)
  words[#words + 1] = ok and ("listens on %s:%d"):format(config.listen.address, self.port)
    or ("`listen` changed: NOT done, health and metrics are nowhere: %s"):format(tostring(err))
  return words
end

---Closes both servers.
---@async
function Control:close()
  if self.public then self.public:close() end
  self.socket:close()
end

---Opens both servers.
---@async
---@param engine Engine|Standby
---@param config Config
---@return Control?
---@return Err? err "busy": another host runs on this state
---@return_overload nil, Err
function M.open(engine, config)
  local self = setmetatable({}, Control)
  self:switch(engine)
  local err
  self.socket, err = serve.listen {
    unix = M.socket_path(config), group = config.control_group, max_body = 1 << 20, connections = 64,
    handler = function(request) return self.answering.handler(request) end,
  }
  if not self.socket then return nil, err end
  if config.listen then
    local ok
    ok, err = open_public(self, config)
    if not ok then
      self.socket:close()
      return nil, err
    end
  end
  return self
end

return M
