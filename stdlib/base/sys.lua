-- The process, for the stdlib's own modules: arguments, environment, signals. Scripts have no use for it.
local signal = require "base.signal"
local sys = require "core.sys"

local M = {}

M.version = sys.version ---@type string

---The program's arguments, without its own name.
---@type fun(): string[]
M.args = sys.args

---A variable of the process's environment.
---@type fun(name: string): string?
M.env = sys.env

---The machine's name.
---@type fun(): string
M.hostname = sys.hostname

---@type fun(): integer
M.pid = sys.pid

---The user that the process runs as.
---@type fun(): integer
M.uid = sys.uid

---The working directory.
---@type fun(): string?
M.cwd = sys.cwd

---The path of this very program.
---@type fun(): string
M.exe = sys.exe

---Bytes resident in the process, bytes that Lua holds, and the most that it held.
---@type fun(): integer, integer, integer
M.memory = sys.memory

---A start is over: what it left behind is collected in the next turns, and free memory goes back to the system.
---@type fun()
M.settle = sys.settle

---Keeps the collector's cycles from beginning while something large is made, or lets them begin again. false: one is
---under way, and ends within some turns.
---@type fun(hold: boolean): boolean?
M.hold_collector = sys.hold_collector

---"file:line" of a caller; "" when it is unknown.
---@type fun(level?: integer): string
M.where = sys.where

---The processor time that the loop's thread has used, in seconds.
---@type fun(): number
M.cpu = sys.cpu

---Counts how often the lines of people's scripts run, from now on.
---@type fun()
M.cover = sys.cover

---What cover() counted: file, line, how often.
---@type fun(): table<string, table<integer, integer>>
M.covered = sys.covered

---32 bits that spread texts evenly.
---@type fun(text: string): integer
M.hash = sys.hash

---"file:line" where a function begins; "" when it is not written in Lua.
---@type fun(fn: function): string
M.defined = sys.defined

---The same function, called through one of C: a tail call to it leaves the caller's line to be found.
---@type fun(fn: function): function
M.framed = sys.framed

---A table as a table that runs nothing of a script when it is read: itself, or a raw copy without its metatable.
---Anything else is given back as it is.
---@generic T
---@param value T
---@return T
function M.plain(value) return sys.plain(value) end

---"file:line" of the innermost caller that is not of the program itself; nil when there is none.
---@type fun(): string?
M.script_line = sys.script_line

---A message with the calls that led to it, or these alone, for error handlers.
---@type fun(message?: any): string
M.traceback = sys.traceback

---The text of a file that is part of the program, such as "stdlib/base/sys.lua".
---@type fun(path: string): string?
M.embedded = sys.embedded

---The paths of all files that are part of the program.
---@type fun(): string[]
M.embedded_list = sys.embedded_list

---Compiles a text chunk, never a binary one; nil and the message when it is no Lua.
---@type fun(text: string, chunkname: string, env: table): function?, string?
M.compile = sys.compile

---Reads a small file at once, for looking up modules only; nil when it is not there, and why when it is none that can
---be read as a whole: a pipe, a directory, over 1 MiB.
---@type fun(path: string, trusted?: boolean): string?, string?
M.slurp = sys.slurp

---Names the signals that from now on wait for next_signal() instead of ending the process.
---@param ... "TERM"|"INT"|"HUP"|"USR1"|"USR2"
function M.catch(...) return signal.catch(...) end

---Waits for a caught signal.
---@async
---@return string name
function M.next_signal() return signal.next_signal() end

---Whether a descriptor is a terminal.
---@type fun(fd: integer): boolean
M.isatty = sys.isatty

---How many columns the terminal has; 80 when there is none.
---@type fun(): integer
M.width = sys.width

---Writes a text; false when the other end is gone.
---@type fun(fd: integer, text: string): boolean
M.write = sys.write

---Becomes another program, which reads the text from its standard input and has the terminal to itself. Returns only
---when it cannot be started: why.
---@type fun(path: string, argv: string[], text: string): string
M.become = sys.become

---Waits for the next bytes; nil at the end.
---@type async fun(fd: integer): string?
M.read = sys.read

---Sets the dead man's switch: the kernel ends the process with exit status 75 when the seconds pass before this is
---called again, whatever the program does or does not do by then. nil takes it away.
---@type fun(seconds?: number): boolean
M.deadman = sys.deadman

---Makes the time of this process virtual, for good: every clock, wait and deadline of tasks stands still while a task
---is ready or real work (files, commands, requests) is under way, and else moves on to the next of them at once. Limits
---of processor time stay real. Called again it sets the clock.
---@type fun(start: number)
M.virtual_time = sys.virtual_time

---Calls fn(...) without ever setting it aside for others, who see all that it changes or nothing. It must be short,
---and cannot wait.
---@type fun(fn: (fun(...): any...), ...): any...
M.whole = sys.whole

---Says what string.format shows of a value that has no text of its own: the text, or nil for its address. Without a
---value: "" where there must be no addresses at all.
---@type fun(fn: fun(value?: any): string?)
M.steady = sys.steady

local passing ---@type fun(name: string)?

---Calls fn at each place that killpoint() marks, from now on; nil: no more. A simulation ends its host there.
---@param fn? fun(name: string)
function M.on_killpoint(fn) passing = fn end

---Marks a place where the crash sweep may kill the process; does nothing of itself in a release build.
---@param name string
function M.killpoint(name)
  if passing then passing(name) end
  return sys.killpoint(name)
end

---Fails the n-th allocation from now (the `fault` build only; nil elsewhere).
M.fail_allocations = rawget(sys, "fail_allocations")

return M
