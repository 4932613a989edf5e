-- Digests and encodings against published vectors, and their limits.
local check = require "check"
local hash = require "hash"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

test("sha256 gives the vectors of FIPS 180-4", function()
  eq(hash.sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
  eq(hash.sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  eq(hash.sha256(("a"):rep(1000000)), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  ok(hash.sha256("a\0b") ~= hash.sha256("a"))
end)

test("a hasher fed in pieces agrees, and goes on after hex", function()
  local h <close> = hash.new()
  eq(h:hex(), hash.sha256(""))
  eq(h:update("ab"):update("c"):hex(), hash.sha256("abc"))
  eq(h:update(""):update("def"):hex(), hash.sha256("abcdef"))
end)

test("a closed hasher raises", function()
  local h = hash.new()
  h:close()
  h:close()
  raises("the hasher is closed", h.update, h, "x")
  raises("the hasher is closed", h.hex, h)
  raises("", h.update, {}, "x")
end)

test("hmac_sha256 gives the vectors of RFC 4231", function()
  eq(hash.hmac_sha256(("\x0b"):rep(20), "Hi There"),
    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
  eq(hash.hmac_sha256("Jefe", "what do ya want for nothing?"),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
  eq(hash.hmac_sha256(("\xaa"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First"),
    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
  eq(#hash.hmac_sha256("", ""), 64)
end)

test("equal compares bytes", function()
  eq(hash.equal("secret", "secret"), true)
  eq(hash.equal("secret", "secreT"), false)
  eq(hash.equal("secret", "secret\0"), false)
  eq(hash.equal("", ""), true)
  raises("string expected", hash.equal, "a", nil)
end)

test("hex goes both ways and refuses the rest", function()
  eq(hash.hex("\0\x9f\xff"), "009fff")
  eq(hash.unhex("009FfF"), "\0\x9f\xff")
  eq(hash.unhex(""), "")
  for _, bad in ipairs { "0", "0g", " 00", "0x00" } do fails("invalid", hash.unhex(bad)) end
end)

test("base64 goes both ways and is strict", function()
  eq(hash.base64("\xfb\xff\xfe!"), "+//+IQ==")
  eq(hash.base64url("\xfb\xff\xfe!"), "-__-IQ")
  for n = 0, 70 do
    local bytes = hash.random(n)
    eq(hash.unbase64(hash.base64(bytes)), bytes)
    eq(hash.unbase64url(hash.base64url(bytes)), bytes)
  end
  for _, bad in ipairs { "Zg", "Zg=", "Zh==", "Zg==\n", "Z g=", "-__-", "====" } do
    fails("invalid", hash.unbase64(bad))
  end
  for _, bad in ipairs { "Zg==", "Zh", "+//+", "Z" } do
    fails("invalid", hash.unbase64url(bad))
  end
end)

test("random gives different bytes of the wanted length", function()
  eq(#hash.random(32), 32)
  ok(hash.random(32) ~= hash.random(32))
  eq(hash.random(0), "")
  raises("from 0 to 1048576 bytes", hash.random, -1)
  raises("from 0 to 1048576 bytes", hash.random, 1 << 30)
end)

test("sha256_file digests what sha256 does, off the loop", function()
  local fs, task, time = require "fs", require "task", require "time"
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/data"
  local bytes = ("0123456789abcdef"):rep(1 << 16) .. "tail"
  ok(fs.write(path, bytes))
  eq({ hash.sha256_file(path) }, { hash.sha256(bytes), #bytes })
  ok(fs.write(path, ""))
  eq({ hash.sha256_file(path) }, { hash.sha256(""), 0 })

  local big = dir.path .. "/big"
  ok(fs.write(big, ("x"):rep(32 << 20)))
  local ticks = 0
  local ticker = task.spawn(function()
    while true do time.sleep(0.001) ticks = ticks + 1 end
  end)
  ok(hash.sha256_file(big))
  ticker:cancel()
  ok(ticks > 0, "nothing else ran meanwhile")

  local cancelled = task.spawn(function() return hash.sha256_file(big) end)
  time.sleep(0.001)
  cancelled:cancel()
  fails("cancelled", cancelled:join())
end)

test("sha256_file tells what it cannot read", function()
  local fs = require "fs"
  local dir <close> = ok(fs.temp_dir())
  local err = fails("not_found", hash.sha256_file(dir.path .. "/none"))
  eq(err.op, "hash.sha256_file")
  eq(err.target, dir.path .. "/none")
  fails("invalid", hash.sha256_file(dir.path))
  fails("invalid", hash.sha256_file("/dev/zero"))
  raises("usage: hash.sha256_file(path)", hash.sha256_file, "a\0b")
end)
