-- Calls that may be repeated, and are while what went wrong may pass: a restart, a break, a limit.
--
-- All calls of a server share one budget: so many at once, and none while it asked for silence (429 or 5xx with
-- Retry-After), whoever it said that to and whenever the next poll comes.
local budget, errors, time = require "base.budget", require "errors", require "time"

local M = {}

local ATTEMPTS <const>, FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 4, 0.25, 30 -- seconds
local AT_ONCE <const>, QUEUE <const> = 16, 60 -- requests to one server; seconds to wait for a place
local LONGEST_SILENCE <const> = 60 -- seconds, of one that says 429 again and again but not for how long

---How long an answer asks us to wait: seconds, or a date by the server's own clock.
---@param answer HttpAnswer
---@return Seconds?
function M.asked(answer)
  return budget.retry_after(answer.headers["retry-after"], budget.http_date(answer.headers.date or ""))
end

-- One attempt within the server's budget.
local function once(share, attempt)
  local slot <close>, held = share:enter(QUEUE)
  if not slot then return nil, held, held.retry_after end
  local answer, err = attempt()
  if not answer then return nil, err end
  local wanted = errors.passing(answer.status) and M.asked(answer) or nil
  if wanted then
    share:hold(wanted)
  elseif answer.status == 429 then
    share:failed(errors.new("rate_limited", "the server answers 429 without saying for how long"), LONGEST_SILENCE)
  else
    share:succeeded()
  end
  return answer, nil, wanted
end

---Calls again while that may help. A server that asks for more patience than we have gets its answer back.
---@async
---@param server string Its origin.
---@param attempt fun(): HttpAnswer?, Err?
---@return HttpAnswer?
---@return Err? err
---@return_overload nil, Err
function M.call(server, attempt)
  local share, pause = budget.of("registry " .. server, AT_ONCE), FIRST_PAUSE
  for i = 1, ATTEMPTS do
    local answer, err, wanted = once(share, attempt)
    if i == ATTEMPTS or not errors.passing(answer and answer.status or err) then return answer, err end
    if wanted and wanted > LONGEST_PAUSE then return answer, err end
    time.sleep(math.max(wanted and share:held() or 0, pause * (0.75 + math.random() / 2)))
    pause = pause * 4
  end
end

return M
