-- A token server as public registries have it: Basic credentials in, a signed JWT for the asked scopes out.
--
-- Knows one user. `log` records each request's scopes; `deny` (a set of actions) and `expires` shape the answers.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local hash, json, serve, task, time = require "hash", require "json", require "serve", require "task", require "time"

local M = {}

---@class LabTokens
---@field url string the realm
---@field service string
---@field issuer string
---@field cert string
---@field log {user?: string, scopes: string[]}[]
---@field expires integer seconds that a token lives
---@field anonymous boolean gives pull tokens to people without credentials

-- openssl signs, because the host has no need for private keys.
local function sign(dir, text)
  return base.run { "openssl", "dgst", "-sha256", "-sign", dir .. "/token.key", stdin = text }
end

local function access_of(scopes, self, user)
  local access = json.array {}
  for _, scope in ipairs(scopes) do
    local kind, name, actions = scope:match("^(%w+):(.+):([%w,*]+)$")
    local allowed = json.array {}
    for action in (actions or ""):gmatch("[^,]+") do
      local may = user or (self.anonymous and action == "pull")
      if may and not self.deny[action] then allowed[#allowed + 1] = action end
    end
    if kind and #allowed > 0 then access[#access + 1] = { type = kind, name = name, actions = allowed } end
  end
  return access
end

local function token(self, user, scopes)
  local now = math.floor(time.now())
  local header = { typ = "JWT", alg = "RS256", x5c = json.array { self.x5c } }
  local claims = {
    iss = self.issuer, aud = self.service, sub = user or "", iat = now, nbf = now - 5, exp = now + self.expires,
    jti = hash.hex(hash.random(8)), access = access_of(scopes, self, user),
  }
  local text = hash.base64url(json.encode(header)) .. "." .. hash.base64url(json.encode(claims))
  return text .. "." .. hash.base64url(sign(self.dir, text))
end

-- A client may send several, each in a parameter of its own.
local function scopes_of(sent)
  local scopes = {}
  for value in sent:gmatch("[?&]scope=([^&]*)") do
    local text = value:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
    for scope in text:gmatch("%S+") do scopes[#scopes + 1] = scope end
  end
  return scopes
end

---Starts a token server.
---@async
---@param options {user: string, password: string}
---@return LabTokens
function M.open(options)
  local dir = base.dir("token")
  local self = {
    dir = dir, service = "lab-registry", issuer = "lab-issuer", cert = dir .. "/token.crt", log = {}, deny = {},
    expires = 300, anonymous = false,
  }
  base.run { "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=lab token",
    "-keyout", dir .. "/token.key", "-out", self.cert }
  self.x5c = assert(require("fs").read(self.cert)):gsub("%-%-%-%-%-[%u ]+%-%-%-%-%-", ""):gsub("%s", "")
  local want = "Basic " .. hash.base64(options.user .. ":" .. options.password)

  local function handler(request)
    local scopes = scopes_of(request.target)
    local auth = request.headers.authorization
    if auth and auth ~= want then
      return { status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="lab token"' }, body = "{}" }
    end
    self.log[#self.log + 1] = { user = auth and options.user, scopes = scopes }
    local body = json.encode { token = token(self, auth and options.user, scopes), expires_in = self.expires }
    return { status = 200, headers = { ["Content-Type"] = "application/json" }, body = body }
  end

  -- A server ends with the task that opened it: this one belongs to no test.
  local ready, over = task.signal(), task.signal()
  task.start({ name = "lab.token", detached = true }, function()
    local server <close> = assert(serve.listen { address = "127.0.0.1", port = 0, handler = handler })
    self.url = ("http://127.0.0.1:%d/token"):format(server.port)
    ready:notify()
    over:wait()
  end)
  if not ready:wait(60) then error("the token server does not start") end
  base.on_close(function() over:notify() end)
  return self
end

return M
