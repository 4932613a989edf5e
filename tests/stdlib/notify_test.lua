-- Messages to people, taken by a server of our own.
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local errors, json, log, serve, time = require "errors", require "json", require "log", require "serve", require "time"
local notify, secret = require "tell.notify", require "config.secret"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- A receiver that answers with answer(count); what it got, and its address with a path that is a secret.
local function receiver(answer)
  local got = {}
  local s = ok(serve.listen { address = "127.0.0.1", port = 0, max_body = 1 << 20, handler = function(request)
    got[#got + 1] = {
      path = request.path, type = request.headers["content-type"], auth = request.headers.authorization,
      body = json.decode(request.body), at = time.monotonic(),
    }
    return answer and answer(#got) or { status = 200, body = "ok" }
  end })
  check.defer(function() s:close(0) end)
  return ("http://127.0.0.1:%d/services/canary-in-path"):format(s.port), got
end

local function kept(text)
  local path = lab.dir("secret") .. "/value"
  lab.write(path, text .. "\n")
  return secret.new("file", path)
end

local MESSAGE <const> = {
  level = "error", title = "web staging", text = "took back v2", app = "web", environment = "staging", version = "v2",
  commit = ("c"):rep(40), run = 7,
}

local function message(more)
  local m = {}
  for k, v in pairs(MESSAGE) do m[k] = v end
  for k, v in pairs(more or {}) do m[k] = v end
  return m
end

local function cfg(channels) return { notify = channels } end

test("a webhook gets the message as JSON, with its bearer token", function()
  local url, got = receiver()
  ok(notify.send(cfg { ops = { kind = "webhook", url = url, token = kept "token-of-ops" } }, { "ops" }, message()))
  eq(#got, 1)
  eq({ got[1].path, got[1].type, got[1].auth },
    { "/services/canary-in-path", "application/json", "Bearer token-of-ops" })
  local body = got[1].body
  eq(type(time.parse_iso(body.at)), "number")
  body.at = nil
  eq(body, message())
end)

test("Slack gets text in which nothing commands it", function()
  local url, got = receiver()
  ok(notify.send(cfg { ops = { kind = "slack", url = kept(url) } }, { "ops" },
    message { title = "a & b", text = "<!channel> see <https://evil|here> & fix *it*\nnow" }))
  eq(got[1].body, { text = "a &amp; b", attachments = { {
    color = "danger", text = "&lt;!channel&gt; see &lt;https://evil|here&gt; &amp; fix *it*\nnow",
    fallback = "&lt;!channel&gt; see &lt;https://evil|here&gt; &amp; fix *it*\nnow",
  } } })
  eq(got[1].auth, nil)
end)

test("long and broken texts arrive whole enough to read", function()
  local url, got = receiver()
  local channels = cfg { slack = { kind = "slack", url = url }, hook = { kind = "webhook", url = url } }
  ok(notify.send(channels, { "slack", "hook" }, message { text = ("<ä"):rep(9000), title = "broken \xff\xfe text" }))
  local slack = got[1].body.attachments[1].text
  eq(slack:sub(-9), "&lt;ä...")
  eq(#slack:gsub("&lt;", "<") <= 3000, true)
  eq(got[1].body.text, "broken ? text")
  eq({ #got[2].body.text <= 8000, utf8.len(got[2].body.text) ~= nil }, { true, true })
end)

test("a server in trouble is tried again, three times in all", function()
  local url, got = receiver(function(n) return { status = n < 3 and 503 or 204 } end)
  ok(notify.send(cfg { ops = { kind = "webhook", url = url } }, { "ops" }, message()))
  eq(#got, 3)
  eq(got[2].at - got[1].at >= 0.9 and got[3].at - got[2].at >= 3.9, true)
  local down, asked = receiver(function() return { status = 500, body = "canary in the answer" } end)
  local err = fails("status", notify.send(cfg { ops = { kind = "webhook", url = down } }, { "ops" }, message()))
  eq({ #asked, err.message }, { 3, "ops was not told: status 500" })
end)

test("Retry-After is obeyed; a refusal is not repeated", function()
  local later = { status = 429, headers = { ["Retry-After"] = "2" } }
  local url, got = receiver(function(n) return n == 1 and later or {} end)
  ok(notify.send(cfg { ops = { kind = "slack", url = url } }, { "ops" }, message()))
  eq(got[2].at - got[1].at >= 1.9, true)
  for _, status in ipairs { 400, 401, 403, 404, 302 } do
    local no, asked = receiver(function()
      return { status = status, headers = { Location = "http://127.0.0.1:1/" } }
    end)
    fails("status", notify.send(cfg { ops = { kind = "slack", url = no } }, { "ops" }, message()))
    eq(#asked, 1)
  end
end)

test("all channels are tried, and the first failure is told", function()
  local url, got = receiver()
  local broken = receiver(function() return { status = 404 } end)
  local channels = cfg {
    a = { kind = "webhook", url = broken }, b = { kind = "slack", url = url }, c = { kind = "webhook", url = url },
  }
  local err = fails("status", notify.send(channels, { "a", "b", "c" }, message()))
  has(err.message, "a was not told: status 404")
  eq(#got, 2)
  ok(notify.send(channels, {}, message()))
end)

test("neither the address, nor the token, nor a secret in the text gets out", function()
  log.secret "canary-in-text"
  local url, got = receiver()
  for _, kind in ipairs { "webhook", "slack" } do
    ok(notify.send(cfg { ops = { kind = kind, url = url } }, { "ops" },
      message { text = "it said canary-in-text", title = "canary-in-text" }))
  end
  eq((json.encode(got[1].body) .. json.encode(got[2].body)):find("canary", 1, true), nil)

  local function shows_nothing(channel)
    local _, err = notify.send(cfg { ops = channel }, { "ops" }, message())
    local all = tostring(ok(err)) .. json.encode(errors.plain(err))
    eq(all:find("canary", 1, true), nil)
    has(all, "ops was not told")
  end
  local nobody = ("http://127.0.0.1:%d/canary-in-path"):format(lab.port())
  shows_nothing { kind = "slack", url = kept(nobody) }
  shows_nothing { kind = "slack", url = "not a url canary", token = kept "canary-in-token" }
  local no = receiver(function() return { status = 403, body = "canary" } end)
  shows_nothing { kind = "slack", url = kept(no), token = kept "canary-in-token" }
  local unset = { kind = "slack", url = secret.new("env", "NO_SUCH_VARIABLE") }
  fails("not_found", notify.send(cfg { ops = unset }, { "ops" }, message()))
end)
