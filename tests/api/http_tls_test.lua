-- http over TLS: who is trusted, who is not, and what a connection is worth.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, http, proc, task = require "fs", require "http", require "proc", require "task"
local httpd = require "fixture.httpd"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- ---- a small certificate authority ----

local dir

local function openssl(...)
  local argv = { "openssl", ... }
  argv.cwd, argv.timeout = dir.path, 60
  ok(proc.check(proc.run(argv)))
end

local EC = { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes" }

local function path(name) return dir.path .. "/" .. name end

local function authority(name)
  openssl("req", "-x509", EC[1], EC[2], EC[3], EC[4], EC[5], "-days", "30", "-subj", "/CN=" .. name, "-keyout",
    name .. ".key", "-out", name .. ".crt", "-addext", "keyUsage=critical,keyCertSign")
end

-- A certificate of an authority. days < 0: expired. Options of `openssl x509` may be added.
local function issue(ca, name, alternative, options)
  options = options or {}
  local new = options.weak and { "-newkey", "rsa:1024", "-nodes" } or EC
  local argv = { "req", "-subj", "/CN=" .. name, "-keyout", name .. ".key", "-out", name .. ".csr" }
  for _, word in ipairs(new) do argv[#argv + 1] = word end
  openssl(table.unpack(argv))
  ok(fs.write(path(name .. ".ext"), "subjectAltName=" .. alternative .. "\nbasicConstraints=CA:FALSE\n"))
  argv = { "x509", "-req", "-in", name .. ".csr", "-CA", ca .. ".crt", "-CAkey", ca .. ".key", "-CAcreateserial",
    "-extfile", name .. ".ext", "-out", name .. ".crt" }
  if options.from then -- openssl's x509 cannot start in the future: ca can
    ok(fs.write(path "ca.cnf", "[d]\ndatabase=" .. path(name .. ".db") .. "\nserial=" .. path(name .. ".serial")
      .. "\nnew_certs_dir=" .. dir.path .. "\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"))
    ok(fs.write(path(name .. ".db"), ""))
    ok(fs.write(path(name .. ".serial"), "77\n"))
    argv = { "ca", "-batch", "-config", "ca.cnf", "-name", "d", "-cert", ca .. ".crt", "-keyfile", ca .. ".key", "-in",
      name .. ".csr", "-out", name .. ".crt", "-extfile", name .. ".ext", "-startdate", options.from, "-enddate",
      options.till, "-notext" }
  else
    argv[#argv + 1], argv[#argv + 2] = "-days", tostring(options.days or 30)
  end
  openssl(table.unpack(argv))
end

local HERE = "DNS:localhost,IP:127.0.0.1"
local servers = {}

local function server(name, options)
  if not dir then
    dir = ok(fs.temp_dir { prefix = "moontide-tls-" })
    check.at_end(function() dir:close() end)
    authority "ca"
    authority "other-ca"
    issue("ca", "good", HERE)
    issue("ca", "client", HERE)
    issue("other-ca", "stranger", HERE)
  end
  options = options or {}
  local key = name .. (options.ca or "") .. (options.min or "") .. (options.max or "") .. tostring(options.h2)
  if not servers[key] then
    if not fs.exists(path(name .. ".crt")) then
      issue(table.unpack(options.issue or error("no such certificate")))
    end
    servers[key] = httpd.tls {
      cert = path(name .. ".crt"), key = path(name .. ".key"), min = options.min, max = options.max, h2 = options.h2,
      ca = options.ca and path(options.ca),
    }
  end
  return servers[key]
end

-- How many connections it has seen.
local function connections(to)
  return tonumber(ok(http.get(to.url .. "/stats", { ca = path "ca.crt" })).body:match("%d+"))
end

-- ---- the tests ----

test("a certificate of a named authority is trusted, for this request only", function()
  local url = server("good").url
  eq(ok(http.get(url .. "/", { ca = path "ca.crt" })).body, "1.1 no auth")
  has(fails("tls", http.get(url .. "/")).message:lower(), "certificate")
  eq(ok(http.get(url:gsub("127.0.0.1", "localhost") .. "/", { ca = path "ca.crt" })).status, 200)
  fails("tls", http.get(url .. "/", { ca = path "other-ca.crt" }))
  eq(ok(http.get(url .. "/", { ca = path "ca.crt" })).status, 200)
end)

test("bad certificates are refused, each kind", function()
  local bad = {
    ["wrong-name"] = { "ca", "wrong-name", "DNS:example.com" },
    ["wrong-ip"] = { "ca", "wrong-ip", "IP:127.0.0.2,DNS:localhost" },
    expired = { "ca", "expired", HERE, { from = "20200101000000Z", till = "20200201000000Z" } },
    early = { "ca", "early", HERE, { from = "20900101000000Z", till = "20910101000000Z" } },
    weak = { "ca", "weak", HERE, { weak = true } },
    foreign = { "other-ca", "foreign", HERE },
  }
  server("good")
  for name, how in pairs(bad) do
    local url = server(name, { issue = how }).url
    local answer, err = http.get(url .. "/", { ca = path "ca.crt", auth = { bearer = "MOONCANARY" } })
    if answer then error(name .. " was accepted") end
    eq(err.code, "tls", name)
    eq(tostring(err):find("MOONCANARY", 1, true), nil)
  end
  -- signed by itself, and an authority used as a server
  openssl("req", "-x509", EC[1], EC[2], EC[3], EC[4], EC[5], "-days", "3", "-subj", "/CN=localhost", "-keyout",
    "self.key", "-out", "self.crt", "-addext", "subjectAltName=" .. HERE)
  fails("tls", http.get(server("self").url .. "/", { ca = path "ca.crt" }))
end)

test("old protocol versions and plain text are refused", function()
  fails("tls", http.get(server("good", { min = "TLSv1", max = "TLSv1.1" }).url .. "/", { ca = path "ca.crt" }))
  eq(ok(http.get(server("good", { min = "TLSv1.2", max = "TLSv1.2" }).url .. "/", { ca = path "ca.crt" })).status, 200)
  fails("tls", http.get(httpd.open().url:gsub("^http", "https") .. "/etag", { timeout = 5 }))
end)

test("CA files that are missing, empty or nonsense are told", function()
  local url = server("good").url
  fails("not_found", http.get(url .. "/", { ca = path "none.crt" }))
  ok(fs.write(path "empty.crt", ""))
  ok(fs.write(path "noise.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
  fails("invalid", http.get(url .. "/", { ca = path "empty.crt" }))
  fails("invalid", http.get(url .. "/", { ca = dir.path }))
  fails("tls", http.get(url .. "/", { ca = path "noise.crt" }))
end)

test("a whole bundle may be named as well", function()
  local url = server("good").url
  local stranger = ok(fs.read(path "other-ca.crt"))
  ok(fs.write(path "bundle.crt", stranger:rep(20) .. ok(fs.read(path "ca.crt")) .. stranger:rep(20)))
  ok(fs.write(path "strangers.crt", stranger:rep(41)))
  for _ = 1, 2 do
    eq(ok(http.get(url .. "/", { ca = path "bundle.crt" })).status, 200)
    fails("tls", http.get(url .. "/", { ca = path "strangers.crt" }))
    fails("tls", http.get(url .. "/"))
    eq(ok(http.get(url .. "/", { ca = path "ca.crt" })).status, 200)
    fails("tls", http.get(url .. "/"))
  end
end)

test("a CA file that changes takes effect, also on kept connections", function()
  local url = server("good").url
  ok(fs.write(path "changing.crt", ok(fs.read(path "ca.crt"))))
  eq(ok(http.get(url .. "/", { ca = path "changing.crt" })).status, 200)
  ok(fs.write(path "changing.crt", ok(fs.read(path "other-ca.crt"))))
  check.eventually(function()
    local answer, err = http.get(url .. "/", { ca = path "changing.crt" })
    return not answer and err.code == "tls"
  end, 3)
end)

test("trust in one authority is not lent to a request without it", function()
  local url = server("good").url
  for _ = 1, 3 do
    eq(ok(http.get(url .. "/", { ca = path "ca.crt" })).status, 200) -- leaves a kept connection
    fails("tls", http.get(url .. "/"))
  end
end)

test("a client certificate is shown where it is given, and only there", function()
  local url = server("good", { ca = "ca.crt" }).url
  local opts = { ca = path "ca.crt", cert = path "client.crt", key = path "client.key" }
  -- the wrong key comes first: later a kept connection would serve, which the certificate alone has opened
  fails("tls", http.get(url .. "/who", { ca = opts.ca, cert = opts.cert, key = path "stranger.key" }))
  eq(ok(http.get(url .. "/who", opts)).body, "client")
  local answer, err = http.get(url .. "/who", { ca = path "ca.crt" })
  if answer then error("served without a certificate: " .. answer.body) end
  eq(err.code == "tls" or err.code == "reset", true, err.code)
  fails("tls", http.get(url .. "/who", { ca = opts.ca, cert = path "none.crt", key = opts.key }))
  eq(ok(http.get(url .. "/who", opts)).body, "client")
  -- a redirect does not take it along
  local from = server("good").url .. "/redirect?to=" .. http.escape(url .. "/who")
  answer, err = http.get(from, opts)
  if answer then error("the redirect took the certificate along") end
  eq(err.code == "tls" or err.code == "reset", true, err.code)
end)

test("https never redirects to http", function()
  local plain = httpd.start()
  local from = server("good").url .. "/redirect?to=" .. http.escape(plain:to("catch"))
  has(fails("redirect", http.get(from, { ca = path "ca.crt" })).message, "https to http")
  eq(plain:caught(), nil)
  local up = plain:to("redirect", { to = server("good").url .. "/" })
  eq(ok(http.get(up, { ca = path "ca.crt", auth = { bearer = "x" } })).body, "1.1 no auth")
end)

test("connections are kept, and shared by one authority's file", function()
  local here = server("good", { min = "TLSv1.3" })
  local before = connections(here)
  for _ = 1, 50 do eq(ok(http.get(here.url .. "/", { ca = path "ca.crt" })).status, 200) end
  eq(connections(here), before)
end)

test("HTTP/2 is spoken where it is offered, many requests on one connection", function()
  local here = server("good", { h2 = true })
  local first = ok(http.get(here.url .. "/", { ca = path "ca.crt" }))
  eq({ first.http_version, first.body, first.etag }, { "2", "2.0 no auth", '"tls"' })
  local before, jobs = connections(here), {}
  for i = 1, 64 do
    jobs[i] = function() return ok(http.get(here.url .. "/bytes?n=" .. i * 1000, { ca = path "ca.crt" })).body end
  end
  for i, body in ipairs(task.all(jobs)) do eq(#body, i * 1000) end
  eq(connections(here), before)
  fails("too_large", http.get(here.url .. "/bytes?n=100000", { ca = path "ca.crt", max_body = 1000 }))
  fails("timeout", http.get(here.url .. "/delay?ms=3000", { ca = path "ca.crt", timeout = 0.2 }))
  eq(ok(http.get(here.url .. "/", { ca = path "ca.crt" })).status, 200)
  local function post(size)
    return ok(http.post(here.url .. "/", ("x"):rep(size), { ca = path "ca.crt", auth = { bearer = "b" } })).body
  end
  eq({ post(1000), post(100000) }, { "1.1 Bearer b", "1.1 Bearer b" }) -- see http_job.c
end)

test("a paused stream does not hold up its neighbours", function()
  local here = server("good", { h2 = true })
  local stream <close> = ok(http.get(here.url .. "/bytes?n=5000000", { ca = path "ca.crt", stream = true }))
  eq(stream.http_version, "1.1")
  ok(stream:read(1))
  for _ = 1, 5 do eq(ok(http.get(here.url .. "/", { ca = path "ca.crt", timeout = 2 })).http_version, "2") end
  local total = 1
  for piece in function() return stream:read() end do total = total + #piece end
  eq(total, 5000000)
end)

test("a connection that breaks without a farewell is broken", function()
  fails("reset", http.get(server("good").url .. "/cut", { ca = path "ca.crt" }))
end)

test("connect_to goes elsewhere and still asks for the name in the URL", function()
  local here = server("wrong-name", { issue = { "ca", "wrong-name", "DNS:example.com" } })
  local address = here.url:match("//(.+)$")
  local port = address:match(":(%d+)$")
  local function get(host, to, more)
    local opts = { ca = path "ca.crt", connect_to = to, headers = more }
    return http.get(("https://%s:%s/"):format(host, port), opts)
  end
  eq(ok(get("example.com", address)).status, 200)
  eq(ok(get("example.com", "localhost:" .. port, { Host = address })).status, 200)
  fails("tls", get("other.example.com", address))
  fails("tls", get("127.0.0.1", nil)) -- the connections above are not lent to it
  fails("dns", get("nowhere.invalid", nil))
  fails("refused", get("example.com", "127.0.0.1:1"))
  local faulty = {
    "", "host", ":1", "host:", "host:x", "a:b:1", "::1:1", "[]:1", "h:123456", "h:65536", "h:0",
    "h:1,x:2:y:3", "h /:1",
  }
  for _, wrong in ipairs(faulty) do
    check.raises("'connect_to' must be host:port", get, "example.com", wrong)
  end
  check.raises("exclude each other", http.get, "http://h/", { unix = "/x", connect_to = "h:1" })
end)

test("insecure believes whoever answers, for this request only", function()
  local url = server("good").url
  for _ = 1, 3 do
    eq(ok(http.get(url .. "/", { insecure = true })).status, 200)
    fails("tls", http.get(url .. "/"))
    eq(ok(http.get(url .. "/", { ca = path "ca.crt" })).status, 200)
  end
  check.raises("exclude each other", http.get, url, { insecure = true, ca = path "ca.crt" })
  check.raises("'insecure'", http.get, url, { insecure = "yes" })
  local away = url:gsub("127.0.0.1", "localhost") .. "/"
  fails("tls", http.get(url .. "/redirect?to=" .. http.escape(away), { insecure = true }))
end)

test("a request never goes out on the connection of a stream", function()
  local here = server("good", { h2 = true, max = "TLSv1.3" })
  local function get() return ok(http.get(here.url .. "/", { ca = path "ca.crt", timeout = 3 })).body end
  local stream <close> = ok(http.get(here.url .. "/bytes?n=5000000", { ca = path "ca.crt", stream = true }))
  ok(stream:read(1))
  for _ = 1, 3 do eq(get(), "2.0 no auth") end
  -- the same with a request that waits for its answer over HTTP/1.1, as those with a body are sent
  local waiting = task.spawn(http.post, here.url .. "/delay?ms=700", "body", { ca = path "ca.crt" })
  for _ = 1, 20 do
    eq(get(), "2.0 no auth")
    require("time").sleep(0.02)
  end
  eq(ok(waiting:join()).body, "late")
end)

test("what names a file never waits for the other end of a pipe", function()
  local place <close> = ok(fs.temp_dir())
  local pipe = place.path .. "/pipe"
  ok(proc.check(proc.run { "/usr/bin/mkfifo", pipe }))
  for _, option in ipairs { "cert", "key", "ca", "body_file" } do
    local method = option == "body_file" and "POST" or "GET"
    local answer, err = http.request { method = method, url = "https://127.0.0.1:1/", [option] = pipe, timeout = 20 }
    fails(err and err.code == "tls" and "tls" or "invalid", answer, err)
  end
end)
