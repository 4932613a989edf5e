---Structured log lines on stderr: one JSON object per line, or readable text on a terminal. Registered
---secrets, and what looks like a credential, are replaced by `[redacted]`; control and direction characters
---are shown as escapes, so that an event is always exactly one line. A line that repeats more than 20 times
---in 10 seconds is counted instead (`dropped` says how often).
---
---     local log = require "log"
---     log.info("released", { app = "web", environment = "staging", seconds = 1.5 })
---
---     local run_log = log.with { run = 17 }
---     run_log.sink(function(line) table.insert(lines, line) end)
---     run_log.warn("still unhealthy", { error = err })
---
---Writing to a file or a terminal may block for as long as they do; a pipe without a reader holds up the
---host for at most 50 ms, then lines are lost and the next one that gets through says how many.
local core = require "core.log"
local facade = require "base.facade"
local sys = require "base.sys"

---@alias log.Level "debug"|"info"|"warn"|"error"

---@class log.Logger
---@field debug fun(message: any, fields?: table)
---@field info fun(message: any, fields?: table)
---@field warn fun(message: any, fields?: table)
---@field error fun(message: any, fields?: table)
---@field with fun(fields: table): log.Logger
---@field sink fun(fn: fun(line: string, level: log.Level)): log.Sink

---@class log.Sink
---@field close fun(self: log.Sink)

local ranks = { debug = 1, info = 2, warn = 3, error = 4 }
local threshold = "info" ---@type log.Level
local sink_runs = false

local Sink = {}

---Stops the copies. Closing twice is harmless.
function Sink:close()
  local sinks = self.sinks
  for i = #sinks, 1, -1 do
    if sinks[i] == self then table.remove(sinks, i) end
  end
end

local sink_face = facade.kind("log.sink", {}, { close = Sink.close }, { close = Sink.close })

-- A sink that fails is removed: it would fail with each line. Unless there was
-- no memory: that passes.
local function copy(sink, line, level)
  sink_runs = true
  local ok, err = core.pcall(sink.fn, line, level)
  sink_runs = false
  if not ok and err ~= "not enough memory" then
    Sink.close(sink)
    core.write("warn", "a log sink failed and was removed", { error = err })
  end
end

local function wanted(state)
  if sink_runs then return false end
  repeat
    if #state.sinks > 0 then return true end
    state = state.parent
  until not state
  return false
end

local function write(state, level, message, fields)
  if fields ~= nil and type(fields) ~= "table" then
    error("usage: log." .. level .. "(message [, fields])", 3)
  end
  if ranks[level] < ranks[threshold] then return end
  local line = core.write(level, message, fields, state.fields, wanted(state))
  if not line then return end
  repeat
    -- from the end, since a failing sink leaves the list
    for i = #state.sinks, 1, -1 do copy(state.sinks[i], line, level) end
    state = state.parent
  until not state
end

local function logger(state)
  local M = {}

  ---Logs details for finding faults. Not written unless the level is "debug".
  ---@param message any Text, or anything with a text form
  ---@param fields? table Names and values: text, numbers, booleans, errors, lists, nested tables
  function M.debug(message, fields) write(state, "debug", message, fields) end

  ---Logs what happened.
  ---@param message any Its text; an error says what it is.
  ---@param fields? table What belongs to it, by name: texts, numbers, errors.
  function M.info(message, fields) write(state, "info", message, fields) end

  ---Logs what a person should know some time.
  ---@param message any Its text; an error says what it is.
  ---@param fields? table What belongs to it, by name: texts, numbers, errors.
  function M.warn(message, fields) write(state, "warn", message, fields) end

  ---Logs what a person should know now.
  ---@param message any Its text; an error says what it is.
  ---@param fields? table What belongs to it, by name: texts, numbers, errors.
  function M.error(message, fields) write(state, "error", message, fields) end

  ---Makes a logger that adds these fields to each of its lines.
  ---@param fields table A line's own field of the same name wins
  ---@return log.Logger
  function M.with(fields)
    if type(fields) ~= "table" then error("usage: log.with(fields)", 2) end
    local all = {}
    for name, value in pairs(state.fields or {}) do all[name] = value end
    for name, value in pairs(fields) do all[name] = value end
    return logger { fields = all, sinks = {}, parent = state }
  end

  ---Copies every line of this logger and of those made from it to a function, as JSON without newline, until
  ---the returned handle is closed. The function must not wait; one that fails is removed. Lines that are
  ---dropped from stderr because they repeat are copied all the same.
  ---@param fn fun(line: string, level: log.Level)
  ---@return log.Sink
  function M.sink(fn)
    if type(fn) ~= "function" then error("usage: log.sink(fn)", 2) end
    local sink = { fn = fn, sinks = state.sinks }
    local face = sink_face(sink)
    table.insert(state.sinks, sink)
    return face
  end

  return M
end

---@class log: log.Logger
local M = logger { sinks = {} }

---Hides a value from now on: in log lines, errors, journals, whatever the host writes. Also where it appears
---in base64, percent-encoded or JSON-escaped. Less than 4 bytes cannot be hidden.
---@param value string
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.secret(value)
  if type(value) ~= "string" then error("usage: log.secret(value)", 2) end
  return core.secret(value)
end

-- Secrets that are replaced from time to time, oldest first.
local passing, oldest, newest = {}, 1, 0

---A hidden value was replaced by another one. It stays hidden while 200 others are replaced after it, for texts that
---still hold it; then it is forgotten, so that a host that runs for years does not keep every value it ever saw.
---@param value string That `secret` was called with, once for each such call.
function M.retire(value)
  newest = newest + 1
  passing[newest] = value
  if newest - oldest >= 200 then
    core.forget(passing[oldest])
    passing[oldest] = nil
    oldest = oldest + 1
  end
end

---Hides a value that will be replaced by another one before long, such as a token of an hour. The last 200 of them
---are remembered, so that a host that runs for years does not keep every token it ever had.
---@param value string
---@return true?
---@return Err? err
---@return_overload nil, Err
function M.passing_secret(value)
  if type(value) ~= "string" then error("usage: log.passing_secret(value)", 2) end
  local done, err = core.secret(value)
  if not done then return nil, err end
  M.retire(value)
  return true
end

---Replaces every secret in a text.
---@param text string
---@return string
---@nodiscard
function M.redact(text)
  if type(text) ~= "string" then error("usage: log.redact(text)", 2) end
  return core.redact(text)
end

---@class log.Redactor
---@field feed fun(self: log.Redactor, text: string, last?: boolean): string

---Makes a filter for text that arrives in pieces: it finds secrets that are cut in two, and keeps back only
---what may be the beginning of one. The last piece (which may be empty) says so.
---
---     local filter = log.redactor()
---     for piece in output do write(filter:feed(piece)) end
---     write(filter:feed("", true))
---@return log.Redactor
---@nodiscard
function M.redactor() return core.redactor() end

---@class log.Options
---@field level? log.Level The least level that is written ("info")
---@field format? "auto"|"json"|"text" "auto": text on a terminal
---@field color? "auto"|"always"|"never" "auto": on a terminal, unless NO_COLOR is set or TERM is "dumb"
---@field burst? integer How often a line may repeat within 10 seconds (20); 0: as often as it likes

---Changes how lines are written from now on.
---@param options log.Options
function M.configure(options)
  options = sys.plain(options)
  if type(options) ~= "table" then error("usage: log.configure{level=, format=, color=, burst=}", 2) end
  local rest = {} ---@type table
  for name, value in pairs(options) do rest[name] = value end
  if rest.level ~= nil then
    if not ranks[rest.level] then error('the log level is "debug", "info", "warn" or "error"', 2) end
    threshold = rest.level --[[@as log.Level]]
    rest.level = nil
  end
  core.configure(rest)
end

---Whether lines are written as text for eyes, and whether they are coloured.
---@return boolean text
---@return boolean color
function M.looks() return core.looks() end

return M
