-- Child processes: run one to its end, or talk to it while it runs.
--
-- There is no shell: a command is a list of arguments. A child gets only the environment it is given, sits in a
-- process group of its own, and the whole group ends with the task that waits for it, with its handle, with its
-- timeout, and with the host. What the program itself leaves running in its group ends a second after it.

local errors = require "errors"
local facade = require "base.facade"
local raw = require "core.proc"
local sys = require "base.sys"

local plain = sys.plain
local M = {}

local PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
local MAX_OUTPUT = 1024 * 1024
local MAX_LINE = 64 * 1024

---@class ProcSpec
---@field [integer] string the program and its arguments
---@field cwd? string directory to start in
---@field env? table<string, string|false> added to PATH and LANG; false takes one of these away
---@field inherit? string[] names of the host's own variables to pass on, such as HOME
---@field stdin? string|{file: string}|false what the child reads; run: nothing by default, spawn: handle:write
---@field stdout? "capture"|"null"|"inherit"|{file: string, append?: boolean}
---@field stderr? "capture"|"null"|"inherit"|"stdout"|{file: string, append?: boolean}
---@field timeout? number seconds after which the group gets TERM
---@field grace? number seconds from then to KILL (5)
---@field max_output? integer bytes kept of each captured stream (1 MiB); the rest is read and dropped
---@field on_line fun(line: string, stream: "stdout"|"stderr")? run only: called for each line as it comes

---@class ProcResult
---@field ok boolean the program ended with status 0
---@field code? integer exit status, when it ended by itself
---@field signal? string such as "SIGKILL", when a signal ended it
---@field stdout string
---@field stderr string
---@field truncated boolean output beyond max_output was dropped
---@field elapsed number seconds
---@field program string

local SPEC_KEYS = {
  cwd = "string", env = "table", inherit = "table", stdin = true, stdout = true, stderr = true, timeout = "number",
  grace = "number", max_output = "integer", on_line = "function",
}

local function kind(value)
  return math.type(value) == "integer" and "integer" or type(value)
end

-- Checks one option; returns what is wrong with it.
local function option_fault(key, value)
  local want = SPEC_KEYS[key]
  if not want then
    return ("unknown option '%s'"):format(tostring(key))
  end
  local got = kind(value)
  if want ~= true and got ~= want and not (want == "number" and got == "integer") then
    return ("option '%s' must be a %s, not a %s"):format(key, want, type(value))
  end
  if want == "number" and (value <= 0 or value ~= value) or want == "integer" and value < 0 then
    return ("option '%s' must be above zero"):format(key)
  end
  if want == "string" and value:find("\0", 1, true) then
    return ("option '%s' holds a NUL byte"):format(key)
  end
end

local function text_fault(what, value)
  if type(value) ~= "string" then
    return ("%s must be a string, not a %s"):format(what, type(value))
  elseif value:find("\0", 1, true) then
    return what .. " holds a NUL byte"
  end
end

-- Splits the spec into its arguments and options. Returns argv, or nil and what is wrong.
local function arguments(spec, no_lines)
  local count = 0
  for key, value in pairs(spec) do
    local fault
    if math.type(key) == "integer" then
      count = count + 1
      fault = text_fault(("argument %d"):format(key), value)
    elseif no_lines and key == "on_line" then
      fault = "on_line is for proc.run; use handle:lines()"
    else
      fault = option_fault(key, value)
    end
    if fault then
      return nil, fault
    end
  end
  if count == 0 or spec[1] == nil or spec[1] == "" then
    return nil, "the program is missing"
  end
  local argv = {}
  for i = 1, count do
    if spec[i] == nil then
      return nil, ("argument %d is nil"):format(i)
    end
    argv[i] = spec[i]
  end
  return argv
end

-- The child's environment as a sorted list of NAME=value; nil and what is wrong.
local function environment(spec)
  local env = { PATH = PATH, LANG = "C.UTF-8" }
  for i, name in ipairs(plain(spec.inherit) or {}) do
    local fault = text_fault(("inherit[%d]"):format(i), name)
    if fault then
      return nil, fault
    end
    env[name] = sys.env(name)
  end
  for name, value in pairs(plain(spec.env) or {}) do
    local fault = text_fault("a name in env", name)
    if not fault and (name == "" or name:find("=", 1, true)) then
      fault = ("env has the impossible name '%s'"):format(name)
    end
    fault = fault or value ~= false and text_fault(("env.%s"):format(name), value)
    if fault then
      return nil, fault
    end
    env[name] = value or nil
  end
  local list = {}
  for name, value in pairs(env) do
    list[#list + 1] = name .. "=" .. value
  end
  table.sort(list)
  return list
end

local function file_stream(name, value, allowed)
  value = plain(value)
  for key in pairs(value) do
    if not allowed[key] then
      return nil, ("option '%s' has the unknown field '%s'"):format(name, tostring(key))
    end
  end
  local fault = text_fault(name .. ".file", value.file)
  if fault then
    return nil, fault
  end
  return value
end

local OUTPUT = { capture = "pipe", null = "null", inherit = "inherit" }

local function output_stream(name, value)
  if value == nil then
    return "pipe"
  elseif type(value) == "table" then
    return file_stream(name, value, { file = true, append = true })
  elseif name == "stderr" and value == "stdout" then
    return "merged"
  end
  local word = OUTPUT[value]
  if not word then
    return nil, ("option '%s' must be \"capture\", \"null\", \"inherit\"%s or {file=path}"):format(
      name, name == "stderr" and ", \"stdout\"" or "")
  end
  return word
end

local function input_stream(value, default)
  if value == nil then
    return default
  elseif value == false then
    return "null"
  elseif type(value) == "string" then
    return { data = value }
  elseif type(value) == "table" then
    return file_stream("stdin", value, { file = true })
  end
  return nil, "option 'stdin' must be a string, {file=path} or false"
end

-- Turns a spec into what core.proc takes, and `on_line`. Returns nil and what is wrong with it.
local function translate(spec, default_stdin, no_lines)
  spec = plain(spec)
  if type(spec) ~= "table" then
    return nil, "one table is expected"
  end
  local argv, fault = arguments(spec, no_lines)
  if not argv then
    return nil, fault
  end
  local env, env_fault = environment(spec)
  local stdin, in_fault = input_stream(spec.stdin, default_stdin)
  local stdout, out_fault = output_stream("stdout", spec.stdout)
  local stderr, err_fault = output_stream("stderr", spec.stderr)
  fault = env_fault or in_fault or out_fault or err_fault
  if fault then
    return nil, fault
  end
  return {
    argv = argv, env = env, cwd = spec.cwd, stdin = stdin, stdout = stdout, stderr = stderr, timeout = spec.timeout,
    grace = spec.grace, max_output = spec.max_output or MAX_OUTPUT,
  }, spec.on_line
end

-- Returns a function that takes pieces of one stream and calls emit(line) for each whole line, and one that
-- flushes what is left. A line longer than MAX_LINE comes in several parts.
local function line_splitter(emit)
  local rest = ""
  local function cut(text, first, last)
    while last - first + 1 > MAX_LINE do
      emit(text:sub(first, first + MAX_LINE - 1))
      first = first + MAX_LINE
    end
    return first
  end
  local function feed(piece)
    local text, at = rest .. piece, 1
    while true do
      local stop = text:find("\n", at, true)
      if not stop then
        break
      end
      local last = stop - 1
      if last >= at and text:byte(last) == 13 then
        last = last - 1
      end
      emit(text:sub(cut(text, at, last), last))
      at = stop + 1
    end
    at = cut(text, at, #text)
    rest = text:sub(at)
  end
  local function flush()
    if rest ~= "" then
      emit(rest)
      rest = ""
    end
  end
  return feed, flush
end

-- The public result from what core.proc answers; a child that ran out of time is an error.
local function conclude(answer, program, timeout)
  local late = answer.timed_out
  answer.timed_out = nil
  answer.ok = answer.code == 0
  answer.program = program
  if not late then
    return answer
  end
  local err = errors.new("timeout", ("still running after %g s"):format(timeout), { op = "proc.run", target = program })
  err.result = answer
  return nil, err
end

---@class ProcHandle
---@field pid integer
---@field private raw core.proc.Child
---@field private program string
---@field private timeout? Seconds
local Handle = {}

---Waits until the child has ended. Closes its standard input first, and collects unread output.
---@async
---@param timeout? number seconds; when they are over the child goes on and the error's code is "timeout"
---@return ProcResult?
---@return Err? err
---@return_overload nil, Err
function Handle:wait(timeout)
  self.raw:close_stdin()
  local answer, err = self.raw:wait(timeout)
  if not answer then
    err.target = self.program
    return nil, err
  end
  answer.stdout, answer.stderr = answer.stdout or "", answer.stderr or ""
  return conclude(answer, self.program, self.timeout)
end

---Sends a signal to the child's whole group.
---@param signal? string|integer such as "TERM" (the default), "SIGKILL", 9
---@return boolean sent false when no process of the group is left
function Handle:kill(signal)
  return self.raw:kill(signal)
end

---Writes to the child's standard input; returns when its pipe has taken everything.
---@async
---@param data string
---@return true?
---@return Err? err "closed" when the child does not read any more
---@return_overload nil, Err
function Handle:write(data)
  local done, err = self.raw:write(data)
  if not done then
    err.target = self.program
    return nil, err
  end
  return true
end

---Closes the child's standard input: it reads the end of it.
function Handle:close_stdin()
  self.raw:close_stdin()
end

---Reads the next piece of output, as it comes.
---@async
---@param stream? "stdout"|"stderr" default: whichever comes first
---@return string? piece nil at the end
---@return "stdout"|"stderr"|nil stream
function Handle:read(stream)
  return self.raw:read(stream)
end

---Iterates over lines of output without their line ends. The child waits while the loop does not come to them.
---A line longer than 64 KiB comes in parts.
---
---    for line, stream in handle:lines() do log.info(line) end
---@async
---@param stream? "stdout"|"stderr" default: both, as they come
---@return fun(): string?, string?
---@return nil
---@return nil
---@return table closer
function Handle:lines(stream)
  local source, lines, names, first, last, ended = self.raw, {}, {}, 1, 0, false
  local feeds, flushes = {}, {}
  for _, name in ipairs { "stdout", "stderr" } do
    feeds[name], flushes[name] = line_splitter(function(line)
      last = last + 1
      lines[last], names[last] = line, name
    end)
  end
  local function next_line()
    while first > last and not ended do
      first, last = 1, 0
      local piece, name = source:read(stream)
      if piece then
        feeds[name](piece)
      else
        ended = true
        flushes.stdout()
        flushes.stderr()
      end
    end
    local line, name = lines[first], names[first]
    if first > last then
      return nil
    end
    lines[first], names[first] = nil, nil
    first = first + 1
    return line, name
  end
  -- A loop left early gives its streams back, so that wait() can read on.
  local closer = setmetatable({}, { __close = function() source:unclaim(stream) end })
  return next_line, nil, nil, closer
end

---Ends the child's group if it still runs, and gives everything back.
function Handle:close()
  self.raw:close()
end

local handle_face = facade.kind("proc.handle", { "pid" }, Handle, {
  close = Handle.close,
  tostring = function(self) return ("proc.handle: %s (%d)"):format(self.program, self.pid) end,
})

-- The facade of a child that was started, and what is behind it; nil and the error.
local function start(options)
  -- Made first: once the child runs nothing may fail before it can be closed.
  local self = { raw = false --[[@as any]], pid = 0, program = options.argv[1], timeout = options.timeout }
  local face = handle_face(self)
  local handle, pid = raw.spawn(options)
  if not handle then
    return nil, pid
  end
  self.raw, self.pid = handle, pid
  return face, self
end

---Starts a program and returns at once. Close the handle, or keep it in a `<close>` variable.
---
---    local cat <close> = assert(proc.spawn { "cat" })
---    cat:write "hello"
---    print(cat:wait().stdout)
---@nodiscard
---@param spec ProcSpec
---@return ProcHandle?
---@return Err? err "not_found" when there is no such program
---@return_overload nil, Err
function M.spawn(spec)
  local options, fault = translate(spec, "pipe", true)
  if not options then
    error(("usage: proc.spawn{program, arguments..., options}: %s"):format(fault), 2)
  end
  local handle, more = start(options)
  if not handle then
    return nil, more
  end
  return handle
end

-- Reads both streams to their end, calls on_line, keeps what fits.
local function stream_lines(handle, on_line, max)
  local kept = { stdout = {}, stderr = {} }
  local size = { stdout = 0, stderr = 0 }
  local feeds, flushes, truncated = {}, {}, false
  for name in pairs(kept) do
    feeds[name], flushes[name] = line_splitter(function(line)
      on_line(line, name)
    end)
  end
  while true do
    local piece, name = handle:read()
    if not piece then
      break
    end
    local part = piece:sub(1, max - size[name])
    truncated = truncated or #part < #piece
    size[name] = size[name] + #part
    table.insert(kept[name], part)
    feeds[name](piece)
  end
  flushes.stdout()
  flushes.stderr()
  return table.concat(kept.stdout), table.concat(kept.stderr), truncated
end

---Runs a program to its end. Any exit status is a result; `proc.check` turns the bad ones into errors.
---
---    local git = assert(proc.check(proc.run { "git", "status", cwd = dir, timeout = 10 }))
---@async
---@nodiscard
---@param spec ProcSpec
---@return ProcResult?
---@return Err? err "not_found" when there is no such program, "timeout" (with `result`) when it took too long
---@return_overload nil, Err
function M.run(spec)
  local options, on_line = translate(spec, "null", false)
  if not options then
    error(("usage: proc.run{program, arguments..., options}: %s"):format(on_line), 2)
  end
  local handle <close>, child = start(options)
  if not handle then
    child.op = "proc.run"
    return nil, child
  end
  if not on_line then
    return conclude(child.raw:wait(), child.program, child.timeout)
  end
  local stdout, stderr, truncated = stream_lines(handle, on_line, options.max_output)
  child.raw:unclaim()
  local answer = child.raw:wait()
  answer.stdout, answer.stderr = stdout, stderr
  answer.truncated = answer.truncated or truncated
  return conclude(answer, child.program, child.timeout)
end

local function last_line(text)
  local line = ""
  for part in text:sub(-4096):gmatch "[^\r\n]+" do
    line = part:find "%S" and part or line
  end
  return line:sub(1, 300)
end

---Turns a result that is not a success into `nil, err` with code "exit" or "signal"; passes errors on.
---@param result? ProcResult
---@param err? Err
---@return ProcResult?
---@return Err? err with the result in its field `result`
---@return_overload nil, Err
function M.check(result, err)
  if not result or result.ok then
    return result, err
  end
  local said = last_line(result.stderr)
  if said == "" then
    said = last_line(result.stdout)
  end
  local text = result.signal and ("ended by " .. result.signal) or ("exit status %d"):format(result.code)
  local fault = errors.new(result.signal and "signal" or "exit", said == "" and text or text .. ": " .. said,
    { op = "proc.run", target = result.program })
  fault.result = result
  return nil, fault
end

---How many children are not gone yet, those without a waiter included.
---@return integer
function M.count() return raw.count() end

return M
