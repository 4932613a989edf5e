-- Words on their way into the journal, and of what it has.
local log, time = require "log", require "time"

local M = {}

---A text as it may be kept: words of people, programs and servers may quote a secret.
---@param text? string
---@return string? text
function M.kept(text) return text and log.redact(text) end

---Who holds a place, or everything.
---@param hold Hold
---@return string
function M.held(hold)
  if not hold.frozen then return "held by " .. hold.by end
  return ("frozen by %s%s"):format(hold.by, hold.till and " until " .. time.iso(hold.till) or "")
end

---Who holds a place, or everything, and why.
---@param hold Hold
---@return string
function M.hold(hold) return M.held(hold) .. (hold.reason and ": " .. hold.reason or "") end

return M
