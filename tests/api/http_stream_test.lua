-- http: bodies that are read as they arrive.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local http, task, time = require "http", require "task", require "time"
local httpd = require "fixture.httpd"
local test, eq, ok, fails, raises = check.test, check.eq, check.ok, check.fails, check.raises

local function open(path, query, opts)
  local all = { stream = true }
  for key, value in pairs(opts or {}) do all[key] = value end
  return ok(http.get(httpd.open():to(path, query), all))
end

test("lines come as they are sent", function()
  local answer <close> = open("lines", { n = 5, ms = 400 })
  eq(answer.status, 200)
  eq(answer.body, nil)
  local lines, first = {}, nil
  for line in answer:lines() do
    first = first or time.monotonic()
    lines[#lines + 1] = line
  end
  eq(lines, { "line 1", "line 2", "line 3", "line 4", "line 5" })
  ok(time.monotonic() - first > 0.3) -- the last is sent 1.6 s after the first
end)

test("one task at a time reads, and the second takes nothing from the first", function()
  local answer <close> = open("lines", { n = 3, ms = 200 })
  eq(answer:read(), "line 1\r\n")
  local reading = false
  local reader = task.spawn(function()
    reading = true -- and then it waits in the same slice
    return answer:read()
  end)
  check.eventually(function() return reading end)
  raises("another task reads", answer.read, answer)
  eq(reader:join(), "line 2\r\n")
  eq(answer:read(), "line 3\r\n")
  eq(answer:read(), nil)
end)

test("many lines, in order and whole", function()
  local answer <close> = open("lines", { n = 30000 })
  local n = 0
  for line in answer:lines() do
    n = n + 1
    if line ~= "line " .. n then error("line " .. n .. " is " .. line) end
  end
  eq(n, 30000)
end)

test("line ends of each kind, a last line without one, empty lines", function()
  local function lines_of(body)
    local data = "HTTP/1.1 200 OK\r\n\r\n" .. body
    local answer <close> = open("raw", { data = data })
    local lines = {}
    for line in answer:lines() do lines[#lines + 1] = line end
    return lines
  end
  eq(lines_of("a\nb\r\n\nc"), { "a", "b", "", "c" })
  eq(lines_of(""), {})
  eq(lines_of("\n"), { "" })
  eq(lines_of("\r\n\r\n"), { "", "" })
  eq(lines_of("a\rb\n"), { "a\rb" })
  eq(lines_of("a\0b\n"), { "a\0b" })
end)

test("reads in pieces of at most the size that is asked for", function()
  local answer <close> = open("bytes", { n = 100000 })
  local sizes, total = {}, 0
  while true do
    local piece = answer:read(30000)
    if not piece then break end
    sizes[#sizes + 1], total = #piece, total + #piece
  end
  eq(total, 100000)
  eq(math.max(table.unpack(sizes)) <= 30000, true)
  eq(answer:read(), nil)
  raises("must be at least 1", answer.read, answer, 0)
end)

test("a stream that is cut raises in lines and says so in read", function()
  local answer = open("truncate", { n = 1000, send = 10 })
  eq(answer:read(), "xxxxxxxxxx")
  local err = fails("reset", answer:read())
  eq(err.target, httpd.open():to("truncate", { n = 1000, send = 10 }))
  fails("reset", answer:read())
  answer = open("truncate", { n = 1000, send = 10, chunked = 1 })
  local seen = 0
  local e = raises("", function()
    for _ in answer:lines() do seen = seen + 1 end
  end)
  eq({ e.code, seen }, { "reset", 0 }) -- half a line is no line
end)

test("a slow reader holds the sender back, in bounded memory", function()
  local answer <close> = open("endless")
  ok(answer:read(1))
  local fs = require "fs"
  local function resident() return tonumber(ok(fs.read("/proc/self/statm")):match("%d+ (%d+)")) * 4096 end
  local start, looks = resident(), {}
  check.eventually(function()
    looks[#looks + 1] = resident()
    ok(looks[#looks] - start < 64 << 20, "it is kept in memory")
    return looks[26] and looks[#looks] - looks[#looks - 25] < 2 << 20
  end, 50, "the server is not read any more")
  local used = time.cpu()
  time.sleep(0.3)
  eq(time.cpu() - used < 0.1, true) -- and nobody spins meanwhile
  local total = 0
  while total < 20 << 20 do total = total + #ok(answer:read(1 << 20)) end
end)

test("a line without an end is refused at 1 MiB", function()
  local answer <close> = open("huge")
  local e = raises("", function()
    for _ in answer:lines() do error("a line of that size") end
  end)
  eq(e.code, "too_large")
end)

test("a stream has no limit of its own but takes one", function()
  local answer <close> = open("endless", nil, { max_body = 100000 })
  local total = 0
  local piece, err
  repeat
    piece, err = answer:read()
    total = total + #(piece or "")
  until not piece
  eq(err.code, "too_large")
  eq(total <= 100000, true)
end)

test("the timeout is for the head; after it the stream may be silent", function()
  fails("timeout", http.get(httpd.open():to("delay", { ms = 2000 }), { stream = true, timeout = 0.2 }))
  local answer <close> = open("drip", { n = 3, ms = 300 }, { timeout = 0.2 })
  local text = ""
  for piece in function() return answer:read() end do text = text .. piece end
  eq(text, "ddd")
end)

test("silence beyond the idle time ends a stream", function()
  local answer <close> = open("drip", { n = 2, ms = 8000 }, { idle_timeout = 1 })
  eq(answer:read(), "d")
  fails("timeout", answer:read())
end)

test("leaving the scope closes the connection at once", function()
  local before = http.stats()
  do
    local answer <close> = open("endless")
    ok(answer:read())
    eq(http.stats().active, before.active + 1)
  end
  eq(http.stats().active, before.active)
  eq(http.stats().sockets <= before.sockets, true)
end)

test("a forgotten stream is closed by the collector", function()
  local before = http.stats().active
  for _ = 1, 3 do open("endless") end
  check.eventually(function()
    local waste = {}
    for i = 1, 20000 do waste[i] = { i } end
    return #waste > 0 and http.stats().active == before
  end, 20)
end)

test("closing wakes the reader, and a second close is nothing", function()
  local answer = open("drip", { n = 2, ms = 5000 })
  ok(answer:read())
  local reader = task.spawn(function() return answer:read() end)
  time.sleep(0.05)
  raises("another task reads", answer.read, answer)
  answer:close()
  fails("closed", reader:join(100))
  answer:close()
  fails("closed", answer:read())
end)

test("a cancelled reader leaves the stream as it was", function()
  local answer <close> = open("lines", { n = 3, ms = 200 })
  local lines = answer:lines()
  eq(lines(), "line 1")
  local reader = task.spawn(function() return lines() end)
  time.sleep(0.05)
  reader:cancel()
  fails("cancelled", reader:join(100))
  eq({ lines(), lines(), lines() }, { "line 2", "line 3" })
end)

test("a finished stream gives its connection back", function()
  local server = httpd.start()
  for _ = 1, 20 do
    local answer <close> = ok(http.get(server:to("lines", { n = 3 }), { stream = true }))
    for _ in answer:lines() do end -- luacheck: ignore
  end
  eq(server:stats().connections, 1)
end)

test("an error status streams as well, and expect closes it", function()
  local before = http.stats().active
  local err = fails("status", http.expect(http.get(httpd.open():to("nothing"), { stream = true })))
  eq(err.status, 404)
  eq(http.stats().active, before)
end)

test("words for streams on other answers are mistakes", function()
  local answer = ok(http.get(httpd.open():to("etag")))
  raises("stream = true", answer.read, answer)
  raises("stream = true", answer.lines, answer)
  answer:close()
  local stream <close> = open("etag")
  raises("not a stream", stream.json, stream)
end)
