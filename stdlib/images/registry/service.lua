-- What all registries share as services: their codes, the words of their refusals, and how long to insist.
--
-- All calls of a server share one budget: so many at once, and none until a Retry-After (429 or 5xx)
-- is over. Only calls that may be repeated come through
-- here: reading, putting by digest or tag, deleting, mounting. Rules: the distribution specification 1.1.
local api, budget, errors = require "base.api", require "base.budget", require "errors"

local M = {}

local ATTEMPTS <const>, FIRST_PAUSE <const>, LONGEST_ASKED <const> = 4, 0.25, 30 -- seconds
local AT_ONCE <const>, QUEUE <const> = 16, 60 -- requests to one server; seconds to wait for a place
local LONGEST_SILENCE <const> = 60 -- seconds, of one that says 429 again and again but not for how long
local TIMEOUT <const> = 60
local MAX_BODY <const> = 4 << 20 -- what clients should expect of a manifest

-- The registry's own words, cleaned and cut.
local function words(body)
  local first = type(body) == "table" and type(body.errors) == "table" and body.errors[1]
  if type(first) ~= "table" then return nil end
  return ("%s %s"):format(tostring(first.code), tostring(first.message)):gsub("%c", " "):sub(1, 298)
end

-- What an answer says of how often its server wants to be asked.
local function heed(share, answer)
  local wanted = errors.passing(answer.status) and api.asked(answer) or nil
  if wanted then
    share:hold(wanted)
  elseif answer.status == 429 then
    share:failed(errors.new("rate_limited", "the server answers 429 without saying for how long"), LONGEST_SILENCE)
  else
    share:succeeded()
  end
end

-- A Retry-After longer than our limit is returned as an error.
local function pause(share, answer, err, try)
  local failed = answer and answer.status or err
  if try == ATTEMPTS or not errors.passing(failed) then return nil end
  local wanted = answer and api.asked(answer) or err and err.retry_after
  if wanted and wanted > LONGEST_ASKED then return nil end
  return math.max(wanted and share:held() or 0, api.backoff(try, FIRST_PAUSE, 4))
end

---The server of a registry, or of its tokens.
---@param origin string
---@param hooks? {options: function, renew: function} Who we are there.
---@return Api
---@nodiscard
function M.of(origin, hooks)
  local share = budget.of("registry " .. origin, AT_ONCE)
  return api.open {
    name = "the registry", codes = { [410] = "not_found" }, transient = "busy", words = words,
    http = { timeout = TIMEOUT, max_body = MAX_BODY }, budget = share, queue = QUEUE,
    options = hooks and hooks.options, renew = hooks and hooks.renew,
    on_answer = function(answer) heed(share, answer) end,
    retry = function(answer, err, try) return pause(share, answer, err, try) end,
  }
end

return M
