-- The door for scripts and pipelines, on the TCP port: POST /apply, /destroy, /retry and /jobs/RUN/cancel, GET /jobs
-- and /events.
--
-- Whoever has the token may ask for the runs that an operator may ask for, and see what became of them. Without a
-- token in the configuration the door is closed. Foreign host names and pages of other origins never come this far:
-- serve refuses them.
local errors, json, log, time = require "errors", require "json", require "log", require "time"
local token, wire = require "people.control.token", require "people.control.wire"

local M = {}

local HEARTBEAT <const> = 10 -- seconds between two signs of life of a stream
local LONGEST_WAIT <const> = 60

local function answer(status, value, headers)
  local all = {
    ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store", ["X-Content-Type-Options"] = "nosniff",
  }
  for name, text in pairs(headers or {}) do all[name] = text end
  return { status = status, headers = all, body = wire.encode(value) .. "\n" }
end

local function refuse(err, headers, status) return answer(status or wire.status(err), wire.failure(err), headers) end

local function invalid(message) return refuse(errors.new("invalid", message)) end

-- ---- who asks ----

local function allowed(engine, request)
  local ok, err = token.check(engine.config, request)
  if ok then return nil end
  return refuse(err, {
    ["WWW-Authenticate"] = err.code == "unauthorized" and 'Bearer realm="moontide"' or nil,
    ["Retry-After"] = err.retry_after and ("%d"):format(math.ceil(err.retry_after)) or nil,
  })
end

-- ---- what is asked ----

local function whole(text, fallback, low, high)
  if text == nil then return fallback end
  local n = #text <= 15 and text:find("^%d+$") and math.tointeger(tonumber(text)) or nil
  return n and n >= low and n <= high and n or nil
end

local function text_field(body, key)
  local value = body[key]
  if value == nil or value == json.null then return nil end
  if type(value) == "string" and value ~= "" and #value <= 1000 and not value:find("%c") then return value end
  error(errors.new("invalid", key .. " must be text"), 0)
end

local FIELDS <const> = { app = true, environment = true, versions = true, reason = true, by = true }
local CANCEL_FIELDS <const> = { reason = true, by = true }

local function body_of(request, fields, known)
  local body = json.decode(request.body ~= "" and request.body or "{}")
  if type(body) ~= "table" or body == json.null or json.is_array(body) then
    error(errors.new("invalid", "the body must be a JSON object"), 0)
  end
  for key in pairs(body) do
    if not fields[key] then
      error(errors.new("invalid", ("unknown field %q; known: %s"):format(tostring(key):sub(1, 60), known)), 0)
    end
  end
  return body
end

local function order_of(request)
  local body = body_of(request, FIELDS, "app, environment, versions, reason, by")
  local versions = body.versions
  if versions == json.null then versions = nil end
  if versions ~= nil and type(versions) ~= "table" then
    error(errors.new("invalid", "versions must be an object of texts"), 0)
  end
  local order = {
    app = text_field(body, "app"), environment = text_field(body, "environment"), versions = versions,
    reason = text_field(body, "reason"), by = text_field(body, "by") or "somebody with the API's token",
  }
  if not order.app then error(errors.new("invalid", "app is missing"), 0) end
  return order
end

local function ordering(verb)
  return function(engine, request)
    local order = order_of(request)
    log.info("an order by the API", {
      act = verb, app = order.app, environment = order.environment, by = order.by, reason = order.reason,
      address = (request.peer or {}).address,
    })
    local run, err = engine[verb](engine, order)
    if not run then return refuse(err) end
    return answer(202, { run = run.id, job = run }, { Location = "/jobs/" .. run.id })
  end
end

local function cancel(engine, request, id)
  local run = whole(id, nil, 1, math.maxinteger)
  if not run then return invalid("a job is a number") end
  local body = body_of(request, CANCEL_FIELDS, "reason, by")
  local order = {
    run = run, reason = text_field(body, "reason"), by = text_field(body, "by") or "somebody with the API's token",
  }
  log.info("an order by the API", {
    act = "cancel", run = run, by = order.by, reason = order.reason, address = (request.peer or {}).address,
  })
  local job, err = engine:cancel(order)
  if not job then return refuse(err) end
  return answer(202, { run = job.id, job = job }, { Location = "/jobs/" .. job.id })
end

local function jobs(engine, request)
  local limit = whole(request.query.limit, 20, 1, 1000)
  if not limit then return invalid("limit must be between 1 and 1000") end
  local history, err = engine:history {
    app = request.query.app, environment = request.query.environment, limit = limit,
  }
  if not history then return refuse(err) end
  local list = {}
  for _, run in ipairs(history.runs) do
    if not request.query.state or request.query.state == run.state then list[#list + 1] = run end
  end
  return answer(200, { jobs = list })
end

local function job(engine, request, id)
  local run, offset = whole(id, nil, 1, math.maxinteger), whole(request.query.offset, 0, 0, math.maxinteger)
  if not run or not offset then return invalid("a job is a number, and so is an offset") end
  local piece, err = engine:run_log(run, offset)
  if not piece then return refuse(err) end
  return answer(200, { job = piece.run, entries = piece.entries, next = piece.next, done = piece.done })
end

local function event_query(request)
  local query = request.query
  local asked = {
    since = whole(query.since, 0, 0, math.maxinteger), limit = whole(query.limit, 100, 1, 1000),
    run = whole(query.run, false, 1, math.maxinteger) or nil, app = query.app, environment = query.environment,
  }
  local wait = whole(query.wait, 0, 0, LONGEST_WAIT)
  if not asked.since or not asked.limit or not wait or (query.run and not asked.run) then
    error(errors.new("invalid", "since, limit, run and wait are numbers; limit at most 1000, wait at most 60"), 0)
  end
  return asked, wait
end

-- Events as they come, each a line; an empty line now and then, so that who went away is noticed.
local function stream(engine, asked)
  return function(write)
    local silent = time.monotonic()
    while true do
      local page = engine:events(asked)
      for _, event in ipairs(page.events) do write(wire.encode(event) .. "\n") end
      asked.since = page.next
      if #page.events > 0 then silent = time.monotonic() else engine:events_wait(1) end
      if time.monotonic() - silent >= HEARTBEAT then
        write("\n")
        silent = time.monotonic()
      end
    end
  end
end

local function events(engine, request)
  local asked, wait = event_query(request)
  if request.query.follow == "1" then
    local reply = answer(200, {}, { ["Content-Type"] = "application/x-ndjson" }) ---@type serve.Answer
    reply.body = stream(engine, asked)
    return reply
  end
  local last = time.monotonic() + wait
  while true do
    local page = engine:events(asked)
    local left = last - time.monotonic()
    if #page.events > 0 or left <= 0 then return answer(200, page) end
    engine:events_wait(math.min(left, 1))
  end
end

local ROUTES <const> = {
  { "POST", "^/apply$", ordering "apply" }, { "POST", "^/destroy$", ordering "destroy" },
  { "POST", "^/retry$", ordering "retry" }, { "POST", "^/jobs/([^/]+)/cancel$", cancel },
  { "GET", "^/jobs$", jobs }, { "GET", "^/jobs/([^/]+)$", job }, { "GET", "^/events$", events },
}

local function find(request)
  local method
  for _, route in ipairs(ROUTES) do
    local found = request.path:match(route[2])
    if found then
      method = route[1]
      if method == request.method or method == "GET" and request.method == "HEAD" then return route[3], found end
    end
  end
  return nil, nil, method
end

---Whether a path belongs to this door.
---@param request serve.Request
---@return boolean
function M.owns(request)
  local handler, _, method = find(request)
  return handler ~= nil or method ~= nil
end

---Refuses who may not come in; needs the head of a request only.
---@async
---@param engine Engine
---@param request serve.Request
---@return serve.Answer? refusal
function M.gate(engine, request)
  local handler, _, method = find(request)
  if not handler then return refuse(errors.new("unsupported", "use " .. method), { Allow = method }, 405) end
  return allowed(engine, request)
end

---Answers a request that the gate let in.
---@async
---@param engine Engine
---@param request serve.Request
---@return serve.Answer
function M.answer(engine, request)
  local handler, found = find(request)
  request.query = request.query or {}
  local ok, reply = xpcall(handler, errors.wrap, engine, request, found)
  if ok then return reply end
  if errors.is(reply, "cancelled") or errors.is(reply, "deadline") then error(reply, 0) end
  if errors.is(reply, "internal") then
    log.error("the API failed", { path = request.path, error = tostring(reply) })
    reply = errors.new("internal", "the API failed; the host's log says why")
  end
  return refuse(reply)
end

return M
