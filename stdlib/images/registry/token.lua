-- Authentication to a registry: challenges, Basic credentials, and tokens with their scopes.
--
-- Tokens are kept for the process by (realm, service, scopes, user and password) until four fifths of their life are
-- over. With the password: credentials come from workloads, too, and a name alone must not open what it opened for
-- somebody who knew it.
-- A registry that speaks https may name any https realm. One that speaks plain http names one that anybody on the way
-- could have written: its password goes to the registry's own address, or where the configuration says (`realm`).
-- Rules: the distribution project's token authentication.
local errors, hash, http, log, time = require "errors", require "hash", require "http", require "log", require "time"
local link, service = require "images.registry.link", require "images.registry.service"

local M = {}

local MAX_BODY <const> = 1 << 20
local LONGEST <const>, SHORTEST <const>, DEFAULT <const> = 3600, 5, 60 -- seconds of a token's life
local MOST <const> = 1000 -- tokens kept at once

local tokens, count = {}, 0 ---@type table<string, {token: string, valid: number}>
local sweep_at = 64 -- so many tokens: those whose life is over are dropped

local function fail(where, code, message, cause)
  return errors.fail(code, message, { op = "registry.token", target = where.name, cause = cause })
end

local WORD <const> = "^[%w!#$%%&'*+.^_`|~-]+"

---Parses the challenges of WWW-Authenticate: `Bearer realm="https://...",service="...",scope="..."`. Those of other
---schemes, whatever stands in them, hide none that we know.
---@param text string
---@return table? fields with `scheme`, "basic" or "bearer"; the stronger one of several
function M.challenge(text)
  local found
  local at = text:match("^[%s,]*()") ---@type any
  while at <= #text do
    local scheme = text:match(WORD, at)
    if not scheme then return found end
    at = at + #scheme
    -- Some schemes have one bare value instead of parameters.
    at = text:match("^%s+[%w._~+/-]+=*%s*%f[,\0]()", at) or at
    local fields = { scheme = scheme:lower() }
    while true do
      local from = text:match("^[%s,]*()", at --[[@as integer]]) ---@type any
      local key = text:match(WORD, from)
      local after = key and text:match("^%s*=%s*()", from + #key) ---@type any
      if not key or not after then break end
      fields[key:lower()], at = link.value(text, after)
      if not at then return found end
    end
    if fields.scheme == "bearer" or fields.scheme == "basic" and not found then found = fields end
    at = text:match("^[%s,]*()", at --[[@as integer]])
  end
  return found
end

---The credentials that the configuration has for a registry.
---@async
---@param where ImageRegistry
---@return HttpAuth? auth nil without err: there are none
---@return Err? err
---@return_overload nil, Err
function M.credentials(where)
  local config = where.config
  if not config.username then return nil end
  local password, err = assert(config.password):reveal()
  if not password then return nil, err end
  return { user = config.username, password = password }
end

-- The address of a realm, which may be relative to the registry's. Backslashes, line breaks and users are
-- refused: programs read them differently.
local function address(realm, base)
  if realm == "" or realm:find("[%c\\@#%s]") then return nil end
  local at = http.resolve(realm, base)
  return at and not at.user and at or nil
end

-- Whether a token may be fetched from there, with the password if there is one.
local function allowed(where, at, auth)
  local own = assert(where:address())
  if at.scheme == "https" and own.scheme == "https" or at.origin == own.origin then return true end
  local named = where.config.realm and http.resolve(where.config.realm)
  if named and named.origin == at.origin then return true end
  return not auth and own.scheme == "http" and (at.scheme == "https" or at.host == own.host)
end

local function keep(key, token, life)
  if count >= sweep_at then
    for other, known in pairs(tokens) do
      if known.valid < time.monotonic() then tokens[other], count = nil, count - 1 end
    end
    if count >= MOST then tokens, count = {}, 0 end
    sweep_at = math.max(64, math.min(MOST, 2 * count))
  end
  if not tokens[key] then count = count + 1 end
  tokens[key] = { token = token, valid = time.monotonic() + life * 0.8 }
end

-- The token in an answer, and its life. Either name may be missing or null.
local function read(where, answer)
  local body, err = answer:json()
  local token
  for _, name in ipairs { "token", "access_token" } do
    local value = type(body) == "table" and body[name]
    if not token and type(value) == "string" and value ~= "" then token = value end
  end
  if not token or token:find("[%c%s]") then
    return fail(where, "protocol", "the token service gave no token", err)
  end
  log.passing_secret(token)
  local life = tonumber(body.expires_in) or DEFAULT
  if life ~= life then life = DEFAULT end
  return token, math.max(SHORTEST, math.min(life, LONGEST))
end

-- Asks the token service. What it redirects to on another origin gets no password.
local function fetch(where, at, auth, query)
  local url = at.url .. (at.query and "&" or "?") .. table.concat(query, "&")
  local answer, err = service.of(at.origin):send { url = url, auth = auth, ca = where.config.ca, max_body = MAX_BODY }
  if not answer then return nil, err end
  if answer.status == 401 or answer.status == 403 then
    local last = http.resolve(answer.url)
    local words = ""
    if not auth then
      words = ": the configuration has no credentials for " .. where.host
    elseif last and last.origin ~= at.origin then
      words = (": it sent us on to %s, where the password of %s does not go"):format(last.origin, where.host)
    end
    -- 403 is not about the password: it may be that there is nothing yet that a token could be for.
    return errors.fail("unauthorized", "the registry's token service refused us" .. words,
      { op = "registry.token", target = where.name, status = answer.status == 403 and 403 or nil })
  end
  if answer.status ~= 200 then return nil, where:failure(answer, "registry.token") end
  return read(where, answer)
end

---Gives a token for some scopes.
---@async
---@param where ImageRegistry
---@param ask {realm?: string, service?: string, base: string} The registry's challenge, and where it said so.
---@param scopes string[] "repository:NAME:pull,push"
---@param refused? string A token that was just refused: not that one again.
---@return string? token
---@return Err? err
---@return_overload nil, Err
function M.get(where, ask, scopes, refused)
  local auth, err = M.credentials(where)
  if err then return nil, err end
  local at = ask.realm and address(ask.realm, ask.base)
  if not at then return fail(where, "denied", "the registry names no place that its tokens could come from") end
  if not allowed(where, at, auth) then
    return fail(where, "denied", ("the registry wants its token from %s, a place we do not send passwords to; if that"
      .. " is its token service, name it as `realm` of %s in the configuration"):format(at.origin, where.host))
  end
  local key = table.concat({
    at.url, ask.service or "", table.concat(scopes, " "), where.config.ca or "",
    auth and hash.sha256(auth.user .. "\0" .. auth.password) or "",
  }, "\n")
  local known = tokens[key]
  if known and known.token ~= refused and known.valid > time.monotonic() then return known.token end
  local query = { ask.service and "service=" .. http.escape(ask.service) or nil }
  for _, scope in ipairs(scopes) do query[#query + 1] = "scope=" .. http.escape(scope) end
  local token, life = fetch(where, at, auth, query)
  if not token then return nil, life end
  keep(key, token, life)
  return token
end

return M
