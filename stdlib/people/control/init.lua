-- The host's two doors: the control API on a unix socket in its state, and health and metrics on a TCP port.
--
-- Whoever may open the socket is the operator: it lies in a folder of mode 0700 and has mode 0600 itself.
-- The TCP door tells nothing that matters to a stranger; who has the API's token may order (people/control/door.lua).

local approvals = require "people.control.approvals"
local door = require "people.control.door"
local errors = require "errors"
local handover = require "images.builder.handover"
local json = require "json"
local log = require "log"
local metrics = require "people.control.metrics"
local repl = require "people.prompt"
local serve = require "serve"
local time = require "time"
local wire = require "people.control.wire"

local M = {}

--- Where the control socket of a state folder is, unless the configuration says something else.
---@param state string
---@return string
function M.socket(state)
  return state .. "/control.sock"
end

--- Where the control socket of a host is. Hosts that may share a state folder have one each, by their names.
---@param config {state: string, control?: string, leader?: LeaderConfig}
---@return string
function M.door(config)
  if config.control then return config.control end
  if not config.leader then return M.socket(config.state) end
  local name = config.leader.identity or require("base.sys").hostname()
  return ("%s/control-%s.sock"):format(config.state, (name:gsub("[^%w.-]", "_"):sub(1, 63)))
end

local function answer(status, value, type)
  return {
    status = status,
    headers = { ["Content-Type"] = type or "application/json", ["Moontide-Api"] = tostring(wire.VERSION) },
    body = wire.encode(value) .. "\n",
  }
end

local function refuse(err)
  return answer(wire.status(err), wire.failure(err))
end

local function result(value, err)
  if value == nil then return refuse(err or errors.new("internal", "the engine gave no answer")) end
  return answer(200, value)
end

-- The object in a POST's body.
local function body_of(request)
  if not request.body or request.body == "" then return {} end
  local value, err = json.decode(request.body)
  if type(value) ~= "table" or value == json.null then
    return nil, errors.new("invalid", err and err.message or "the body must be a JSON object")
  end
  return value
end

local function text_of(body, key)
  local value = body[key]
  if type(value) == "string" and value ~= "" and #value <= 1000 then return value end
  return nil
end

local function whole(text, fallback, low, high)
  if text == nil then return fallback end
  local n = #text <= 15 and text:find("^%d+$") and math.tointeger(tonumber(text)) or nil
  return n and n >= low and n <= high and n or nil
end

local function invalid(message)
  return refuse(errors.new("invalid", message))
end

-- ---- reading ----

local function status(engine)
  return result(engine:status())
end

local function history(engine, request)
  local limit = whole(request.query.limit, 20, 1, 1000)
  if not limit then return invalid("limit must be between 1 and 1000") end
  return result(engine:history { app = request.query.app, environment = request.query.environment, limit = limit })
end

local function why(engine, request)
  if not request.query.app then return invalid("app is missing") end
  return result(engine:why(request.query.app, request.query.policy))
end

local PAUSE, HEARTBEAT = 0.25, 10 -- seconds between two looks at a log, and between two signs of life
local SLICE = 50 -- entries of one line of a followed log: a reader takes lines of a bounded length

local function write_slices(write, piece, before)
  local count = #piece.entries
  for first = 1, math.max(1, count), SLICE do
    local last = math.min(count, first + SLICE - 1)
    local complete = last >= count
    write(wire.encode({
      run = piece.run, entries = table.move(piece.entries, first, last, 1, {}),
      next = complete and piece.next or before, done = complete and piece.done,
    }) .. "\n")
  end
end

local function run_log(engine, request, id)
  local run = whole(id, nil, 1, math.maxinteger)
  local offset = whole(request.query.offset, 0, 0, math.maxinteger)
  if not run or not offset then return invalid("a run is a number, and so is an offset") end
  local piece, err = engine:run_log(run, offset)
  if not piece then return refuse(err) end
  if request.query.follow ~= "1" then return answer(200, piece) end
  local stream = answer(200, {}, "application/x-ndjson") ---@type serve.Answer
  stream.body = function(write)
    local silent, before = 0, offset ---@type number, integer
    while true do
      if #piece.entries > 0 or piece.done then
        write_slices(write, piece, before)
        silent = 0
      end
      if piece.done then return end
      if #piece.entries == 0 then
        time.sleep(PAUSE)
        silent = silent + PAUSE
        -- An empty line now and then: a reader that went away is noticed, and nobody in between gives up.
        if silent >= HEARTBEAT then
          write("\n")
          silent = 0
        end
      end
      local follow, wrong = engine:run_log(run, piece.next)
      if not follow then
        write(wire.encode(wire.failure(wrong)) .. "\n")
        return
      end
      before, piece = piece.next, follow
    end
  end
  return stream
end

-- ---- acting ----

local ACTS = {
  rollback = function(engine, act) return engine:rollback(act) end,
  release = function(engine, act)
    if not act.environment or not act.what then
      return errors.fail("invalid", "a release needs an environment, and a version or commit")
    end
    return engine:release(act)
  end,
  retry = function(engine, act) return engine:retry(act) end,
  apply = function(engine, act) return engine:apply(act) end,
  destroy = function(engine, act) return engine:destroy(act) end,
  hold = function(engine, act) return engine:hold(act) end,
  unhold = function(engine, act) return engine:unhold(act) end,
  approve = function(engine, act) return engine:approve(act) end,
  reject = function(engine, act) return engine:reject(act) end,
}

local function app_act(engine, request, app, verb)
  local act = ACTS[verb]
  if not act then return refuse(errors.new("not_found", "there is no such act")) end
  local body, err = body_of(request)
  if not body then return refuse(err) end
  local order = {
    app = wire.unescape(app),
    environment = text_of(body, "environment"),
    what = text_of(body, "what"),
    versions = type(body.versions) == "table" and body.versions ~= json.null and body.versions or nil,
    reason = text_of(body, "reason"),
    by = text_of(body, "by") or "somebody on the control socket",
  }
  log.info("an operator's order", {
    act = verb, app = order.app, environment = order.environment, what = order.what, by = order.by,
    reason = order.reason, uid = request.peer and request.peer.uid,
  })
  local done, wrong = act(engine, order)
  if not done then return refuse(wrong) end
  -- Lists travel inside an object, so that the answer can grow.
  if verb == "hold" or verb == "unhold" then done = { environments = done } end
  return answer(200, done)
end

local function cancel(engine, request, id)
  local run = whole(id, nil, 1, math.maxinteger)
  if not run then return invalid("a run is a number") end
  local body, err = body_of(request)
  if not body then return refuse(err) end
  local order = {
    run = run, reason = text_of(body, "reason"), by = text_of(body, "by") or "somebody on the control socket",
  }
  log.info("an operator's order", {
    act = "cancel", run = run, by = order.by, reason = order.reason, uid = request.peer and request.peer.uid,
  })
  return result(engine:cancel(order))
end

local function poll(engine, request)
  local body, err = body_of(request)
  if not body then return refuse(err) end
  return result(engine:poll(text_of(body, "app")))
end

local function reload(engine, request)
  log.info("an operator's order", { act = "reload", uid = request.peer and request.peer.uid })
  return result(engine:reload())
end

-- ---- the routes ----

local ROUTES = {
  { "GET", "^/v1/status$", status },
  { "GET", "^/v1/history$", history },
  { "GET", "^/v1/why$", why },
  { "GET", "^/v1/runs/([^/]+)/log$", run_log },
  { "POST", "^/v1/runs/([^/]+)/cancel$", cancel },
  { "POST", "^/v1/apps/([^/]+)/([^/]+)$", app_act },
  { "POST", "^/v1/poll$", poll },
  { "POST", "^/v1/reload$", reload },
}

-- What a standby answers; everything else is for the host that acts.
local STANDBY <const> = { ["GET /v1/status"] = true, ["POST /v1/reload"] = true }

local function elsewhere(engine)
  local refusal = refuse(engine:elsewhere())
  refusal.headers["Retry-After"] = "2"
  return refusal
end

local function route(routes, engine, request)
  if engine.elsewhere and not STANDBY[request.method .. " " .. request.path] then return elsewhere(engine) end
  local allowed
  for _, entry in ipairs(routes) do
    local a, b = request.path:match(entry[2])
    if a then
      if entry[1] == request.method then return entry[3](engine, request, a, b) end
      allowed = entry[1]
    end
  end
  if allowed then
    local refusal = refuse(errors.new("unsupported", "use " .. allowed))
    refusal.status = 405
    refusal.headers.Allow = allowed
    return refusal
  end
  return refuse(errors.new("not_found", ("this host speaks version %d of the control API and knows no such path")
    :format(wire.VERSION)))
end

-- An answer of lines of JSON, written by a function.
local function streaming(write_all, err)
  if not write_all then return refuse(err) end
  local reply = answer(200, {})
  reply.headers["Content-Type"] = "application/x-ndjson"
  reply.body = write_all
  return reply
end

--- Makes the handler of the control socket; for tests, too.
---@param engine Engine
---@return fun(request: table): table
function M.handler(engine)
  local sessions = repl.sessions(engine)
  local routes = table.move(ROUTES, 1, #ROUTES, 1, {})
  routes[#routes + 1] = { "POST", "^/v1/repl$", function(_, request)
    local body, err = body_of(request)
    if not body then return refuse(err) end
    return streaming(sessions:request(body))
  end }
  routes[#routes + 1] = { "POST", "^/v1/repl/session$", function() return streaming(sessions:attach()) end }
  return function(request)
    request.query = request.query or {}
    local ok, reply = xpcall(route, function(raised)
      return errors.wrap(raised)
    end, routes, engine, request)
    if ok then return reply end
    if errors.is(reply, "cancelled") or errors.is(reply, "deadline") then error(reply, 0) end
    log.error("the control API failed", { path = request.path, error = tostring(reply) })
    return refuse(reply)
  end
end

-- ---- health and metrics ----

local function plain(status_code, text, content_type)
  return {
    status = status_code,
    headers = { ["Content-Type"] = content_type or "text/plain; charset=utf-8", ["Cache-Control"] = "no-store" },
    body = text,
  }
end

-- Alive: no reason to end it. Ready: it does what it is there for, standing by included; a rollout that waits for this
-- goes on. Active: it is the one that acts, for a load balancer in front of several.
local HEALTH <const> = {
  ["/healthz"] = function(health) return health.live end,
  ["/readyz"] = function(health) return health.live and health.ready end,
  ["/activez"] = function(health) return health.live and health.ready and not health.standby end,
}

--- Makes the gate of the TCP door: whoever may not come in is told so before a body of theirs is read.
---@param engine Engine
---@return fun(request: serve.Request): serve.Answer?
function M.public_gate(engine)
  return function(request)
    if engine.elsewhere and request.path ~= "/metrics" and not HEALTH[request.path] then return elsewhere(engine) end
    if request.path == "/v1/approvals" then return approvals.gate(engine, request) end
    if door.owns(request) then return door.gate(engine, request) end
    if request.method ~= "GET" and request.method ~= "HEAD" then
      local refusal = plain(405, "only GET\n")
      refusal.headers.Allow = "GET, HEAD"
      return refusal
    end
  end
end

--- Makes the handler of the TCP door, for requests that the gate let in.
---@param engine Engine
---@return fun(request: serve.Request): serve.Answer
function M.public_handler(engine)
  return function(request)
    if request.path == "/v1/approvals" then return approvals.handle(engine, request) end
    if door.owns(request) then return door.answer(engine, request) end
    if request.path == "/metrics" then return plain(200, metrics.text(engine:metrics()), metrics.CONTENT_TYPE) end
    local good = HEALTH[request.path]
    if good then
      local health = engine:health()
      local fine = good(health)
      return plain(fine and 200 or 503, (not fine and health.reason or health.standby or fine and "ok" or "not ready")
        .. "\n")
    end
    local context = handover.answer(request.path)
    if context then return context end
    return plain(404, "/healthz, /readyz, /activez and /metrics are here\n")
  end
end

---The names by which the TCP door is reached, beside addresses and localhost.
---@param config Config
---@return string[]
function M.hosts(config)
  local hosts = table.move(config.hosts or {}, 1, #(config.hosts or {}), 1, {})
  for _, name in ipairs(config.api and config.api.hosts or {}) do hosts[#hosts + 1] = name end
  return hosts
end

---@class Control
---@field port integer? of the TCP door
---@field private doors {handler: serve.Handler, gate: serve.Gate, public_handler: serve.Handler} Who answers now.
---@field private socket serve.Server
---@field private public serve.Server?
---@field private listens string? Where the TCP door is, and by which names.
local Control = {}
Control.__index = Control

-- What tells one TCP door from another.
local function place_of(config)
  local listen = config.listen
  return listen and ("%s:%d %s"):format(listen.address, listen.port, table.concat(M.hosts(config), " ")) or nil
end

local function open_public(self, config)
  local public, err = serve.listen {
    address = config.listen.address, port = config.listen.port,
    gate = function(request) return self.doors.gate(request) end,
    handler = function(request) return self.doors.public_handler(request) end,
    max_body = 65536, connections = 256, per_address = 64, timeout = 10, hosts = M.hosts(config),
  }
  if not public then
    return errors.fail(err.code, ("%s:%d: %s"):format(config.listen.address, config.listen.port, err.code == "busy"
      and "another program listens there: end it, or change `listen`" or err.message), { op = "listen", cause = err })
  end
  self.public, self.port, self.listens = public, public.port, place_of(config)
  return true
end

---From now on this one answers; the doors stay open.
---@param engine Engine|Standby
function Control:switch(engine)
  ---@cast engine Engine
  self.doors = { handler = M.handler(engine), gate = M.public_gate(engine), public_handler = M.public_handler(engine) }
end

-- What is read once, when the host starts.
local AT_START <const> = { "control", "control_group", "leader" }

---Brings the TCP door to where a new configuration wants it, and tells what of the configuration has to wait. When the
---door cannot be opened there, there is none: one at an old address is none that anybody asked for.
---@async
---@param before Config
---@param config Config
---@return string[] words What was done, and what was not, for people.
function Control:follow(before, config)
  local words, data = {}, require("engine.acts").comparable
  for _, key in ipairs(AT_START) do
    if json.encode { data(before[key]) } ~= json.encode { data(config[key]) } then
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

---Closes both doors.
---@async
function Control:close()
  if self.public then self.public:close() end
  self.socket:close()
end

--- Opens both doors.
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
    unix = M.door(config), group = config.control_group, max_body = 1 << 20, connections = 64,
    handler = function(request) return self.doors.handler(request) end,
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
