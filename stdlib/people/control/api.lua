-- The API for scripts and pipelines, on the TCP port: POST /apply, /destroy, /retry and /jobs/RUN/cancel, GET /jobs and
-- /events.
--
-- The token gives the right to order runs as an operator does, and to see their outcomes. Without a token in the
-- configuration there is no API. Requests to foreign host names and from pages of other origins are refused before, by
-- serve.
local errors, json, log, time = require "errors", require "json", require "log", require "time"
local reply, token = require "people.control.reply", require "people.control.token"
local wire = require "people.control.wire"

local M = {}

local HEARTBEAT <const> = 10 -- seconds between two signs of life of a stream
local LONGEST_WAIT <const> = 60

-- ---- what is asked ----

local function text_field(body, key)
  local value = body[key]
  if value == nil or value == json.null then return nil end
  if type(value) == "string" and value ~= "" and #value <= 1000 and not value:find("%c") then return value end
  error(errors.new("invalid", key .. " must be text"), 0)
end

local function order_of(request)
  local body = reply.body(request, { "app", "environment", "versions", "reason", "by" })
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
    if not run then return reply.refuse(err) end
    return reply.json(202, { run = run.id, job = run }, { Location = "/jobs/" .. run.id })
  end
end

local function cancel(engine, request)
  local run = reply.whole(request.params.run, nil, 1, math.maxinteger)
  if not run then return reply.invalid("a job is a number") end
  local body = reply.body(request, { "reason", "by" })
  local order = {
    run = run, reason = text_field(body, "reason"), by = text_field(body, "by") or "somebody with the API's token",
  }
  log.info("an order by the API", {
    act = "cancel", run = run, by = order.by, reason = order.reason, address = (request.peer or {}).address,
  })
  local job, err = engine:cancel(order)
  if not job then return reply.refuse(err) end
  return reply.json(202, { run = job.id, job = job }, { Location = "/jobs/" .. job.id })
end

local function jobs(engine, request)
  local limit = reply.whole(request.query.limit, 20, 1, 1000)
  if not limit then return reply.invalid("limit must be between 1 and 1000") end
  local history, err = engine:history {
    app = request.query.app, environment = request.query.environment, limit = limit,
  }
  if not history then return reply.refuse(err) end
  local list = {}
  for _, run in ipairs(history.runs) do
    if not request.query.state or request.query.state == run.state then list[#list + 1] = run end
  end
  return reply.json(200, { jobs = list })
end

local function job(engine, request)
  local run = reply.whole(request.params.run, nil, 1, math.maxinteger)
  local offset = reply.whole(request.query.offset, 0, 0, math.maxinteger)
  if not run or not offset then return reply.invalid("a job is a number, and so is an offset") end
  local piece, err = engine:run_log(run, offset)
  if not piece then return reply.refuse(err) end
  return reply.json(200, { job = piece.run, entries = piece.entries, next = piece.next, done = piece.done })
end

local function event_query(request)
  local query = request.query
  local asked = {
    since = reply.whole(query.since, 0, 0, math.maxinteger), limit = reply.whole(query.limit, 100, 1, 1000),
    run = reply.whole(query.run, false, 1, math.maxinteger) or nil, app = query.app, environment = query.environment,
  }
  local wait = reply.whole(query.wait, 0, 0, LONGEST_WAIT)
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
    return reply.lines(stream(engine, asked))
  end
  local last = time.monotonic() + wait
  while true do
    local page = engine:events(asked)
    local left = last - time.monotonic()
    if #page.events > 0 or left <= 0 then return reply.json(200, page) end
    engine:events_wait(math.min(left, 1))
  end
end

---Refuses who has not the token; needs the head of a request only.
---@async
---@param engine Engine
---@param request serve.Request
---@return serve.Answer? refusal
function M.gate(engine, request)
  local ok, err = token.check(engine.config, request)
  if ok then return nil end
  ---@cast err Err
  local headers = {
    ["WWW-Authenticate"] = err.code == "unauthorized" and 'Bearer realm="moontide"' or nil,
    ["Retry-After"] = err.retry_after and ("%d"):format(math.ceil(err.retry_after)) or nil,
  }
  return reply.refuse(err, headers --[[@as table<string, string>]])
end

M.routes = {
  ["POST /apply"] = ordering "apply", ["POST /destroy"] = ordering "destroy", ["POST /retry"] = ordering "retry",
  ["POST /jobs/:run/cancel"] = cancel, ["GET /jobs"] = jobs, ["GET /jobs/:run"] = job, ["GET /events"] = events,
}

return M
