-- The API's token: who bears it, and what wrong ones cost.
--
-- A wrong token is no reason to compare the next one at once: each address may be wrong a few times, and then once a
-- second. The right token is compared under the same rule, or the kind of the answer would reveal the right one.
local errors, hash, log, time = require "errors", require "hash", require "log", require "time"

local M = {}

---A shorter token can be guessed.
M.LEAST = 16
local WRONG, PER_SECOND, ADDRESSES = 10, 1, 1000

local wrong, count = {}, 0 -- address -> { left =, at = }

-- A household or a host has 2^64 addresses of IPv6: they count as one.
local function group(request)
  local address = (request.peer or {}).address or "here"
  local words = {}
  if not address:find(":", 1, true) then return address end
  for word in (address:gsub("::.*", "") .. ":"):gmatch("(%x*):") do words[#words + 1] = word end
  return table.concat(words, ":", 1, math.min(4, #words))
end

local function allowance(seen, now) return math.min(WRONG, seen.left + (now - seen.at) * PER_SECOND) end

-- The key under which an address is counted; beyond ADDRESSES of them the others share one.
local function key_of(request, now)
  local key = group(request)
  if wrong[key] or count < ADDRESSES then return key end
  for name, seen in pairs(wrong) do
    if allowance(seen, now) >= WRONG then wrong[name], count = nil, count - 1 end
  end
  return count < ADDRESSES and key or "others"
end

-- How long the next attempt has to wait; 0: not at all.
local function wait_for(key, now)
  return wrong[key] and math.max(0, 1 - allowance(wrong[key], now)) or 0
end

local function note(key, now)
  local seen = wrong[key]
  if not seen then
    seen = { left = WRONG, at = now }
    wrong[key], count = seen, count + 1
  end
  seen.left, seen.at = allowance(seen, now) - 1, now
end

-- What a request bears: a bearer's token, or anybody's password where that is allowed.
local function given(request, basic)
  local scheme, value = (request.headers.authorization or ""):match("^(%a+) +(.-) *$")
  if not scheme then return nil end
  if scheme:lower() == "bearer" then return value end
  local plain = basic and scheme:lower() == "basic" and hash.unbase64(value)
  local user, password = (plain or ""):match("^([^:]*):(.*)$")
  return password, user ~= "" and user or nil
end

---Whether a request bears the token of the configuration.
---@async
---@param config? Config
---@param request serve.Request
---@param options? {basic?: boolean} basic: also as a password of any user
---@return boolean allowed
---@return Err|string|nil who The user that it names; or unauthorized, rate_limited (with retry_after), denied (there is
--- no token), internal.
---@return_overload true, string?
---@return_overload false, Err
function M.check(config, request, options)
  local secret = config and config.api and config.api.token
  if not secret then
    return false, errors.new("denied",
      "the API is closed: the configuration has no api = { token = { file = \"...\" } }")
  end
  local now = time.monotonic()
  local key = key_of(request, now)
  local pause = wait_for(key, now)
  if pause > 0 then
    local err = errors.new("rate_limited", "too many wrong tokens came from this address: try again in a moment")
    err.retry_after = pause
    return false, err
  end
  local token, err = secret:reveal()
  if not token or #token < M.LEAST then
    log.error("the API's token cannot be used", {
      error = token and ("it is shorter than %d bytes"):format(M.LEAST) or tostring(err),
    })
    return false, errors.new("internal", "the token cannot be used; the host's log says why")
  end
  local text, user = given(request, options and options.basic)
  if text and hash.equal(hash.sha256(text), hash.sha256(token)) then return true, user end
  if text then -- requests without a token are not counted, and must not fill the log either
    note(key, now)
    log.warn("somebody came with a wrong token", { path = request.path, address = (request.peer or {}).address })
  end
  return false, errors.new("unauthorized", "the token is missing or wrong (Authorization: Bearer TOKEN)")
end

return M
