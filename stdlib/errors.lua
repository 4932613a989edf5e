-- Errors as values: the one shape that the whole program uses.
--
-- An environment's failure is `nil, err`; a programmer's mistake is raised as text with its position. Codes are
-- the closed list of host/err.h; code compares them and never the messages.
local sys = require "core.sys"

---@class Err
---@field code string One of the codes in host/err.h.
---@field message string What happened, in words.
---@field op? string Which call failed ("http.get").
---@field target? string What it was about (a URL, a path); never holds a secret.
---@field cause? Err|string What led to it.
---@field where? string "file:line" of the script line that decided, when that matters.
---@field passing? boolean Whether it may pass, where the code leaves it open.
---@field status? integer Of the HTTP answer that it is about.
---@field retry_after? Seconds When the server wants the next request (Retry-After).
---@field result? any What came all the same, such as the ProcResult of a program that failed.
---@field line? integer Of a text that could not be read, as `column` and `offset`; counted from 1.
---@field column? integer
---@field offset? integer
---@field faults? Fault[] Of a configuration that was refused.
---@field down? boolean No host answers at the control socket.
---@field release? integer Of a target's own log that the run is about.
---@field generation? integer Of a target's refusal: what it has seen is not lower.
---@field traceback? string Of our own bug.

local M = {}

-- Codes of transient errors: the other side or its device did not do its part now, and may later.
local TRANSIENT <const> = {
  timeout = true, refused = true, unreachable = true, dns = true, reset = true, closed = true, busy = true,
  rate_limited = true, io = true, full = true,
}
local TRANSIENT_STATUS <const> = { [408] = true, [425] = true, [429] = true }
local FINAL_STATUS <const> = { [501] = true, [505] = true }

local CLASS = sys.error_class()

---Makes an error value.
---@param code string
---@param message string
---@param fields? {op?: string, target?: string, cause?: Err|string, [string]: any}
---@return Err err
function M.new(code, message, fields)
  local e = {}
  for k, v in pairs(fields or {}) do e[k] = v end
  e.code, e.message = code, message
  return setmetatable(e, CLASS)
end

---Returns nil and a new error, for `return errors.fail(...)`.
---@param code string
---@param message string
---@param fields? table Further fields of the error, as for `new`.
---@return nil, Err err
function M.fail(code, message, fields)
  return nil, M.new(code, message, fields)
end

---Whether `value` is an error of that code (any code when none is given).
---@param value any
---@param code? string
---@return boolean
---@return_cast value Err else any
function M.is(value, code)
  return type(value) == "table" and type(rawget(value, "code")) == "string"
    and (code == nil or rawget(value, "code") == code)
end

---Whether an error is transient: the same call may succeed later without a change. The error's field `passing` decides;
---without it, its code does.
---@param failure any An error, or the status of an HTTP answer.
---@return boolean
function M.passing(failure)
  if math.type(failure) == "integer" then
    return TRANSIENT_STATUS[failure] or failure >= 500 and failure < 600 and not FINAL_STATUS[failure]
  end
  if not M.is(failure) then return false end
  local said, code, status = rawget(failure, "passing"), rawget(failure, "code"), rawget(failure, "status")
  if type(said) == "boolean" then return said end
  if code == "status" and math.type(status) == "integer" then return M.passing(status) end
  return TRANSIENT[code] or false
end

---Whether `value` was made by `new`; a policy's data may have a field `code`, too.
---@param value any
---@return boolean
function M.made(value)
  return type(value) == "table" and rawequal(getmetatable(value), CLASS.__metatable) -- which hides the class itself
end

---Makes an error value of anything that was raised; errors pass unchanged.
---@param value any
---@param op? string
---@return Err err
function M.wrap(value, op)
  if M.is(value) then return value end
  return M.new("internal", tostring(value), { op = op })
end

-- Whether it may pass, as a field: only where the code alone would say something else.
local function passing_of(err)
  local passing = M.passing(err)
  if passing ~= (TRANSIENT[rawget(err, "code")] or false) then return passing end
end

---A fresh error of anything that a script raised: none of its metatables comes along, so that looking at it runs
---nothing of the script.
---@param value any
---@param depth? integer How deep the causes are already; for its own calls.
---@return Err err
function M.clean(value, depth)
  if type(value) ~= "table" then return M.new("internal", type(value) == "string" and value or "a " .. type(value)) end
  local function text(key)
    local v = rawget(value, key)
    return type(v) == "string" and v or nil
  end
  local cause, release = rawget(value, "cause"), rawget(value, "release")
  if type(cause) == "table" then cause = (depth or 0) < 4 and M.clean(cause, (depth or 0) + 1) or nil end
  return M.new(text "code" or "internal", text "message" or "a table without a message was raised", {
    op = text "op", target = text "target", where = text "where", traceback = text "traceback",
    cause = (type(cause) == "string" or type(cause) == "table") and cause or nil,
    release = math.type(release) == "integer" and release or nil,
    passing = passing_of(value),
  })
end

---Plain data of an error, for the journal and for JSON: code, op, target, message, where, the cause's text, and whether
---it may pass where the code leaves it open.
---@param err Err|any
---@return ErrData
function M.plain(err)
  err = M.wrap(err)
  local plain = {
    code = err.code, op = err.op, target = err.target, message = err.message, where = err.where,
    passing = passing_of(err),
  }
  local cause = err.cause
  if type(cause) == "table" then cause = M.clean(cause) end -- a table without a text has an address in it
  if cause ~= nil then plain.cause = tostring(cause) end
  return plain
end

return M
