-- Telling people: Slack-compatible incoming webhooks, and any service that takes JSON by POST.
local errors, http, json, time = require "errors", require "http", require "json", require "time"

local M = {}

local TRIES <const> = 3
local COLOURS <const> = { info = "good", error = "danger", warn = "warning" }

-- Slack's three control characters; everything else in a text is a text.
local function slack_text(s) return (tostring(s):gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }):sub(1, 3000)) end

local bodies = {}

function bodies.slack(message)
  return {
    text = slack_text(message.title or message.text),
    attachments = { { color = COLOURS[message.level], text = slack_text(message.text), fallback = slack_text(message.text) } },
  }
end

function bodies.webhook(message)
  local body = { at = time.iso() }
  for k, v in pairs(message) do body[k] = type(v) == "string" and v:sub(1, 8000) or v end
  return body
end

-- Worth another try: the weather, and a server that says so.
local function passing(answer, err)
  if not answer then return err.code == "timeout" or err.code == "refused" or err.code == "reset" or err.code == "dns" or err.code == "unreachable" end
  return answer.status == 429 or answer.status >= 500
end

local function post(name, channel, message)
  local url, err = channel.url, nil
  if type(url) == "table" then url, err = url:reveal() end
  if not url then return nil, err end
  local token
  if channel.token then
    token, err = channel.token:reveal()
    if not token then return nil, err end
  end
  local body = json.encode(bodies[channel.kind](message))
  for try = 1, TRIES do
    local answer
    answer, err = http.post(url, body, {
      headers = { ["Content-Type"] = "application/json" }, auth = token and { bearer = token } or nil, timeout = 10, redirects = 0, max_body = 65536,
    })
    if answer and answer.status >= 200 and answer.status < 300 then return true end
    if try == TRIES or not passing(answer, err) then
      -- The address may be the secret itself: neither it nor the lower error's target is shown.
      return errors.fail(err and err.code or "status", ("%s was not told: %s"):format(name, err and err.message or "status " .. answer.status),
        { op = "notify", target = name })
    end
    time.sleep(try * try)
  end
end

---Sends a message over the named channels; all are tried.
---@async
---@param cfg Config
---@param names string[]
---@param message {level: "info"|"warn"|"error", title: string, text: string, app?: string, environment?: string, version?: string, commit?: string, run?: integer, url?: string}
---@return true? ok
---@return Err? err The first failure.
function M.send(cfg, names, message)
  local failure
  for _, name in ipairs(names) do
    local ok, err = post(name, cfg.notify[name], message)
    failure = failure or not ok and err or nil
  end
  if failure then return nil, failure end
  return true
end

return M
