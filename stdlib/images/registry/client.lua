-- Calls of a registry's API: authenticated as it asks for, repeated when it may pass, its refusals in its own
-- words.
--
-- Only calls that may be repeated come through here: reading, putting by digest or tag, deleting, mounting.
-- Rules: the distribution specification 1.1.
local errors, http, json = require "errors", require "http", require "json"
local patience, token = require "images.registry.patience", require "images.registry.token"

local M = {}

local TIMEOUT <const> = 60
local MAX_BODY <const> = 4 << 20 -- what clients should expect of a manifest
local CODES <const> = {
  [400] = "invalid", [401] = "unauthorized", [403] = "denied", [404] = "not_found", [405] = "unsupported",
  [409] = "conflict", [410] = "not_found", [412] = "conflict", [413] = "too_large", [429] = "rate_limited",
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
---@field base string
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
  local code = CODES[answer.status] or errors.passing(answer.status) and "busy" or "status"
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
  return { realm = challenge.realm, service = challenge.service, base = answer.url }
end

---The registry's own address.
---@return HttpAddress? address
---@return Err? err invalid: its name is no host's
---@return_overload nil, Err
function Client:address() return http.resolve(self.base) end

---Where a header of an answer leads, as a path of this registry. A proxy that speaks TLS for a registry makes it name
---itself with http: that is the same host still, and is asked the way that we know.
---@param location string
---@param answer HttpAnswer
---@return string? path nil: it leads to another host
function Client:path_of(location, answer)
  local at, own = http.resolve(location, answer.url), self:address()
  if not at or not own or at.user or at.host ~= own.host then return nil end
  local behind_proxy = own.scheme == "https" and at.scheme == "http" and (at.port == "80" or at.port == own.port)
  if at.origin ~= own.origin and not behind_proxy then return nil end
  return at.url:match("^%a+://[^/?#]+(.*)$")
end

-- A 401 in spite of a password: whether it is the password that is wrong, or whether this is just not for us to see.
---@private
function Client:refused(answer, auth, send)
  if not (auth and auth.user) then return answer end
  local door = send(auth, "GET", "/v2/")
  if not door or door.status ~= 401 then return answer end
  return errors.fail("unauthorized", "the registry refuses the user and the password that the configuration has for "
    .. self.host, { op = "registry", target = self.name })
end

---One call of the registry's API. Any status is an answer.
---@async
---@param method "GET"|"HEAD"|"PUT"|"POST"|"DELETE"
---@param path string Below the registry's address.
---@param call RegistryCall
---@return HttpAnswer? answer
---@return Err? err
---@return_overload nil, Err
function Client:call(method, path, call)
  local scopes = call.scopes or { ("repository:%s:%s"):format(self.path, actions(method)) }
  local own, wrong = self:address()
  if not own then return nil, wrong end
  local origin = own.origin
  local function send(auth, other_method, other_path)
    return patience.call(origin, function()
      return http.request {
        method = other_method or method, url = self.base .. (other_path or path), headers = call.headers,
        body = not other_method and call.body or nil, auth = auth, ca = self.config.ca, timeout = TIMEOUT,
        max_body = call.max_body or MAX_BODY,
      }
    end)
  end
  local way, auth = ways[self.base], nil
  if way then
    auth, wrong = authorization(self, way, scopes)
    if wrong then
      ways[self.base] = nil -- its tokens may come from elsewhere now: the next call asks the registry itself
      return nil, wrong
    end
  end
  local answer, err = send(auth)
  if not answer or answer.status ~= 401 then return answer, err end
  -- A challenge belongs to who sent it: who only was redirected to asks for a password of its own.
  local sender = http.resolve(answer.url)
  if not sender or sender.origin ~= origin then
    return errors.fail("denied", ("the registry sent us to %s, which wants a password: that of %s does not go there")
      :format(sender and sender.origin or "nowhere", self.host), { op = "registry", target = self.name })
  end
  way = asked(answer, auth)
  if not way then return self:refused(answer, auth, send) end
  auth, err = authorization(self, way, scopes, auth and auth.bearer)
  if err then return nil, err end
  if not auth then
    return errors.fail("unauthorized", "the registry wants a password, and the configuration has none for "
      .. self.host, { op = "registry", target = self.name })
  end
  ways[self.base] = way
  answer, err = send(auth)
  if not answer or answer.status ~= 401 then return answer, err end
  return self:refused(answer, auth, send)
end

return M
