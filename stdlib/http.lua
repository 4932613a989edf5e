-- HTTP requests: one call, one answer, redirects followed only where that gives nothing away.
--
-- An HTTP status is an answer, not an error; `http.expect` turns the bad ones into one. Failures are
-- `nil, err` with the codes dns, refused, unreachable, timeout, tls, reset, protocol, redirect, too_large,
-- denied, invalid and so on. A URL's user and password move into the Authorization header and appear nowhere
-- else.
--
--     local http = require "http"
--     local tags = "https://api.example.com/tags"
--     local answer = assert(http.expect(http.get(tags, { auth = { bearer = token } })))
--     for _, tag in ipairs(answer:json()) do print(tag.name) end
local answers = require "http_answer"
local core = require "core.http"
local errors = require "errors"
local monotonic = require("time").monotonic

local M = {}

-- Raises a text with the position of the script that called us.
local mistake = core.mistake

---@class HttpAuth
---@field user string? name for Basic authentication; may not hold a colon
---@field password string?
---@field bearer string? a token, instead of user and password

---@class HttpOptions
---@field headers table<string, string|number|string[]>? names in any case; a list sends one several times
---@field body string|table? a table is sent as JSON
---@field body_file string? path of a file to send instead of `body`
---@field timeout Seconds? for everything, redirects included (30); of a stream: until its headers are there
---@field connect_timeout Seconds? for one connection: name, TCP, TLS (10)
---@field idle_timeout Seconds? longest silence in the body, in whole seconds (none)
---@field max_body integer? bytes; more is the error too_large (8 MiB; 1 GiB to a sink; a stream has none)
---@field redirects integer? how many to follow (5 for GET and HEAD, else 0: the 3xx answer is returned)
---@field unix string? path of a UNIX socket to connect to, whatever the URL's host is
---@field ca string? PEM file to trust instead of the system's certificates
---@field cert string? PEM file of a client certificate
---@field key string? PEM file of its key
---@field auth HttpAuth?
---@field etag string? sent as If-None-Match: an unchanged answer has status 304 and no body
---@field stream boolean? return after the headers; read the body with :read, :lines, :close
---@field sink string? a 2xx body goes to this path, which appears only when it is complete
---@field method string? only for http.request
---@field url string? only for http.request

local usage = {
  request = "http.request{method=, url= [, headers, body, ...]}",
  get = "http.get(url [, opts])",
  head = "http.head(url [, opts])",
  post = "http.post(url [, body [, opts]])",
  put = "http.put(url [, body [, opts]])",
  patch = "http.patch(url [, body [, opts]])",
  delete = "http.delete(url [, opts])",
}

-- What may follow a redirect to another origin; everything else may be a secret.
local harmless = { accept = true, ["user-agent"] = true, ["if-none-match"] = true, range = true }

-- What describes a body, which a redirect by 303 leaves behind.
local of_body = { ["content-type"] = true, ["content-encoding"] = true, ["content-language"] = true }

local redirecting = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- ---- requests ----

local parsed, parsed_len = {}, 0 -- polls ask for the same URLs again and again

-- For messages about a URL that cannot be parsed: what could be a password is left out.
local function presentable(text)
  return (text:gsub("[?#].*", ""):gsub("^([^/]*/*)[^/]*@", "%1"):gsub("%c", "?"):sub(1, 200))
end

local function parse(text, op)
  if parsed[text] then return parsed[text] end
  local at, err = core.url(text)
  if not at then return errors.fail(err.code, err.message, { op = op, target = presentable(text) }) end
  if not at.user and not at.password then
    if parsed_len >= 1000 then
      parsed, parsed_len = {}, 0
    end
    parsed[text], parsed_len = at, parsed_len + 1
  end
  return at
end

local function authorization(auth)
  if type(auth) ~= "table" then mistake("option 'auth' must be {user=, password=} or {bearer=}") end
  for key in pairs(auth) do
    if key ~= "user" and key ~= "password" and key ~= "bearer" then
      mistake("option 'auth' must be {user=, password=} or {bearer=}")
    end
  end
  if auth.bearer then return "Bearer " .. auth.bearer end
  local user = auth.user or ""
  if user:find(":", 1, true) then mistake("option 'auth': a user's name cannot hold a colon") end
  return core.basic(user, auth.password or "")
end

-- The caller's headers with ours added. Giving a secret twice is a mistake; a content type may be overruled.
local function with_headers(headers, ours)
  local merged = {}
  for name, value in pairs(headers or {}) do
    local lower = type(name) == "string" and name:lower()
    if lower and ours[lower] then
      if lower ~= "content-type" then mistake("header '" .. name .. "' is also given by an option") end
      ours[lower] = nil
    end
    merged[name] = value
  end
  for name, value in pairs(ours) do merged[name] = value end
  return merged
end

local function only(headers, keep)
  local kept = {}
  for name, value in pairs(headers or {}) do
    if keep(name:lower()) then kept[name] = value end
  end
  return kept
end

local function without(opts, ...)
  local kept = {}
  for key, value in pairs(opts) do kept[key] = value end
  for _, key in ipairs { ... } do kept[key] = nil end
  return kept
end

-- State of one call, changed from hop to hop.
---@class HttpHop
---@field op string
---@field method string
---@field at table parsed URL
---@field shown string the URL as errors may show it
---@field headers table?
---@field opts HttpOptions
---@field public_only boolean? a public server sent us here: no private address may answer

local function refuse(hop, why)
  return errors.fail("redirect", why, { op = hop.op, target = hop.shown })
end

-- Where a redirect leads: true with `hop` changed, or nil and why we do not go there.
local function follow(hop, answer)
  local repeated, location = answer.headers[2], answer.headers[1].location
  if repeated and repeated.location then return refuse(hop, "a redirect to several places") end
  if location:find("%c") or location:find("%%0[0aAdD]") then
    return refuse(hop, "a redirect with a line break or NUL in it")
  end
  local there, err = core.url(location, hop.at.url)
  if not there then return refuse(hop, "a redirect to " .. err.message) end
  if there.user or there.password then return refuse(hop, "a redirect with a user's name in it") end
  if hop.at.scheme == "https" and there.scheme ~= "https" then
    return refuse(hop, "a redirect from https to http")
  end
  local is_read = hop.method == "GET" or hop.method == "HEAD"
  if not is_read then
    if answer.status ~= 303 then
      return refuse(hop, ("a redirect (%d) of a %s is not followed"):format(answer.status, hop.method))
    end
    hop.method = "GET"
    hop.opts = without(hop.opts, "body", "body_file")
    hop.headers = only(hop.headers, function(name) return not of_body[name] end)
  end
  if there.origin ~= hop.at.origin then
    if hop.opts.unix then return refuse(hop, "a redirect out of a UNIX socket") end
    hop.opts = without(hop.opts, "cert", "key")
    hop.headers = only(hop.headers, function(name) return harmless[name] end)
    hop.public_only = hop.public_only or not answer.peer_private
  end
  hop.at = there
  hop.shown = there.url:gsub("%?.*", "?...") -- a redirect's query is often a signature
  return true
end

local function first_hop(method, url, opts)
  local op = "http." .. method:lower()
  local at, err = parse(url, op)
  if not at then return nil, err end
  local hop = { op = op, method = method, at = at, shown = at.url, headers = opts.headers, opts = opts }
  local ours, auth, body = nil, opts.auth, opts.body
  if not auth and (at.user or at.password) then auth = { user = at.user, password = at.password } end
  if auth then ours = { authorization = authorization(auth) } end
  if opts.etag then
    ours = ours or {}
    ours["if-none-match"] = opts.etag
  end
  if type(body) == "table" then
    ours = ours or {}
    ours["content-type"] = "application/json"
    hop.opts = without(opts, "body")
    hop.opts.body = require("json").encode(body)
  end
  if ours then hop.headers = with_headers(opts.headers, ours) end
  return hop
end

---@async
---@return HttpAnswer?
---@return Err? err
local function perform(method, url, opts)
  local hop, err = first_hop(method, url, opts)
  if not hop then return nil, err end
  local is_read = method == "GET" or method == "HEAD"
  local most, followed = opts.redirects or (is_read and 5 or 0), 0
  local timeout, elapsed, start = opts.timeout or 30, 0, most > 0 and monotonic()
  while true do
    local to = hop.at.url
    local answer, stream =
      core.request(hop.op, hop.method, to, hop.headers, hop.opts, timeout, hop.public_only)
    if not answer then
      stream.target = hop.shown -- an error
      return nil, stream
    end
    elapsed = elapsed + answer.elapsed
    if most == 0 or not redirecting[answer.status] or not answer.headers[1].location then
      return answers.new(answer, stream, to, elapsed, hop.shown)
    end
    if stream then stream:close() end
    if followed == most then return refuse(hop, "more than " .. most .. " redirects") end
    local ok, why = follow(hop, answer)
    if not ok then return nil, why end
    followed, timeout = followed + 1, (opts.timeout or 30) - (monotonic() - start)
  end
end

local function check(name, url, opts)
  if type(url) ~= "string" or url:find("\0", 1, true) or (opts ~= nil and type(opts) ~= "table") then
    mistake("usage: " .. usage[name])
  end
  local redirects = opts and opts.redirects
  if redirects and (math.type(redirects) ~= "integer" or redirects < 0) then
    mistake("option 'redirects' must be a whole number")
  end
  return opts or {}
end

local function with_body(name, body, opts)
  local kind = type(body)
  if kind == "nil" then return opts end
  if (kind ~= "string" and kind ~= "table") or opts.body or opts.body_file then
    mistake("usage: " .. usage[name])
  end
  opts = without(opts)
  opts.body = body
  return opts
end

local function no_body(name, opts)
  if opts.body or opts.body_file then mistake("usage: " .. usage[name] .. ": it has no body") end
  return opts
end

---Gets a URL.
---@async
---@param url string
---@param opts HttpOptions?
---@return HttpAnswer?
---@return Err? err
function M.get(url, opts)
  return perform("GET", url, no_body("get", check("get", url, opts)))
end

---Gets the headers of a URL.
---@async
---@param url string
---@param opts HttpOptions?
---@return HttpAnswer?
---@return Err? err
function M.head(url, opts)
  return perform("HEAD", url, no_body("head", check("head", url, opts)))
end

---Posts a body. A table is sent as JSON.
---@async
---@param url string
---@param body string|table?
---@param opts HttpOptions?
---@return HttpAnswer?
---@return Err? err
function M.post(url, body, opts)
  return perform("POST", url, with_body("post", body, check("post", url, opts)))
end

---Puts a body. A table is sent as JSON.
---@async
---@param url string
---@param body string|table?
---@param opts HttpOptions?
---@return HttpAnswer?
---@return Err? err
function M.put(url, body, opts)
  return perform("PUT", url, with_body("put", body, check("put", url, opts)))
end

---Patches with a body. A table is sent as JSON.
---@async
---@param url string
---@param body string|table?
---@param opts HttpOptions?
---@return HttpAnswer?
---@return Err? err
function M.patch(url, body, opts)
  return perform("PATCH", url, with_body("patch", body, check("patch", url, opts)))
end

---Deletes a URL.
---@async
---@param url string
---@param opts HttpOptions?
---@return HttpAnswer?
---@return Err? err
function M.delete(url, opts)
  return perform("DELETE", url, check("delete", url, opts))
end

---Sends any request: the options with `method` (GET) and `url` among them.
---@async
---@param opts HttpOptions
---@return HttpAnswer?
---@return Err? err
function M.request(opts)
  if type(opts) ~= "table" then mistake("usage: " .. usage.request) end
  opts = check("request", opts.url, opts)
  local method = opts.method or "GET"
  if type(method) ~= "string" or not method:find("^%u+$") or method == "CONNECT" then
    mistake("option 'method' must be a word in upper case")
  end
  if method == "GET" or method == "HEAD" then no_body("request", opts) end
  return perform(method, opts.url, opts)
end

---Turns an answer with a status that is not 2xx or 304 into an error with code "status".
---@param answer HttpAnswer?
---@param err Err?
---@param allowed integer[]? further statuses that are fine
---@return HttpAnswer?
---@return Err? err with `status`, and `retry_after` in seconds when the server named it
function M.expect(answer, err, allowed)
  if not answer then return nil, err end
  local status = answer.status
  if status // 100 == 2 or status == 304 then return answer end
  for _, good in ipairs(allowed or {}) do
    if status == good then return answer end
  end
  answer:close()
  local fields = { op = "http", target = answers.shown(answer), status = status }
  local fault = errors.new("status", "the server answered " .. status, fields)
  local wait = answer.headers["retry-after"]
  fault.retry_after = wait and wait:find("^%d+$") and #wait < 10 and tonumber(wait) or nil
  return nil, fault
end

---Looks a relation up in the Link headers, as used for pages of a list (RFC 8288).
---@param rel string such as "next"
---@return string? url absolute; nil when there is none
---@return Err? err when it leads to another origin, where the same credentials must not go
function answers.Answer:link(rel)
  for _, value in ipairs(self.headers:all("link")) do
    for target, parameters in value:gmatch("<([^<>]*)>([^,<]*)") do
      if parameters:match(';%s*[rR][eE][lL]%s*=%s*"?([^";]*)"?') == rel then
        local here, there = core.url(self.url), core.url(target, self.url)
        if there and there.origin == here.origin and not there.user then return there.url end
        local fields = { op = "http.link", target = answers.shown(self) }
        return errors.fail("redirect", "the Link header leads to another origin", fields)
      end
    end
  end
end

---Percent-encodes text for a path segment or a query's value.
---@param text string
---@return string
function M.escape(text)
  return (text:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

---What the client holds: transfers under way, idle handles, sockets.
---@return { active: integer, idle: integer, sockets: integer }
function M.stats()
  return core.stats()
end

return M
