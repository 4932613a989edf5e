-- One call of the API: authenticated, repeated when that is right, its refusals as errors.
--
-- Repeated are: what asks for it by Retry-After (429 and 5xx, ten times; client-go's rest/with_retry.go); what
-- never reached the server; and, when doing it twice does no harm, what broke off on the way.
local api, errors, http, json = require "base.api", require "errors", require "http", require "json"
local failure, time = require "cluster.failure", require "time"

local M = {}

local TIMEOUT <const>, MAX_BODY <const> = 60, 16 << 20
local ASKED <const>, LONGEST_ASKED <const> = 10, 60
-- A server that answered before gets the time of a restart, another one fails sooner.
local ATTEMPTS <const>, FIRST_ATTEMPTS <const> = 9, 4
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.25, 5
-- An API server that comes up answers before it knows roles and accounts: 403 and 401 for what is allowed a moment
-- later. So many seconds after it was out of reach that is retried.
local COMING_UP <const> = 10

-- The server has not seen the request; or that is unknown.
local UNSENT <const> = { refused = true, unreachable = true, dns = true }

---@class KubernetesRequest
---@field method? "GET"|"POST"|"PUT"|"PATCH"|"DELETE" GET by default
---@field path string below the server's address
---@field query? table<string, string|number|boolean>
---@field body? table|string a table is sent as JSON
---@field content_type? string of the body
---@field accept? string
---@field timeout? Seconds of one attempt; of a stream until its headers
---@field idle_timeout? Seconds longest silence of a stream
---@field max_body? integer bytes
---@field attempts? integer how often at most; 1: never again
---@field stream? boolean the answer is handed out while it comes: an HttpAnswer to read and close
---@field raw? boolean the body as text, not decoded
---@field nulls? boolean json.null for null; without it null is absent, as it is to the API server
---@field managed_fields? boolean keep metadata.managedFields, which is most of many objects
---@field repeatable? boolean doing it twice does no harm; default: reading does none

---Writes a query, sorted, so that equal calls have equal URLs.
---@param query? table
---@return string with its question mark, or ""
function M.query(query)
  local parts = {}
  for name, value in pairs(query or {}) do
    if value ~= false or name == "force" then
      parts[#parts + 1] = http.escape(name) .. "=" .. http.escape(tostring(value))
    end
  end
  if not parts[1] then return "" end
  table.sort(parts)
  return "?" .. table.concat(parts, "&")
end

-- managedFields says who wrote what, takes more room than the rest, and must not be sent back.
local function strip(object)
  local meta = object.metadata
  if type(meta) == "table" then meta.managedFields = nil end
  local items = object.items
  for _, item in ipairs(type(items) == "table" and items or {}) do
    meta = type(item) == "table" and item.metadata
    if type(meta) == "table" then meta.managedFields = nil end
  end
end

---Decodes an object of the API.
---@param text string
---@param request KubernetesRequest
---@return table?
---@return Err? err
---@return_overload nil, Err
function M.decode(text, request)
  local object, err = json.decode(text, { null_as_nil = not request.nulls, max = request.max_body or MAX_BODY })
  if type(object) ~= "table" then
    return errors.fail("protocol", "the cluster's answer is no JSON object", { op = "kubernetes", cause = err })
  end
  if not request.managed_fields then strip(object) end
  return object
end

-- What the body is and what is wanted; the headers that impersonate come with the credentials.
local function headers_of(request)
  return {
    Accept = request.accept or "application/json",
    ["Content-Type"] = request.body and (request.content_type or "application/json") or nil,
  }
end

-- Whether an error says that a resourceVersion is of another time line: waiting does not help then.
local function too_new(err)
  for _, cause in ipairs(err.causes or {}) do
    if cause.reason == "ResourceVersionTooLarge" then return true end
  end
  return false
end

-- Whether nothing of the request got out. A handshake that breaks off is a server that goes or comes; only about a
-- certificate there is nothing to hope for.
local function unsent(err)
  return UNSENT[err.code] or err.code == "tls" and not err.message:lower():find("certificate", 1, true)
end

-- How long to wait before the next attempt; nil: there is none.
local function pause_after(client, call, err, try)
  local status, asked, limit = err.status, err.retry_after, call.attempts or client.patience.attempts
  if too_new(err) or limit and try >= limit then return nil end
  if status and asked and errors.passing(status) then
    call.asked = call.asked + 1
    return call.asked <= ASKED and asked <= LONGEST_ASKED and asked or nil
  end
  local away = client.known.away
  local coming_up = (status == 401 or status == 403) and away and time.monotonic() - away < COMING_UP
  local again = unsent(err) or coming_up or call.repeatable and errors.passing(status or err)
  local most = call.attempts or client.known.reached and ATTEMPTS or FIRST_ATTEMPTS
  if not again or try >= most then return nil end
  return api.backoff(try, FIRST_PAUSE, 2, LONGEST_PAUSE)
end

---The API server as a client asks it.
---@param client KubernetesClient
---@return Api
---@nodiscard
function M.service(client)
  local known, counters = client.known, client.counters
  return api.open {
    name = "the cluster", http = { redirects = 0 },
    options = function() return client.access:options() end,
    renew = function(answer, options)
      if answer.status == 401 and client.access:refused(options) then return client.access:options() end
    end,
    before = function() counters.requests = counters.requests + 1 end,
    on_answer = function() known.reached = true end,
    on_error = function(err, call)
      err.op = (call --[[@as table]]).op
      if unsent(err) then err.passing = true end
      if known.reached then known.away = time.monotonic() end
      return err
    end,
    refuse = function(answer, call)
      if answer.status // 100 ~= 2 then return failure.of_answer(answer, api.body(answer), call) end
    end,
    retry = function(_, err, try, call)
      local pause = err and pause_after(client, call, err, try)
      if pause then counters.retries = counters.retries + 1 end
      return pause
    end,
  }
end

---Makes a call. Gives the decoded object, the text with `raw`, or the answer itself with `stream`.
---@async
---@param client KubernetesClient
---@param op string for messages
---@param request KubernetesRequest
---@return any
---@return KubernetesErr? err
---@return_overload nil, KubernetesErr
function M.perform(client, op, request)
  local path, method = request.path, request.method or "GET"
  if type(path) ~= "string" or path:sub(1, 1) ~= "/" or path:find("[?#%c%s]") then
    error("usage: the path of an object starts with a slash and has no query", 3)
  end
  local stream, repeatable = request.stream, request.repeatable
  local call = {
    op = "kubernetes." .. op, target = client.server .. path, asked = 0, attempts = request.attempts,
    repeatable = repeatable or repeatable == nil and method == "GET",
    method = method, path = path, query = M.query(request.query), body = request.body, headers = headers_of(request),
    timeout = request.timeout or client.patience.timeout or TIMEOUT,
    stream = stream, idle_timeout = stream and request.idle_timeout or nil,
    max_body = not stream and (request.max_body or MAX_BODY) or nil,
  }
  local answer, err = client.service:send(call) ---@type any, KubernetesErr?
  if not answer then return nil, err end
  if stream then return answer end
  if request.raw then return answer.body end
  local object
  object, err = M.decode(answer.body, request)
  if not object then err.op, err.target = call.op, call.target end
  return object, err
end

return M
