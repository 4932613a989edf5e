-- Requests to GitHub's REST API the way GitHub wants them.
--
-- One account (an API address and a token) is one budget: requests go one after the other, mutating ones at
-- least a second apart, and when GitHub says "enough" by any of its headers everybody waits. Source: GitHub's
-- "best practices" and "rate limits" pages, as summed up in the comments below.

local api = require "base.api"
local budget = require "base.budget"
local errors = require "errors"
local hash = require "hash"
local json = require "json"
local log = require "log"
local text = require "base.text"
local time = require "time"

local M = {}

---Pinned: without the header a request falls to the oldest version that still lives, and one day to 410.
M.VERSION = "2022-11-28"
local AGENT = "moontide"
local MAX_HOPS = 3
local MUTATION_GAP = 1

---@class GitHubAccount
---@field api string
---@field id string Of the API and who asks.
---@field private token? string
---@field private share Budget
---@field service Api
---@field remaining? integer requests left in this hour
---@field limit? integer
---@field reset_in? Seconds from the last answer
---@field private strikes integer secondary limits in a row
---@field private mutated_at number
---@field private warned boolean
local Account = {}
Account.__index = Account

local accounts = setmetatable({}, { __mode = "v" })

local function number(headers, name)
  local value = headers[name]
  return value and value:match "^%d+$" and #value < 16 and tonumber(value) or nil
end

-- What GitHub itself says went wrong, made safe to show.
local function words_of(body, raw)
  if #raw >= 65536 or type(body) ~= "table" or type(body.message) ~= "string" then return nil end
  local said = body.message
  for _, fault in ipairs(type(body.errors) == "table" and body.errors or {}) do
    if type(fault) == "string" then
      said = said .. "; " .. fault
    elseif type(fault) == "table" then
      said = said .. "; " .. tostring(fault.message or fault.code or "?")
        .. (type(fault.field) == "string" and " (" .. fault.field .. ")" or "")
    end
  end
  return text.clean(said, 300)
end

-- Seconds until the hourly budget is refilled, by the server's own clock.
local function reset_in(headers)
  local at = number(headers, "x-ratelimit-reset")
  return at and at - (budget.http_date(headers.date or "") or time.now())
end

---Reads the rate limit of every answer. Returns the seconds of silence that a refusal asks for, or nil.
---@private
function Account:note(response, said)
  local headers, status = response.headers, response.status
  self.limit = number(headers, "x-ratelimit-limit") or self.limit
  self.remaining = number(headers, "x-ratelimit-remaining") or self.remaining
  self.reset_in = reset_in(headers) or self.reset_in
  if headers.sunset and not self.warned then
    self.warned = true
    log.warn("GitHub is going to retire the API version that this host uses",
      { version = M.VERSION, sunset = text.clean(headers.sunset, 60) })
  end
  local spent = number(headers, "x-ratelimit-remaining") == 0
  if status ~= 403 and status ~= 429 then
    self.strikes = 0
    -- The last request of the hour was answered; the next would be refused.
    if spent and reset_in(headers) then self.share:hold(reset_in(headers)) end
    return nil
  end
  local wait = budget.retry_after(headers["retry-after"], budget.http_date(headers.date or ""))
  if not wait and spent then wait = reset_in(headers) end
  if not wait and (status == 429 or (said or ""):lower():find("rate limit", 1, true)) then
    -- A secondary limit without a time: at least a minute, then twice as long each time.
    self.strikes = self.strikes + 1
    wait = 60 * 2 ^ math.min(self.strikes - 1, 5)
  end
  return wait and self.share:hold(wait)
end

local CODES = { [410] = "unsupported" } -- where they differ from other services'

local PLAIN = {
  [401] = "the token is not accepted",
  [403] = "the token may not do this",
  [404] = "there is no such thing, or the token may not see it",
  [410] = "GitHub no longer has this, or no longer speaks API version " .. M.VERSION,
}

-- What a path is about: one repository that fails holds no other one back.
local function repository_of(path) return path:match "/repos/([^/?]+/[^/?]+)" end

---An answer that is not the wanted one, as an error.
---@private
function Account:failure(op, target, response)
  local said = self.service:said(response)
  local held = self:note(response, said)
  local status = response.status
  local code = held and "rate_limited" or api.code(status, CODES)
  local wanted = response.headers["x-accepted-github-permissions"]
  local message = ("%s (HTTP %d)%s"):format(
    held and ("GitHub asks for %.0f s of silence"):format(held) or PLAIN[status] or "GitHub refused",
    status, said and ": " .. said or "")
  if status == 403 and not held and wanted then
    message = message .. "; it wants the permission " .. text.clean(wanted, 100)
  end
  local err = errors.new(code, message, { op = op, target = target })
  err.status = status
  err.retry_after = held
  if status >= 500 then self.share:failed(err, 60, repository_of(target)) end
  return nil, err
end

local function origin_of(address)
  return address:match "^https?://[^/]+"
end

-- GitHub's server as an account asks it: once; the next poll or the repeated step asks again.
local function service_of(account)
  local share = account.share
  return api.open {
    name = "GitHub", words = words_of, budget = share, queue = 120,
    http = {
      redirects = 0, timeout = 30, connect_timeout = 10, max_body = 8 * 1024 * 1024, ca = account.ca,
      auth = account.token and { bearer = account.token } or nil,
      headers = {
        ["Accept"] = "application/vnd.github+json", ["X-GitHub-Api-Version"] = M.VERSION, ["User-Agent"] = AGENT,
      },
    },
    before = function(call)
      if call.method == "GET" then return end
      local gap = account.mutated_at + MUTATION_GAP - time.monotonic()
      if gap > 0 then time.sleep(gap) end
      account.mutated_at = time.monotonic()
    end,
    on_error = function(err, call)
      share:failed(err, 60, call.part)
      local asked = call --[[@as table]]
      return errors.new(err.code, err.message, { op = asked.op, target = asked.target, cause = err })
    end,
  }
end

---Returns the account of an API address and a token, the same one for all who ask.
---@param address string
---@param token? string
---@param ca? string
---@return GitHubAccount
function M.account(address, token, ca)
  local id = address .. " " .. (token and hash.sha256(token):sub(1, 16) or "anonymous")
  local account = accounts[id]
  if not account then
    account = setmetatable({
      api = address, token = token, ca = ca, id = id, share = budget.new("github " .. address, 1),
      strikes = 0, mutated_at = -math.huge, warned = false,
    }, Account)
    account.service = service_of(account)
    accounts[id] = account
  end
  return account
end

-- Sends one request, following redirects inside of the API's own origin, whatever the method.
local function send(self, request, address)
  for _ = 0, MAX_HOPS do
    local response, err = self.service:send {
      op = request.op, target = request.path, part = repository_of(request.path), method = request.method,
      url = address, body = request.body, headers = { ["If-None-Match"] = request.etag },
    }
    if not response then return nil, err end
    local status = response.status
    if not (status == 301 or status == 302 or status == 307 or status == 308) then
      return response, address
    end
    local location = response.headers.location or ""
    if location:find "^/[^/]" then location = origin_of(address) .. location end
    if location:find "[%c%s]" or origin_of(location) ~= origin_of(address) then
      return errors.fail("redirect", "GitHub redirects away from its API", { op = request.op, target = address })
    end
    address = location
  end
  return errors.fail("redirect", "too many redirects", { op = request.op, target = address })
end

---@class GitHubRequest
---@field op string
---@field method string
---@field path string begins with /, or a whole address out of a Link header
---@field body? table
---@field etag? string of the answer that the caller has
---@field ok table<integer, boolean> statuses that are answers

---Makes one request when the account's budget allows it.
---@async
---@param request GitHubRequest
---@return table? response with .data (decoded body)
---@return Err|string err the error, or where the answer came from in the end
function Account:request(request)
  local op = request.op
  local address = request.path:sub(1, 1) == "/" and self.api .. request.path or request.path
  if origin_of(address) ~= origin_of(self.api) then
    return errors.fail("redirect", "GitHub links away from its API", { op = op, target = request.path })
  end
  local response, final = send(self, request, address)
  if not response then
    final.op, final.target = op, request.path
    if final.code == "redirect" then self.share:failed(final, 60, repository_of(request.path)) end
    return nil, final
  end
  if not request.ok[response.status] then return self:failure(op, request.path, response) end
  self.share:succeeded(repository_of(request.path))
  self:note(response)
  if response.status ~= 304 and response.status ~= 204 then
    local data, err = json.decode(response.body)
    if type(data) ~= "table" then
      return errors.fail("protocol", "GitHub's answer is not JSON",
        { op = op, target = request.path, cause = err })
    end
    response.data = data
  end
  return response, final
end

---Seconds that GitHub wants silence for; 0 when it does not.
---@return Seconds
function Account:held()
  return self.share:held()
end

return M
