-- Notifiers: Slack-compatible incoming webhooks, any service that takes JSON by POST, and what extensions add.
--
-- Messages quote commits, branch names and programs: secrets are redacted, Slack's control characters
-- are escaped, and nothing can call a whole channel. A message may come twice when an answer was lost.
local api, errors, http, json, log, time =
  require "base.api", require "errors", require "http", require "json", require "log", require "time"

local extensions = require "extensions"

local M = {}

local PAUSE <const> = { 1, 4 } -- seconds before the second and the third attempt, the last
local LONGEST_PAUSE <const> = 30 -- however long a server asks us to wait
local TIMEOUT <const> = 10
local SLACK_MAX <const>, WEBHOOK_MAX <const> = 3000, 8000
local COLOURS <const> = { info = "good", error = "danger", warn = "warning" }
local ESCAPES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }

-- At most `max` bytes of well-formed text without secrets.
---@param value any
---@param max integer
---@return string
local function plain(value, max)
  local s = log.redact(tostring(value))
  if not utf8.len(s) then
    s = s:gsub("[\128-\255]+", function(bytes) return utf8.len(bytes) and bytes or "?" end)
  end
  if #s <= max then return s end
  local cut = max - 3 ---@type integer
  while cut > 0 and s:byte(cut + 1) & 0xc0 == 0x80 do cut = cut - 1 end
  return s:sub(1, cut) .. "..."
end

-- Slack's three control characters; everything else in a text is a text.
local function slack_text(value) return (plain(value, SLACK_MAX):gsub("[&<>]", ESCAPES)) end

local bodies = {}

function bodies.slack(message)
  local words = slack_text(message.text)
  return {
    text = slack_text(message.title or message.text),
    attachments = { { color = COLOURS[message.level], text = words, fallback = words } },
  }
end

function bodies.webhook(message)
  local body = { at = time.iso() }
  for k, v in pairs(message) do body[k] = v end
  return body
end

-- Seconds until another attempt is worth it; nil when it is not.
local function pause(answer, err, try)
  if not PAUSE[try] or not errors.passing(answer and answer.status or err) then return nil end
  return math.min(LONGEST_PAUSE, math.max(PAUSE[try], answer and api.asked(answer) or 0))
end

---Posts a message to a webhook, in the form of the channel's kind.
---@async
---@param channel NotifyConfig
---@param message Message
---@param name string The channel's.
---@return true? ok
---@return Err? err
---@return_overload nil, Err
function M.post(channel, message, name)
  local url, err = require("config.secret").text(channel.url)
  if not url then return nil, err end
  local token
  if channel.token then
    token, err = channel.token:reveal()
    if not token then return nil, err end
  end
  local body = json.encode(bodies[channel.kind](message))
  local answer
  answer, err = api.retry(pause, function()
    return http.post(url, body, {
      headers = { ["Content-Type"] = "application/json" }, auth = token and { bearer = token } or nil,
      timeout = TIMEOUT, redirects = 0, max_body = 65536,
    })
  end)
  if answer and answer.status // 100 == 2 then return true end
  -- The address may be the secret itself: neither it nor the lower error is shown.
  local reason = err and err.code or "status " .. assert(answer).status
  return errors.fail(err and err.code or "status", ("%s was not told: %s"):format(name, reason),
    { op = "notify", target = name })
end

---@class Message
---@field level "info"|"warn"|"error"
---@field title string
---@field text string
---@field app? string
---@field environment? string
---@field version? string
---@field commit? string
---@field run? integer
---@field url? string

---Sends a message over the named channels; all are tried.
---@async
---@param cfg Config
---@param names string[]
---@param message Message
---@return true? ok
---@return Err? err The first failure.
---@return_overload nil, Err
function M.send(cfg, names, message)
  local told, failure = {}, nil
  for k, v in pairs(message) do told[k] = type(v) == "string" and plain(v, WEBHOOK_MAX) or v end
  for _, name in ipairs(names) do
    local channel = cfg.notify[name]
    local ok, err = extensions.call("notifier", channel.kind, "send", channel, told, name)
    failure = failure or not ok and err or nil
  end
  if failure then return nil, failure end
  return true
end

return M
