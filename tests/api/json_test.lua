-- json: what is read and written, what is refused, and that hostile texts cost no more than they weigh.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local json, task, time = require "json", require "task", require "time"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

local function round(text, want)
  local value, err = json.decode(text)
  if err then error(text .. ": " .. tostring(err), 2) end
  eq(ok(json.encode(value)), want or text)
end

-- First, while there is no garbage of others that a limited script could have in its place.
test("a script that has no memory left for a text ends, and leaks nothing", function()
  local text = "[" .. ("[1,[2]],"):rep(200000) .. "1]"
  local run = task.start({ memory = 8 << 20 }, function()
    pcall(json.decode, text)
    pcall(json.decode, text)
    return "still here"
  end)
  local value, err = run:join()
  eq(value, nil)
  eq(err.code, "memory")
  eq(#ok(json.decode(text)), 200001) -- others are not touched
end)

test("whole numbers are integers, in all 64 bits", function()
  eq(json.decode("42"), 42)
  eq("build " .. json.decode("[42]")[1], "build 42")
  for _, n in ipairs { 0, -1, 2 ^ 53 | 0, (2 ^ 53 | 0) + 1, 1234567890123456, math.maxinteger, math.mininteger } do
    eq(json.decode(("%d"):format(n)), n)
    eq(json.decode(('{"a":[%d]}'):format(n)).a[1], n)
    eq(json.encode(n), ("%d"):format(n))
  end
  eq(json.decode("42.0"), 42)
  eq(json.decode("4.2e1"), 42)
  eq(json.decode("-0"), 0)
  eq(json.decode("1.5"), 1.5)
  eq(math.type(json.decode("9223372036854775808")), "float")
  eq(math.type(json.decode("-9223372036854775809")), "float")
  eq(json.decode("1e308"), 1e308)
end)

test("numbers that Lua calls equal are written equally, and read back the same", function()
  eq(json.encode(42.0), "42")
  eq(json.encode(64 * 1024 ^ 2), "67108864")
  eq(json.encode(-0.0), "0")
  eq(json.encode(0.1), "0.1")
  for _, n in ipairs { 0.1, 1 / 3, 1e300, 5e-324, 1.7976931348623157e308, 123456.789, 2 ^ 63, -2 ^ 70, 1e15 + 0.5 } do
    eq(json.decode(ok(json.encode(n))) == n, true, tostring(n))
  end
end)

test("null is a sentinel that prints readably", function()
  eq(json.decode("null") == json.null, true)
  eq(json.decode('{"a":null}').a == json.null, true)
  eq(tostring(json.null), "null")
  eq(json.encode { json.null, a = nil }, "[null]")
  round('[null,{"a":null}]')
end)

test("null_as_nil leaves nulls out", function()
  eq(json.decode('{"a":null,"b":1}', { null_as_nil = true }), { b = 1 })
  eq(json.decode("null", { null_as_nil = true }), nil)
  local list = json.decode("[null,2]", { null_as_nil = true })
  eq(list[1], nil)
  eq(list[2], 2)
end)

test("empty lists stay lists, empty objects stay objects", function()
  for _, text in ipairs { "[]", "{}", '{"a":[],"b":{}}', "[[],{},[[]]]", '[{"a":[]}]' } do round(text) end
  round(" [ ] ", "[]")
  local list = json.decode('{"tags":["a"]}').tags
  list[1] = nil
  eq(json.encode(list), "[]")
  eq(json.encode {}, "{}")
  eq(json.encode(json.array {}), "[]")
  eq(json.encode(json.array()), "[]")
  eq(json.is_array(json.array { 1 }), true)
  eq(json.is_array(json.decode("[]")), true)
  eq(json.is_array(json.decode("{}")), false)
  eq(json.is_array {}, false)
  eq(json.is_array(7), false)
  eq(json.array(json.array {}), {})
  raises("metatable of its own", json.array, setmetatable({}, {}))
  raises("usage: json.array", json.array, 7)
end)

test("text passes unchanged", function()
  for _, text in ipairs { "", "é€😀", "a\0b", '"\\/', "\b\f\n\r\t\1\31", "\127", "\u{2028}", "<script>" } do
    eq(json.decode(ok(json.encode(text))), text)
  end
  eq(json.decode [["\u00e9\ud83d\ude00\u0000\/"]], "é😀\0/")
  eq(json.encode("\1/\n\"\\é"), [["\u0001/\n\"\\é"]])
  eq(json.decode [[{"\u0061":1}]].a, 1)
end)

test("a string never passes for one of our own marks", function()
  -- the marks start with a byte that valid text cannot hold
  fails("invalid", json.decode('["\xFF"]'))
  fails("invalid", json.decode('["\xFF12"]'))
  round([=[["\u00ff","ÿ","ÿ12"]]=], '["ÿ","ÿ","ÿ12"]')
end)

test("says where the text is wrong", function()
  local err = fails("invalid", json.decode('{\n  "a": 1,\n  "b": tru }'))
  eq({ err.offset, err.line, err.column }, { 20, 3, 8 })
  has(tostring(err), "json.decode: invalid: unexpected t at byte 20")
  err = fails("invalid", json.decode(""))
  eq({ err.offset, err.line, err.column }, { 1, 1, 1 })
end)

test("refuses what only lenient readers take", function()
  for _, text in ipairs {
    "NaN", "-Infinity", "inf", "0x10", "01", "1.", ".5", "+1", "1e", "'a'", "[1,]", "{,}", "{a:1}", "// x\n1",
    "tru", "truee", "\xEF\xBB\xBF1", "[1]\0", '"\n"', '"\\x"', "1e999", "nil", "[1}", "\0", "\0\0", '"\\u12"',
  } do
    fails("invalid", json.decode(text))
  end
end)

test("refuses duplicate keys and tells where", function()
  local err = fails("invalid", json.decode('{"a":1,"b":2,"a":3}'))
  eq(err.offset, 14)
  eq(fails("invalid", json.decode('[{"a":{"x":1}},{"a":[1,{"y":0,"\\u0079":1}]}]')).offset, 31)
  eq(fails("invalid", json.decode('{"a":null,"a":1}', { null_as_nil = true })).offset, 11)
  eq(fails("invalid", json.decode('{"":1,"":1}')).offset, 7)
  ok(json.decode('{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"A":"a"}'))
end)

test("refuses broken UTF-8 and lone surrogates", function()
  for _, text in ipairs { "\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "a\xE2\x82" } do
    fails("invalid", json.decode('"' .. text .. '"'))
    fails("invalid", json.decode('{"' .. text .. '":1}'))
    fails("invalid", json.encode(text))
    fails("invalid", json.encode { [text] = 1 })
  end
  fails("invalid", json.decode [["\ud800"]])
  fails("invalid", json.decode [["\udc00\ud800"]])
  eq(json.encode("a\xFFb\xE2\x82", { clean = true }), '"a\u{FFFD}b\u{FFFD}\u{FFFD}"')
end)

test("bounds depth, numbers and size", function()
  ok(json.decode(("["):rep(64) .. ("]"):rep(64)))
  fails("too_large", json.decode(("["):rep(65) .. ("]"):rep(65)))
  fails("too_large", json.decode(('{"a":'):rep(65)))
  ok(json.decode("1" .. ("0"):rep(63)))
  fails("too_large", json.decode("1" .. ("0"):rep(64)))
  fails("too_large", json.decode("[1,2,3]", { max = 6 }))
  ok(json.decode("[1,2,3]", { max = 7 }))
  fails("too_large", json.decode((" "):rep(8 << 20) .. "1"))
end)

test("bombs are refused or read in time", function()
  local million = 1000000
  local bombs = {
    { "too_large", ("["):rep(million) }, { "too_large", ('{"a":'):rep(million) },
    { "too_large", ("9"):rep(million) }, { "invalid", '"' .. ("\\"):rep(million) },
    { "invalid", '"' .. ("a"):rep(8 * million) }, { nil, '"' .. ("\\u0041"):rep(million) .. '"' },
    { nil, "[" .. ("[],"):rep(million) .. "1]" }, { nil, "[" .. ("0e0,"):rep(million) .. "1]" },
    { nil, "[" .. ("9007199254740993,"):rep(400000) .. "1]" }, { nil, '["' .. ("ü"):rep(3 * million) .. '"]' },
  }
  for i, bomb in ipairs(bombs) do
    local start = time.cpu()
    local value, err = json.decode(bomb[2])
    local took = time.cpu() - start
    eq(err and err.code, bomb[1], "bomb " .. i)
    eq(value ~= nil, bomb[1] == nil)
    if took > 30 then error(("bomb %d took %.1f s"):format(i, took)) end
  end
end)

test("an object of colliding and repeated keys costs no more than others", function()
  -- long keys that differ in one byte of the middle: a hash that skips bytes puts them all into one place
  local parts, many = {}, 100000
  for i = 1, many do
    parts[i] = ('"%s%08x%s":1'):format(("a"):rep(20), i, ("b"):rep(20))
  end
  local text = "{" .. table.concat(parts, ",") .. "}"
  local start = time.cpu()
  local value = ok(json.decode(text))
  local n = 0
  for _ in pairs(value) do n = n + 1 end
  eq(n, many)
  parts[many + 1] = parts[many // 2]
  fails("invalid", json.decode("{" .. table.concat(parts, ",") .. "}"))
  fails("invalid", json.decode("{" .. ('"a\\u0062":1,'):rep(many) .. '"x":1}'))
  if time.cpu() - start > 30 then error("too slow") end
end)

test("equal values give equal text", function()
  local a, b = {}, {}
  for i = 1, 100 do a["k" .. i] = i end
  for i = 100, 1, -1 do b["k" .. i] = i + 0.0 end
  eq(json.encode(a), json.encode(b))
  eq(json.encode { b = 1, a = 2, ["ä"] = 3, [""] = 4, ab = 5 }, '{"":4,"a":2,"ab":5,"b":1,"ä":3}')
end)

test("pretty text reads back the same", function()
  local value = { list = { 1, { x = json.array {} } }, empty = {}, n = json.null }
  eq(json.encode(value, { pretty = true }), [[
{
  "empty": {},
  "list": [
    1,
    {
      "x": []
    }
  ],
  "n": null
}]])
  eq(json.encode(json.decode(json.encode(value, { pretty = true }))), json.encode(value))
end)

test("what JSON cannot hold is an error with its place", function()
  local cycle = {}
  cycle.again = { cycle }
  has(fails("invalid", json.encode { apps = { { f = print } } }).message, "apps[1].f is a function")
  has(fails("invalid", json.encode { a = 0 / 0 }).message, "a is NaN")
  fails("invalid", json.encode(math.huge))
  fails("invalid", json.encode(nil))
  has(fails("too_large", json.encode(cycle)).message, "cycle")
  has(fails("invalid", json.encode { 1, nil, 3 }).message, "holes")
  fails("invalid", json.encode { [0] = 1 })
  fails("invalid", json.encode { [-1] = 1 })
  fails("invalid", json.encode { [1.5] = 1 })
  fails("invalid", json.encode { [true] = 1 })
  fails("invalid", json.encode { 1, a = 2 })
  local marked = json.array { 1 }
  marked.name = "x"
  fails("invalid", json.encode(marked))
  fails("invalid", json.encode(task.spawn(function() end)))
  has(fails("invalid", json.encode { ["evil\27[2J\n"] = print }).message, "evil?[2J? is a function")
  -- raw access: a value's metatable runs nothing
  eq(json.encode(setmetatable({ a = 1 }, { __index = error, __pairs = error, __len = error })), '{"a":1}')
end)

test("a value that is shared many times over does not explode", function()
  local node = { 1, 2 }
  for _ = 1, 40 do node = { node, node } end
  local start = time.cpu()
  fails("too_large", json.encode(node))
  fails("too_large", json.encode(node, { max = 1000 }))
  if time.cpu() - start > 30 then error("too slow") end
  fails("too_large", json.encode("12345", { max = 6 }))
  eq(json.encode("12345", { max = 7 }), '"12345"')
end)

test("mistakes of the caller raise", function()
  raises("usage: json.decode", json.decode)
  raises("usage: json.decode", json.decode, 42)
  raises("usage: json.decode", json.decode, {})
  raises("did you mean 'null_as_nil'", json.decode, "1", { nul_as_nil = true })
  raises("must be a boolean", json.decode, "1", { null_as_nil = 1 })
  raises("usage: json.decode", json.decode, "1", { max = -1 })
  raises("unknown option", json.encode, 1, { indent = 2 })
end)

test("random values survive a round trip", function()
  math.randomseed(20240229)
  local function random(depth)
    local kind = math.random(depth > 4 and 5 or 7)
    if kind == 1 then return math.random(math.mininteger, math.maxinteger) end
    if kind == 2 then return math.random() * 10 ^ math.random(-20, 20) end
    if kind == 3 then return math.random(2) == 1 end
    if kind == 4 then return json.null end
    if kind == 5 then
      local points = {}
      for i = 1, math.random(0, 12) do points[i] = utf8.char(math.random(0, math.random(2) == 1 and 0x7F or 0xD7FF)) end
      return table.concat(points)
    end
    local out = kind == 6 and json.array {} or {}
    for i = 1, math.random(0, 5) do
      out[kind == 6 and i or "k" .. math.random(100)] = random(depth + 1)
    end
    return out
  end
  for _ = 1, 2000 do
    local text = ok(json.encode(random(0)))
    local again = json.decode(text)
    eq(json.encode(again), text)
    eq(json.encode(json.decode(ok(json.encode(again, { pretty = true })))), text)
  end
end)

test("a script with room for a value gets it", function()
  local texts = {
    [24] = "[" .. ("1,"):rep(699999) .. "1]", -- 16 MiB of array
    [20] = "[" .. ('{"name":1},'):rep(100000) .. "1]", -- tables of 80 bytes, in an array of 2 MiB
    [12] = '{"list":[' .. ('"equal",'):rep(200000) .. '"equal"]}',
  }
  for megabytes, text in pairs(texts) do
    local run = task.start({ memory = (17 + megabytes) << 20 }, function()
      local held = ("x"):rep(17 << 20)
      local value = json.decode(text)
      return #held + (value.list and #value.list or #value)
    end)
    local count, err = run:join()
    ok(count, err)
  end
end)
