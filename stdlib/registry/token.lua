-- Who we are to a registry: what its challenges ask for, Basic credentials, and tokens with their scopes.
--
-- Tokens are kept for the process by (realm, service, scopes, user and password) until four fifths of their life are
-- over. With the password: credentials come from workloads, too, and a name alone must not open what it opened for
-- somebody who knew it.
-- A registry may send us anywhere for its token, but a password goes only over https, or to the very host of
-- a registry that was configured to speak plain http. Rules: the distribution project's token authentication.
local errors, hash, http, log, time = require "errors", require "hash", require "http", require "log", require "time"
local patience = require "registry.patience"

local M = {}

local TIMEOUT <const> = 60
local LONGEST <const>, SHORTEST <const>, DEFAULT <const> = 3600, 5, 60 -- seconds of a token's life
local MOST <const> = 1000 -- tokens kept at once

local tokens, count = {}, 0 ---@type table<string, {token: string, valid: number}>

local function fail(where, code, message, cause)
  return errors.fail(code, message, { op = "registry.token", target = where.name, cause = cause })
end

---Parses the challenges of WWW-Authenticate: `Bearer realm="https://...",service="...",scope="..."`.
---@param text string
---@return table? fields with `scheme`, "basic" or "bearer"; the stronger one of several
function M.challenge(text)
  local found
  text = "," .. text
  local at = 1
  while true do
    -- A scheme is a word after a comma that no "=" follows.
    local _, stop, scheme = text:find("^[%s,]*(%a+)%f[%s,\0]%s*", at)
    if not scheme then break end
    local fields = { scheme = scheme:lower() }
    at = stop + 1
    while true do
      local last, key, value
      _, last, key, value = text:find('^[%s,]*([%w_-]+)%s*=%s*"([^"]*)"', at)
      if not key then _, last, key, value = text:find("^[%s,]*([%w_-]+)%s*=%s*([^%s,]+)", at) end
      if not key then break end
      fields[key:lower()], at = value, last + 1
    end
    if fields.scheme == "bearer" or fields.scheme == "basic" and not found then found = fields end
  end
  return found
end

---The credentials that the configuration has for a registry.
---@async
---@param where ImageRegistry
---@return HttpAuth? auth nil without err: there are none
---@return Err? err
function M.credentials(where)
  local config = where.config
  if not config.username then return nil end
  local password, err = config.password:reveal()
  if not password then return nil, err end
  return { user = config.username, password = password }
end

local function host_of(address)
  return (address:match("^%[.-%]") or address:match("^[^:]*")):lower()
end

-- Whether a token may be fetched from there. Backslashes, line breaks and users are for fooling somebody.
local function allowed(where, realm)
  local scheme, address = realm:match("^(%a+)://([^/?#]+)")
  if not scheme or realm:find("[%c\\@#%s]") then return false end
  scheme = scheme:lower()
  return scheme == "https" or scheme == "http" and where.plain and host_of(address) == host_of(where.host)
end

local function keep(key, token, life)
  if count >= MOST then tokens, count = {}, 0 end
  if not tokens[key] then count = count + 1 end
  tokens[key] = { token = token, valid = time.monotonic() + life * 0.8 }
end

-- The token in an answer, and its life.
local function read(where, answer)
  local body, err = answer:json()
  local token = type(body) == "table" and (body.token or body.access_token)
  if type(token) ~= "string" or token == "" or token:find("[%c%s]") then
    return fail(where, "protocol", "the token service gave no token", err)
  end
  log.passing_secret(token)
  local life = math.type(body.expires_in) == "integer" and body.expires_in or DEFAULT
  return token, math.max(SHORTEST, math.min(life, LONGEST))
end

---Gives a token for some scopes.
---@async
---@param where ImageRegistry
---@param ask {realm: string?, service: string?} The registry's challenge.
---@param scopes string[] "repository:NAME:pull,push"
---@param refused string? A token that was just refused: not that one again.
---@return string? token
---@return Err? err
function M.get(where, ask, scopes, refused)
  if not ask.realm or not allowed(where, ask.realm) then
    return fail(where, "denied", "the registry wants its token from a place we do not send passwords to")
  end
  local auth, err = M.credentials(where)
  if err then return nil, err end
  local key = table.concat({
    ask.realm, ask.service or "", table.concat(scopes, " "), where.config.ca or "",
    auth and hash.sha256(auth.user .. "\0" .. auth.password) or "",
  }, "\n")
  local known = tokens[key]
  if known and known.token ~= refused and known.valid > time.monotonic() then return known.token end
  local query = { "service=" .. http.escape(ask.service or "") }
  for _, scope in ipairs(scopes) do query[#query + 1] = "scope=" .. http.escape(scope) end
  local url = ask.realm .. (ask.realm:find("?", 1, true) and "&" or "?") .. table.concat(query, "&")
  local answer
  answer, err = patience.call(function()
    return http.get(url, {
      auth = auth, ca = where.config.ca, timeout = TIMEOUT, redirects = 0, max_body = 1 << 20,
    })
  end)
  if not answer then return nil, err end
  if answer.status == 401 or answer.status == 403 then
    return fail(where, "unauthorized", "the registry's token service refused us"
      .. (auth and "" or ": the configuration has no credentials for " .. where.host))
  end
  if answer.status ~= 200 then return nil, where:failure(answer, "registry.token") end
  local token, life = read(where, answer)
  if not token then return nil, life end
  keep(key, token, life)
  return token
end

return M
