-- The control socket's routes: everything that an operator may ask of the running host.
local errors, json, log, time = require "errors", require "json", require "log", require "time"
local reply, wire = require "people.control.reply", require "people.control.wire"

local M = {}

local SOMEBODY <const> = "somebody on the control socket"

local function text_of(body, key)
  local value = body[key]
  if type(value) == "string" and value ~= "" and #value <= 1000 then return value end
  return nil
end

-- ---- reading ----

local function status(engine)
  return reply.result(engine:status())
end

local function history(engine, request)
  local limit = reply.whole(request.query.limit, 20, 1, 1000)
  if not limit then return reply.invalid("limit must be between 1 and 1000") end
  local query = request.query
  return reply.result(engine:history { app = query.app, environment = query.environment, limit = limit })
end

local function why(engine, request)
  if not request.query.app then return reply.invalid("app is missing") end
  return reply.result(engine:why(request.query.app, request.query.policy))
end

local PAUSE, HEARTBEAT = 0.25, 10 -- seconds between two reads of a log, and between two heartbeats
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

local function run_log(engine, request)
  local run = reply.whole(request.params.run, nil, 1, math.maxinteger)
  local offset = reply.whole(request.query.offset, 0, 0, math.maxinteger)
  if not run or not offset then return reply.invalid("a run is a number, and so is an offset") end
  local piece, err = engine:run_log(run, offset)
  if not piece then return reply.refuse(err) end
  if request.query.follow ~= "1" then return reply.json(200, piece) end
  return reply.lines(function(write)
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
        -- An empty line now and then: a reader that went away is noticed, and proxies do not time out.
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
  end)
end

-- ---- acting ----

-- An order about an app; the answer is what `act` of the engine returns.
local function ordering(verb, act)
  return function(engine, request)
    local body = reply.body(request)
    local order = {
      app = request.params.app, environment = text_of(body, "environment"), what = text_of(body, "what"),
      versions = type(body.versions) == "table" and body.versions ~= json.null and body.versions or nil,
      reason = text_of(body, "reason"), by = text_of(body, "by") or SOMEBODY,
    }
    log.info("an operator's order", {
      act = verb, app = order.app, environment = order.environment, what = order.what, by = order.by,
      reason = order.reason, uid = request.peer and request.peer.uid,
    })
    return reply.result(act(engine, order))
  end
end

local function release(engine, order)
  if not order.environment or not order.what then
    return errors.fail("invalid", "a release needs an environment, and a version or commit")
  end
  return engine:release(order)
end

-- Lists travel inside an object, so that the answer can grow.
local function holding(verb)
  return function(engine, order)
    local environments, err = engine[verb](engine, order)
    return environments and { environments = environments }, err
  end
end

local function cancel(engine, request)
  local run = reply.whole(request.params.run, nil, 1, math.maxinteger)
  if not run then return reply.invalid("a run is a number") end
  local body = reply.body(request)
  local order = {
    run = run, reason = text_of(body, "reason"), by = text_of(body, "by") or SOMEBODY,
  }
  log.info("an operator's order", {
    act = "cancel", run = run, by = order.by, reason = order.reason, uid = request.peer and request.peer.uid,
  })
  return reply.result(engine:cancel(order))
end

-- An order about everything.
local function freezing(verb)
  return function(engine, request)
    local body = reply.body(request)
    local order = {
      reason = text_of(body, "reason"), by = text_of(body, "by") or SOMEBODY,
      seconds = type(body.seconds) == "number" and body.seconds or nil,
    }
    log.info("an operator's order", {
      act = verb, by = order.by, reason = order.reason, uid = request.peer and request.peer.uid,
    })
    return reply.result(engine[verb](engine, order))
  end
end

local function poll(engine, request)
  local body = reply.body(request)
  return reply.result(engine:poll(text_of(body, "app")))
end

local function reload(engine, request)
  log.info("an operator's order", { act = "reload", uid = request.peer and request.peer.uid })
  return reply.result(engine:reload())
end


local ROUTES <const> = {
  ["GET /v1/status"] = status, ["GET /v1/history"] = history, ["GET /v1/why"] = why,
  ["GET /v1/runs/:run/log"] = run_log, ["POST /v1/runs/:run/cancel"] = cancel,
  ["POST /v1/freeze"] = freezing "freeze", ["POST /v1/thaw"] = freezing "thaw",
  ["POST /v1/poll"] = poll, ["POST /v1/reload"] = reload,
  ["POST /v1/repl"] = function(_, request, sessions)
    return reply.lines(sessions:request(reply.body(request) --[[@as any]]))
  end,
  ["POST /v1/repl/session"] = function(_, _, sessions) return reply.lines(sessions:attach()) end,
  ["POST /v1/apps/:app/release"] = ordering("release", release),
  ["POST /v1/apps/:app/hold"] = ordering("hold", holding "hold"),
  ["POST /v1/apps/:app/unhold"] = ordering("unhold", holding "unhold"),
}
for _, verb in ipairs { "rollback", "retry", "apply", "destroy", "approve", "reject" } do
  ROUTES["POST /v1/apps/:app/" .. verb] = ordering(verb, function(engine, order) return engine[verb](engine, order) end)
end

---The routes of the control socket; `sessions` are the prompts of the host that answers.
---@type table<string, fun(engine: Engine, request: serve.Request, sessions: Sessions): serve.Answer>
M.routes = ROUTES

return M
