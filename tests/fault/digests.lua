-- Every allocation of ours that digests and encodings need, failed in turn (libcrypto's own are out of reach).
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local fs, gzip, hash = require "fs", require "gzip", require "hash"
local sweep = require "lib.sweep"

local scratch <close> = assert(fs.temp_dir { prefix = "moontide-fault-" })
local file = scratch.path .. "/f"
assert(fs.write(file, ("x"):rep(100000), { sync = false }))

sweep.run("hash.sha256", function() return #hash.sha256("abc") == 64 end)
sweep.run("hash.hmac_sha256", function() return #hash.hmac_sha256("key", "abc") == 64 end)
sweep.run("hash.new", function()
  local hasher <close> = hash.new()
  return #hasher:update("abc"):hex() == 64
end)
sweep.run("hash.sha256_file", function() return hash.sha256_file(file) end)
sweep.run("hash.hex", function() return hash.unhex(hash.hex(("x"):rep(3000))) == ("x"):rep(3000) end)
sweep.run("hash.base64", function() return hash.unbase64(hash.base64(("x"):rep(3000))) == ("x"):rep(3000) end)
sweep.run("hash.base64url", function()
  return hash.unbase64url(hash.base64url(("x"):rep(3001))) == ("x"):rep(3001)
end)
sweep.run("gzip", function()
  local packed, err = gzip.encode(("tide"):rep(50000))
  if not packed then return nil, err end
  return gzip.decode(packed)
end)
sweep.run("hash.equal", function() return hash.equal("abc", "ab" .. "c") end)
sweep.run("hash.random", function() return #hash.random(3000) == 3000 end)
