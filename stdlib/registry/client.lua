-- Calls of a registry's API: authenticated as it asks for, repeated when it may pass, its refusals in its own
-- words.
--
-- Only calls that may be repeated come through here: reading, putting by digest or tag, deleting, mounting.
-- Rules: the distribution specification 1.1.
local errors, http, json = require "errors", require "http", require "json"
local patience, token = require "registry.patience", require "registry.token"

local M = {}

local TIMEOUT <const> = 60
local MAX_BODY <const> = 4 << 20 -- what clients should expect of a manifest
local CODES <const> = {
  [400] = "invalid", [401] = "unauthorized", [403] = "denied", [404] = "not_found", [405] = "unsupported",
  [409] = "conflict", [412] = "conflict", [413] = "too_large", [429] = "rate_limited",
}

---@class RegistryCall
---@field headers table?
---@field body string?
---@field scopes string[]? what a token must be good for; by default this repository and the method's actions
---@field max_body integer? bytes

---@class ImageRegistry
---@field name string "127.0.0.1:5101/team/web"
---@field host string "127.0.0.1:5101"
---@field path string "team/web"
---@field plain boolean it speaks http
---@field package base string
---@field config RegistryConfig
local Client = {}

M.methods = Client

-- How each registry wants to be talked to, once it said so: "basic", or the challenge for its tokens.
local ways = {}

---The error of an answer that is none of the good ones: the registry's own words, cleaned and cut.
---@param answer HttpAnswer
---@param op string
---@return Err
function Client:failure(answer, op)
  local code = CODES[answer.status] or answer.status >= 500 and "busy" or "status"
  local body = answer.body and answer.body ~= "" and json.decode(answer.body)
  local words = ""
  local first = type(body) == "table" and type(body.errors) == "table" and body.errors[1]
  if type(first) == "table" then
    words = (": %s %s"):format(tostring(first.code), tostring(first.message)):gsub("%c", " "):sub(1, 300)
  end
  return errors.new(code, ("the registry answered %d%s"):format(answer.status, words),
    { op = op, target = self.name, status = answer.status, retry_after = patience.asked(answer) })
end

local function actions(method)
  if method == "GET" or method == "HEAD" then return "pull" end
  return method == "DELETE" and "pull,push,delete" or "pull,push"
end

-- The Authorization for a call, when we know already how this registry is talked to. `refused`: not this
-- token.
local function authorization(self, way, scopes, refused)
  if way == "basic" then return token.credentials(self) end
  local word, err = token.get(self, way, scopes, refused)
  return word and { bearer = word }, err
end

-- What a 401 asks for; nil when it was given already, or asks for nothing that we know.
local function asked(answer, given)
  local header = answer.headers["www-authenticate"]
  local challenge = header and token.challenge(header)
  if not challenge then return nil end
  if challenge.scheme == "basic" then return not (given and given.user) and "basic" or nil end
  return { realm = challenge.realm, service = challenge.service }
end

---One call of the registry's API. Any status is an answer.
---@async
---@param method "GET"|"HEAD"|"PUT"|"POST"|"DELETE"
---@param path string Below the registry's address.
---@param call RegistryCall
---@return HttpAnswer? answer
---@return Err? err
function Client:call(method, path, call)
  local scopes = call.scopes or { ("repository:%s:%s"):format(self.path, actions(method)) }
  local function send(auth)
    return patience.call(function()
      return http.request {
        method = method, url = self.base .. path, headers = call.headers, body = call.body, auth = auth,
        ca = self.config.ca, timeout = TIMEOUT, max_body = call.max_body or MAX_BODY,
      }
    end)
  end
  local way, auth = ways[self.base], nil
  if way then
    local wrong
    auth, wrong = authorization(self, way, scopes)
    if wrong then return nil, wrong end
  end
  local answer, err = send(auth)
  if not answer or answer.status ~= 401 then return answer, err end
  way = asked(answer, auth)
  if not way then return answer end
  auth, err = authorization(self, way, scopes, auth and auth.bearer)
  if err then return nil, err end
  if not auth then
    return errors.fail("unauthorized", "the registry wants a password, and the configuration has none for "
      .. self.host, { op = "registry", target = self.name })
  end
  ways[self.base] = way
  return send(auth)
end

return M
