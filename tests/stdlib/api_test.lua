-- The client that registries, clusters and the others share: what a service says of itself, and what it gets for it.
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local api, budget, errors, serve = require "base.api", require "base.budget", require "errors", require "serve"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- A server that gives its answers in turn, the last one for ever, and what it was asked.
local function server(...)
  local answers, asked = { ... }, {}
  local listener = ok(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    asked[#asked + 1] = request
    return answers[math.min(#asked, #answers)]
  end })
  check.defer(function() listener:close() end)
  return ("http://127.0.0.1:%d"):format(listener.port), asked
end

local function twice(answer, err, try)
  return try < 2 and errors.passing(answer and answer.status or err) and 0.001 or nil
end

test("options of the service, of the moment and of the call, the nearest first; a table is sent as JSON", function()
  local base, asked = server { body = "{}" }
  local service = api.open {
    name = "it", http = { base = "http://127.0.0.1:1", headers = { ["X-One"] = "1", ["X-Two"] = "2" } },
    options = function(call) return { base = base, headers = { ["X-Two"] = call.part } } end,
  }
  eq(ok(service:send { path = "/a", part = "p" }).status, 200)
  eq(asked[1].headers["x-one"], "1")
  eq(asked[1].headers["x-two"], "p")
  ok(service:send { path = "/b", method = "PUT", body = { n = 1 }, headers = { ["X-Two"] = "own" } })
  eq({ asked[2].method, asked[2].path, asked[2].body }, { "PUT", "/b", '{"n":1}' })
  eq(asked[2].headers["content-type"], "application/json")
  eq(asked[2].headers["x-two"], "own")
  ok(service:send { url = base .. "/c", options = {} })
  eq(asked[3].headers["x-two"], "2", "its own options instead")
  fails("invalid", service:send { path = "/d", method = "PUT", body = { print } })
  eq(#asked, 3)
end)

test("what is refused is asked once more with other options, and never twice", function()
  local base, asked = server({ status = 401 }, { status = 200 }, { status = 401 })
  local renewed = 0
  local service = api.open {
    name = "it", options = function() return { base = base } end,
    renew = function(answer, options)
      renewed = renewed + 1
      return answer.status == 401 and { base = options.base, auth = { bearer = "t" .. renewed } } or nil
    end,
  }
  eq(ok(service:send { path = "/" }).status, 200)
  eq(asked[2].headers.authorization, "Bearer t1")
  eq(ok(service:send { path = "/" }).status, 401)
  eq({ #asked, renewed }, { 4, 2 })
end)

test("no credentials: nothing goes out, and nothing is tried again", function()
  local base, asked = server { status = 401 }
  local tries = 0
  local service = api.open {
    name = "it", http = { base = base }, retry = function() return 0.001 end,
    options = function()
      tries = tries + 1
      return errors.fail("timeout", "no secret")
    end,
  }
  fails("timeout", service:send { path = "/" })
  eq({ tries, #asked }, { 1, 0 })
  service = api.open {
    name = "it", http = { base = base }, retry = function() return 0.001 end,
    renew = function() return errors.fail("busy", "no token") end,
  }
  fails("busy", service:send { path = "/" })
  eq(#asked, 1)
end)

test("a transient error is tried again, in a place of the budget each time", function()
  local base, asked = server({ status = 503 }, { status = 200, body = "fine" })
  local share, places = budget.new("k", 1), 0
  local service = api.open {
    name = "it", http = { base = base }, budget = share, retry = twice, before = function() places = places + 1 end,
  }
  eq(ok(service:send { path = "/" }).body, "fine")
  eq({ #asked, places }, { 2, 2 })
  local _ <close> = ok(share:enter(1))
  service.queue, service.retry = 0.01, nil
  fails("busy", service:send { path = "/" })
  eq(#asked, 2)
end)

test("a refusal that is an error: its code, the service's words, how long to wait", function()
  local base = server({ status = 403, body = { why = "not yours" } }, { status = 410, body = "gone" },
    { status = 503, headers = { ["Retry-After"] = "7" } }, { status = 418 })
  local service
  service = api.open {
    name = "the shop", http = { base = base }, codes = { [410] = "not_found" }, transient = "busy",
    words = function(body, text) return body and body.why or text ~= "" and text or nil end,
    refuse = function(answer) return service:failure(answer, "shop.get", "web") end,
  }
  local err = fails("denied", service:send { path = "/" })
  eq({ err.message, err.op, err.target, err.status }, { "the shop answered 403: not yours", "shop.get", "web", 403 })
  has(fails("not_found", service:send { path = "/", stream = true }).message, "410: gone")
  err = fails("busy", service:send { path = "/" })
  eq({ err.message, err.retry_after }, { "the shop answered 503", 7 })
  eq(fails("status", service:send { path = "/" }).message, "the shop answered 418")
end)

test("a secret that a service repeats is not shown", function()
  require("log").secret "a-word-that-nobody-may-see"
  local base = server { status = 400, body = "your token a-word-that-nobody-may-see is odd" }
  local service = api.open { name = "it", http = { base = base }, words = function(_, raw) return raw end }
  local err = service:failure(ok(service:send { path = "/" }), "it.get", "x")
  ok(not err.message:find("nobody", 1, true), err.message)
  has(err.message, "it answered 400: your token")
end)

test("who does not answer is an error that the service may word", function()
  local service = api.open {
    name = "it", http = { base = "http://127.0.0.1:1" },
    on_error = function(err, call) return errors.new(err.code, "asleep", { target = call.path, cause = err }) end,
  }
  local err = fails("refused", service:send { path = "/x" })
  eq({ err.message, err.target }, { "asleep", "/x" })
end)

test("pauses grow by their factor up to the longest", function()
  for try, middle in ipairs { 1, 4, 16, 30, 30 } do
    local pause = api.backoff(try, 1, 4, 30)
    ok(pause >= 0.75 * middle and pause <= 1.25 * middle, tostring(pause))
  end
end)
