-- The prompt's evaluation: text in; values, prints and errors as text out.
--
-- A session is an environment of its own over the public API. Each command runs as a task with a deadline,
-- a processor budget and a cap on what it prints; a client that goes away takes its command with it. The
-- prompt that people type into is people/cli/repl.lua.

local errors = require "errors"
local hash = require "hash"
local inspect = require "base.inspect"
local log = require "log"
local prelude = require("base.prelude") --[[@as Prelude]]
local sandbox = require "policy.sandbox"
local sys = require "base.sys"
local task = require "task"
local time = require "time"
local wire = require "people.control.wire"

local M = {}

local DEADLINE, LONGEST = 60, 3600 -- seconds of a command: when it does not say, at most
local CPU = 10 -- processor seconds of a command
local OUTPUT = 262144 -- bytes that a command may print
local CODE = 262144 -- bytes of a command
local SESSIONS = 16 -- at once

---@class Reply
---@field state "done"|"incomplete"|"error"
---@field values? string[] as the prompt prints them
---@field message? string of state error
---@field code? string of an error value
---@field elapsed? Seconds

---@class Session
---@field env table
---@field private printed integer
---@field private on_output? fun(text: string)
local Session = {}
Session.__index = Session

-- Public modules are there without require: the prompt is for hands, not for files.
local function environment(extra, print_into)
  local base = sandbox.exec_env(nil)
  local env = {}
  for name, value in pairs(extra or {}) do env[name] = value end
  env.print = function(...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = tostring(parts[i]) end
    print_into(table.concat(parts, "\t") .. "\n")
  end
  return setmetatable(env, {
    __index = function(_, name)
      if type(name) ~= "string" then return nil end
      local value = rawget(base, name)
      if value ~= nil then return value end
      if name:find("^%l[%l%d_]*$") and prelude.find(name) then return base.require(name) end
      error(("undefined variable '%s'"):format(name), 2)
    end,
  })
end

---Opens a session.
---@param extra? table names that it sees beside the API
---@return Session
function M.open(extra)
  local self = setmetatable({ printed = 0 }, Session)
  self.env = environment(extra, function(text) self:print(text) end)
  return self
end

---Shows what a command prints, up to a limit.
---@param text string
function Session:print(text)
  if not self.on_output or self.printed > OUTPUT then return end
  self.printed = self.printed + #text
  if self.printed > OUTPUT then
    text = text:sub(1, math.max(0, #text - (self.printed - OUTPUT))) .. "\n... (more output is not shown)\n"
  end
  self.on_output(log.redact(text))
end

---Compiles a command: an expression first, then statements.
---@param code string
---@param env table
---@return function? chunk
---@return string? message
---@return boolean? incomplete more lines may complete it
function M.compile(code, env)
  local chunk = sys.compile("return " .. code .. "\n;", "=prompt", env)
  if chunk then return chunk end
  local message
  chunk, message = sys.compile(code, "=prompt", env) ---@cast message string
  if chunk then return chunk end
  -- The parser names the end of the text when it wanted more. lua.c looks at the statement only; an
  -- expression such as `1 +` wants more, too.
  local _, wanted = sys.compile("return " .. code, "=prompt", env)
  local incomplete = message:find("<eof>'?$") or (wanted and wanted:find("<eof>'?$"))
  -- A quoted string cannot go on in the next line.
  return nil, message, incomplete ~= nil and not message:find("unfinished string", 1, true)
end

-- The levels of a traceback that belong to the command. A single one says nothing that the message does not.
local function where(raised)
  local message, frames = sys.traceback(raised):match("^(.*)\nstack traceback:(.*)$")
  local kept = {}
  for frame in (frames or ""):gmatch("\n%s*([^\n]+)") do
    if frame:find("in function 'xpcall'", 1, true) then break end
    if not frame:find("^stdlib/people/prompt%.lua") and frame ~= "[C]: in function 'error'" then
      kept[#kept + 1] = frame end
  end
  if #kept < 2 then return message or tostring(raised) end
  return ("%s\n  %s"):format(message, table.concat(kept, "\n  "))
end

-- A command that consumed its deadline, budget or memory ends with its own error; all others keep their
-- words.
local function describe(err, elapsed)
  return {
    state = "error", message = log.redact(tostring(err)), code = errors.is(err) and err.code or nil, elapsed = elapsed,
  }
end

---Runs a command and waits for its end.
---@async
---@param code string
---@param options? {timeout?: Seconds, cpu?: Seconds, on_output: fun(text: string)?}
---@return Reply
function Session:eval(code, options)
  options = options or {}
  if #code > CODE then return { state = "error", message = ("a command has at most %d bytes"):format(CODE) } end
  local chunk, message, incomplete = M.compile(code, self.env)
  if not chunk then
    return { state = incomplete and "incomplete" or "error", message = message }
  end
  if self.busy then return { state = "error", message = "the session's last command is still running" } end
  self.busy, self.printed, self.on_output = true, 0, options.on_output
  local _ <close> = setmetatable({}, {
    __close = function()
      self.busy, self.on_output = false, nil
    end,
  })
  local started = time.monotonic()
  local run <close> = task.start({ name = "prompt", cpu = math.min(options.cpu or CPU, CPU) }, function()
    return xpcall(chunk, function(raised)
      return errors.is(raised) and raised or where(raised)
    end)
  end)
  local timeout = math.min(options.timeout or DEADLINE, LONGEST)
  local results = table.pack(run:join(timeout)) --[[@as {n: integer, [integer]: any}]]
  local elapsed = time.monotonic() - started
  if results[1] == nil then
    local err = results[2]
    if errors.is(err, "timeout") then
      run:cancel()
      err = errors.new("deadline", ("the command was ended after %g s"):format(timeout))
    end
    return describe(err, elapsed)
  end
  if results[1] == false then return describe(results[2], elapsed) end
  local values = {}
  for i = 2, results.n do
    values[i - 1] = log.redact(inspect.text(results[i], { items = 500, text = 8192 }))
  end
  if results.n > 1 then rawset(self.env, "_", results[2]) end
  return { state = "done", values = values, elapsed = elapsed }
end

-- ---- sessions of a host ----

---@class Sessions
---@field private engine Engine
---@field private open table<string, Session>
---@field private count integer
local Sessions = {}
Sessions.__index = Sessions

---Makes the host's set of sessions.
---@param engine Engine
---@return Sessions
function M.sessions(engine)
  return setmetatable({ engine = engine, open = {}, count = 0 }, Sessions)
end

---@return Session
function Sessions:make()
  local extra = { engine = self.engine }
  for name, value in pairs(self.engine.repl_env or {}) do extra[name] = value end
  return M.open(extra)
end

local HEARTBEAT = 1

---Opens a session for a client: gives a function that writes {session=} and then a sign of life now and then. The
---session ends with it, and so with its client, however that one ends.
---@return (fun(write: fun(text: string)))?
---@return Err? err busy: there are too many.
function Sessions:attach()
  if self.count >= SESSIONS then return errors.fail("busy", "too many open prompts") end
  return function(write)
    local id = hash.hex(hash.random(16))
    self.open[id], self.count = self:make(), self.count + 1
    local _ <close> = task.defer(function()
      self.open[id], self.count = nil, self.count - 1
    end)
    write(wire.encode({ session = id }) .. "\n")
    while true do
      time.sleep(HEARTBEAT)
      write("\n") -- writing is how a client that went away is noticed
    end
  end
end

---Serves one command: gives a function that writes lines of JSON, first {session=}, then {output=} as it is
---printed, at last the reply.
---@param body {session?: string, code: string, timeout?: Seconds, by?: string}
---@return (fun(write: fun(text: string)))?
---@return Err? err
function Sessions:request(body)
  if type(body.code) ~= "string" then return errors.fail("invalid", "code is missing") end
  local session = body.session == nil and self:make() or self.open[body.session]
  if not session then return errors.fail("not_found", "this session has ended") end
  log.info("a command at the prompt", { by = body.by, code = body.code:sub(1, 1000) })
  return function(write)
    local changed, pending, reply = task.signal(), {}, nil
    local run <close> = task.spawn(function()
      reply = session:eval(body.code, {
        timeout = type(body.timeout) == "number" and body.timeout > 0 and body.timeout or nil,
        on_output = function(text)
          pending[#pending + 1] = text
          changed:notify()
        end,
      })
      changed:notify()
    end)
    repeat
      local woken = changed:wait(HEARTBEAT)
      local last = reply
      if #pending > 0 then
        write(wire.encode({ output = table.concat(pending) }) .. "\n")
        pending = {}
      elseif not woken and not last then
        -- Writing is how a client that went away is noticed; its command ends with this task.
        write("\n")
      end
    until last or run:done() and not reply
    if reply and reply.state == "error" then log.warn("the command failed", { error = reply.message }) end
    write(wire.encode(reply or { state = "error", message = "the command was ended" }) .. "\n")
  end
end

return M
