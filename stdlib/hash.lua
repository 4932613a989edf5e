---Digests, constant-time comparison and encodings of bytes.
---
---     local hash = require "hash"
---     print(hash.sha256("hello"))
---     local h <close> = hash.new()
---     for chunk in chunks do h:update(chunk) end
---     print(h:hex())
local core = require "core.hash"

local M = {}

---Digests bytes.
---@param bytes string
---@return string hex 64 lower-case digits
---@nodiscard
function M.sha256(bytes)
  return core.sha256(bytes)
end

---Digests a regular file without reading it into memory; other tasks run meanwhile.
---@async
---@param path string
---@return string? hex
---@return integer|Err size_or_err how many bytes it had, or why it cannot be read
---@nodiscard
function M.sha256_file(path)
  return core.sha256_file(path)
end

---A digest in the making.
---@class Hasher
---@field update fun(self: Hasher, bytes: string): Hasher adds bytes
---@field hex fun(self: Hasher): string digest of all bytes so far; more may follow
---@field close fun(self: Hasher) frees it; the collector would too

---Starts a SHA-256 digest that is fed piece by piece. Closable.
---@return Hasher
---@nodiscard
function M.new()
  return core.new()
end

---Authenticates bytes with a key (RFC 2104). Compare the result with `equal`.
---@param key string
---@param bytes string
---@return string hex 64 lower-case digits
---@nodiscard
function M.hmac_sha256(key, bytes)
  return core.hmac_sha256(key, bytes)
end

---Compares secrets in constant time. Their lengths are not hidden.
---@param a string
---@param b string
---@return boolean
---@nodiscard
function M.equal(a, b)
  return core.equal(a, b)
end

---Writes bytes as lower-case hexadecimal digits.
---@param bytes string
---@return string
---@nodiscard
function M.hex(bytes)
  return core.hex(bytes)
end

---Reads hexadecimal digits of either case.
---@param text string
---@return string? bytes
---@return Err? err code "invalid"
---@nodiscard
---@return_overload nil, Err
function M.unhex(text)
  return core.unhex(text)
end

---Writes bytes as padded base64 (RFC 4648, section 4).
---@param bytes string
---@return string
---@nodiscard
function M.base64(bytes)
  return core.base64(bytes)
end

---Reads padded base64 strictly: no blanks, no missing padding, no bits left over.
---@param text string
---@return string? bytes
---@return Err? err code "invalid"
---@nodiscard
---@return_overload nil, Err
function M.unbase64(text)
  return core.unbase64(text)
end

---Writes bytes as base64 for URLs and file names, without padding (RFC 4648, section 5; RFC 7515).
---@param bytes string
---@return string
---@nodiscard
function M.base64url(bytes)
  return core.base64url(bytes)
end

---Reads what `base64url` writes, as strictly.
---@param text string
---@return string? bytes
---@return Err? err code "invalid"
---@nodiscard
---@return_overload nil, Err
function M.unbase64url(text)
  return core.unbase64url(text)
end

---Makes unpredictable bytes.
---@param n integer how many, at most 1 MiB
---@return string bytes
---@nodiscard
function M.random(n)
  return core.random(n)
end

return M
