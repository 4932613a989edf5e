-- What an HTTP request answers: status, case-insensitive headers, a body or a stream. Made by http.lua only, which
-- lends it the core table.
local errors = require "errors"

local M = {}

local core ---@type table

---@param table table core.http
function M.borrow(table) core = table end

---@class HttpHeaders: { [string]: string } Names in any case; several values of one name are joined by ", ".
---@field all fun(self: HttpHeaders, name: string): string[] Each value of a header, in order.

---@class (partial) HttpAnswer
---@field status integer
---@field headers HttpHeaders
---@field body? string Absent from a stream, and from an answer to a sink.
---@field url string The URL that answered, after redirects; without user and password.
---@field elapsed Seconds
---@field http_version "1.0"|"1.1"|"2"
---@field etag? string
local Answer = { __name = "http.answer" }

-- Private positions in an answer: the raw headers, a stream's handle, the URL for errors.
local RAW, STREAM, SHOWN = 1, 2, 3

local function shown(answer) return rawget(answer, SHOWN) or answer.url end

-- ---- headers: {map, repeated or nil, names in order} ----

local Headers = { __name = "http.headers" }

local function all(headers, name)
  name = name:lower()
  local repeated = rawget(headers, 2)
  if repeated and repeated[name] then return table.move(repeated[name], 1, #repeated[name], 1, {}) end
  return { headers[1][name] }
end

-- What a server sends is never a method: it cannot replace one.
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
    if names[i] then return names[i], table.concat(all(headers, names[i]), ", ") end
  end
end

-- What getmetatable shows instead of the class: how it is iterated over.
Headers.__metatable = { __pairs = Headers.__pairs }

-- ---- answers ----

local methods = {}

function Answer.__index(answer, key)
  if key == "etag" then return answer.headers.etag end
  if key ~= "headers" then return methods[key] end
  local headers = setmetatable(core.headers(rawget(answer, RAW)), Headers)
  rawset(answer, "headers", headers)
  return headers
end

local FIELDS <const> = { "status", "url", "http_version", "elapsed", "etag", "headers", "body" }

function Answer.__pairs(answer)
  local i = 0
  return function()
    while i < #FIELDS do
      i = i + 1
      local value = answer[FIELDS[i]]
      if value ~= nil then return FIELDS[i], value end
    end
  end
end

Answer.__metatable = { __pairs = Answer.__pairs }

---@class (partial) HttpAnswer
local documented = methods

---Decodes the body as JSON.
---@return any? value
---@return Err? err
---@return_overload nil, Err
function documented:json()
  if not self.body then error("usage: answer:json() needs the whole body, not a stream", 2) end
  local value, err = require("json").decode(self.body)
  if err then return errors.fail(err.code, err.message, { op = "http.json", target = shown(self) }) end
  return value
end

local function stream_of(self, name)
  local stream = rawget(self, STREAM)
  if not stream then error("usage: answer:" .. name .. "() works on a request with stream = true", 3) end
  return stream
end

local function broken(self, err)
  err.target = shown(self)
  return err
end

---Waits for the next piece of a streamed body.
---@async
---@param most? integer bytes, at most (64 KiB)
---@return string? data nil at the end
---@return Err? err when it broke off
---@return_overload nil, Err
function documented:read(most)
  local data, err = stream_of(self, "read"):read(most)
  if err then return nil, broken(self, err) end
  return data
end

---Iterates over the lines of a streamed body, without their ends. Raises the error when the stream breaks
---off, so that a cut stream is not taken for a finished one. A line may have 1 MiB.
---@async
---@return fun(): string?
function documented:lines()
  local stream = stream_of(self, "lines")
  return function()
    local line, err = stream:line()
    if err then error(broken(self, err), 0) end
    return line
  end
end

---Ends a streamed answer; the connection is closed unless the body was read to its end.
function documented:close()
  local stream = rawget(self, STREAM)
  if stream then stream:close() end
end

Answer.__close = documented.close

---Looks a relation up in the Link headers, as used for pages of a list (RFC 8288).
---@param rel string such as "next"
---@return string? url absolute; nil when there is none
---@return Err? err when it leads to another origin, where the same credentials must not go
---@return_overload nil, Err
function documented:link(rel)
  for _, value in ipairs(self.headers:all("link")) do
    for target, parameters in value:gmatch("<([^<>]*)>([^,<]*)") do
      if parameters:match(';%s*[rR][eE][lL]%s*=%s*"?([^";]*)"?') == rel then
        local here, there = core.url(self.url), core.url(target, self.url)
        if there and there.origin == here.origin and not there.user then return there.url end
        local fields = { op = "http.link", target = shown(self) }
        return errors.fail("redirect", "the Link header leads to another origin", fields)
      end
    end
  end
end

---Makes an answer of what the core gave; takes it over.
---@param raw table
---@param stream? userdata
---@return HttpAnswer
function M.new(raw, stream)
  if stream then raw[STREAM] = stream end
  return setmetatable(raw, Answer)
end

---After redirects: what they add up to.
---@param raw table
---@param elapsed Seconds
---@param url string as errors may show it
function M.redirected(raw, elapsed, url)
  raw.elapsed, raw[SHOWN] = elapsed, url
end

---Whether a value is an answer.
---@param value any
---@return boolean
function M.is(value) return type(value) == "table" and rawequal(getmetatable(value), Answer.__metatable) end

local KEPT <const> = { "status", "url", "elapsed", "http_version", "body" }

---Plain data of an answer, for the journal.
---@param answer HttpAnswer
---@return table? data
---@return string? why It is a stream.
function M.plain(answer)
  if rawget(answer, STREAM) then return nil, "a stream ends with the host: ask without stream = true" end
  local data, headers = { shown = rawget(answer, SHOWN) }, answer.headers ---@type table, table
  for _, name in ipairs(KEPT) do data[name] = rawget(answer, name) end
  data.values, data.repeated, data.names = headers[1], rawget(headers, 2), headers[3]
  return data
end

---Such data as the core would give it.
---@param data table
---@return table raw
function M.raw(data)
  local raw = { [SHOWN] = data.shown, location = data.location }
  for _, name in ipairs(KEPT) do raw[name] = data[name] end
  raw.headers = setmetatable({ data.values, data.repeated, data.names }, Headers)
  return raw
end

---The answer that such data stands for.
---@param data table
---@return HttpAnswer
function M.revive(data) return setmetatable(M.raw(data), Answer) end

---The URL that answered, without what may be secret in it.
---@param answer HttpAnswer
---@return string
function M.shown(answer) return shown(answer) end

return M
