-- The data of the control API as JSON: lists stay lists when they are empty, errors have one form.

local errors = require "errors"
local json = require "json"
local text = require "base.text"

local M = {}

---Version of the control API: the first part of every path, and the header Moontide-Api.
M.VERSION = 1

-- Fields that are lists (types.lua). An empty Lua table does not say whether it is one.
local LISTS = {
  apps = true, environments = true, runs = true, decisions = true, entries = true, changed = true, changes = true,
  faults = true, samples = true, values = true, metrics = true, voters = true, approvals = true, jobs = true,
  events = true, places = true, steps = true, channels = true, superseded = true,
  troubles = true,
}

local function prepare(value, depth)
  if type(value) ~= "table" or value == json.null or depth > 40 then return value end
  local out = {}
  for key, item in next, value do
    local inner = prepare(item, depth + 1)
    if LISTS[key] and type(inner) == "table" and (next(inner) == nil or rawlen(inner) > 0) then
      inner = json.array(inner)
    end
    out[key] = inner
  end
  return out
end

---Encodes data of the control API.
---@param value any
---@return string
function M.encode(value)
  return text.visible_json(assert(json.encode(prepare(value, 0))))
end

---Makes the body of a failed answer.
---@param err Err
---@return table
function M.failure(err)
  return { error = errors.plain(err), faults = err.faults }
end

local STATUS = {
  not_found = 404, conflict = 409, exists = 409, invalid = 400, unsupported = 501, busy = 503, denied = 403,
  unauthorized = 401, too_large = 413, rate_limited = 429, timeout = 504, deadline = 504,
}

---The HTTP status of an error.
---@param err Err
---@return integer
function M.status(err)
  return STATUS[err.code] or 500
end

---Writes a piece of text so that it may stand in a path or a query.
---@param value any
---@return string
function M.escape(value)
  return (tostring(value):gsub("[^%w._~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

---Reads what escape wrote.
---@param escaped string
---@return string
function M.unescape(escaped)
  return (escaped:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16) --[[@as integer]]) end))
end

---Reads the query of an address: "a=1&b=2".
---@param query? string
---@return table<string, string>
function M.query(query)
  local out = {}
  for pair in (query or ""):gmatch("[^&]+") do
    local key, value = pair:match("^([^=]*)=?(.*)$")
    out[M.unescape(key)] = M.unescape((value:gsub("+", " ")))
  end
  return out
end

return M
