-- What an HTTP request answers: status, case-insensitive headers, a body or a stream. Made by http.lua only.
local errors = require "errors"

local M = {}

---@class HttpHeaders: { [string]: string } Names in any case; several values of one name are joined by ", ".
---@field all fun(self: HttpHeaders, name: string): string[] Each value of a header, in order.

---@class HttpAnswer
---@field status integer
---@field headers HttpHeaders
---@field body string? Absent from a stream, and from an answer to a sink.
---@field url string The URL that answered, after redirects; without user and password.
---@field elapsed Seconds
---@field http_version "1.0"|"1.1"|"2"
---@field etag string?

-- ---- headers ----

local Headers = { __name = "http.headers" }

local function all(headers, name)
  name = name:lower()
  local repeated, first = headers[2], headers[1][name]
  if repeated and repeated[name] then return table.move(repeated[name], 1, #repeated[name], 1, {}) end
  return { first }
end

-- The answer's own headers are never methods: a server cannot replace one.
function Headers.__index(headers, name)
  if name == "all" then return all end
  if type(name) ~= "string" then return nil end
  name = name:lower()
  local repeated = rawget(headers, 2)
  if repeated and repeated[name] then return table.concat(repeated[name], ", ") end
  return headers[1][name]
end

function Headers.__pairs(headers)
  local names, i = headers[3], 0
  return function()
    i = i + 1
    if names[i] then return names[i], headers[names[i]] end
  end
end

-- ---- answers ----

local STREAM, SHOWN = {}, {} -- keys: a streamed answer's handle; its URL as errors may show it

local Answer = { __name = "http.answer" }
Answer.__index = Answer

---Decodes the body as JSON.
---@return any? value
---@return Err? err
function Answer:json()
  if not self.body then error("usage: answer:json() needs the whole body, not a stream", 2) end
  local value, err = require("json").decode(self.body)
  if err then return errors.fail(err.code, err.message, { op = "http.json", target = self[SHOWN] }) end
  return value
end

local function stream_of(self, name)
  local stream = rawget(self, STREAM)
  if not stream then error("usage: answer:" .. name .. "() works on a request with stream = true", 3) end
  return stream
end

local function broken(self, err)
  err.target = self[SHOWN]
  return err
end

---Waits for the next piece of a streamed body.
---@async
---@param most integer? bytes, at most (64 KiB)
---@return string? data nil at the end
---@return Err? err when it broke off
function Answer:read(most)
  local data, err = stream_of(self, "read"):read(most)
  if err then return nil, broken(self, err) end
  return data
end

---Iterates over the lines of a streamed body, without their ends. Raises the error when the stream breaks
---off, so that a cut stream is not taken for a finished one. A line may have 1 MiB.
---@async
---@return fun(): string?
function Answer:lines()
  local stream = stream_of(self, "lines")
  return function()
    local line, err = stream:line()
    if err then error(broken(self, err), 0) end
    return line
  end
end

---Ends a streamed answer; the connection is closed unless the body was read to its end.
function Answer:close()
  local stream = rawget(self, STREAM)
  if stream then stream:close() end
end

Answer.__close = Answer.close

M.Answer = Answer

---The URL that answered, without what may be secret in it.
---@param answer HttpAnswer
---@return string
function M.shown(answer) return answer[SHOWN] end

---Makes an answer of what the core gave; takes both over.
---@param raw table
---@param stream userdata?
---@param url string
---@param elapsed Seconds
---@param shown string the URL as errors may show it
---@return HttpAnswer
function M.new(raw, stream, url, elapsed, shown)
  raw.url, raw.elapsed, raw.peer_private = url, elapsed, nil
  raw.etag = raw.headers[1].etag
  setmetatable(raw.headers, Headers)
  raw[STREAM], raw[SHOWN] = stream, shown
  return setmetatable(raw, Answer)
end

return M
