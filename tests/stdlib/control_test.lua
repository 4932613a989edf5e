-- The control API, health and metrics, over real sockets in front of an engine of the test's own.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has
local client = require "people.client"
local control = require "people.control"
local fs, http, json, task, time = require "fs", require "http", require "json", require "task", require "time"
local fake = require "stdlib.fake_engine"

-- A control server over a fake engine; a client for it.
local function open(options)
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local engine = fake.new()
  local server = ok(control.open(engine, { state = dir.path, listen = options and options.listen }))
  check.defer(function() server:close() end)
  return client.open(dir.path), engine, server, dir.path
end

local function raw(state, method, path, body)
  return ok(http.request {
    method = method, url = "http://moontide" .. path, unix = control.socket(state), body = body,
  })
end

test("status, history and why arrive as the engine tells them", function()
  local host, engine = open()
  eq(ok(host:status()).apps[1].environments[2].hold.reason, "sale until Monday")
  eq(#ok(host:history { app = "web", limit = 5 }).runs, 2)
  eq(engine.calls[2], { "history", { app = "web", limit = 5 } })
  local why = ok(host:why("web", "production"))
  eq(why.decisions[1].line, 17)
  eq(engine.calls[3], { "why", { "web", "production" } })
end)

test("lists stay lists when they are empty", function()
  local host, engine, _, state = open()
  engine.runs = {}
  has(raw(state, "GET", "/v1/history").body, '"runs":[]')
  eq(#ok(host:history {}).runs, 0)
end)

test("the engine's errors keep their code and words", function()
  local host, engine = open()
  local err = fails("not_found", host:why("nope"))
  has(err.message, "there is no app 'nope'; there are: web")
  ok(not err.down)
  engine.fails = require("errors").new("conflict", "is held already", { op = "hold", target = "web" })
  err = fails("conflict", host:hold { app = "web", by = "me" })
  eq(err.target, "web")
  engine.fails = require("errors").new("invalid", "refused", { faults = { { file = "a", line = 1, message = "m" } } })
  err = fails("invalid", host:reload())
  eq(err.faults, { { file = "a", line = 1, message = "m" } })
end)

test("orders carry who, what and where", function()
  local host, engine = open()
  local run = ok(host:rollback { app = "web", environment = "production", by = "ann@box" })
  eq(run.kind, "rollback")
  eq(engine.calls[1], { "rollback", { app = "web", environment = "production", by = "ann@box" } })
  ok(host:release { app = "web", environment = "production", what = "v1.0.0", by = "x" })
  eq(engine.calls[2][2].what, "v1.0.0")
  eq(ok(host:hold { app = "web", reason = "later", by = "x" }).environments[1].name, "production")
  ok(host:unhold { app = "web", by = "x" })
  eq(ok(host:retry { app = "web", environment = "staging", by = "x" }).kind, "retry")
  eq(ok(host:cancel { run = 7, by = "x", reason = "late" }).state, "cancelled")
  eq(engine.calls[#engine.calls], { "cancel", { run = 7, by = "x", reason = "late" } })
  fails("invalid", host:release { app = "web", by = "x" })
  eq(ok(host:poll("web")).apps, { "web" })
  eq(ok(host:reload()).policies, 3)
end)

test("names travel unharmed, whatever is in them", function()
  local host, engine = open()
  for _, name in ipairs { "a b", "b?x=1&y", "ä%41", "<script>", "a+b", "-x" } do
    ok(host:hold { app = name, by = "x" })
    eq(engine.calls[#engine.calls][2].app, name)
    fails("not_found", host:why(name))
    eq(engine.calls[#engine.calls][2][1], name)
  end
  -- What could be mistaken for another path is refused before anybody reads it.
  local calls = #engine.calls
  for _, name in ipairs { "a/../b", "..", "a\0b" } do eq(host:hold { app = name, by = "x" }, nil) end
  eq(#engine.calls, calls)
end)

test("what is no request is refused with a reason", function()
  local _, _, _, state = open()
  eq(raw(state, "GET", "/v1/nothing").status, 404)
  eq(raw(state, "GET", "/v2/status").status, 404)
  local answer = raw(state, "POST", "/v1/status", "")
  eq(answer.status, 405)
  eq(answer.headers.allow, "GET")
  eq(raw(state, "GET", "/v1/history?limit=0").status, 400)
  eq(raw(state, "GET", "/v1/history?limit=1e9").status, 400)
  eq(raw(state, "GET", "/v1/runs/x/log").status, 400)
  eq(raw(state, "GET", "/v1/runs/-1/log").status, 400)
  eq(raw(state, "GET", "/v1/runs/7/log").status, 404)
  eq(raw(state, "GET", "/v1/why").status, 400)
  eq(raw(state, "POST", "/v1/apps/web/explode", "{}").status, 404)
  eq(raw(state, "POST", "/v1/apps/web/hold", "[1").status, 400)
  eq(raw(state, "POST", "/v1/apps/web/hold", "3").status, 400)
  eq(raw(state, "POST", "/v1/repl", "{}").status, 400)
  eq(raw(state, "GET", "/v1/status").headers["moontide-api"], "1")
end)

test("an engine that raises answers an error, and the server goes on", function()
  local host, engine = open()
  engine.status = function() error("a bug") end
  fails("internal", host:status())
  ok(host:history {})
end)

test("a log is read in pieces and followed to its end", function()
  local host, engine = open()
  for i = 1, 120 do engine:add("line " .. i) end
  local piece = ok(host:run_log(42, 100))
  eq(#piece.entries, 20)
  eq(piece.next, 120)
  eq(piece.done, false)
  local seen, last = {}, nil
  local follower = task.spawn(function()
    return host:follow(42, 0, function(part)
      for _, entry in ipairs(part.entries) do seen[#seen + 1] = entry.text end
      last = part
    end)
  end)
  check.eventually(function() return #seen == 120 end)
  engine:add("late")
  check.eventually(function() return #seen == 121 end)
  engine:add("last")
  engine:finish "failed"
  ok(follower:join(100))
  eq(#seen, 122)
  eq(seen[122], "last")
  eq(last.run.state, "failed")
  eq(last.done, true)
end)

test("following breaks off with an error when the host goes away", function()
  local host, engine, server = open()
  engine:add("first")
  local seen = 0
  local follower = task.spawn(function()
    return host:follow(42, 0, function(part) seen = seen + #part.entries end)
  end)
  check.eventually(function() return seen == 1 end)
  server:close()
  local done, err = follower:join(100)
  eq(done, nil)
  ok(err.code == "reset" or err.code == "closed", tostring(err))
end)

test("a follower that leaves is forgotten", function()
  local host, engine = open()
  engine:add("first")
  local before = task.count()
  local seen = 0
  local follower = task.spawn(function()
    return host:follow(42, 0, function(part) seen = seen + #part.entries end)
  end)
  check.eventually(function() return seen == 1 end)
  follower:cancel()
  check.eventually(function() return task.count() <= before end, 10, "its tasks end")
end)

test("no host, and no right to one, are told apart from refusals", function()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local err = fails("refused", client.open(dir.path):status())
  eq(err.down, true)
  has(err.message, "no host runs")
  ok(fs.write(control.socket(dir.path), "not a socket"))
  err = fails("refused", client.open(dir.path):status())
  eq(err.down, true)
end)

test("a second host on the same state is refused", function()
  local _, engine, _, state = open()
  fails("busy", control.open(engine, { state = state }))
end)

test("the socket is its owner's alone", function()
  local _, _, _, state = open()
  eq(ok(fs.stat(control.socket(state))).mode & 63, 0)
end)

-- ---- the TCP server ----

local function get(server, path, method)
  return ok(http.request { method = method or "GET", url = ("http://127.0.0.1:%d%s"):format(server.port, path) })
end

test("health and readiness follow the engine", function()
  local _, engine, server = open { listen = { address = "127.0.0.1", port = 0 } }
  eq(get(server, "/healthz").status, 200)
  eq(get(server, "/readyz").body, "ok\n")
  engine.ready = false
  eq(get(server, "/healthz").status, 200)
  local answer = get(server, "/readyz")
  eq(answer.status, 503)
  eq(answer.body, "starting\n")
  engine.live = false
  eq(get(server, "/healthz").status, 503)
end)

test("metrics are Prometheus text with escaped labels", function()
  local _, _, server = open { listen = { address = "127.0.0.1", port = 0 } }
  local answer = get(server, "/metrics")
  has(answer.headers["content-type"], "version=0.0.4")
  eq(answer.body, [[
# HELP moontide_runs_total Runs that ended.\nBy state.
# TYPE moontide_runs_total counter
moontide_runs_total{app="we\"b\\",state="done"} 3
moontide_runs_total{app="web",state="failed"} 0.5
# HELP moontide_up Up
# TYPE moontide_up gauge
moontide_up 1
]])
end)

test("the TCP server only reads, and knows nothing of the control API", function()
  local _, engine, server = open { listen = { address = "127.0.0.1", port = 0 } }
  eq(get(server, "/v1/status").status, 404)
  eq(get(server, "/v1/apps/web/rollback", "POST").status, 405)
  eq(get(server, "/healthz", "HEAD").body, "")
  eq(#engine.calls, 0)
end)

test("a port that is taken refuses the whole control", function()
  local _, engine, server = open { listen = { address = "127.0.0.1", port = 0 } }
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local second, err = control.open(engine,
    { state = dir.path, listen = { address = "127.0.0.1", port = server.port } })
  eq(second, nil)
  eq(err.code, "busy")
  check.has(err.message, ("127.0.0.1:%d: another program listens there"):format(server.port))
  eq(client.open(dir.path):status(), nil)
end)

-- ---- the prompt over the socket ----

local function prompt(host, code, options)
  local lines = {}
  local body = { code = code }
  for key, value in pairs(options or {}) do body[key] = value end
  ok(host:stream("POST", "/v1/repl", body, function(object) lines[#lines + 1] = object end))
  return lines[#lines], lines
end

test("a command is evaluated in the host, with its engine in reach", function()
  local host, engine = open()
  local reply = prompt(host, "1 + 1, 'x'")
  eq(reply.state, "done")
  eq(reply.values, { "2", '"x"' })
  eq(prompt(host, "engine:poll 'web'").values[1], '{ apps = { "web" }, changes = {} }')
  eq(engine.calls[1][1], "poll")
end)

-- Opens a session as a client does; ends with the task, as if the client had died.
local function attach(host)
  local id, problem
  local typing = task.spawn(function()
    local _, err = host:stream("POST", "/v1/repl/session", {}, function(object) id = object.session or id end)
    problem = err
  end)
  check.eventually(function() return id or problem end, 10)
  return id, typing, problem
end

test("a session keeps its names; another does not see them", function()
  local host = open()
  local session = attach(host)
  prompt(host, "mine = 7", { session = session })
  eq(prompt(host, "mine", { session = session }).values, { "7" })
  eq(prompt(host, "_ + 1", { session = session }).values, { "8" })
  eq(prompt(host, "mine").state, "error")
  fails("not_found", host:stream("POST", "/v1/repl", { code = "1", session = "nope" }, function() end))
end)

test("what is printed arrives while the command runs", function()
  local host, engine = open()
  local arrived = {}
  engine.repl_env = { heard = function() return #arrived > 0 end }
  local code = "print 'a' while not heard() do time.sleep(0.01) end print 'b'"
  ok(host:stream("POST", "/v1/repl", { code = code }, function(object)
    arrived[#arrived + 1] = object.output or object.state
  end))
  eq({ arrived[1], arrived[2] }, { "a\n", "b\n" })
end)

test("a line that is no object is an error of the protocol", function()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local server <close> = ok(require("serve").listen {
    unix = dir.path .. "/s", handler = function() return { status = 200, body = "7\n" } end,
  })
  local host = client.open(dir.path, server.path)
  fails("protocol", host:stream("POST", "/v1/repl", { code = "1" }, function() end))
end)

test("a client that goes away ends its command", function()
  local host, engine = open()
  local begun = false
  engine.repl_env = { begin = function() begun = true end, fake = engine }
  local caller = task.spawn(function()
    return host:stream("POST", "/v1/repl", {
      code = "begin() while true do time.sleep(0.05) fake.tick = (fake.tick or 0) + 1 end",
    }, function() end)
  end)
  check.eventually(function() return begun end)
  caller:cancel()
  check.eventually(function()
    local before = engine.tick
    time.sleep(0.3)
    return engine.tick == before
  end, 10, "the command stops")
end)

test("the number of sessions is bounded, and one that loses its client is free", function()
  local host = open()
  local clients = {}
  for i = 1, 16 do
    local id
    id, clients[i] = attach(host)
    ok(id)
  end
  local _, _, problem = attach(host)
  eq(problem.code, "busy")
  eq(prompt(host, "1").values, { "1" }, "a command by itself needs no place")
  clients[3]:cancel()
  check.eventually(function() return (attach(host)) end, 10)
end)

test("a thousand quick requests leave nothing behind", function()
  local host = open()
  ok(host:status())
  local before = task.count()
  for _ = 1, 10 do
    local all = {}
    for i = 1, 20 do all[i] = function() return ok(host:status()) end end
    task.all(all)
  end
  check.eventually(function() return task.count() <= before end, 5)
  ok(json)
end)
