-- Words of policies: run:window { "Mon-Fri 9:00-17:00", zone = "Europe/Berlin" }, place:window.
local window = require "policy.window"

local M = { place = {}, run = {} }

-- What the word was given, or an error at the policy's line.
local function read(usage, given)
  local request, why = window.request(given)
  return request or error(why and ("%s: %s"):format(usage:match("^%S+"), why) or "usage: " .. usage, 4)
end

---Waits until a window of time is open; a restart of the host does not begin the wait again. It does not hold the
---environment meanwhile: a newer change that waits takes its place. Raises "deadline" when it did not open in time.
---@async
---@param run Run
---@param request {[1]: string, zone?: string, deadline?: Seconds|string} The window as of time.within; zone: the
--- machine's own when absent; deadline: as long as it takes when absent.
function M.run.window(run, request)
  window.wait(run, read("run:window { \"Mon-Fri 9:00-17:00\" [, zone =, deadline =] }", request))
end

---Whether a window of time is open now; else why not, for `return nil, why`.
---@param request string|{[1]: string, zone?: string} As of run:window.
---@return boolean open
---@return string words "Mon-Fri 9:00-17:00 Europe/Berlin opens at 2026-11-30 09:00 CET"
function M.place.window(_, request)
  local asked = read("place:window { \"Mon-Fri 9:00-17:00\" [, zone =] }", request)
  return window.state(asked), window.words(asked)
end

return M
