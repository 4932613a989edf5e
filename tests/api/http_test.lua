-- http: one request against the scripted server: methods, headers, bodies, limits, time, cancellation.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, http, sys, task, time = require "fs", require "http", require "base.sys", require "task", require "time"
local httpd = require "fixture.httpd"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

local function server() return httpd.open() end

local function count_fds() return #ok(fs.list("/proc/self/fd")) end

-- The echoed request as its first line, a table of headers (lower case, lists), and the body.
local function echo(answer)
  local head, body = answer.body:match("^(.-\r\n)\r\n(.*)$")
  local first, headers = head:match("^([^\r]*)\r\n"), {}
  for name, value in head:gmatch("\n([^:\r\n]+): ?([^\r\n]*)\r") do
    headers[name:lower()] = headers[name:lower()] or {}
    table.insert(headers[name:lower()], value)
  end
  return first, headers, body
end

-- ---- methods and bodies ----

test("sends each method, with the body that belongs to it", function()
  local url = server():to("echo")
  local line, headers, body, _ = echo(ok(http.get(url)))
  eq(line, "GET /echo HTTP/1.1")
  eq(headers["content-length"], nil)
  eq(body, "")
  line, headers, body = echo(ok(http.post(url, "text")))
  eq({ line, headers["content-length"], headers["content-type"], body },
    { "POST /echo HTTP/1.1", { "4" }, nil, "text" })
  line, headers, body = echo(ok(http.put(url, "text", { headers = { ["content-TYPE"] = "text/x" } })))
  eq({ line, headers["content-type"], body }, { "PUT /echo HTTP/1.1", { "text/x" }, "text" })
  line, _, body = echo(ok(http.patch(url, "text")))
  eq({ line, body }, { "PATCH /echo HTTP/1.1", "text" })
  line, headers = echo(ok(http.delete(url)))
  eq({ line, headers["content-length"] }, { "DELETE /echo HTTP/1.1", nil })
  line, _, body = echo(ok(http.request { method = "PROPFIND", url = url, body = "x" }))
  eq({ line, body }, { "PROPFIND /echo HTTP/1.1", "x" })
end)

test("a POST or PUT without a body says so", function()
  for _, method in ipairs { "POST", "PUT", "PATCH" } do
    local line, headers = echo(ok(http.request { method = method, url = server():to("echo") }))
    eq(line, method .. " /echo HTTP/1.1")
    eq(headers["content-length"], { "0" })
    eq(headers["content-type"], nil)
  end
end)

test("HEAD has headers and no body, whatever length is claimed", function()
  local answer = ok(http.head(server():to("huge")))
  eq(answer.status, 200)
  eq(answer.headers["content-length"], "1000000000")
  eq(answer.body, "")
end)

test("sends bytes of any kind, and large bodies without waiting for permission", function()
  local every = {}
  for i = 0, 255 do every[i + 1] = string.char(i) end
  local bytes = table.concat(every)
  local _, _, body = echo(ok(http.post(server():to("echo"), bytes)))
  eq(body == bytes, true)
  local large = ("x"):rep(3 << 20)
  local _, headers, back = echo(ok(http.post(server():to("echo"), large)))
  eq(back == large, true)
  eq(headers.expect, nil)
end)

test("sends a table as JSON", function()
  local _, headers, body = echo(ok(http.post(server():to("echo"), { a = 1 })))
  eq({ headers["content-type"], body }, { { "application/json" }, '{"a":1}' })
  _, headers = echo(ok(http.post(server():to("echo"), { a = 1 }, { headers = { ["Content-type"] = "a/b" } })))
  eq(headers["content-type"], { "a/b" })
end)

test("sends a file, again when a kept connection was dead", function()
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/body"
  ok(fs.write(path, ("0123456789"):rep(20000)))
  local line, headers, body = echo(ok(http.request { method = "PUT", url = server():to("echo"), body_file = path }))
  eq({ line, headers["content-length"], #body, body:sub(-10) },
    { "PUT /echo HTTP/1.1", { "200000" }, 200000, "0123456789" })
  line = echo(ok(http.post(server():to("echo"), nil, { body_file = path })))
  eq(line, "POST /echo HTTP/1.1")
  fails("not_found", http.put(server():to("echo"), nil, { body_file = dir.path .. "/none" }))
  fails("invalid", http.put(server():to("echo"), nil, { body_file = dir.path }))
end)

-- ---- headers ----

test("headers are read in any case, and several values are kept", function()
  local answer = ok(http.get(server():to("multi")))
  eq(answer.headers["LINK"], '<a>; rel="next", <b>; rel="last"')
  eq(answer.headers:all("Link"), { '<a>; rel="next"', '<b>; rel="last"' })
  eq(answer.headers:all("none"), {})
  eq(answer.headers.none, nil)
  local names = {}
  for name in pairs(answer.headers) do names[#names + 1] = name end
  eq(names, { "content-type", "link", "all", "content-length" })
end)

test("a server's header never becomes a method", function()
  local answer = ok(http.get(server():to("multi"))) -- it has a header called All
  eq(answer.headers:all("all"), { "mine" })
end)

test("sends headers as given: lists, numbers, empty values", function()
  local _, headers = echo(ok(http.get(server():to("echo"), {
    headers = { ["X-List"] = { "a", "b" }, ["X-Number"] = 7, ["X-Empty"] = "", Accept = "application/json" },
  })))
  eq(headers["x-list"], { "a", "b" })
  eq(headers["x-number"], { "7" })
  eq(headers["x-empty"], { "" })
  eq(headers.accept, { "application/json" })
  has(headers["user-agent"][1], "moontide/")
end)

test("refuses headers that would smuggle another one", function()
  for _, value in ipairs { "a\r\nX-Evil: 1", "a\nb", "a\0b", "a\r" } do
    local e = raises("holds a line break or a NUL byte", http.get, server():to("catch"), { headers = { X = value } })
    eq(tostring(e):find("Evil", 1, true), nil)
    raises("holds a line break", http.get, server():to("catch"), { etag = value })
    raises("holds a line break", http.get, server():to("catch"), { auth = { bearer = value } })
  end
  raises("a character that is not allowed", http.get, server():to("catch"), { headers = { ["X: y"] = "z" } })
  raises("a character that is not allowed", http.get, server():to("catch"), { headers = { [""] = "z" } })
  for _, name in ipairs { "Content-Length", "transfer-encoding", "CONNECTION", "Expect" } do
    raises("is set by the client itself", http.get, server():to("catch"), { headers = { [name] = "1" } })
  end
  raises("must be a string", http.get, server():to("catch"), { headers = { X = true } })
  raises("must be a string", http.get, server():to("catch"), { headers = { X = { {} } } })
  raises("header names must be strings", http.get, server():to("catch"), { headers = { "x" } })
  eq(server():caught(), nil)
end)

test("too many or too large headers are refused", function()
  eq(ok(http.get(server():to("headers", { n = 200, size = 100 }))).headers["x-199"], ("h"):rep(100))
  has(fails("too_large", http.get(server():to("headers", { n = 300, size = 1 }))).message, "headers")
  fails("too_large", http.get(server():to("headers", { n = 10, size = 10000 })))
  fails("too_large", http.get(server():to("headers", { n = 3, size = 60000 })))
end)

test("a folded header is one header, a NUL byte is none", function()
  local head = "HTTP/1.1 200 OK\r\nX-A: one\r\n  two\r\nContent-Length: 0\r\n\r\n"
  eq(ok(http.get(server():to("raw", { data = head }))).headers["x-a"], "one two")
  fails("protocol", http.get(server():to("raw", { data = "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n" })))
end)

test("interim answers and trailers are not the answer", function()
  local text = "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "2\r\nok\r\n0\r\nX-Trailer: yes\r\n\r\n"
  local answer = ok(http.get(server():to("raw", { data = text })))
  eq({ answer.status, answer.body, answer.headers.link, answer.headers["x-trailer"] }, { 200, "ok" })
end)

-- ---- credentials ----

test("auth becomes a header; a URL's user moves there and nowhere else", function()
  local url = server().url
  local function sent(target, opts)
    local _, headers = echo(ok(http.get(target, opts)))
    return headers.authorization
  end
  eq(sent(url .. "/echo", { auth = { user = "Aladdin", password = "open sesame" } }),
    { "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" })
  eq(sent(url .. "/echo", { auth = { user = "u" } }), { "Basic dTo=" })
  eq(sent(url .. "/echo", { auth = { bearer = "t0k" } }), { "Bearer t0k" })
  local with_user = url:gsub("//", "//us%%65r:p%%40ss@", 1)
  eq(sent(with_user .. "/echo"), { "Basic dXNlcjpwQHNz" })
  eq(sent(with_user .. "/echo", { auth = { bearer = "t0k" } }), { "Bearer t0k" })
  eq(ok(http.get(with_user .. "/echo")).url, url .. "/echo")
  local err = fails("reset", http.get(with_user .. "/close"))
  eq(err.target, url .. "/close")
  eq(tostring(err):find("p@ss", 1, true) or tostring(err):find("p%40ss", 1, true), nil)
end)

test("a URL that cannot be parsed does not show its password", function()
  for _, url in ipairs { "http://user:MOONCANARY@/x", "http://u:MOONCANARY@a b/", "ftp://u:MOONCANARY@h/x",
    "MOONCANARY@x://", "http://x:MOONCANARY@h:99999999/", " http://u:MOONCANARY@h/x", "http//u:MOONCANARY@h/x",
    "//u:MOONCANARY@h/x", "http:/u:MOONCANARY@[h/x", "http://u:MOONCANARY/x@h:1/", "http://u:p?MOONCANARY@h:x/",
    "http://h:x/?mail=a@MOONCANARY" } do
    local value, err = http.get(url)
    eq(value, nil)
    eq(tostring(err):find("MOONCANARY", 1, true), nil, url)
  end
end)

test("refuses auth that cannot be sent or says too much", function()
  local url = server():to("echo")
  raises("cannot hold a colon", http.get, url, { auth = { user = "a:b" } })
  raises("exclude each other", http.get, url, { auth = { bearer = "x", user = "y" } })
  raises("did you mean 'password'", http.get, url, { auth = { user = "x", pasword = "y" } })
  raises("must be {user=", http.get, url, { auth = "x" })
  raises("exclude each other", http.get, url, { auth = { bearer = "x" }, headers = { AUTHORIZATION = "y" } })
  raises("exclude each other", http.get, url, { etag = "x", headers = { ["If-none-match"] = "y" } })
end)

test("the next request knows nothing of the last one", function()
  local url = server():to("echo")
  ok(http.post(url, "MOONCANARY", { auth = { bearer = "MOONCANARY" }, headers = { ["X-T"] = "MOONCANARY" } }))
  ok(http.get(url, { auth = { user = "MOONCANARY", password = "x" }, headers = { ["X-T"] = "MOONCANARY" } }))
  for _ = 1, 3 do
    local line, headers, body = echo(ok(http.get(url)))
    eq({ line, headers["x-t"], headers.authorization, body }, { "GET /echo HTTP/1.1", nil, nil, "" })
  end
end)

-- ---- conditional requests ----

test("an unchanged answer is 304 with an empty body", function()
  local first = ok(http.get(server():to("etag")))
  eq({ first.status, first.body, first.etag }, { 200, "first", '"v1"' })
  local again = ok(http.get(server():to("etag"), { etag = first.etag }))
  eq({ again.status, again.body, again.etag }, { 304, "", '"v1"' })
  eq(ok(http.get(server():to("etag"), { etag = '"v0"' })).status, 200)
end)

-- ---- size ----

test("a body over the limit is refused, when it is announced and when it just goes on", function()
  local has_limit = "limit of 8388608 bytes"
  has(fails("too_large", http.get(server():to("huge"))).message, has_limit)
  has(fails("too_large", http.get(server():to("endless"))).message, has_limit)
  has(fails("too_large", http.get(server():to("bytes", { n = 1001 }), { max_body = 1000 })).message, "1000 bytes")
  eq(#ok(http.get(server():to("bytes", { n = 1000 }), { max_body = 1000 })).body, 1000)
  fails("too_large", http.get(server():to("raw", { data = "HTTP/1.1 200 OK\r\n\r\n0123456789" }), { max_body = 9 }))
  fails("too_large", http.post(server():to("endless"), "x", { max_body = 100000 }))
end)

test("an endless body costs no more memory than its limit", function()
  if sys.exe():find("/asan/", 1, true) then check.skip("the sanitizer keeps freed memory for a while") end
  local before = ok(fs.read("/proc/self/statm")):match("%d+ (%d+)")
  for _ = 1, 5 do fails("too_large", http.get(server():to("endless"), { max_body = 1 << 20 })) end
  local after = ok(fs.read("/proc/self/statm")):match("%d+ (%d+)")
  eq((tonumber(after) - tonumber(before)) * 4096 < 6 << 20, true)
end)

-- ---- time ----

-- A generous limit: without one of its own a request would have 30 s, and these answers take longer than that.
local function within(code, ...) return fails(code, task.deadline(25, http.get, ...)) end

test("slow answers, slow headers and dripping bodies end in time", function()
  within("timeout", server():to("delay", { ms = 60000 }), { timeout = 0.2 })
  within("timeout", server():to("slow-head", { ms = 5000 }), { timeout = 0.2 })
  within("timeout", server():to("drip", { n = 10000, ms = 50 }), { timeout = 0.2 })
  within("timeout", server():to("lines", { n = 10000, ms = 20 }), { timeout = 0.2 })
end)

test("a body that falls silent ends after the idle time", function()
  local err = within("timeout", server():to("drip", { n = 2, ms = 60000 }), { idle_timeout = 1 })
  has(err.message, "too slow")
end)

test("nobody there, nobody known, no way", function()
  has(within("refused", "http://127.0.0.1:1/").message, "127.0.0.1")
  fails("refused", http.get("http://here/", { unix = "/nonexistent/socket" }))
  fails("dns", http.get("http://nothing.invalid/", { timeout = 20 }))
  fails("unsupported", http.get("ftp://127.0.0.1/"))
  fails("unsupported", http.get("file:///etc/passwd"))
  for _, url in ipairs {
    "", "x", "http://", "http:///", "//host/", "http://a b/", "http://a/\r\nX: y", "http://[::1",
  } do
    fails("invalid", http.get(url))
  end
  fails("too_large", http.get("http://x/" .. ("a"):rep(20000)))
end)

test("a broken connection and a broken answer are told apart", function()
  fails("reset", http.get(server():to("reset", { at = 0 })))
  fails("reset", http.get(server():to("reset", { at = 10 })))
  fails("reset", http.get(server():to("reset", { at = 50 })))
  fails("reset", http.get(server():to("close")))
  fails("reset", http.get(server():to("truncate", { n = 100, send = 50 })))
  fails("reset", http.get(server():to("truncate", { n = 100, send = 50, chunked = 1 })))
  local function raw(data) return http.get(server():to("raw", { data = data })) end
  fails("protocol", raw("hello"))
  fails("protocol", raw("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"))
  fails("protocol", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))
  fails("protocol", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"))
end)

-- ---- cancellation ----

test("a cancelled request frees its connection at once", function()
  local fds, before = count_fds(), http.stats()
  for _, path in ipairs { "delay?ms=5000", "endless", "slow-head?ms=1000", "drip?n=1000&ms=100" } do
    local handle = task.spawn(function() return http.get(server():to(path), { max_body = 1 << 40 }) end)
    time.sleep(0.1)
    eq(http.stats().active, 1)
    handle:cancel()
    fails("cancelled", handle:join())
    eq(http.stats().active, 0)
  end
  eq(http.stats().sockets <= before.sockets + 1, true)
  eq(count_fds() <= fds + 1, true)
end)

test("a deadline reaches into a transfer", function()
  local e = raises("", task.deadline, 0.2, http.get, server():to("drip", { n = 10000, ms = 20 }))
  eq(e.code, "deadline")
  eq(http.stats().active, 0)
end)

test("an endless answer starves nobody", function()
  local handle = task.spawn(function()
    return http.get(server():to("endless"), { max_body = 1 << 40, timeout = 60 })
  end)
  time.sleep(0.05)
  local worst = 0
  for _ = 1, 20 do
    local used = time.cpu()
    eq(ok(http.get(server():to("etag"))).status, 200)
    worst = math.max(worst, time.cpu() - used)
  end
  handle:cancel()
  if worst > 0.5 then error(("a neighbour waited for %.3f s of work"):format(worst)) end
end)

test("a cancelled sink leaves nothing behind", function()
  local dir <close> = ok(fs.temp_dir())
  local path, known = dir.path .. "/out", {}
  for _, fd in ipairs(ok(fs.list("/proc/self/fd"))) do known[fd] = true end
  local handle = task.spawn(function() return http.get(server():to("endless"), { sink = path }) end)
  local function open() -- its file, which has no name of its own
    for _, fd in ipairs(ok(fs.list("/proc/self/fd"))) do
      local file = fs.stat("/proc/self/fd/" .. fd)
      if file and file.type == "file" and file.size > 0 and not known[fd] then return true end
    end
  end
  check.eventually(open)
  eq(fs.exists(path), false)
  handle:cancel()
  fails("cancelled", handle:join())
  eq(#ok(fs.list(dir.path)), 0)
end)

-- ---- connections ----

test("connections are kept: a thousand requests over one", function()
  local before, fds = server():stats().connections, count_fds()
  for i = 1, 1000 do
    local answer = ok(http.get(server():to("status", { code = i % 2 == 0 and 304 or 200 })))
    if i % 100 == 0 then eq(answer.status, 304) end
  end
  eq(server():stats().connections, before)
  eq(count_fds(), fds)
end)

test("64 at once, again and again, without growing", function()
  local function round(path)
    local jobs = {}
    for i = 1, 64 do
      jobs[i] = function() return ok(http.get(server():to(path, { n = i * 100, ms = 100 }))).body end
    end
    return task.all(jobs)
  end
  round("delay") -- now each of the 64 has had a connection
  local before, fds = server():stats().connections, count_fds()
  for _ = 1, 10 do
    for i, body in ipairs(round("bytes")) do eq(#body, i * 100) end
  end
  eq(server():stats().connections, before)
  eq(count_fds(), fds)
  eq(http.stats().idle <= 64, true)
end)

test("a kept connection that died is replaced without a word", function()
  local fresh = httpd.start() -- others have many connections to the shared one, and all of them would die
  local url = fresh:to("once")
  for _ = 1, 3 do
    eq(ok(http.get(url)).body, "once") -- the server closes instead of answering the second one
    eq(ok(http.get(url)).body, "once")
  end
  eq(ok(http.get(server():to("last"))).body, "bye")
  for _ = 1, 300 do eq(ok(http.get(fresh:to("abrupt"))).body, "abrupt") end -- dead sooner or later than our next
end)

test("speaks over UNIX sockets", function()
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/s"
  httpd.unix(path)
  local line, headers = echo(ok(http.get("http://docker/echo?a=b", { unix = path })))
  eq({ line, headers.host }, { "GET /echo?a=b HTTP/1.1", { "docker" } })
  eq(ok(http.get(server():to("etag"))).status, 200) -- and the next one does not
  raises("107 bytes", http.get, "http://docker/", { unix = "/" .. ("x"):rep(107) })
end)

-- ---- sinks ----

test("a sink has the whole body or is not there", function()
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/out"
  local answer = ok(http.get(server():to("bytes", { n = 200000 }), { sink = path }))
  eq({ answer.status, answer.body, #ok(fs.read(path)) }, { 200, "", 200000 })
  ok(http.get(server():to("bytes", { n = 5 }), { sink = path }))
  eq(fs.read(path), "xxxxx")
  fails("reset", http.get(server():to("truncate", { n = 100, send = 50 }), { sink = path }))
  fails("too_large", http.get(server():to("bytes", { n = 100 }), { sink = path, max_body = 50 }))
  eq(fs.read(path), "xxxxx")
  local missing = ok(http.get(server():to("nothing"), { sink = path }))
  eq({ missing.status, missing.body, fs.read(path) }, { 404, "no such script", "xxxxx" })
  ok(http.get(server():to("bytes", { n = 0 }), { sink = path }))
  eq(fs.read(path), "")
  eq(#ok(fs.list(dir.path)), 1)
  fails("not_found", http.get(server():to("bytes"), { sink = dir.path .. "/none/out" }))
  raises("exclude each other", http.get, server():to("bytes"), { sink = path, stream = true })
end)
