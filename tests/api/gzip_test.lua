-- gzip for scripts: bytes that are always the same, limits, and what the gzip program makes of them.
local check = require "check"
local fs, gzip, proc = require "fs", require "gzip", require "proc"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

test("what was packed comes out again, and packs to the same bytes", function()
  for _, text in ipairs { "", "x", ("moon"):rep(100000), ("\0\1\255"):rep(77777) } do
    local packed = ok(gzip.encode(text))
    eq(gzip.encode(text), packed)
    eq(gzip.decode(packed), text)
  end
end)

test("the gzip program understands us, and we it", function()
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/a.gz", ok(gzip.encode("tide"))))
  eq(ok(proc.check(proc.run { "gzip", "-dc", dir.path .. "/a.gz" })).stdout, "tide")
  ok(fs.write(dir.path .. "/b", "moon"))
  ok(proc.check(proc.run { "gzip", "-9", dir.path .. "/b" }))
  eq(gzip.decode(ok(fs.read(dir.path .. "/b.gz"))), "moon")
end)

test("bombs, cut texts and foreign bytes are errors", function()
  local bomb = ok(gzip.encode(("\0"):rep(1 << 20)))
  fails("too_large", gzip.decode(bomb, { max = (1 << 20) - 1 }))
  eq(#ok(gzip.decode(bomb, { max = 1 << 20 })), 1 << 20)
  fails("invalid", gzip.decode(bomb:sub(1, -2)))
  fails("invalid", gzip.decode("tide"))
  fails("invalid", gzip.decode(""))
  raises("usage", gzip.decode, 5)
  raises("usage", gzip.decode, "", { max = -1 })
  raises("unknown option", gzip.decode, "", { most = 1 })
  raises("usage", gzip.encode)
end)
