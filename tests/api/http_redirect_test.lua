-- http: redirects, mostly by servers that fish for secrets.
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, http = require "fs", require "http"
local httpd = require "fixture.httpd"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

local CANARY = "MOONCANARY"
local CODES = { 301, 302, 303, 307, 308 }

-- What a careful and a careless caller may send along.
local SECRETS = {
  { auth = { bearer = CANARY } },
  { auth = { user = "u", password = CANARY } },
  { headers = { ["PRIVATE-TOKEN"] = CANARY, ["X-Registry-Auth"] = CANARY, Cookie = "s=" .. CANARY } },
  { headers = { authorization = "token " .. CANARY, ["Proxy-Authorization"] = CANARY, Host = CANARY .. ".example" } },
}

local BASIC = "TU9PTkNBTkFSWQ" -- a part of the canary in base64, as it appears after "u:"

local function no_canary(text)
  if text:find(CANARY, 1, true) or text:find(BASIC, 1, true) or text:lower():find("authorization", 1, true) then
    error("a secret arrived:\n" .. text, 2)
  end
end

local function first() return httpd.open() end
local other

-- The server that must not see secrets: fresh for each test.
local function second()
  if other then other:close() end
  other = httpd.start()
  return other
end

test("redirects of a GET are followed, whatever their kind", function()
  for _, code in ipairs(CODES) do
    local answer = ok(http.get(first():to("redirect", { to = "/echo?x=1", code = code })))
    eq(answer.status, 200)
    eq(answer.url, first().url .. "/echo?x=1")
    has(answer.body, "GET /echo?x=1 HTTP/1.1")
    eq(ok(http.head(first():to("redirect", { to = "/etag", code = code }))).etag, '"v1"')
  end
  eq(ok(http.get(first():to("redirect", { to = "etag" }))).body, "first") -- relative to the path
  eq(ok(http.get(first():to("redirect", { to = "?code=418" }))).status, 418) -- the same path, another query
end)

test("other 3xx answers, and those without a Location, are answers", function()
  eq(ok(http.get(first():to("redirect", { to = "/etag", code = 300 }))).status, 300)
  eq(ok(http.get(first():to("redirect", { to = "/etag", code = 304 }))).status, 304)
  eq(ok(http.get(first():to("status", { code = 302 }))).status, 302)
end)

test("the number of redirects is limited, and none means none", function()
  has(fails("redirect", http.get(first():to("loop"))).message, "more than 5")
  has(fails("redirect", http.get(first():to("loop"), { redirects = 2 })).message, "more than 2")
  local answer = ok(http.get(first():to("loop"), { redirects = 0 }))
  eq({ answer.status, answer.headers.location }, { 302, "/loop" })
  raises("whole number", http.get, first():to("loop"), { redirects = -1 })
  raises("whole number", http.get, first():to("loop"), { redirects = 1.5 })
end)

test("the time limit is for all hops together", function()
  local slow = first():to("redirect", { to = first():to("delay", { ms = 60000 }) })
  require("task").deadline(25, function() fails("timeout", http.get(slow, { timeout = 0.3 })) end) -- each hop has 30 s
end)

test("nothing secret reaches another port, under any status", function()
  for _, code in ipairs(CODES) do
    local thief = second()
    for i, secret in ipairs(SECRETS) do
      local opts = { headers = { Accept = "a/b", Range = "bytes=0-9", ["User-Agent"] = "me" }, auth = secret.auth }
      for name, value in pairs(secret.headers or {}) do opts.headers[name] = value end
      opts.etag = '"x"'
      local answer = ok(http.get(first():to("redirect", { to = thief:to("catch" .. i), code = code }), opts))
      eq({ answer.status, answer.url }, { 200, thief:to("catch" .. i) })
      local seen = thief:caught()
      no_canary(seen)
      has(seen, "GET /catch" .. i .. " HTTP/1.1")
      has(seen, "Accept: a/b")
      has(seen, "Range: bytes=0-9")
      has(seen, "User-Agent: me")
      has(seen, 'If-None-Match: "x"')
    end
  end
end)

test("nothing secret reaches another name of the same machine, or comes back with a later hop", function()
  local thief = second()
  local there = thief.url:gsub("127%.0%.0%.1", "localhost")
  ok(http.get(first():to("redirect", { to = there .. "/catch" }), SECRETS[1]))
  no_canary(thief:caught())
  -- first -> thief -> first: what was dropped stays dropped
  local back = thief:to("redirect", { to = first():to("echo") })
  no_canary(ok(http.get(first():to("redirect", { to = back }), SECRETS[3])).body)
  no_canary(ok(http.get(first():to("redirect", { to = back }), SECRETS[1])).body)
end)

test("credentials stay within one origin", function()
  for _, secret in ipairs(SECRETS) do
    if not (secret.headers and secret.headers.Host) then
      local answer = ok(http.get(first():to("redirect", { to = "/echo" }), secret))
      eq(answer.body:find(CANARY, 1, true) ~= nil or answer.body:find("dTpNT09OQ0FOQVJZ", 1, true) ~= nil, true)
    end
  end
  local with_user = first().url:gsub("//", "//u:" .. CANARY .. "@")
  has(ok(http.get(with_user .. "/redirect?to=/echo")).body, "Authorization: Basic")
end)

test("a URL's user does not travel", function()
  local thief = second()
  local with_user = first():to("redirect", { to = thief:to("catch") }):gsub("//", "//u:" .. CANARY .. "@", 1)
  local answer = ok(http.get(with_user))
  no_canary(thief:caught())
  no_canary(answer.url)
end)

test("a redirect that looks like the same place is another one", function()
  local thief = second()
  local port = tostring(first().port)
  -- protocol-relative, a backslash, a user's name that looks like a host, tabs and spaces
  ok(http.get(first():to("redirect", { to = thief.url:gsub("^http:", "") .. "/catch" }), SECRETS[1]))
  no_canary(thief:caught())
  for _, to in ipairs {
    "http://127.0.0.1:" .. port .. "@127.0.0.1:" .. thief.port .. "/catch2",
    "//u:p@127.0.0.1:" .. thief.port .. "/catch2",
    "http://u@127.0.0.1:" .. thief.port .. "/catch2",
    "http://@127.0.0.1:" .. thief.port .. "/catch2",
  } do
    has(fails("redirect", http.get(first():to("redirect", { to = to }), SECRETS[1])).message, "user's name")
  end
  no_canary(thief:caught())
end)

test("line breaks in a Location are refused, raw and encoded", function()
  local thief = second()
  for _, to in ipairs {
    thief.url .. "/catch\rX-Evil: 1", thief.url .. "/catch\tx", thief.url .. "/catch%0d%0aX-Evil:%201",
    thief.url .. "/catch%0AX", thief.url .. "/catch%00", thief.url .. "/catch\1",
  } do
    has(fails("redirect", http.get(first():to("redirect", { to = to }))).message, "line break")
  end
  eq(thief:caught(), nil)
  -- a real line break ends the header: what follows is a header of the answer, not of our next request
  ok(http.get(first():to("redirect", { to = thief.url .. "/catch\r\nX-Evil: 1" })))
  eq(thief:caught():find("Evil", 1, true), nil)
end)

test("several Locations, other schemes and nonsense are refused", function()
  has(fails("redirect", http.get(first():to("redirect", { to = "/etag\r\nLocation: /echo" }))).message, "several")
  for _, to in ipairs { "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/_x", "javascript:alert(1)",
    "data:text/plain,x", "http://", "http://[::1", "unix:///var/run/docker.sock" } do
    fails("redirect", http.get(first():to("redirect", { to = to })))
  end
end)

test("odd characters in a Location are encoded, not passed on", function()
  local answer = ok(http.get(first():to("redirect", { to = "/echo?a b\xc3\xa9" })))
  has(answer.body, "GET /echo?a+b%c3%a9 HTTP/1.1")
end)

test("a redirect's query is not shown in errors", function()
  local to = second():to("close", { signature = CANARY })
  local err = fails("reset", http.get(first():to("redirect", { to = to })))
  eq(err.target, other.url .. "/close?...")
  local loop = first():to("redirect", { to = other:to("redirect", { to = "/loop", token = CANARY }) })
  no_canary(tostring(fails("redirect", http.get(loop))))
  local answer = ok(http.get(first():to("redirect", { to = other:to("status", { code = 500, token = CANARY }) })))
  no_canary(tostring(fails("status", http.expect(answer))))
  no_canary(tostring(fails("invalid", answer:json())))
end)

test("methods that change something are not repeated elsewhere", function()
  local thief = second()
  for _, method in ipairs { "POST", "PUT", "PATCH", "DELETE" } do
    for _, code in ipairs(CODES) do
      local url = first():to("redirect", { to = thief:to("catch"), code = code })
      eq(ok(http.request { method = method, url = url }).status, code) -- by default an answer
      if code ~= 303 then
        local err = fails("redirect", http.request { method = method, url = url, body = CANARY, redirects = 3 })
        has(err.message, method)
        no_canary(tostring(err))
      end
    end
  end
  eq(thief:caught(), nil)
end)

test("303 turns a POST into a GET without its body", function()
  local thief = second()
  local url = first():to("redirect", { to = thief:to("catch"), code = 303 })
  local opts = { redirects = 3, headers = { ["Content-Type"] = "text/x", Accept = "a/b", ["X-T"] = CANARY } }
  ok(http.post(url, CANARY, opts))
  local seen = thief:caught()
  no_canary(seen)
  has(seen, "GET /catch HTTP/1.1")
  eq(seen:lower():find("content-", 1, true), nil)
  local same = ok(http.post(first():to("redirect", { to = "/echo", code = 303 }), "text", opts)).body
  has(same, "GET /echo HTTP/1.1")
  has(same, "X-T: " .. CANARY)
  eq(same:lower():find("content-", 1, true), nil)
end)

test("a redirect does not lead out of a UNIX socket", function()
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/s"
  httpd.unix(path)
  eq(ok(http.get("http://docker/redirect?to=/etag", { unix = path })).body, "first")
  has(fails("redirect", http.get("http://docker/redirect?to=" .. http.escape(first():to("catch")), { unix = path }))
    .message, "UNIX socket")
end)

test("bodies of redirects count, sinks and streams skip them", function()
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/out"
  local to = first():to("redirect", { to = first():to("bytes", { n = 1000 }) })
  ok(http.get(to, { sink = path }))
  eq(#ok(fs.read(path)), 1000)
  local stream <close> = ok(http.get(to, { stream = true }))
  eq(#stream:read(), 1000)
  eq(#ok(fs.list(dir.path)), 1)
end)
