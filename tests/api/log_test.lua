-- log: what a line holds, who gets it, and what never gets into one.
local check = require "check"
local errors, fs, hash, json = require "errors", require "fs", require "hash", require "json"
local log = require "log"
local proc, sys, task, time = require "proc", require "base.sys", require "task", require "time"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

-- Runs code in a process of its own; returns what it wrote to stderr, and the result.
local function run(code, env, spec)
  local folder <close> = ok(fs.temp_dir())
  local script = folder.path .. "/script.lua"
  ok(fs.write(script, 'local log = require "log"\n' .. code))
  local argv = { sys.exe(), "exec", script, timeout = 30, env = env, max_output = 16 << 20 }
  for name, value in pairs(spec or {}) do argv[name] = value end
  local result = ok(proc.run(argv))
  eq(result.code, 0, result.stderr)
  return result.stderr, result
end

-- The records that fn logs here.
local function records(fn, logger)
  local list, lines = {}, {}
  local _ <close> = (logger or log).sink(function(line)
    lines[#lines + 1] = line
    list[#list + 1] = ok(json.decode(line))
  end)
  fn()
  return list, lines
end

local function record(message, fields)
  return records(function() log.info(message, fields) end)[1]
end

local function count_lines(text)
  return select(2, text:gsub("\n", ""))
end

test("writes one JSON object per line when nobody looks", function()
  local text = run [[
    log.info("released", { app = "web", seconds = 1.5, count = 3, ok = true })
    log.debug "hidden"
    log.warn "careful"
    log.error("broken", { error = require("errors").new("timeout", "too slow", { op = "http.get" }) })]]
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = ok(json.decode(line)) end
  eq(#list, 3)
  eq(list[1].message, "released")
  eq(list[1].level, "info")
  eq({ list[1].app, list[1].seconds, list[1].count, list[1].ok }, { "web", 1.5, 3, true })
  local at = ok(time.parse_iso(list[1].time))
  ok(math.abs(at - time.now()) < 60)
  eq(list[2].level, "warn")
  eq(list[3]["error.code"], "timeout")
  has(list[3].error, "too slow")
end)

test("writes text for eyes when asked, with colour only when asked or on a terminal", function()
  local code = 'log.configure{format = "text"%s} log.warn("two words", { a = "x y", b = "\\27[31m", n = 1 })'
  local plain = run(code:format "")
  ok(plain:find('^%d%d:%d%d:%d%d warn  two words a="x y" b=\\x1b%[31m n=1\n$'), plain)
  local colored = run(code:format ', color = "always"')
  has(colored, "\27[33mwarn")
  eq(colored:find("\27[31m", 1, true), nil)
  eq(run(code:format ', color = "auto"', { TERM = "xterm" }):find("\27", 1, true), nil)
end)

test("looks at the terminal, NO_COLOR and TERM", function()
  if not ok(proc.run { "which", "script" }).ok then check.skip("script(1) is missing") end
  local folder <close> = ok(fs.temp_dir())
  ok(fs.write(folder.path .. "/s.lua", 'require("log").info("hello", { a = 1 })'))
  local function on_terminal(env)
    local result = ok(proc.run {
      "script", "-qec", sys.exe() .. " exec " .. folder.path .. "/s.lua", "/dev/null",
      env = env, timeout = 20,
    })
    return result.stdout
  end
  has(on_terminal { TERM = "xterm" }, "\27[36minfo")
  for _, env in ipairs { { TERM = "dumb" }, { TERM = "xterm", NO_COLOR = "1" }, { TERM = false } } do
    local text = on_terminal(env)
    has(text, "info  hello a=1")
    eq(text:find("\27", 1, true), nil)
  end
  has(on_terminal { TERM = "xterm", NO_COLOR = "" }, "\27[36m") -- an empty one does not count
end)

test("takes fields of every kind", function()
  local got = record("m", {
    text = "t", int = 3, float = 0.5, big = math.maxinteger, yes = true, no = false, null = json.null,
    nan = 0 / 0, inf = math.huge, list = { "a", 2, true }, empty = {},
    nested = { a = { b = { c = "deep" } } }, err = errors.new("busy", "taken"), fn = print,
    [1] = "number key",
  })
  eq({ got.text, got.int, got.float, got.yes, got.no }, { "t", 3, 0.5, true, false })
  eq(got.big, math.maxinteger)
  eq(got.null, json.null)
  has(got.nan, "nan")
  eq(got.inf, "inf")
  eq(got.list, "a, 2, true")
  eq(got["nested.a.b.c"], "deep")
  eq(got["err.code"], "busy")
  has(got.err, "taken")
  has(got.fn, "function")
  eq(got["1"], "number key")
end)

test("keeps fields that are named like its own apart", function()
  local got = record("real", { message = "fake", level = "fake", time = "fake" })
  eq(got.message, "real")
  eq(got.level, "info")
  eq(got.message_, "fake")
  eq(got.level_, "fake")
  eq(got.time_, "fake")
end)

test("survives more fields and deeper ones than anybody reads", function()
  local many, loop = {}, {}
  for i = 1, 500 do many["f" .. i] = i end
  eq(record("m", many).fields_left_out, 437)
  loop.self = loop
  eq(record("m", { loop = loop })["loop.self.self.self"], "{...}")
  local list = {}
  for i = 1, 1000 do list[i] = i end
  has(record("m", { list = list }).list, "16, ...")
end)

test("passes on what a field's text form raises, and goes on", function()
  local bad = setmetatable({}, { __tostring = function() error("no text form") end })
  raises("no text form", log.info, "m", { bad = bad })
  local chatty = setmetatable({}, { __tostring = function()
    log.info("from inside", { n = 2 })
    return "outer"
  end })
  local list = records(function() log.info("m", { chatty = chatty }) end)
  eq(list[1].message, "from inside")
  eq(list[2].chatty, "outer")
end)

test("makes one line of one event, whatever the text", function()
  local pieces = { "\n", "\r", "\0", "\27[2J", "\u{202e}", "\u{2028}", "\u{85}", "\xff", "\xc0\xaf", '"',
    "\\", "\u{e0041}", "\u{200b}", "x", "é", "{", "}", "\u{10ffff}", "\xed\xa0\x80" }
  local folder <close> = ok(fs.temp_dir())
  for _, format in ipairs { "json", "text" } do
    local text = run(([[
      local pieces = require("json").decode(require("fs").read(%q))
      log.configure{format = %q}
      local fs, hash = require "fs", require "hash"
      local function hostile()
        local t = {}
        for i = 1, math.random(0, 12) do t[i] = hash.unhex(pieces[math.random(#pieces)]) end
        return table.concat(t)
      end
      for i = 1, 2000 do
        log.info(i .. hostile(), { [hostile()] = hostile(), b = { hostile(), hostile() } })
      end]])
      :format((function()
        local hex = {}
        for i, piece in ipairs(pieces) do
          hex[i] = piece:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
        end
        ok(fs.write(folder.path .. "/pieces", ok(json.encode(hex))))
        return folder.path .. "/pieces"
      end)(), format))
    eq(count_lines(text), 2000, format)
    ok(utf8.len(text), format)
    eq(text:find("[%z\1-\9\11-\31\127]"), nil)
    for _, code in ipairs { 0x202e, 0x2028, 0x85, 0xe0041, 0x200b } do
      eq(text:find(utf8.char(code), 1, true), nil)
    end
    if format == "json" then
      for line in text:gmatch "[^\n]+" do ok(json.decode(line)) end
    end
  end
end)

test("shows what it escaped", function()
  local got = record("a\nb\0c\27[0m\u{202e}")
  eq(got.message, "a\nb\0c\27[0m\u{202e}")
  local _, lines = records(function() log.info("a\nb\0c\u{202e}") end)
  has(lines[1], [["message":"a\nb\u0000c\u202e"]])
end)

test("hides secrets however they are spelled", function()
  local secret = 'MOONCANARY/7+"é'
  ok(log.secret(secret))
  local b64 = hash.base64("user:" .. secret)
  local encoded = { 'MOONCANARY%2F7%2B%22%C3%A9', 'MOONCANARY\\/7+\\"\\u00e9', b64 }
  for _, text in ipairs { secret, "x" .. secret .. "y", table.unpack(encoded) } do
    local fields = { [text] = text, list = { text }, n = { a = text } }
    local got, lines = records(function() log.info(text, fields) end)
    has(got[1].message, "[redacted]")
    eq(lines[1]:find("OONCANAR", 1, true), nil)
    eq(lines[1]:find("TU9PTkNBTkFSWS", 1, true), nil)
    eq(lines[1]:find(b64:sub(8, 20), 1, true), nil)
  end
  eq(log.redact("a " .. secret .. " b"), "a [redacted] b")
  eq(log.redact("nothing"), "nothing")
  eq(log.redact(""), "")
  has(record("m", { err = errors.new("denied", "with " .. secret, { target = secret }) }).err, "[redacted]")
  ok(log.secret("31415926"))
  eq(record("m", { pin = 31415926 }).pin, "[redacted]")
end)

test("hides what looks like a credential", function()
  eq(log.redact("https://dev:s3cret@git.example.com/x"), "https://dev:[redacted]@git.example.com/x")
  eq(log.redact("Authorization: Bearer abc.def"), "Authorization: Bearer [redacted]")
  eq(record("push https://u:p@h/ failed").message, "push https://u:[redacted]@h/ failed")
end)

test("forgets secrets that were replaced long ago, and no others", function()
  ok(log.secret "lasting-secret-0000")
  for i = 1, 250 do ok(log.passing_secret(("token-%04d-of-an-hour"):format(i))) end
  eq(log.redact "token-0001-of-an-hour", "token-0001-of-an-hour")
  eq(log.redact "token-0050-of-an-hour", "token-0050-of-an-hour")
  eq(log.redact "token-0051-of-an-hour", "[redacted]")
  eq(log.redact "token-0250-of-an-hour", "[redacted]")
  eq(log.redact "lasting-secret-0000", "[redacted]")
  fails("invalid", log.passing_secret("abc"))
  check.raises("usage: log.passing_secret", log.passing_secret)
end)

test("refuses secrets that would blank ordinary text", function()
  fails("invalid", log.secret("abc"))
  fails("invalid", log.secret(""))
  eq(log.redact("abc"), "abc")
  raises("usage: log.secret", log.secret, 1234)
end)

test("finds secrets that arrive in pieces", function()
  ok(log.secret("split-secret-value"))
  local text = "before split-secret-value after split-secret-valuX end"
  for size = 1, 20 do
    local filter, out = log.redactor(), {}
    for at = 1, #text, size do out[#out + 1] = filter:feed(text:sub(at, at + size - 1)) end
    out[#out + 1] = filter:feed("", true)
    eq(table.concat(out), "before [redacted] after split-secret-valuX end")
  end
  local filter = log.redactor()
  eq(filter:feed("a line\n"), "a line\n") -- at once
end)

test("gives a child logger's fields to its lines", function()
  local child = log.with { app = "web", run = 7 }
  local grandchild = child.with { step = "push", run = 8 }
  local list = records(function()
    child.info("a")
    child.info("b", { app = "other" })
    grandchild.error("c", { n = 1 })
  end)
  eq({ list[1].app, list[1].run }, { "web", 7 })
  eq(list[2].app, "other")
  eq({ list[3].app, list[3].run, list[3].step, list[3].n, list[3].level }, { "web", 8, "push", 1, "error" })
  local fields = { a = 1 }
  local fixed = log.with(fields)
  fields.a = 2
  eq(records(function() fixed.info("m") end)[1].a, 1)
end)

test("copies a logger's lines to its sinks, and those of its children", function()
  local run_log, other = log.with { run = 1 }, log.with { run = 2 }
  local list = records(function()
    run_log.info("mine")
    run_log.with({ step = "a" }).info("my child's")
    other.info("another's")
    log.info("everybody's")
    run_log.debug("too quiet")
  end, run_log)
  eq(#list, 2)
  eq(list[2].step, "a")
  local sink = run_log.sink(function() error("closed sinks get nothing") end)
  sink:close()
  sink:close()
  run_log.info("after")
end)

test("removes a sink that fails or waits, and the others go on", function()
  local got = 0
  local before <close> = log.sink(function() got = got + 1 end)
  log.sink(function() error("sink trouble") end)
  log.sink(function() time.sleep(0.01) end)
  local after <close> = log.sink(function() got = got + 1 end)
  log.info("one")
  log.info("two")
  eq(got, 4)
  ok(before and after)
end)

test("does not feed a sink's own lines to sinks", function()
  local got = 0
  local _ <close> = log.sink(function()
    got = got + 1
    log.info("from a sink")
  end)
  log.info("start")
  eq(got, 1)
end)

test("counts lines that repeat", function()
  local text = run [[
    for i = 1, 500 do log.info("again", { n = 1 }) end
    for i = 1, 5 do log.info("again", { n = i }) end]]
  local written, dropped = 0, 0
  for line in text:gmatch "[^\n]+" do
    local got = ok(json.decode(line))
    written = written + (got.n and 1 or 0)
    dropped = dropped + (got.dropped or 0)
  end
  eq(written + dropped, 505)
  eq(dropped, 481) -- 20, and not one more for the n = 1 of the second loop
  eq(count_lines(run 'log.configure{burst = 0} for i = 1, 100 do log.info "again" end'), 100)
  local sunk = records(function() for _ = 1, 50 do log.info("again and again") end end)
  eq(#sunk, 50)
end)

test("does not wait for a reader that does not read", function()
  local folder <close> = ok(fs.temp_dir())
  ok(fs.write(folder.path .. "/s.lua", [[
    local log, time = require "log", require "time"
    local used = time.cpu()
    for i = 1, 3000 do log.info("line " .. i, { pad = ("x"):rep(500) }) end
    print(time.cpu() - used)]]))
  -- A child whose stderr is a pipe that we hold without reading until it has ended.
  local code = ([[
    import os, subprocess, sys
    r, w = os.pipe()
    p = subprocess.run([%q, "exec", %q], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=w)
    os.close(w)
    text = b""
    while True:
        piece = os.read(r, 65536)
        if not piece: break
        text += piece
    sys.stdout.write(p.stdout.decode() + str(text.count(b"\n")))]]):format(sys.exe(), folder.path .. "/s.lua")
  if not ok(proc.run { "which", "python3" }).ok then check.skip("python3 is missing") end
  code = code:gsub("^ +", ""):gsub("\n    ", "\n")
  local result = ok(proc.check(proc.run { "python3", "-c", code, timeout = 50 }))
  local took, lines = result.stdout:match("^([%d.e-]+)\n(%d+)$")
  ok(tonumber(took) < 2, result.stdout) -- nor does it spin; had it waited, it would not have ended at all
  ok(tonumber(lines) > 50 and tonumber(lines) < 3000, lines)
end)

test("raises at mistakes", function()
  raises("usage: log.info(message [, fields])", log.info, "m", "fields")
  raises("usage: log.with", log.with)
  raises("usage: log.sink", log.sink, "x")
  raises("usage: log.redact", log.redact)
  raises("log level", log.configure, { level = "loud" })
  raises("format", log.configure, { format = "xml" })
  raises("colour", log.configure, { colour = "always" })
end)

test("can be used by many tasks at once", function()
  local fns = {}
  for i = 1, 50 do
    fns[i] = function()
      for k = 1, 5 do
        log.info(("task %d line %d"):format(i, k))
        time.sleep(0)
      end
      return true
    end
  end
  eq(#records(function() task.all(fns) end), 250)
end)
