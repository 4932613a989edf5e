-- The API for scripts on the TCP port: who comes in, what may be asked for, what is told.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local control, secret = require "people.control", require "config.secret"
local fs, http, json, task, time = require "fs", require "http", require "json", require "task", require "time"
local lab, proc, token = require "lab", require "proc", require "people.control.token"
local fake, event_log = require "stdlib.fake_engine", require "engine.events"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local TOKEN <const> = "token-of-the-api-tests"

local function open(options)
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local engine = fake.new()
  options = options or {}
  if not options.closed then
    ok(fs.write(dir.path .. "/token", TOKEN .. "\n"))
    engine.config = { state = dir.path, api = { token = secret.new("file", dir.path .. "/token"), hosts = {} } }
  end
  engine.config = engine.config or { state = dir.path }
  engine.config.hosts, engine.config.listen = options.hosts, { address = "127.0.0.1", port = 0 }
  local server = ok(control.open(engine, engine.config))
  check.defer(function() server:close() end)
  local function ask(method, path, more)
    more = more or {}
    local request = {
      method = method, url = ("http://127.0.0.1:%d%s"):format(server.port, path), headers = more.headers or {},
      body = type(more.body) == "table" and json.encode(more.body) or more.body, timeout = 10,
    }
    if more.token ~= false then request.headers.Authorization = "Bearer " .. (more.token or TOKEN) end
    local answer = ok(http.request(request))
    return answer, answer.body ~= "" and json.decode(answer.body) or nil
  end
  return ask, engine, server, dir.path
end

test("the name of a build's context is one that nobody can guess, whoever wrote it into a Job", function()
  local contexts = require "images.builder.contexts"
  eq(contexts.is_name(contexts.name()), true)
  for _, weak in ipairs { "a", ("a"):rep(63), ("a"):rep(65), ("g"):rep(64), false } do
    eq(contexts.is_name(weak), false)
  end
end)

test("without a token in the configuration the API is closed, and says how it is opened", function()
  local ask, engine = open { closed = true }
  for _, route in ipairs { { "POST", "/apply" }, { "POST", "/destroy" }, { "GET", "/jobs" }, { "GET", "/events" } } do
    local answer, body = ask(route[1], route[2], { body = route[1] == "POST" and { app = "web" } or nil })
    eq(answer.status, 403)
    has(body.error.message, "api = { token =")
  end
  eq(#engine.calls, 0)
  eq(ask("GET", "/healthz", { token = false }).status, 200)
end)

test("only the token itself comes in", function()
  local ask, engine = open()
  for _, wrong in ipairs { "x", TOKEN .. "x", TOKEN:sub(1, -2), TOKEN:upper(), "", " " } do
    local answer = ask("POST", "/apply", { token = wrong, body = { app = "web" } })
    eq(answer.status, 401)
    has(answer.headers["www-authenticate"], "Bearer")
    eq(answer.body:find(TOKEN, 1, true), nil)
  end
  eq(ask("GET", "/jobs", { token = false }).status, 401)
  eq(ask("GET", "/jobs", { token = false, headers = { Authorization = "Basic " .. TOKEN } }).status, 401)
  eq(ask("GET", "/jobs?token=" .. TOKEN, { token = false }).status, 401)
  eq(ask("GET", "/jobs", { token = false, headers = { Authorization = "bearer  " .. TOKEN } }).status, 200)
  eq(#engine.calls, 1)
end)

test("an error of the program's own is told to the log alone", function()
  local ask = open() -- whose engine knows no approvals
  local answer, body = ask("POST", "/v1/approvals", { body = { id = 1 } })
  eq(answer.status, 500)
  eq(body, { error = "the API failed; the host's log says why" })
end)

test("a token that changes in its file counts at once; one that is gone lets nobody in", function()
  local ask, _, _, dir = open()
  ok(fs.write(dir .. "/token", "another-token-of-the-tests\n"))
  eq(ask("GET", "/jobs").status, 401)
  eq(ask("GET", "/jobs", { token = "another-token-of-the-tests" }).status, 200)
  ok(fs.remove(dir .. "/token"))
  eq(ask("GET", "/jobs", { token = "another-token-of-the-tests" }).status, 500)
end)

test("a token that can be guessed lets nobody in", function()
  local ask, _, _, dir = open()
  ok(fs.write(dir .. "/token", "fifteen-bytes--\n"))
  eq(ask("GET", "/jobs", { token = "fifteen-bytes--" }).status, 500)
  ok(fs.write(dir .. "/token", "sixteen-bytes---\n"))
  eq(ask("GET", "/jobs", { token = "sixteen-bytes---" }).status, 200)
end)

-- Of an address of its own, so that other tests have their allowance.
local function from(address, fields)
  local request = { headers = { authorization = fields.authorization }, path = "/jobs", peer = { address = address } }
  return token.check(fields.config, request, { basic = fields.basic })
end

test("wrong tokens cost time: an address has ten, then one a second, and the right one waits like them", function()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  ok(fs.write(dir.path .. "/token", TOKEN))
  local config = { api = { token = secret.new("file", dir.path .. "/token") } }
  local wrong, right = { config = config, authorization = "Bearer wrong" },
    { config = config, authorization = "Bearer " .. TOKEN }
  local refused = 0
  for _ = 1, 1000 do
    local allowed, err = from("192.0.2.1", wrong)
    eq(allowed, false)
    if err.code == "unauthorized" then
      refused = refused + 1
    else
      eq(err.code, "rate_limited")
      ok(err.retry_after > 0 and err.retry_after <= 1)
    end
  end
  ok(refused >= 10 and refused <= 15, refused)
  eq(select(2, from("192.0.2.1", right)).code, "rate_limited")
  eq(from("192.0.2.2", right), true, "another address is not held back")
  lab.eventually("the address is heard again", 60, function() return from("192.0.2.1", right) end)
  for i = 1, 20 do from(("2001:db8:1:2::%x"):format(i), wrong) end
  eq(select(2, from("2001:db8:1:2:ffff::9", right)).code, "rate_limited", "a network of IPv6 is one address")
  eq(from("2001:db8:1:3::1", right), true)
  for i = 1, 3000 do from(("198.51.%d.%d"):format(i // 250, i % 250), wrong) end
  lab.eventually("many addresses lock nobody out", 60, function() return from("203.0.113.9", right) end)
  for _ = 1, 5 do -- who says nothing guesses nothing
    eq(select(2, from("192.0.2.3", { config = config })).code, "unauthorized")
  end
  eq(from("192.0.2.3", { config = config, basic = true,
    authorization = "Basic " .. require("hash").base64("ann:" .. TOKEN) }), true)
end)

test("a server whose address changes moves, and what has to wait for a start is named", function()
  local _, engine, server = open()
  local before, old = engine.config, server.port
  local function with(fields)
    local config = {}
    for k, v in pairs(before) do config[k] = v end
    for k, v in pairs(fields) do config[k] = v end
    return config
  end
  eq(server:follow(before, with {}), {})
  local other = lab.port()
  local words = server:follow(before, with { listen = { address = "127.0.0.1", port = other } })
  eq(words, { ("listens on 127.0.0.1:%d"):format(other) })
  eq(ok(http.get(("http://127.0.0.1:%d/healthz"):format(other))).status, 200)
  eq(http.get(("http://127.0.0.1:%d/healthz"):format(old)), nil)
  local taken = ok(require("serve").listen { port = 0, handler = function() return {} end })
  check.defer(function() taken:close() end)
  has(server:follow(before, with { listen = { address = "127.0.0.1", port = taken.port } })[1], "NOT done")
  words = server:follow(before, with { listen = { address = "127.0.0.1", port = other }, control = "/run/x/y.sock" })
  has(words[1], "`control` changed: NOT done, it takes effect when the host starts again")
  has(words[2], "listens on")
end)

test("who may not come in is told so before a body is read", function()
  local _, _, server = open()
  local stream = ok(proc.spawn { "python3", "-c", [[
import socket, sys
for path, status in (("/apply", b"401"), ("/v1/approvals", b"401"), ("/healthz", b"405"), ("/nothing", b"405")):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.settimeout(30)
    s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" % path.encode())
    answer = s.recv(100)
    assert answer.split(b" ")[1] == status, answer
print("told")
]], tostring(server.port) })
  eq(ok(stream:read("stdout")), "told\n")
end)

test("apply and destroy start runs and answer where they are followed", function()
  local ask, engine = open()
  local answer, body = ask("POST", "/apply", { body = {
    app = "shop", environment = "staging", versions = { api = "1.2.3" }, by = "pipeline 7", reason = "nightly",
  } })
  eq(answer.status, 202)
  eq(answer.headers.location, "/jobs/42")
  eq({ body.run, body.job.kind }, { 42, "apply" })
  eq(engine.calls[1], { "apply", {
    app = "shop", environment = "staging", versions = { api = "1.2.3" }, by = "pipeline 7", reason = "nightly",
  } })
  answer, body = ask("POST", "/destroy", { body = { app = "shop", environment = "staging" } })
  eq({ answer.status, body.run }, { 202, 42 })
  eq(engine.calls[2][2].by, "somebody with the API's token")
end)

test("retry and cancel are orders like the others", function()
  local ask, engine = open()
  local answer, body = ask("POST", "/retry", { body = { app = "shop", environment = "staging", by = "ben" } })
  eq({ answer.status, answer.headers.location, body.job.kind }, { 202, "/jobs/42", "retry" })
  eq(engine.calls[1], { "retry", { app = "shop", environment = "staging", by = "ben" } })
  answer, body = ask("POST", "/jobs/42/cancel", { body = { reason = "wrong one" } })
  eq({ answer.status, answer.headers.location, body.job.state }, { 202, "/jobs/42", "cancelled" })
  eq(engine.calls[2], { "cancel", { run = 42, reason = "wrong one", by = "somebody with the API's token" } })
  eq(ask("POST", "/jobs/x/cancel", { body = {} }).status, 400)
  eq(ask("POST", "/jobs/42/cancel", { body = { app = "shop" } }).status, 400)
  eq(ask("POST", "/jobs/42/cancel", { token = false, body = {} }).status, 401)
  eq(ask("GET", "/jobs/42/cancel").status, 405)
  eq(#engine.calls, 2)
end)

test("a refusal keeps its code", function()
  local ask, engine = open()
  for code, status in pairs { denied = 403, not_found = 404, conflict = 409, unsupported = 501, invalid = 400 } do
    engine.fails = require("errors").new(code, "no: " .. code)
    local answer, body = ask("POST", "/destroy", { body = { app = "shop", environment = "production" } })
    eq({ answer.status, body.error.code, body.error.message }, { status, code, "no: " .. code })
  end
end)

test("what is no order is refused before the engine hears of it", function()
  local ask, engine = open()
  for _, body in ipairs {
    "", "{", "[]", "3", '"x"', '{"app":3}', '{"app":""}', '{"app":"a\\u0000b"}', '{"app":"a","versions":"1"}',
    '{"app":"a","what":"x"}', '{"app":"' .. ("x"):rep(1001) .. '"}', '{"environment":"staging"}',
  } do eq(ask("POST", "/apply", { body = body }).status, 400, body) end
  local large, why = pcall(ask, "POST", "/apply", { body = '{"app":"' .. ("x"):rep(70000) .. '"}' })
  ok(not large or why.status == 413) -- it may close before it has read everything
  eq(ask("GET", "/apply").status, 405)
  eq(ask("POST", "/jobs", { body = "{}" }).headers.allow, "GET")
  eq(ask("GET", "/apply/x").status, 404)
  eq(#engine.calls, 0)
end)

test("pages of other origins and foreign host names never get there", function()
  local ask, engine, server = open { hosts = { "moontide.tools.svc" } }
  local function headers(more) return { headers = more, body = { app = "web" } } end
  eq(ask("POST", "/apply", headers { Origin = "https://evil.example" }).status, 403)
  eq(ask("POST", "/apply", headers { Origin = "null" }).status, 403)
  eq(ask("POST", "/apply", headers { Host = "evil.example:" .. server.port }).status, 421)
  eq(#engine.calls, 0)
  local answer = ask("POST", "/apply", headers { Host = "moontide.tools.svc:" .. server.port })
  eq(answer.status, 202)
  eq(answer.headers["access-control-allow-origin"], nil)
  eq(answer.headers["x-content-type-options"], "nosniff")
end)

test("jobs are the runs, by app and state, and one with its log", function()
  local ask, engine = open()
  local answer, body = ask("GET", "/jobs?app=web&limit=5")
  eq({ answer.status, #body.jobs, body.jobs[1].state }, { 200, 2, "failed" })
  eq(engine.calls[1], { "history", { app = "web", limit = 5 } })
  eq(#select(2, ask("GET", "/jobs?state=done")).jobs, 1)
  has(ask("GET", "/jobs?state=queued").body, '"jobs":[]')
  eq(ask("GET", "/jobs?limit=0").status, 400)
  engine:add("first line")
  local _, one = ask("GET", "/jobs/42")
  eq({ one.job.id, one.entries[1].text, one.next, one.done }, { 42, "first line", 1, false })
  eq(ask("GET", "/jobs/7").status, 404)
  eq(ask("GET", "/jobs/x").status, 400)
end)

test("events come after a number, at most so many, and are waited for", function()
  local ask, engine = open()
  engine.event_log = {}
  for i = 1, 5 do engine.event_log[i] = { id = i, at = 1, event = "run", level = "info", text = "event " .. i } end
  local _, body = ask("GET", "/events?limit=3")
  eq({ #body.events, body.events[3].text, body.next }, { 3, "event 3", 3 })
  _, body = ask("GET", "/events?since=3")
  eq({ #body.events, body.next }, { 2, 5 })
  has(ask("GET", "/events?since=5").body, '"events":[]')
  local waiting = task.spawn(function() return select(2, ask("GET", "/events?since=5&wait=60")) end)
  time.sleep(0.1)
  engine.event_log[6] = { id = 6, at = 1, event = "run", level = "info", text = "event 6" }
  eq(waiting:join(50).events[1].text, "event 6")
  for _, query in ipairs { "since=x", "limit=0", "limit=1001", "wait=61", "run=x" } do
    eq(ask("GET", "/events?" .. query).status, 400, query)
  end
end)

test("followed events are lines, and a follower that leaves is forgotten", function()
  local _, engine, server = open()
  engine.event_log = { { id = 1, at = 1, event = "run", level = "info", text = "event 1" } }
  local before = task.count()
  local seen = {}
  local follower = task.spawn(function()
    local stream <close> = ok(http.get(("http://127.0.0.1:%d/events?follow=1"):format(server.port),
      { stream = true, auth = { bearer = TOKEN } }))
    eq(stream.headers["content-type"], "application/x-ndjson")
    for line in stream:lines() do seen[#seen + 1] = line ~= "" and json.decode(line).text or nil end
  end)
  check.eventually(function() return #seen == 1 end)
  engine.event_log[2] = { id = 2, at = 1, event = "run", level = "info", text = "event 2" }
  check.eventually(function() return #seen == 2 end)
  follower:cancel()
  check.eventually(function() return task.count() <= before end, 15, "its tasks end")
end)

test("what happened is kept up to a bound, by app and run, and numbers begin anew with the host", function()
  local h = event_log.new()
  for i = 1, 2500 do
    h:add { at = i, event = "note", level = "info", text = "n" .. i, app = i % 2 == 0 and "web" or "shop", run = i }
    h:add { at = i, event = "output", level = "info", text = "left out" }
  end
  local page = h:page {}
  eq({ #page.events, page.events[1].id, page.next, page.missed }, { 100, 501, 600, true })
  page = h:page { since = 2497 }
  eq({ #page.events, page.events[3].text, page.next, page.missed }, { 3, "n2500", 2500, nil })
  eq(#h:page({ since = 2400, app = "web" }).events, 50)
  eq(h:page({ since = 0, run = 2000, limit = 1 }).next, 2500)
  eq(h:page({ since = 1 << 40, limit = 1 }).events[1].id, 501) -- a number of the host before
  eq(#h:page({ since = 2500 }).events, 0)
end)
