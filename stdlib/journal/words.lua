-- Words on their way into the journal.
local log = require "log"

local M = {}

---A text as it may be kept: words of people, programs and servers may quote a secret.
---@param text? string
---@return string? text
function M.kept(text) return text and log.redact(text) end

return M
