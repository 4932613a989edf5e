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
local answers = require "base.http_answer"
local core = require "core.http"
local errors = require "errors"
local plain = require("base.sys").plain

local M = {}

answers.borrow(core)

-- Raises a text with the position of the script that called us.
local mistake = core.mistake

---@class HttpAuth
---@field user? string name for Basic authentication; may not hold a colon
---@field password? string
---@field bearer? string a token, instead of user and password

---@class HttpOptions
---@field headers? table<string, string|number|string[]> names in any case; a list sends one several times
---@field body? string|table a table is sent as JSON
---@field body_file? string path of a file to send instead of `body`
---@field timeout? Seconds for everything, redirects included (30); of a stream: until its headers are there
---@field connect_timeout? Seconds for one connection: name, TCP, TLS (10)
---@field idle_timeout? Seconds longest silence in the body, in whole seconds (none)
---@field max_body? integer bytes; more is the error too_large (8 MiB; 1 GiB to a sink; a stream has none)
---@field redirects? integer how many to follow (5 for GET and HEAD, else 0: the 3xx answer is returned)
---@field unix? string path of a UNIX socket to connect to, whatever the URL's host is
---@field connect_to? string host:port to connect to; the URL's host is still the one that TLS must prove
---@field insecure? boolean the server is not verified; only where the configuration says so
---@field ca? string PEM file to trust instead of the system's certificates
---@field cert? string PEM file of a client certificate
---@field key? string PEM file of its key
---@field auth? HttpAuth
---@field etag? string sent as If-None-Match: an unchanged answer has status 304 and no body
---@field stream? boolean return after the headers; read the body with :read, :lines, :close
---@field sink? string a 2xx body goes to this path, which appears only when it is complete
---@field method? string only for http.request
---@field url? string only for http.request

local usage = {
  GET = "http.get(url [, opts])",
  HEAD = "http.head(url [, opts])",
  POST = "http.post(url [, body [, opts]])",
  PUT = "http.put(url [, body [, opts]])",
  PATCH = "http.patch(url [, body [, opts]])",
  DELETE = "http.delete(url [, opts])",
}
local request_usage = "usage: http.request{method=, url= [, headers, body, ...]}"

-- What errors call the operation.
local ops = {}
for method in pairs(usage) do ops[method] = "http." .. method:lower() end

local none = {}

-- What may follow a redirect to another origin; everything else may be a secret.
local harmless = { accept = true, ["user-agent"] = true, ["if-none-match"] = true, range = true }

-- What describes a body, which a redirect by 303 leaves behind.
local of_body = { ["content-type"] = true, ["content-encoding"] = true, ["content-language"] = true }

local redirecting = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- ---- requests ----

local parsed, parsed_len = {}, 0 -- polls ask for the same URLs again and again

-- For messages about a URL that cannot be parsed: what could be a password is left out. It may hold any character, and
-- the scheme may be what is wrong.
local function presentable(text)
  local scheme, rest = text:match("^%s*(%a[%w+.-]*:?/+)(.*)$")
  rest = rest or text
  rest = rest:find("[?#].*@") and "..." or rest:gsub("^.*@", "")
  return ((scheme or "") .. rest:gsub("[?#].*", "")):gsub("%c", "?"):sub(1, 200)
end

local function parse(text, op)
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

-- A call that is being redirected, changed from hop to hop.
---@class HttpHop
---@field method string
---@field at table parsed URL
---@field shown string the URL as errors may show it
---@field headers? table
---@field opts HttpOptions
---@field public_only? boolean a public server sent us here: no private address may answer

local function refuse(hop, why)
  return errors.fail("redirect", why, { op = ops[hop.method] or "http.request", target = hop.shown })
end

-- Where a redirect leads: true with `hop` changed, or nil and why we do not go there.
local function follow(hop, answer)
  local location, status = answer.location, answer.status
  if location == true then return refuse(hop, "a redirect to several places") end
  if location:find("%c") or location:find("%%0[0aAdD]") then
    return refuse(hop, "a redirect with a line break or NUL in it")
  end
  local there, err = core.url(location, hop.at.url)
  if not there then return refuse(hop, "a redirect to " .. err.message) end
  if there.user or there.password then return refuse(hop, "a redirect with a user's name in it") end
  if hop.at.scheme == "https" and there.scheme ~= "https" then
    return refuse(hop, "a redirect from https to http")
  end
  if hop.method ~= "GET" and hop.method ~= "HEAD" then
    if status ~= 303 then
      return refuse(hop, ("a redirect (%d) of a %s is not followed"):format(status, hop.method))
    end
    hop.method = "GET"
    hop.opts = without(hop.opts, "body", "body_file")
    hop.headers = only(hop.headers, function(name) return not of_body[name] end)
  end
  if there.origin ~= hop.at.origin then
    if hop.opts.unix then return refuse(hop, "a redirect out of a UNIX socket") end
    hop.opts = without(hop.opts, "auth", "cert", "key", "connect_to", "insecure")
    hop.headers = only(hop.headers, function(name) return harmless[name] end)
    hop.public_only = hop.public_only or not answer.peer_private
  end
  hop.at = there
  hop.shown = there.url:gsub("%?.*", "?...") -- a redirect's query is often a signature
  return true
end

-- Goes on after a first answer that redirects.
---@param send fun(...: any): any, any
local function follow_all(send, hop, answer, stream, most)
  local elapsed = answer.elapsed
  for followed = 0, most do
    if stream then stream:close() end
    if followed == most then return refuse(hop, "more than " .. most .. " redirects") end
    local ok, why = follow(hop, answer)
    if not ok then return nil, why end
    local op, left = ops[hop.method] or "http.request", (hop.opts.timeout or 30) - elapsed
    local at = hop.at
    answer, stream =
      send(op, hop.method, at.url, at.handle, hop.headers, hop.opts, left, hop.public_only)
    if not answer then
      stream.target = hop.shown -- an error
      return nil, stream
    end
    elapsed = elapsed + answer.elapsed
    if not redirecting[answer.status] or not answer.location then break end
  end
  answers.redirected(answer, elapsed, hop.shown)
  return answers.new(answer, stream)
end

-- Options in which the URL's user became `auth`, and a table became a JSON body.
local function settle(opts, headers, at)
  local auth, body = opts.auth, opts.body
  opts = without(opts)
  if not auth and (at.user or at.password) then
    opts.auth = { user = at.user or "", password = at.password }
  end
  if type(body) == "table" then
    opts.body = require("json").encode(body)
    local typed = false
    for name in pairs(headers or none) do typed = typed or name:lower() == "content-type" end
    if not typed then
      headers = without(headers or none)
      headers["Content-Type"] = "application/json"
    end
  end
  return opts, headers
end

---@async
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
local function perform(send, method, url, opts)
  local op = ops[method] or "http.request"
  local at = parsed[url]
  if not at then
    local here, err = parse(url, op)
    if not here then return nil, err end
    at = here
  end
  local headers, most = plain(opts.headers), opts.redirects
  if at.user or at.password or type(opts.body) == "table" then opts, headers = settle(opts, headers, at) end
  if most == nil then
    most = (method == "GET" or method == "HEAD") and 5 or 0
  elseif math.type(most) ~= "integer" or most < 0 then
    mistake("option 'redirects' must be a whole number")
  end
  local answer, more = send(op, method, at.url, at.handle, headers, opts, opts.timeout or 30)
  if not answer then return nil, more end
  if answer.location and most > 0 and redirecting[answer.status] then
    local hop = { method = method, at = at, shown = at.url, headers = headers, opts = opts }
    return follow_all(send, hop, answer, more, most)
  end
  return answers.new(answer, more)
end

local function check(method, url, opts)
  if type(url) ~= "string" or opts ~= nil and type(opts) ~= "table" then
    mistake("usage: " .. usage[method])
  end
  return plain(opts) or none
end

local function without_body(send, method, url, opts)
  opts = check(method, url, opts)
  if opts.body or opts.body_file then mistake("usage: " .. usage[method] .. ": it has no body") end
  return perform(send, method, url, opts)
end

local function with_body(send, method, url, body, opts)
  opts = check(method, url, opts)
  if body ~= nil then
    local kind = type(body)
    if (kind ~= "string" and kind ~= "table") or opts.body or opts.body_file then
      mistake("usage: " .. usage[method])
    end
    opts = without(opts)
    opts.body = body
  end
  return perform(send, method, url, opts)
end

local function any(send, opts)
  opts = plain(opts)
  if type(opts) ~= "table" or type(opts.url) ~= "string" then mistake(request_usage) end
  local method = opts.method or "GET"
  if type(method) ~= "string" or not method:find("^%u+$") or method == "CONNECT" then
    mistake("option 'method' must be a word in upper case")
  end
  if method == "GET" or method == "HEAD" then return without_body(send, method, opts.url, opts) end
  return perform(send, method, opts.url, opts)
end

---Gets a URL.
---@async
---@param url string
---@param opts? HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.get(url, opts)
  return without_body(core.request, "GET", url, opts)
end

---Gets the headers of a URL.
---@async
---@param url string
---@param opts? HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.head(url, opts)
  return without_body(core.request, "HEAD", url, opts)
end

---Posts a body. A table is sent as JSON.
---@async
---@param url string
---@param body? string|table
---@param opts? HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.post(url, body, opts)
  return with_body(core.request, "POST", url, body, opts)
end

---Puts a body. A table is sent as JSON.
---@async
---@param url string
---@param body? string|table
---@param opts? HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.put(url, body, opts)
  return with_body(core.request, "PUT", url, body, opts)
end

---Patches with a body. A table is sent as JSON.
---@async
---@param url string
---@param body? string|table
---@param opts? HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.patch(url, body, opts)
  return with_body(core.request, "PATCH", url, body, opts)
end

---Deletes a URL.
---@async
---@param url string
---@param opts? HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.delete(url, opts)
  return perform(core.request, "DELETE", url, check("DELETE", url, opts))
end

---Sends any request: the options with `method` (GET) and `url` among them.
---@async
---@param opts HttpOptions
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.request(opts)
  return any(core.request, opts)
end

---Turns an answer with a status that is not 2xx or 304 into an error with code "status".
---@param answer? HttpAnswer
---@param err? Err
---@param allowed? integer[] further statuses that are fine
---@return HttpAnswer?
---@return Err? err with `status`, and `retry_after` in seconds when the server named it
---@return_overload nil, Err
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

---Percent-encodes text for a path segment or a query's value.
---@param text string
---@return string
function M.escape(text)
  return (text:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

---@class HttpAddress
---@field url string absolute, without user, password and fragment
---@field scheme "http"|"https"
---@field host string In lower case.
---@field port string
---@field origin string "scheme://host:port", the port always there
---@field path string
---@field query? string
---@field user? string what stood before the `@`
---@field password? string

---Reads a URL, relative to another one when there is one.
---@param url string
---@param base? string
---@return HttpAddress?
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.resolve(url, base)
  local at, err = core.url(url, base)
  if not at then
    return errors.fail(err.code, err.message, { op = "http.resolve", target = presentable(url) })
  end
  at.handle = nil
  return at
end

---What the client holds: transfers under way, idle handles, sockets.
---@return { active: integer, idle: integer, sockets: integer }
function M.stats()
  return core.stats()
end

---The same words over another network: what they send is answered by `send`, as by core.request.
---@param send fun(op: string, method: string, url: string, handle: userdata, headers?: table, opts: HttpOptions,
--- left: Seconds, public_only?: boolean): table?, Err?
---@return table http
---@nodiscard
function M.through(send)
  return {
    expect = M.expect, escape = M.escape, resolve = M.resolve, stats = M.stats,
    get = function(url, opts) return without_body(send, "GET", url, opts) end,
    head = function(url, opts) return without_body(send, "HEAD", url, opts) end,
    post = function(url, body, opts) return with_body(send, "POST", url, body, opts) end,
    put = function(url, body, opts) return with_body(send, "PUT", url, body, opts) end,
    patch = function(url, body, opts) return with_body(send, "PATCH", url, body, opts) end,
    delete = function(url, opts) return perform(send, "DELETE", url, check("DELETE", url, opts)) end,
    request = function(opts) return any(send, opts) end,
  }
end

return M
