-- What policies may rely on of http: proved of the answers of a simulated world and of a real server.
--
-- On purpose nothing in a simulated world looks a name up, proves a certificate, takes time, or sends a half answer.
-- What a test answers is whole: its `sink` and `stream` are not simulated.
---@diagnostic disable: need-check-nil, undefined-field, param-type-mismatch -- a nil fails the test
local check = require "check"
local errors, kit, lab, serve = require "errors", require "contract.kit", require "lab", require "serve"
local eq, ok, fails, has, raises = check.eq, check.ok, check.fails, check.has, check.raises

---@class HttpPart
---@field http table The module, as policies' effects call it.
---@field at fun(answer: {status?: integer, body?: string, headers?: table}): string The address that answers so.
---@field nobody string An address at which nobody listens.

---@return HttpPart
local function simulated()
  local world, open = kit.simulated()
  world:app("web", { environments = { staging = {} } })
  local count = 0
  return {
    http = open().module "http", nobody = "http://nobody.simulated/x",
    at = function(answer)
      count = count + 1
      local url = ("http://api.simulated/%d"):format(count)
      world:answer(url, answer)
      return url
    end,
  }
end

---@return HttpPart
local function real()
  local answers = {}
  local server = ok(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    return answers[tonumber(request.path:match "%d+")]
  end })
  check.defer(function() server:close() end)
  local world = kit.real({}, { web = { environments = { staging = {} } } })
  return {
    http = world.module "http", nobody = ("http://127.0.0.1:%d/x"):format(lab.port()),
    at = function(answer)
      answers[#answers + 1] = { status = answer.status or 200, body = answer.body, headers = answer.headers }
      return ("http://127.0.0.1:%d/%d"):format(server.port, #answers)
    end,
  }
end

local each = kit.each { simulated = simulated, real = real }

each("an answer has a status, headers in any case, a body, and where it came from", function(part)
  local url = part.at { body = "hello", headers = { ["Content-Type"] = "text/plain", ETag = '"v1"' } }
  local answer = ok(part.http.get(url))
  eq({ answer.status, answer.body, answer.url, answer.etag, answer.http_version, type(answer.elapsed) },
    { 200, "hello", url, '"v1"', "1.1", "number" })
  eq({ answer.headers["content-type"], answer.headers["CONTENT-TYPE"], answer.headers.nothing },
    { "text/plain", "text/plain" })
  eq(answer.headers:all "content-type", { "text/plain" })
  eq(ok(part.http.request { url = url }).body, "hello")
  eq(ok(part.http.post(url, "x")).status, 200)
  eq(ok(part.http.delete(url)).status, 200)
end)

each("JSON is decoded, and what is none is invalid", function(part)
  local answer = ok(part.http.get(part.at { body = '{"a":[1,null],"status":"up"}' }))
  eq({ answer:json().a[1], answer:json().status }, { 1, "up" })
  local err = select(2, ok(part.http.get(part.at { body = "no" })):json())
  eq({ err.code, err.op, errors.passing(err) }, { "invalid", "http.json", false })
end)

each("a status is an answer, until it is expected to be a good one", function(part)
  for status, passing in pairs { [404] = false, [500] = true, [429] = true, [501] = false } do
    local url = part.at { status = status, body = "why" }
    eq(ok(part.http.get(url)).status, status)
    local err = fails("status", part.http.expect(part.http.get(url)))
    eq({ err.status, errors.passing(err), err.target }, { status, passing, url })
  end
  eq(ok(part.http.expect(part.http.get(part.at { status = 204 }))).status, 204)
end)

each("an address at which nobody listens refuses, in passing", function(part)
  for _, call in ipairs { { "get" }, { "head" }, { "post", "x" }, { "delete" } } do
    local err = fails("refused", part.http[call[1]](part.nobody, call[2]))
    eq({ err.op, err.target, errors.passing(err) }, { "http." .. call[1], part.nobody, true })
  end
end)

each("reading follows redirects, five of them; writing does not", function(part)
  local last = part.at { body = "here" }
  local hop = part.at { status = 302, headers = { Location = last } }
  local answer = ok(part.http.get(hop))
  eq({ answer.status, answer.body, answer.url }, { 200, "here", last })
  eq(ok(part.http.get(hop, { redirects = 0 })).status, 302)
  eq(ok(part.http.post(hop, "x")).status, 302)
  fails("redirect", part.http.post(hop, "x", { redirects = 1 }))
  local see = part.at { status = 303, headers = { Location = last } }
  eq(ok(part.http.post(see, "x", { redirects = 1 })).body, "here")
  for _ = 1, 5 do hop = part.at { status = 301, headers = { Location = hop } } end
  has(fails("redirect", part.http.get(hop)).message, "more than 5 redirects")
  local away = part.at { status = 302, headers = { Location = "ftp://elsewhere/" } }
  fails("redirect", part.http.get(away))
end)

each("what is no request is a mistake, and what is no address is invalid", function(part)
  raises("usage: http.get", part.http.get, 5)
  raises("usage: http.post", part.http.post, part.nobody, 5)
  raises("usage: http.get", part.http.get, part.nobody, { body = "x" })
  raises("usage: http.request", part.http.request, "x")
  local err = fails("invalid", part.http.get "nowhere")
  eq(errors.passing(err), false)
  raises("redirects", part.http.get, part.nobody, { redirects = -1 })
end)
