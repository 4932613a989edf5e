-- The process, for the stdlib's own rooms: arguments, environment, signals. Scripts have no use for it.
local signal = require "signal"
local sys = require "core.sys"

local M = {}

M.version = sys.version ---@type string
M.args, M.env, M.hostname, M.pid = sys.args, sys.env, sys.hostname, sys.pid
M.uid, M.cwd, M.exe = sys.uid, sys.cwd, sys.exe
M.memory, M.where, M.traceback = sys.memory, sys.where, sys.traceback
M.embedded, M.embedded_list, M.compile, M.slurp = sys.embedded, sys.embedded_list, sys.compile, sys.slurp

---Names the signals that from now on wait for next_signal() instead of ending the process.
---@param ... "TERM"|"INT"|"HUP"|"USR1"|"USR2"
function M.catch(...) return signal.catch(...) end

---Waits for a caught signal.
---@async
---@return string name
function M.next_signal() return signal.next_signal() end

-- The terminal, for term.lua.
M.isatty, M.width, M.write, M.read = sys.isatty, sys.width, sys.write, sys.read

---Marks a place where the crash sweep may kill the process; does nothing in a release build.
---@param name string
function M.killpoint(name) return sys.killpoint(name) end

---Fails the n-th allocation from now (the `fault` build only; nil elsewhere).
M.fail_allocations = rawget(sys, "fail_allocations")

return M
