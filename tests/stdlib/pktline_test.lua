-- Frames: what is made can be read, in one piece or byte by byte, and nothing else can.
local check = require "check"
local pktline = require "sources.git.pktline"
local test, eq, fails, raises = check.test, check.eq, check.fails, check.raises

-- Frames of a stream, cut into pieces of `size` bytes.
local function read(stream, size)
  local reader, seen = pktline.reader(), {}
  for at = 1, #stream, size do
    for kind, payload in reader:feed(stream:sub(at, at + size - 1)) do
      seen[#seen + 1] = kind == "broken" and { kind, payload.code } or { kind, payload }
    end
  end
  return seen, reader:pending()
end

test("makes the frames that git documents", function()
  eq(pktline.line "a\n", "0006a\n")
  eq(pktline.line "a", "0005a")
  eq(pktline.line "foobar\n", "000bfoobar\n")
  eq(pktline.line "", "0004")
end)

test("refuses a payload that does not fit", function()
  eq(#pktline.line(("x"):rep(65516)), 65520)
  raises("65517 bytes", pktline.line, ("x"):rep(65517))
end)

test("reads what it makes, however the stream is cut", function()
  local stream = pktline.line "one\n" .. pktline.FLUSH .. pktline.line(("y"):rep(65516)) .. pktline.DELIM
    .. "0002"
    .. pktline.line "\0\1\255"
  local want = { { "data", "one\n" }, { "flush" }, { "data", ("y"):rep(65516) }, { "delim" }, { "end" },
    { "data", "\0\1\255" } }
  for _, size in ipairs { 1, 2, 3, 7, 4096, #stream } do
    local seen, pending = read(stream, size)
    eq(seen, want, "pieces of " .. size)
    eq(pending, 0)
  end
end)

test("an unfinished frame is not a frame", function()
  local seen, pending = read("0006a", 2)
  eq(seen, {})
  eq(pending, 5)
  eq(pktline.scan("0006a", 1), "more")
  eq(pktline.scan("00", 1), "more")
  eq(pktline.scan("", 1), "more")
end)

test("impossible lengths break the stream", function()
  for _, head in ipairs { "0003", "fff1", "ffff", "xyzw", " 12a", "+123", "-001", "0x1f", "00\0001",
    "1e+3" } do
    fails("protocol", pktline.scan(head .. ("z"):rep(70000), 1))
    local seen = read("0005a" .. head .. "0005b", 3)
    eq(seen[1], { "data", "a" })
    eq(seen[2], { "broken", "protocol" })
  end
end)

test("upper-case digits are digits", function()
  local kind, following = pktline.scan("000Aabcdef", 1)
  eq(kind, "data")
  eq(following, 11)
end)

test("only one line feed at the end is taken off", function()
  eq(pktline.text("abc\n\n", 1, 5), "abc\n")
  eq(pktline.text("abc", 1, 3), "abc")
  eq(pktline.text("\n", 1, 1), "")
  eq(pktline.text("", 1, 0), "")
end)

test("random bytes never do more than break", function()
  local alphabet = "0123456789abcdef\0\n \255xG"
  for round = 1, 2000 do
    local bytes = {}
    for i = 1, math.random(0, 40) do
      local at = math.random(#alphabet)
      bytes[i] = alphabet:sub(at, at)
    end
    local stream = table.concat(bytes)
    local whole, rest = read(stream, math.max(1, #stream))
    local pieces, rest_of_pieces = read(stream, math.random(1, 5))
    -- The same frames come out; after a broken one a stream that is fed on starts over.
    for i, frame in ipairs(whole) do
      eq(pieces[i], frame, ("round %d, %q"):format(round, stream))
      if frame[1] == "broken" then break end
    end
    local broken = #whole > 0 and whole[#whole][1] == "broken"
    if not broken then eq(rest_of_pieces, rest) end
  end
end)
