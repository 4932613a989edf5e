-- Frames of the git wire protocol ("pkt-lines"): four hex digits of length, then the payload.
--
-- Pure text work: nothing here waits or does I/O. `scan` reads bytes in place, so that a body in
-- memory and a stream that arrives in pieces are read by the same code. Source of the rules: git's
-- gitprotocol-common.

local errors = require "errors"

local M = {}

---Longest frame that the protocol allows, its four length bytes included.
M.MAX = 65520
local MAX = M.MAX

M.FLUSH = "0000"
M.DELIM = "0001"

local byte, sub = string.byte, string.sub

-- Value of a hex digit by its byte. Lists have thousands of frames, and tonumber takes signs and spaces too.
local HEX = {}
for _, digits in ipairs { "0123456789abcdef", "0123456789ABCDEF" } do
  for value = 0, 15 do HEX[byte(digits, value + 1)] = value end
end

---Makes one frame.
---@param payload string at most 65,516 bytes
---@return string
---@nodiscard
function M.line(payload)
  local length = #payload + 4
  if length > M.MAX then
    error("usage: pktline.line(payload): " .. #payload .. " bytes do not fit into one frame", 2)
  end
  return string.format("%04x", length) .. payload
end

---Reads the frame that starts at `at`.
---
---Kinds: "data" (payload is data:sub(first, last)), "flush", "delim", "end", and "more" when the frame is not
---complete yet; then `next` is `at` and nothing is consumed.
---@param data string
---@param at integer
---@return "data"|"flush"|"delim"|"end"|"more"|nil kind
---@return integer|Err next where the following frame starts; the error when kind is nil
---@return integer? first
---@return integer? last
---@return_overload nil, Err
---@return_overload "data", integer, integer, integer
---@return_overload "flush"|"delim"|"end"|"more", integer
function M.scan(data, at)
  local have = #data - at + 1
  if have < 4 then return "more", at end
  local a, b, c, d = byte(data, at, at + 3)
  a, b, c, d = HEX[a], HEX[b], HEX[c], HEX[d]
  if not (a and b and c and d) then
    return errors.fail("protocol", "a frame does not start with four hex digits", { op = "pktline.scan" })
  end
  local length = a << 12 | b << 8 | c << 4 | d
  if length > 4 and length <= MAX then
    if have < length then return "more", at end
    return "data", at + length, at + 4, at + length - 1
  end
  if length == 4 then return "data", at + 4, at + 4, at + 3 end
  if length == 0 then return "flush", at + 4 end
  if length == 1 then return "delim", at + 4 end
  if length == 2 then return "end", at + 4 end
  return errors.fail("protocol", "a frame has the impossible length " .. length, { op = "pktline.scan" })
end

---Payload without the one line feed that may end it.
---@param data string
---@param first integer
---@param last integer
---@return string
function M.text(data, first, last)
  if last >= first and byte(data, last) == 10 then last = last - 1 end
  return sub(data, first, last)
end

---@class PktReader frames out of a stream that arrives in pieces; keeps at most one unfinished frame
---@field private rest string
local Reader = {}
Reader.__index = Reader

---Makes a reader for a stream.
---@return PktReader
---@nodiscard
function M.reader()
  return setmetatable({ rest = "" }, Reader)
end

---Iterates over the frames that are complete once `chunk` has arrived: `for kind, payload in
---reader:feed(chunk)`. A broken frame comes as kind "broken" with the error in place of the payload, and
---nothing after it.
---@param chunk string
---@return fun(): string?, string|Err|nil
function Reader:feed(chunk)
  local data = self.rest == "" and chunk or self.rest .. chunk ---@type string?
  local at = 1
  self.rest = ""
  return function()
    if not data then return nil end
    local kind, following, first, last = M.scan(data, at)
    if not kind then
      data = nil
      return "broken", following
    elseif kind == "more" then
      self.rest = sub(data, at)
      data = nil
      return nil
    end
    at = following
    if kind == "data" then return kind, sub(data, first, last) end
    return kind, nil
  end
end

---Bytes of an unfinished frame at the end of the stream; 0 after a clean end.
---@return integer
function Reader:pending()
  return #self.rest
end

return M
