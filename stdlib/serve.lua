---HTTP servers on TCP (loopback by default) or on a unix socket that only its owner can reach.
---
---     local serve = require "serve"
---     local server <close> = assert(serve.listen {
---       port = 8420,
---       handler = serve.router {
---         ["GET /healthz"] = function() return { status = 200, body = "ok\n" } end,
---         ["POST /v1/apps/:app/rollback"] = function(request)
---           return { status = 202, body = { app = request.params.app } } -- a table is sent as JSON
---         end,
---       },
---     })
---
---Each request is handled by a task of its own, which is cancelled when its client goes. A handler that
---raises answers 500 with an id; the reason is in the log under that id, and never in the answer. The server
---ends with the task that called listen.
---
---What does not come this far: requests whose length is given twice or in two ways, malformed heads and
---targets (400), bodies over the limit (413), clients that take too long for a head or a body, requests for a
---host of a foreign name (421), and writing requests that a page of another origin sent (403).
local core = require "core.serve"
local errors = require "errors"
local facade = require "base.facade"
local log = require "log"
local router = require "base.router"
local sys = require "base.sys"
local target = require "base.request_target"
local task = require "task"
local time = require "time"

local M = {}

---@class serve.Request
---@field method string "GET", upper case
---@field path string As it was sent, without the query; well-formed, without dot segments
---@field query table<string, string> Decoded; the first of several values
---@field target string Path and query as they were sent
---@field headers table<string, string> By name in any case; several values are joined by ", "
---@field body string
---@field params table<string, string> What the route's :names matched, decoded
---@field peer {uid?: integer, pid?: integer, address?: string} uid and pid on a unix socket, address on TCP
---@field user? string Who it says that it is, once a gate knows.

---@class serve.Answer
---@field status? integer 200
---@field headers? table<string, string|string[]>
---@field body? string|table|fun(write: fun(text: string): true?, Err?) A table is sent as JSON. A function
--- streams: `write` waits while the client is slow; when the client is gone the task is cancelled

---@alias serve.Handler fun(request: serve.Request): serve.Answer
---@alias serve.Gate fun(request: serve.Request): serve.Answer?

---@class serve.Options
---@field handler serve.Handler
---@field gate? serve.Gate Asked first, with the head alone: an answer ends the request
--- before its body is read
---@field address? string An IP address ("127.0.0.1"); beyond loopback the handler must ask who it is
---@field port? integer 0: a free one
---@field unix? string Path of the socket; its directory is made, or must be ours with mode 0700
---@field group? string Name or number of a group that may connect to the socket, too; then the directory may be 0750
---@field hosts? string[] Names that a TCP server goes by, besides localhost and any IP address
---@field max_body? integer Bytes (1 MiB)
---@field connections? integer How many at once (64); for further ones the oldest idle ones are closed
---@field per_address? integer How many at once from one IP address (32); likewise
---@field timeout? number Seconds without progress, and for a whole head (10); three times that for a body

local Headers = {
  __index = function(self, name)
    return type(name) == "string" and rawget(self, name:lower()) or nil
  end,
}

local function headers_of(list)
  local headers = {}
  for i = 1, #list, 2 do
    local name, value = list[i]:lower(), list[i + 1]
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return setmetatable(headers, Headers)
end

local function plain(status, text)
  return { status = status, headers = {}, body = text .. "\n" }
end

---Makes an answer with a JSON body.
---@param status integer
---@param value any
---@param headers? table<string, string>
---@return serve.Answer
function M.json(status, value, headers)
  local all = { ["Content-Type"] = "application/json" }
  for name, text in pairs(headers or {}) do all[name] = text end
  return { status = status, headers = all, body = assert(require("json").encode(value)) .. "\n" }
end

-- ---- one request ----

-- Why a request is refused before its handler sees it, or nil.
local function refusal(request, options)
  if options.unix then return nil end
  if not target.host_allowed(request.headers.host, options.hosts) then
    return plain(421, "this host does not go by that name")
  end
  if request.method ~= "GET" and request.method ~= "HEAD" and not target.same_origin(request.headers) then
    return plain(403, "a page of another origin may not do this")
  end
end

local function read(raw, options)
  local method, sent, list, peer = raw:read()
  local path, query = target.parse(sent)
  if not path then
    return { method = method, path = "(malformed)" }, plain(400, "refused: a malformed target")
  end
  local request = {
    method = method, target = sent, path = path, query = query, headers = headers_of(list), body = "", peer = peer,
    params = {},
  }
  return request, refusal(request, options)
end

-- The gate's answer, or the handler's; false when the body did not come.
local function answer_of(raw, request, options)
  local answer = options.gate and options.gate(request)
  if answer then return answer end
  local body = raw:receive()
  if not body then return false end
  request.body = body
  return options.handler(request)
end

local function field_list(answer, default_type)
  local fields, seen = {}, {}
  for name, value in pairs(answer.headers or {}) do
    seen[name:lower()] = true
    for _, text in ipairs(type(value) == "table" and value or { value }) do
      fields[#fields + 1], fields[#fields + 2] = name, tostring(text)
    end
  end
  local function add(name, value)
    if not seen[name:lower()] then fields[#fields + 1], fields[#fields + 2] = name, value end
  end
  if answer.body ~= nil and answer.body ~= "" then add("Content-Type", default_type) end
  add("Cache-Control", "no-store")
  add("X-Content-Type-Options", "nosniff")
  return fields
end

local TEXT = "text/plain; charset=utf-8"

local function stream(raw, request, answer)
  local ok, err = raw:stream(answer.status or 200, field_list(answer, TEXT))
  if not ok then return nil, err end
  if request.method ~= "HEAD" then answer.body(function(text) return raw:write(text) end) end
  raw:finish(true)
  return true
end

local function send(raw, request, answer)
  if type(answer) ~= "table" then error("a handler returns {status =, headers =, body =}", 0) end
  local body = answer.body
  if type(body) == "function" then return stream(raw, request, answer) end
  if type(body) == "table" then
    answer = M.json(answer.status or 200, body, answer.headers)
    body = answer.body
  end
  return raw:reply(answer.status or 200, field_list(answer, TEXT), body or "")
end

-- Logs what happened and answers with a number to find it by, unless the answer has begun.
local function fail(raw, request, raised)
  if errors.is(raised, "cancelled") then error(raised, 0) end
  local id = ("%08x"):format(math.random(0, 0xffffffff))
  log.error("a request failed", { id = id, method = request.method, path = request.path, error = raised })
  -- When a stream fails half-way, the reply raises, and the connection is cut with the request's end.
  local body = '{"error":{"code":"internal","message":"the log has the reason under this id","id":"%s"}}'
  pcall(raw.reply, raw, 500, field_list({ body = body }, "application/json"), body:format(id) .. "\n")
end

local function with_trace(raised)
  if errors.is(raised) then return raised end
  return errors.new("internal", tostring(raised), { traceback = require("base.sys").traceback() })
end

local function handle(raw, options)
  local _ <close> = raw
  local started = time.monotonic()
  raw:bind()
  local request, answer = read(raw, options)
  local ok, err = xpcall(function()
    if not answer then answer = answer_of(raw, request, options) end
    return answer ~= false and send(raw, request, answer)
  end, with_trace)
  if not ok then return fail(raw, request, err) end
  if not answer then return end
  log.debug("a request", {
    method = request.method, path = request.path, status = answer.status or 200,
    seconds = time.monotonic() - started, address = request.peer and request.peer.address,
  })
end

-- ---- the server ----

---@class serve.Server
---@field port? integer The TCP port
---@field path? string The unix socket
---@field private raw core.serve.Server
local Server = {}

---Stops listening, waits until running requests are answered, and ends those that are not within the limit.
---Closing twice is harmless.
---@async
---@param limit? number Seconds (5); 0 ends everything at once
function Server:close(limit)
  self.raw:close(limit or 5)
end

-- A scope may end where waiting is impossible.
local server_face = facade.kind("serve.server", { "port", "path" }, Server, {
  close = function(self) self.raw:stop() end,
})

local function take(raw, options)
  local request = raw:accept()
  if not request then return false end
  local started, err = pcall(task.start, { name = "request" }, handle, request, options)
  if not started then
    request:close()
    error(err, 0)
  end
  return true
end

-- The requests' tasks are its children: they end when it does, and it ends when the server is closed. A lack of
-- memory is no reason to end: it passes, and requests wait in their queue for so long.
local function accept(raw, options)
  local _ <close> = raw
  while true do
    local fine, more = pcall(take, raw, options)
    if fine and not more then return end
    if not fine then
      if errors.is(more, "cancelled") then error(more, 0) end
      pcall(time.sleep, 0.05)
    end
  end
end

local function is_loopback(address)
  return address:match("^127%.") ~= nil or address == "::1"
end

---Starts a server.
---@param options serve.Options
---@return serve.Server? server A closable handle
---@return Err? err "busy": the port or the socket is in use; "denied": the socket's place is not safe
---@return_overload nil, Err
function M.listen(options)
  options = sys.plain(options)
  if type(options) ~= "table" or type(options.handler) ~= "function"
    or not (options.unix or options.port) then
    error("usage: serve.listen{port=|unix=, handler=, ...}", 2)
  end
  local rest = {}
  for name, value in pairs(options) do
    if name ~= "handler" and name ~= "gate" and name ~= "hosts" then rest[name] = value end
  end
  local hosts = {}
  for _, name in ipairs(options.hosts or {}) do hosts[name:lower()] = true end
  local raw, err = core.listen(rest)
  if not raw then return nil, err end
  if not options.unix and not is_loopback(options.address or "127.0.0.1") then
    log.warn("listening beyond this machine", { address = options.address, port = raw:port() })
  end
  local server = server_face { raw = raw, port = raw:port(), path = options.unix }
  local ours = { handler = options.handler, gate = options.gate, unix = options.unix, hosts = hosts }
  local started, problem = pcall(task.start, { name = "serve" }, accept, raw, ours)
  if not started then
    raw:stop()
    error(problem, 0)
  end
  return server
end

---Makes a handler of routes. A part of a path that begins with a colon matches one part of any text and ends
---up in `request.params`. A path without a route is answered 404, another method 405; HEAD goes to GET's
---handler.
---@param routes table<string, serve.Handler> { ["GET /v1/apps/:app"] = function(request) ... end }
---@return serve.Handler
---@nodiscard
function M.router(routes)
  return router.make(routes)
end

return M
