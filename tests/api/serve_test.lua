-- serve: what a handler gets and gives, and what becomes of it when things go wrong.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: discard-returns -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, missing-return -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, http, json = require "errors", require "fs", require "http", require "json"
local log, proc, serve, sys = require "log", require "proc", require "serve", require "base.sys"
local task, time = require "task", require "time"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

-- A server that ends with the test; returns it and a function that asks it.
local function open(handler, options)
  local spec = { port = 0, handler = handler }
  for name, value in pairs(options or {}) do spec[name] = value end
  if spec.unix then spec.port = nil end
  local server = ok(serve.listen(spec))
  check.defer(function() server:close(0) end)
  local base = spec.unix and "http://host" or ("http://127.0.0.1:%d"):format(server.port)
  return server, function(method, target, opts)
    local request = { method = method, url = base .. target, unix = spec.unix }
    for name, value in pairs(opts or {}) do request[name] = value end
    return http.request(request)
  end
end

local function echo(request)
  return {
    body = {
      method = request.method, path = request.path, query = request.query, body = request.body,
      params = request.params, agent = request.headers["X-AGENT"], address = request.peer.address,
      uid = request.peer.uid,
    },
  }
end

-- Log lines while fn runs.
local function logged(fn)
  local lines = {}
  local _ <close> = log.sink(function(line) lines[#lines + 1] = line end)
  fn()
  return lines
end

test("gives the handler the request as it was sent", function()
  local _, ask = open(echo)
  local answer = ok(ask("POST", "/a/b%20c?x=1+2&y=%C3%A9&x=other&flag&=e",
    { body = "text\0bytes", headers = { ["X-Agent"] = "me" } }))
  eq(answer.status, 200)
  eq(answer.headers["content-type"], "application/json")
  local got = ok(answer:json())
  eq(got.method, "POST")
  eq(got.path, "/a/b%20c")
  eq(got.query, { x = "1 2", y = "é", flag = "", [""] = "e" })
  eq(got.body, "text\0bytes")
  eq(got.agent, "me")
  eq(got.address, "127.0.0.1")
end)

test("joins a header that comes several times", function()
  local seen
  local _, ask = open(function(request)
    seen = request.headers
    return {}
  end)
  ok(ask("GET", "/", { headers = { ["X-Many"] = { "a", "b" } } }))
  eq(seen["x-many"], "a, b")
  eq(seen["X-Many"], "a, b")
  eq(seen.missing, nil)
end)

test("sends status, headers and body, and the headers that guard browsers", function()
  local _, ask = open(function()
    return { status = 201, headers = { ["X-One"] = "1", ["Set-Cookie"] = { "a=1", "b=2" } }, body = "made" }
  end)
  local answer = ok(ask("GET", "/"))
  eq(answer.status, 201)
  eq(answer.body, "made")
  eq(answer.headers["x-one"], "1")
  eq(answer.headers["x-content-type-options"], "nosniff")
  eq(answer.headers["cache-control"], "no-store")
  eq(answer.headers["content-type"], "text/plain; charset=utf-8")
  eq(answer.headers["access-control-allow-origin"], nil)
end)

test("answers HEAD without a body", function()
  local ran = false
  local _, ask = open(serve.router {
    ["GET /text"] = function() return { body = "four" } end,
    ["GET /stream"] = function()
      return { body = function(write)
        ran = true
        write("x")
      end }
    end,
  })
  local answer = ok(ask("HEAD", "/text"))
  eq(answer.status, 200)
  eq(answer.body, "")
  eq(answer.headers["content-length"], "4")
  eq(ok(ask("HEAD", "/stream")).status, 200)
  eq(ran, false)
end)

test("handles requests side by side", function()
  local most, running = 0, 0
  local _, ask = open(function()
    running = running + 1
    most = math.max(most, running)
    check.eventually(function() return most == 20 end, 50)
    running = running - 1
    return { body = "ok" }
  end)
  local asks = {}
  for i = 1, 20 do asks[i] = function() return ok(ask("GET", "/")).status end end
  for _, status in ipairs(task.all(asks)) do eq(status, 200) end
  eq(most, 20)
end)

test("serves more clients than places, one after the other", function()
  local _, ask = open(function()
    time.sleep(0.05)
    return { headers = { Connection = "close" }, body = "ok" }
  end, { connections = 8, per_address = 0 })
  local asks = {}
  for i = 1, 100 do asks[i] = function() return ok(ask("GET", "/")).status end end
  for _, status in ipairs(task.all(asks)) do eq(status, 200) end
end)

test("answers 500 with an id, and tells the log alone why", function()
  local _, ask = open(serve.router {
    ["GET /raise"] = function() error("the password is hunter22") end,
    ["GET /value"] = function() error(errors.new("denied", "/etc/shadow cannot be read")) end,
    ["GET /nothing"] = function() end,
    ["GET /number"] = function() return 200 end,
    ["GET /status"] = function() return { status = 99 } end,
    ["GET /header"] = function() return { headers = { ["X-A"] = "b\r\nSet-Cookie: c" } } end,
    ["GET /framing"] = function() return { headers = { ["Content-Length"] = "1" } } end,
  })
  local answers = {}
  local lines = logged(function()
    for _, path in ipairs { "/raise", "/value", "/nothing", "/number", "/status", "/header", "/framing" } do
      answers[path] = ok(ask("GET", path))
    end
  end)
  eq(#lines, 7)
  for path, answer in pairs(answers) do
    eq(answer.status, 500, path)
    eq(answer.body:find("hunter22", 1, true), nil)
    eq(answer.body:find("shadow", 1, true), nil)
    eq(answer.headers["set-cookie"], nil)
    local id = ok(answer:json()).error.id
    has(table.concat(lines, "\n"), '"id":"' .. id .. '"')
  end
  has(lines[1], "the password is hunter22")
  has(lines[1], "serve_test.lua")
end)

test("streams what the handler writes, as it writes", function()
  local lines = {}
  local _, ask = open(function()
    return {
      headers = { ["Content-Type"] = "application/x-ndjson" },
      body = function(write)
        for i = 1, 5 do
          eq(write(("line %d\n"):format(i)), true)
          check.eventually(function() return #lines == i end, 50, "the line arrives before there is another")
        end
      end,
    }
  end)
  local answer = ok(ask("GET", "/", { stream = true }))
  eq(answer.headers["content-type"], "application/x-ndjson")
  for line in answer:lines() do lines[#lines + 1] = line end
  eq(lines, { "line 1", "line 2", "line 3", "line 4", "line 5" })
end)

test("holds a writer back while the client is slow", function()
  local written = 0
  local _, ask = open(function()
    return { body = function(write)
      local piece = ("x"):rep(65536)
      for _ = 1, 2000 do -- 128 MiB
        write(piece)
        written = written + #piece
      end
    end }
  end)
  local answer = ok(ask("GET", "/", { stream = true }))
  answer:read(1)
  local early
  check.eventually(function()
    early = written
    time.sleep(0.3)
    return early > 0 and written == early
  end, 50, "the writer waits")
  ok(early < 64 << 20, early)
  answer:close()
end)

test("moves a large stream whole", function()
  local _, ask = open(function()
    return { body = function(write)
      for i = 1, 500 do write(("%07d\n"):format(i):rep(1000)) end
    end }
  end)
  local answer = ok(ask("GET", "/"))
  eq(#answer.body, 4000000)
  eq(answer.body:sub(-8), "0000500\n")
end)

test("cancels the handler's task when the client goes", function()
  local ended, reason
  local _, ask = open(function(request)
    local _ <close> = setmetatable({}, { __close = function(_, err)
      ended, reason = true, err
    end })
    if request.path == "/stream" then
      return { body = function(write)
        while true do
          write("tick\n")
          time.sleep(0.05)
        end
      end }
    end
    time.sleep(30)
  end)
  fails("timeout", ask("GET", "/wait", { timeout = 0.2 }))
  time.sleep(0.6)
  -- A client that closes over TCP looks like one that only finished sending; streams are cut all the same.
  eq(ended, nil)
  local folder <close> = ok(fs.temp_dir())
  local _, ask_unix = open(function()
    local _ <close> = setmetatable({}, { __close = function(_, err)
      ended, reason = true, err
    end })
    time.sleep(30)
  end, { unix = folder.path .. "/s/sock" })
  fails("timeout", ask_unix("GET", "/wait", { timeout = 0.2 }))
  check.eventually(function() return ended end, 2)
  eq(errors.is(reason, "cancelled"), true)
end)

test("cancels a stream's task when the client goes, however it writes", function()
  local reasons = {}
  local function follow(name, body)
    return function()
      return { body = function(write)
        local _ <close> = setmetatable({}, { __close = function(_, err) reasons[name] = err end })
        body(write)
      end }
    end
  end
  local _, ask = open(serve.router {
    ["GET /busy"] = follow("busy", function(write)
      while true do write(("x"):rep(10000)) end
    end),
    ["GET /quiet"] = follow("quiet", function(write)
      write("first\n")
      time.sleep(30)
    end),
  })
  local lines = logged(function()
    for _, name in ipairs { "busy", "quiet" } do
      local answer = ok(ask("GET", "/" .. name, { stream = true }))
      answer:read(1)
      answer:close()
      check.eventually(function() return reasons[name] end, 2, name)
      eq(errors.is(reasons[name], "cancelled"), true)
    end
  end)
  eq(lines, {})
end)

test("cuts a stream whose handler fails, so that it does not look whole", function()
  local _, ask = open(function()
    return { body = function(write)
      write("half of it")
      time.sleep(0.05)
      error("no more")
    end }
  end)
  local answer, err
  local lines = logged(function() answer, err = ask("GET", "/") end)
  eq(answer, nil)
  ok(err.code == "reset" or err.code == "protocol" or err.code == "closed", err)
  has(lines[1], "no more")
end)

test("routes by method and path", function()
  local _, ask = open(serve.router {
    ["GET /healthz"] = function() return { body = "well" } end,
    ["GET /v1/apps/:app"] = function(request) return { body = "app " .. request.params.app } end,
    ["GET /v1/apps/all"] = function() return { body = "all" } end,
    ["POST /v1/apps/:app/rollback"] = function(request) return { body = "back " .. request.params.app } end,
    ["GET /v1/:kind/:name/log"] = function(request)
      return { body = request.params.kind .. ":" .. request.params.name }
    end,
  })
  local function get(path, method)
    local answer = ok(ask(method or "GET", path))
    return answer.status, answer.body, answer.headers.allow
  end
  local function expect(path, status, body)
    local got, text = get(path)
    eq(got, status, path)
    if body then eq(text, body) end
  end
  expect("/healthz", 200, "well")
  expect("/v1/apps/web", 200, "app web")
  expect("/v1/apps/all", 200, "all")
  expect("/v1/apps/a%2Fb%20c", 200, "app a/b c")
  expect("/v1/apps/web/log", 200, "apps:web")
  expect("/v1/runs/12/log", 200, "runs:12")
  expect("/v1/apps/all/log", 200, "apps:all")
  expect("/v1/apps/", 404)
  expect("/v1/apps", 404)
  expect("/healthz/", 404)
  expect("/", 404)
  expect("/v1//web", 404)
  local status, _, allow = get("/v1/apps/web/rollback")
  eq(status, 405)
  eq(allow, "POST")
  status, _, allow = get("/healthz", "DELETE")
  eq(status, 405)
  eq(allow, "GET, HEAD")
end)

test("refuses routes that cannot be meant", function()
  local function route(name) return function() serve.router { [name] = echo } end end
  raises("METHOD /path", route("/healthz"))
  raises("METHOD /path", route("get /healthz"))
  raises("METHOD /path", route("GET healthz"))
  raises("METHOD /path", route("GET /:"))
  raises("METHOD /path", route("GET /a b"))
  raises("METHOD /path", function() serve.router { ["GET /"] = "text" } end)
  raises("two routes", function()
    serve.router { ["GET /a/:x"] = echo, ["GET /a/:y"] = echo }
  end)
end)

test("refuses targets that mean two things", function()
  local _, ask = open(echo)
  for _, target in ipairs { "/%00", "/%zz", "/%", "/a%0ab", "/%ff", "/%2e%2e/x", "/a/%2E/b", "/?%zz=1",
    "/?q=%00" } do
    eq(ok(ask("GET", target)).status, 400, target)
  end
  eq(ok(ask("GET", "/?q=%0")).status, 200) -- a value may be any text
end)

test("keeps foreign names and foreign pages out, over TCP", function()
  local _, ask = open(echo, { hosts = { "Moon.example.com" } })
  local function host(name) return ok(ask("GET", "/", { headers = { Host = name } })).status end
  for _, name in ipairs { "localhost", "LOCALHOST:80", "127.0.0.1:1", "10.1.2.3", "[::1]:80",
    "moon.example.com", "moon.EXAMPLE.com:8420" } do
    eq(host(name), 200, name)
  end
  for _, name in ipairs { "evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
    "evil:localhost", "moon.example.com.", "1.2.3.4@evil", "localhost:x" } do
    eq(host(name), 421, name)
  end
  local function post(headers, method)
    return ok(ask(method or "POST", "/", { headers = headers, body = method ~= "GET" and "x" or nil })).status
  end
  eq(post { Origin = "http://evil.example" }, 403)
  eq(post { Origin = "null" }, 403)
  eq(post { Host = "localhost:1", Origin = "http://localhost:2" }, 403)
  eq(post { Host = "localhost:1", Origin = "http://localhost:1" }, 200)
  eq(post { ["Sec-Fetch-Site"] = "cross-site" }, 403)
  eq(post { ["Sec-Fetch-Site"] = "same-site" }, 403)
  eq(post { ["Sec-Fetch-Site"] = "same-origin" }, 200)
  eq(post({ Origin = "http://evil.example" }, "GET"), 200)
  eq(post({ Origin = "http://evil.example" }, "DELETE"), 403)
end)

test("serves a private unix socket and knows who is there", function()
  local folder <close> = ok(fs.temp_dir())
  local path = folder.path .. "/run/control.sock"
  local server, ask = open(echo, { unix = path })
  eq(server.path, path)
  eq(server.port, nil)
  local answer = ok(ask("GET", "/"):json())
  eq(answer.uid, sys.uid())
  eq(answer.address, nil)
  local stat = ok(fs.stat(path))
  eq(stat.mode & 511, 384) -- 0600
  eq(ok(fs.stat(folder.path .. "/run")).mode & 511, 448) -- 0700
  fails("busy", serve.listen { unix = path, handler = echo })
  server:close()
  eq(fs.exists(path), false)
  local again <close> = ok(serve.listen { unix = path, handler = echo })
  eq(again.path, path)
end)

test("lets nobody else use the unix socket", function()
  if sys.uid() ~= 0 then check.skip("only root can become somebody else") end
  local folder <close> = ok(fs.temp_dir())
  local path = folder.path .. "/run/s.sock"
  local _, ask = open(echo, { unix = path })
  eq(ok(ask("GET", "/")).status, 200)
  ok(proc.check(proc.run { "chmod", "0711", folder.path }))
  local code = ([[
    local answer, err = require("http").get("http://host/", { unix = %q })
    print(answer and answer.status or err.code)]]):format(path)
  local script = folder.path .. "/client.lua"
  ok(fs.write(script, code, { mode = 420 })) -- 0644
  local tried = ok(proc.run { "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--",
    sys.exe(), "exec", script, timeout = 20 })
  if tried.code ~= 0 and tried.stderr:find("ermission denied", 1, true) then
    check.skip("this program is not readable to others")
  end
  eq(tried.stdout, "denied\n")
end)

test("refuses places for a socket that are not private", function()
  local folder <close> = ok(fs.temp_dir())
  ok(fs.mkdir(folder.path .. "/open"))
  ok(proc.check(proc.run { "chmod", "0755", folder.path .. "/open" }))
  fails("denied", serve.listen { unix = folder.path .. "/open/s", handler = echo })
  ok(fs.write(folder.path .. "/file", "not a socket"))
  fails("denied", serve.listen { unix = folder.path .. "/file", handler = echo })
  eq(fs.read(folder.path .. "/file"), "not a socket")
  fails("invalid", serve.listen { unix = folder.path .. "/" .. ("x"):rep(120), handler = echo })
  fails("not_found", serve.listen { unix = folder.path .. "/no/such/s", handler = echo })
end)

test("says when an address cannot be had", function()
  local server = open(echo)
  fails("busy", serve.listen { port = server.port, handler = echo })
  fails("invalid", serve.listen { address = "nowhere.example", port = 0, handler = echo })
end)

test("raises at mistakes in its options", function()
  raises("usage: serve.listen", serve.listen)
  raises("usage: serve.listen", serve.listen, { port = 0 })
  raises("usage: serve.listen", serve.listen, { handler = echo })
  raises("max_bdy", serve.listen, { port = 0, handler = echo, max_bdy = 1 })
  raises("connections must be between", serve.listen, { port = 0, handler = echo, connections = 0 })
  raises("port must be between", serve.listen, { port = 70000, handler = echo })
end)

test("asks the gate with the head alone, and the handler only behind it", function()
  local handled = 0
  local server = ok(serve.listen {
    port = 0,
    gate = function(request)
      eq(request.body, "")
      if request.headers["x-key"] ~= "k" then return { status = 401, body = "no\n" } end
      request.note = "seen"
    end,
    handler = function(request)
      handled = handled + 1
      return { body = request.note .. " " .. request.body }
    end,
  })
  check.defer(function() server:close() end)
  local url = ("http://127.0.0.1:%d/"):format(server.port)
  eq(ok(http.post(url, ("x"):rep(100000))).status, 401)
  eq(handled, 0)
  eq(ok(http.post(url, "text", { headers = { ["X-Key"] = "k" } })).body, "seen text")
  eq(ok(http.get(url, { headers = { ["X-Key"] = "k" } })).body, "seen ")
end)

test("refuses a body over the limit before the handler sees it", function()
  local seen = 0
  local _, ask = open(function()
    seen = seen + 1
    return {}
  end, { max_body = 100 })
  eq(ok(ask("POST", "/", { body = ("x"):rep(101) })).status, 413)
  eq(seen, 0)
  eq(ok(ask("POST", "/", { body = ("x"):rep(100) })).status, 200)
end)

test("lets running requests finish when it closes, and takes no new ones", function()
  local begun, finished
  local server, ask = open(function()
    begun = true
    time.sleep(0.4)
    finished = true
    return { body = "done" }
  end)
  local running = task.spawn(function() return ask("GET", "/") end)
  check.eventually(function() return begun end, 50)
  server:close()
  eq(finished, true)
  eq(ok(running:join()).body, "done")
  fails("refused", ask("GET", "/"))
  server:close()
end)

test("ends requests that outlast the limit of a close", function()
  local begun, cancelled
  local server, ask = open(function()
    local _ <close> = setmetatable({}, { __close = function() cancelled = true end })
    begun = true
    time.sleep(600)
  end)
  local running = task.spawn(function() return ask("GET", "/") end)
  check.eventually(function() return begun end, 50)
  local started = time.monotonic()
  server:close(0.3)
  ok(time.monotonic() - started > 0.2)
  local answer, err = running:join()
  eq(answer, nil)
  ok(errors.is(err), err)
  check.eventually(function() return cancelled end, 1)
end)

test("ends with the task that opened it", function()
  local port
  task.spawn(function()
    port = ok(serve.listen { port = 0, handler = echo }).port
    eq(ok(http.get(("http://127.0.0.1:%d/"):format(port))).status, 200)
  end):join()
  check.eventually(function()
    local _, err = http.get(("http://127.0.0.1:%d/"):format(port))
    return errors.is(err, "refused")
  end, 2)
end)

test("can close itself from a handler", function()
  local server, ask
  server, ask = open(function()
    server:close(0)
    return { body = "never" }
  end)
  local answer, err = ask("GET", "/")
  eq(answer, nil)
  ok(errors.is(err), err)
end)

test("leaves no descriptor and no task behind", function()
  local function fds() return #ok(fs.list "/proc/self/fd") end
  local before_fds, before_tasks = nil, task.count()
  for round = 1, 6 do
    local server = ok(serve.listen { port = 0, handler = function() time.sleep(30) end })
    local url = ("http://127.0.0.1:%d/"):format(server.port)
    local asks = {}
    for i = 1, 5 do
      asks[i] = task.spawn(function() http.get(url, { timeout = 0.2 }) end)
    end
    for _, asked in ipairs(asks) do asked:join() end
    server:close(0)
    if round == 2 then
      check.eventually(function() return task.count() <= before_tasks end, 50, "the first handlers end")
      before_fds = fds()
    end
  end
  check.eventually(function() return task.count() <= before_tasks end, 50, "the handlers end")
  check.eventually(function() return fds() <= before_fds end, 50, "the descriptors are closed")
end)

test("sends JSON that its helper made", function()
  local _, ask = open(function() return serve.json(202, { list = json.array {} }, { ["X-A"] = "b" }) end)
  local answer = ok(ask("GET", "/"))
  eq(answer.status, 202)
  eq(answer.headers["x-a"], "b")
  eq(answer.body, '{"list":[]}\n')
end)
