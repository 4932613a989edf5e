-- Answers of the control servers as JSON or text, and reading the bodies of requests.
local errors, json, log = require "errors", require "json", require "log"
local wire = require "people.control.wire"

local M = {}

---An answer of JSON.
---@param status integer
---@param value any
---@param headers? table<string, string>
---@return serve.Answer
function M.json(status, value, headers)
  local all = {
    ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store", ["X-Content-Type-Options"] = "nosniff",
    ["Moontide-Api"] = tostring(wire.VERSION),
  }
  for name, text in pairs(headers or {}) do all[name] = text end
  return { status = status, headers = all, body = wire.encode(value) .. "\n" }
end

---A failure, with the HTTP status of its code.
---@param err Err
---@param headers? table<string, string>
---@param status? integer Another one.
---@return serve.Answer
function M.refuse(err, headers, status)
  return M.json(status or wire.status(err), wire.failure(err), headers)
end

---@param methods string[] What the path is there for.
---@return serve.Answer
function M.wrong_method(methods)
  local words = table.concat(methods, ", ")
  return M.refuse(errors.new("unsupported", "use " .. words), { Allow = words }, 405)
end

---@param message string
---@return serve.Answer
function M.invalid(message) return M.refuse(errors.new("invalid", message)) end

---What a word of the engine returned.
---@param value any
---@param err? Err
---@return serve.Answer
function M.result(value, err)
  if value == nil then return M.refuse(err or errors.new("internal", "the engine gave no answer")) end
  return M.json(200, value)
end

---Lines of JSON as they come.
---@param write_all? fun(write: fun(text: string))
---@param err? Err Why there are none.
---@return serve.Answer
function M.lines(write_all, err)
  if not write_all then return M.refuse(assert(err)) end
  local answer = M.json(200, {}, { ["Content-Type"] = "application/x-ndjson" })
  answer.body = write_all
  return answer
end

---A plain text.
---@param status integer
---@param text string
---@param headers? table<string, string>
---@return serve.Answer
function M.text(status, text, headers)
  local all = { ["Content-Type"] = "text/plain; charset=utf-8", ["Cache-Control"] = "no-store" }
  for name, value in pairs(headers or {}) do all[name] = value end
  return { status = status, headers = all, body = text }
end

---A whole number of a query or a path.
---@param text? string
---@param fallback any When there is no text.
---@param low integer
---@param high integer
---@return any number nil: it is none, or out of these bounds.
function M.whole(text, fallback, low, high)
  if text == nil then return fallback end
  local n = #text <= 15 and text:find("^%d+$") and math.tointeger(tonumber(text)) or nil
  return n and n >= low and n <= high and n or nil
end

---The object in a body; raises "invalid".
---@param request serve.Request
---@param fields? string[] All fields that it may have; nil: any.
---@return table
function M.body(request, fields)
  local body, err = json.decode((request.body or "") ~= "" and request.body or "{}")
  if type(body) ~= "table" or body == json.null or json.is_array(body) then
    error(errors.new("invalid", err and err.message or "the body must be a JSON object"), 0)
  end
  for key in pairs(fields and body or {}) do
    local known
    for _, field in ipairs(fields or {}) do known = known or field == key end
    if not known then
      error(errors.new("invalid", ("unknown field %q; known: %s"):format(tostring(key):sub(1, 60),
        table.concat(fields or {}, ", "))), 0)
    end
  end
  return body
end

---Calls a handler; what it raises is an answer, and an error of ours is only logged.
---@async
---@param name string Whose handler it is, for the log.
---@param request serve.Request
---@param handler fun(...): serve.Answer
---@param ... any
---@return serve.Answer
function M.call(name, request, handler, ...)
  local ok, reply = xpcall(handler, errors.wrap, ...) ---@type boolean, any
  if ok then return reply end
  if errors.is(reply, "cancelled") or errors.is(reply, "deadline") then error(reply, 0) end
  if errors.is(reply, "internal") then
    log.error(name .. " failed", { path = request.path, error = tostring(reply) })
    reply = errors.new("internal", name .. " failed; the host's log says why")
  end
  return M.refuse(reply)
end

return M
