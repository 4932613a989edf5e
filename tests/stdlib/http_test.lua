-- http: what callers get wrong, and the words around an answer.
---@diagnostic disable: missing-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local http = require "http"
local httpd = require "fixture.httpd"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

test("calls that make no sense raise at the caller's line", function()
  local here = "stdlib/http_test.lua:"
  for _, call in ipairs {
    function() http.get() end, function() http.get(7) end, function() http.get("http://x/", "y") end,
    function() http.post("http://x/", 7) end, function() http.put("http://x/", "a", { body = "b" }) end,
    function() http.get("http://x/", { body = "b" }) end, function() http.head("http://x/", { body_file = "b" }) end,
    function() http.request() end, function() http.request { method = "GET" } end,
    function() http.request { url = "http://x/", body = "b" } end,
  } do
    local e = raises("usage: http.", call)
    has(e, here)
  end
  raises("http.get(url [, opts])", http.get)
end)

test("options are checked by name, type and range", function()
  local url = httpd.open():to("etag")
  has(raises("did you mean 'timeout'?", function() return (http.get(url, { timeot = 3 })) end), "stdlib/http_test.lua:")
  raises("unknown option 'colour'", http.get, url, { colour = "red" })
  raises("options have names", http.get, url, { "x" })
  raises("option 'sink' must be a string", http.get, url, { sink = 7 })
  raises("option 'stream' must be a boolean", http.get, url, { stream = 1 })
  raises("option 'max_body' must be a whole number", http.get, url, { max_body = 1.5 })
  raises("at least 1", http.get, url, { max_body = 0 })
  raises("option 'connect_timeout' must be a number", http.get, url, { connect_timeout = "x" })
  raises("must not be negative", http.get, url, { idle_timeout = -1 })
  raises("option 'headers' must be a table", http.get, url, { headers = "x" })
  raises("holds a NUL byte", http.get, url, { ca = "a\0b" })
  raises("argument", http.get, url .. "\0")
  raises("upper case", http.request, { method = "get", url = url })
  raises("upper case", http.request, { method = "CONNECT", url = url })
  raises("upper case", http.request, { method = "GET / HTTP/1.1\r\nX: y", url = url })
  raises("exclude each other", http.request, { method = "PUT", url = url, body = "a", body_file = "b" })
end)

test("expect passes good answers and failures on", function()
  local server = httpd.open()
  local answer = ok(http.get(server:to("etag")))
  eq(http.expect(answer), answer)
  eq(ok(http.expect(http.get(server:to("status", { code = 304 })))).status, 304)
  local nothing, err = http.expect(http.get("http://127.0.0.1:1/"))
  eq({ nothing, err.code }, { nil, "refused" })
end)

test("expect turns a bad status into an error that says enough", function()
  local server = httpd.open()
  local err = fails("status", http.expect(http.get(server:to("status", { code = 503 }))))
  eq(err.status, 503)
  has(tostring(err), "503")
  eq(err.target, server:to("status", { code = 503 }))
  local answer, none = http.get(server:to("status", { code = 404 }))
  eq(http.expect(answer, none, { 404, 410 }), answer)
  fails("status", http.expect(answer, none, { 410 }))
  fails("status", http.expect(ok(http.get(server:to("status", { code = 302 })))))
end)

test("expect reads Retry-After when it is a number of seconds", function()
  local function wait(value)
    local data = "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\nRetry-After: " .. value .. "\r\n\r\n"
    return fails("status", http.expect(http.get(httpd.open():to("raw", { data = data })))).retry_after
  end
  eq(wait "120", 120)
  eq(wait "0", 0)
  eq(wait "-5", nil)
  eq(wait "1e9", nil)
  eq(wait "99999999999999999999", nil)
  eq(wait "Wed, 21 Oct 2026 07:28:00 GMT", nil)
end)

test("json decodes the body, or says what is wrong with it", function()
  local function get(body)
    local data = "HTTP/1.1 200 OK\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
    return ok(http.get(httpd.open():to("raw", { data = data })))
  end
  eq(get '{"a":[1,2]}':json(), { a = { 1, 2 } })
  eq(get "false":json(), false)
  local err = fails("invalid", get "<html>":json())
  eq(err.op, "http.json")
  fails("invalid", get "":json())
end)

test("link finds the next page, and does not leave the origin", function()
  local function answer(link)
    local data = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nLink: " .. link .. "\r\n\r\n"
    return ok(http.get(httpd.open():to("raw", { data = data })))
  end
  local base = httpd.open().url
  eq(answer('</v2/x/tags/list?n=2&last=b>; rel="next"'):link "next", base .. "/v2/x/tags/list?n=2&last=b")
  eq(answer('</a>; rel=prev, </b,c>; foo="x"; rel="next"'):link "next", base .. "/b,c")
  eq(answer('<' .. base .. '/p?page=2>; rel="next"\r\nLink: </l>; rel="last"'):link "last", base .. "/l")
  eq(answer('</a>; rel="next"'):link "last", nil)
  eq(answer("nonsense"):link "next", nil)
  fails("redirect", answer('<http://evil.example/>; rel="next"'):link "next")
  fails("redirect", answer('<//127.0.0.1:1/x>; rel="next"'):link "next")
  fails("redirect", answer('<http://u:p@127.0.0.1/>; rel="next"'):link "next")
end)

test("escape makes anything a part of a path or a query", function()
  eq(http.escape "a b/c?d=é&%\0", "a%20b%2Fc%3Fd%3D%C3%A9%26%25%00")
  eq(http.escape "azAZ09-._~", "azAZ09-._~")
  eq(http.escape "", "")
end)

test("an answer can be walked like a table", function()
  local seen = {}
  for name, value in pairs(ok(http.get(httpd.open():to("etag")))) do seen[name] = type(value) end
  eq(seen, { status = "number", url = "string", http_version = "string", elapsed = "number", etag = "string",
    headers = "table", body = "string" })
end)

test("URLs are understood as curl understands them", function()
  local port = httpd.open().port
  for _, url in ipairs { "http://127.0.0.1:%d/etag#fragment", "HTTP://127.0.0.1:%d/etag", "http://0x7f.1:%d/etag",
    "http://2130706433:%d/etag", "http://LOCALHOST:%d/etag", "http://127.0.0.1:%d/a/../etag" } do
    local answer = ok(http.get(url:format(port)))
    eq(answer.status, 200)
    eq(answer.url:find("#", 1, true), nil)
  end
end)

test("hosts with a second meaning are no hosts", function()
  for _, host in ipairs {
    "a%00b", "a%0ab", "0%7f", "%31", "a%25b", "a%2fb", "[fe80::1%25eth0]", "a\\b", "a%20b", "a{b",
  } do
    local _, err = http.get("http://" .. host .. "/")
    eq(err and err.code, "invalid", host)
  end
end)
