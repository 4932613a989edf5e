-- Calls that may be repeated, and are while what went wrong may pass: a restart, a break, a limit.
local errors, time = require "errors", require "time"

local M = {}

local ATTEMPTS <const>, FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 4, 0.25, 30 -- seconds

---How long an answer asks us to wait.
---@param answer HttpAnswer
---@return Seconds?
function M.asked(answer)
  local text = answer.headers["retry-after"]
  return text and text:match("^%d+$") and #text < 8 and tonumber(text) or nil
end

---Calls again while that may help. A server that asks for more patience than we have gets its answer back.
---@async
---@param attempt fun(): HttpAnswer?, Err?
---@return HttpAnswer?
---@return Err? err
function M.call(attempt)
  local pause = FIRST_PAUSE
  for i = 1, ATTEMPTS do
    local answer, err = attempt()
    if i == ATTEMPTS or not errors.passing(answer and answer.status or err) then return answer, err end
    local wanted = answer and M.asked(answer)
    if wanted and wanted > LONGEST_PAUSE then return answer end
    time.sleep(math.max(wanted or 0, pause * (0.75 + math.random() / 2)))
    pause = pause * 4
  end
end

return M
