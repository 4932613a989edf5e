-- Signals as values to wait for; base/sys.lua offers them to the rest of the program.
local core = require "core.signal"

local M = {}

---Keeps these signals for next_signal() from now on instead of letting them end the process.
---@type fun(...: "TERM"|"INT"|"HUP"|"USR1"|"USR2")
M.catch = core.catch

---Waits for a caught signal.
---@type async fun(): string
M.next_signal = core.next_signal

return M
