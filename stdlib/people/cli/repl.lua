-- The prompt that a person types into, and its framed twin for tools.

local errors = require "errors"
local sys = require "base.sys"
local task = require "task"
local term = require "people.terminal"

local FRAME = 1048576 -- bytes of one framed command

-- ---- where commands are evaluated ----

-- Keeps a session of the running host open while this process lives.
local function attach(host)
  local session, problem
  local changed = task.signal()
  task.spawn(function()
    local ok, err = host:stream("POST", "/v1/repl/session", {}, function(object)
      session = object.session or session
      changed:notify()
    end)
    session, problem = nil, not ok and err or errors.new("reset", "the host went away", { op = "repl" })
    changed:notify()
  end)
  while not session and not problem do changed:wait() end
  return function() return session, problem end
end

-- In the running host, over the control socket.
local function remote(ctx)
  local host = ctx:host()
  local by, current = ctx.by(), attach(host)
  return function(code, timeout, on_output)
    local session, problem = current()
    if not session then
      current = attach(host) -- the host was started anew: a session without the names of the last one
      session, problem = current()
    end
    if not session then return nil, problem end
    local reply
    local ok, err = host:stream("POST", "/v1/repl", {
      code = code, session = session, timeout = timeout, by = by,
    }, function(object)
      if object.output then on_output(object.output) end
      if object.state then reply = object end
    end)
    if ok and reply then return reply end
    return nil, err or errors.new("reset", "the host went away", { op = "repl" })
  end
end

-- In this process: the API without a host.
local function standalone()
  local session = require("people.prompt").open()
  return function(code, timeout, on_output)
    return session:eval(code, { timeout = timeout, on_output = on_output })
  end
end

-- ---- input ----

---@class Input
local Input = {}
Input.__index = Input

local function input()
  return setmetatable({ pending = "", ended = false }, Input)
end

---@private
function Input:fill()
  local piece = not self.ended and term.read(0) or nil
  if piece then self.pending = self.pending .. piece else self.ended = true end
  return piece ~= nil
end

---The next line without its end; nil at the end of the input. The last one may lack its newline.
---@async
---@return string?
---@return string? wrong
function Input:line()
  while true do
    local line, rest = self.pending:match("^([^\n]*)\n(.*)$")
    if line then
      self.pending = rest
      return (line:gsub("\r$", ""))
    end
    if #self.pending > FRAME then return nil, "a line is too long" end
    if not self:fill() then
      line, self.pending = self.pending, ""
      return line ~= "" and line or nil
    end
  end
end

---The next bytes; nil when the input ends before.
---@async
---@param count integer
---@return string?
function Input:bytes(count)
  while #self.pending < count do
    if not self:fill() then return nil end
  end
  local piece = self.pending:sub(1, count)
  self.pending = self.pending:sub(count + 1)
  return piece
end

-- ---- for people ----

local function show(ctx, reply)
  if reply.state == "error" then
    ctx.err:line(ctx.err:paint("red", (reply.message:gsub("^%s+", ""))))
  else
    for _, value in ipairs(reply.values or {}) do ctx.out:line(value) end
  end
end

-- Evaluates one command; Ctrl-C ends the command, not the prompt.
local function evaluate(evaluator, interrupts, code, timeout, on_output)
  local reply, err
  local run <close> = task.spawn(function()
    reply, err = evaluator(code, timeout, on_output)
  end)
  interrupts.target = run
  run:join()
  interrupts.target = nil
  if reply or err then return reply, err end
  return { state = "error", message = "interrupted" }
end

local function talk(ctx, evaluator, interrupts, where)
  local source, timeout = input(), ctx.flags.timeout
  local tty = term.isatty(0)
  if tty then
    ctx.out:line(("moontide %s, %s. Ctrl-C ends a command, Ctrl-D the prompt."):format(sys.version, where))
  end
  local failed, code = false, nil
  while true do
    if tty then ctx.out:write(code and "     ... " or "moontide> ") end
    local line = source:line()
    if interrupts.seen then
      interrupts.seen, code = false, nil
    end
    if not line then break end
    code = code and code .. "\n" .. line or line
    if code:find("%S") then
      local reply, err = evaluate(evaluator, interrupts, code, timeout, function(text) ctx.out:write(text) end)
      if not reply then ---@cast err Err
        ctx:fail(err)
        if err.down or not tty then return err.down and 3 or 1 end
        code = nil
      elseif reply.state ~= "incomplete" then
        show(ctx, reply)
        failed = reply.state == "error"
        if failed and not tty then return 1 end
        code = nil
      end
    else
      code = nil
    end
  end
  if tty then ctx.out:line("") end
  if code then
    ctx:complain("the last command is incomplete")
    return 1
  end
  return not tty and failed and 1 or 0
end

-- ---- for tools: LENGTH newline BYTES in, LENGTH newline JSON out ----

local function frame(ctx, value)
  local text = require("people.control.wire").encode(value)
  ctx.out:write(("%d\n%s\n"):format(#text, text))
end

local function serve_frames(ctx, evaluator, interrupts)
  local source = input()
  while true do
    local head, wrong = source:line()
    if not head then
      if wrong then ctx:complain(wrong) end
      return wrong and 2 or 0
    end
    if head ~= "" then
      local length = #head <= 8 and head:find("^%d+$") and tonumber(head) or nil
      if not length or length > FRAME then
        ctx:complain("a frame is a length in bytes, a newline, and so many bytes of code")
        return 2
      end
      local code = source:bytes(length)
      if not code then
        ctx:complain("the input ended inside a frame")
        return 2
      end
      local output = {}
      local reply, err = evaluate(evaluator, interrupts, code, ctx.flags.timeout, function(text)
        output[#output + 1] = text
      end)
      if not reply then ---@cast err Err
        reply = { state = "error", message = tostring(err), code = err.code }
        if err.down then
          frame(ctx, reply)
          return 3
        end
      end
      reply.output = table.concat(output)
      frame(ctx, reply)
    end
  end
end

---@type Command
return {
  summary = "open a prompt into the running host",
  flags = {
    { name = "standalone", doc = "evaluate in this process, without a host" },
    { name = "timeout", value = "SECONDS", number = { min = 1, max = 3600 },
      doc = "end a command after so many seconds (default 60)" },
  },
  example = "moontide repl --standalone",
  more = "Expressions print their values, statements run, incomplete input asks for more; _ is the last value."
    .. " With -o json, commands are framed for tools: LENGTH, newline, so many bytes; answers likewise.",
  run = function(ctx)
    local evaluator, where
    if ctx.flags.standalone then
      evaluator, where = standalone(), "on its own"
    else
      local host = ctx:host()
      local status, err = host:status()
      if not status then return ctx:fail(err) end
      evaluator = remote(ctx)
      where = ("in the host of %s, pid %s"):format(host.state, status.host and status.host.pid or "?")
    end
    local interrupts = { seen = false }
    sys.catch("INT")
    local watcher <close> = task.spawn(function()
      while true do
        sys.next_signal()
        interrupts.seen = true
        if interrupts.target then
          interrupts.seen = false
          interrupts.target:cancel()
        elseif term.isatty(0) then
          ctx.out:write("\nmoontide> ")
        end
      end
    end)
    local code = ctx.json and serve_frames(ctx, evaluator, interrupts) or nil
    if not code then code = talk(ctx, evaluator, interrupts, where) end
    watcher:cancel()
    return code
  end,
}
