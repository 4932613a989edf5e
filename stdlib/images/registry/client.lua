-- Calls of a registry's API, authenticated as it asks for.
local errors, http = require "errors", require "http"
local service, token = require "images.registry.service", require "images.registry.token"

local M = {}

---@class RegistryCall: ApiCall
---@field scopes? string[] What a token must be good for; by default this repository and the method's actions.

---@class (partial) ImageRegistry
---@field name string "127.0.0.1:5101/team/web"
---@field host string "127.0.0.1:5101"
---@field path string "team/web"
---@field plain boolean it speaks http
---@field base string
---@field config RegistryConfig
local Client = {}

M.methods = Client

-- The authentication that each registry asked for: "basic", or the challenge for its tokens.
local ways = {}

---The error of an answer that is none of the good ones: the registry's own words, cleaned and cut.
---@param answer HttpAnswer
---@param op string
---@return Err
function Client:failure(answer, op) return service.of(self.base):failure(answer, op, self.name) end

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

-- The credentials for an attempt: none until the registry's challenge.
local function options_of(self, scopes, auth, err)
  local way = ways[self.base]
  if way and not auth then auth, err = authorization(self, way, scopes) end
  if err then
    ways[self.base] = nil -- its tokens may come from elsewhere now: the next call asks the registry itself
    return nil, err
  end
  return { base = self.base, ca = self.config.ca, auth = auth }
end

-- What to show after a 401; nil when it asks for nothing that we could show.
local function renewed(self, origin, answer, options, scopes)
  if answer.status ~= 401 then return nil end
  -- A challenge belongs to who sent it: who only was redirected to asks for a password of its own.
  local sender = http.resolve(answer.url)
  if not sender or sender.origin ~= origin then
    return errors.fail("denied", ("the registry sent us to %s, which wants a password: that of %s does not go there")
      :format(sender and sender.origin or "nowhere", self.host), { op = "registry", target = self.name })
  end
  local given = options.auth
  local way = asked(answer, given)
  if not way then return nil end
  local auth, err = authorization(self, way, scopes, given and given.bearer)
  if err then return nil, err end
  if not auth then
    return errors.fail("unauthorized", "the registry wants a password, and the configuration has none for "
      .. self.host, { op = "registry", target = self.name })
  end
  ways[self.base] = way
  return options_of(self, scopes, auth)
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
  local own, wrong = self:address()
  if not own then return nil, wrong end
  local scopes = call.scopes or { ("repository:%s:%s"):format(self.path, actions(method)) }
  local used ---@type any
  local server = service.of(own.origin, {
    options = function()
      used, wrong = options_of(self, scopes)
      return used, wrong
    end,
    renew = function(answer, options)
      local other, err = renewed(self, own.origin, answer, options, scopes)
      used = other or used
      return other, err
    end,
  })
  call.method, call.path = method, path
  local answer, err = server:send(call)
  if not answer or answer.status ~= 401 or not (used.auth and used.auth.user) then return answer, err end
  -- A 401 in spite of a password: either the password is wrong, or this user may not see this repository.
  local ping = server:send { path = "/v2/", options = used }
  if not ping or ping.status ~= 401 then return answer end
  return errors.fail("unauthorized", "the registry refuses the user and the password that the configuration has for "
    .. self.host, { op = "registry", target = self.name })
end

return M
