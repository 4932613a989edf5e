-- Tables, times, colours and progress.
---@diagnostic disable: access-invisible -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok = check.test, check.eq, check.ok
local term = require "people.terminal"

local function output(options)
  local parts = {}
  options.write = function(text) parts[#parts + 1] = text end
  options.tty = options.tty or false
  options.color = options.color or false
  return term.open(1, options), function()
    local text = table.concat(parts)
    parts = {}
    return text
  end
end

test("durations read as people say them", function()
  for _, pair in ipairs {
    { 0.0004, "0ms" }, { 0.25, "250ms" }, { 0.9996, "1.0s" }, { 1.24, "1.2s" }, { 9.96, "10s" }, { 59.4, "59s" },
    { 60, "1m" }, { 65, "1m 5s" }, { 3600, "1h" }, { 7860, "2h 11m" }, { 90000, "1d 1h" }, { -5, "-5.0s" },
  } do eq(term.duration(pair[1]), pair[2]) end
  eq(term.duration(nil), "")
end)

test("moments read relative to now", function()
  eq(term.ago(1000, 1001), "just now")
  eq(term.ago(1000, 1030.9), "30s ago")
  eq(term.ago(1000, 1000 + 3 * 60), "3m ago")
  eq(term.ago(1000, 1000 + 5 * 3600), "5h ago")
  eq(term.ago(0, 400000), "4d ago")
  eq(term.ago(1020, 1000), "in 20s")
  eq(term.ago(nil, 1000), "never")
end)

test("sizes have units", function()
  eq(term.bytes(812), "812 B")
  eq(term.bytes(3.4 * 1024 * 1024), "3.4 MiB")
end)

test("tables line up by columns, not bytes", function()
  local out, text = output {}
  out:table({ "NAME", "N", "WHAT" }, { { "é", 1, "x" }, { "日本", 20, "y" }, { "abc" } }, { right = { [2] = true } })
  eq(text(), "NAME   N  WHAT\né      1  x\n日本  20  y\nabc\n")
end)

test("the last column is cut at the edge of a terminal", function()
  local out, text = output { tty = true, width = 20 }
  out:table({ "A", "B" }, { { "1", ("x"):rep(50) } })
  for line in text():gmatch("[^\n]+") do ok(term.columns(line) <= 20, line) end
end)

test("colours appear only where they are wanted", function()
  local out = output { color = true }
  eq(out:paint("red", "x"), "\27[31mx\27[0m")
  eq(out:paint("red bold", "x"), "\27[31;1mx\27[0m")
  eq(out:paint(nil, "x"), "x")
  local plain = output { color = false }
  eq(plain:paint("red", "x"), "x")
end)

test("text from outside cannot reach the terminal's controls", function()
  local out, text = output { tty = true, color = true, width = 80 }
  out:table({ "TAG" }, { { "v1\27]0;owned\7\r\n\u{202e}" } })
  out:progress(1, "tag \27[2J\27[H")
  local printed = text():gsub("\27%[[0-9;]*m", ""):gsub("\r\27%[K", ""):gsub("[\n\r]", "")
  ok(not printed:find("%c"), printed)
end)

test("progress vanishes without a terminal", function()
  local out, text = output { tty = false }
  out:progress("a", "building", 1, 2)
  out:line("done")
  out:clear()
  eq(text(), "done\n")
end)

test("lines appear above the progress line, which goes at the end", function()
  local out, text = output { tty = true, width = 60 }
  out:progress("a", "building", 1, 2)
  check.has(text(), "50% building")
  out:line("hello")
  local printed = text()
  check.has(printed, "\r\27[Khello\n")
  check.has(printed, "building")
  out:progress("b", "pushing")
  check.has(text(), "building  ·  pushing")
  out:progress("a", nil)
  out:clear()
  check.has(text(), "\r\27[K")
  eq(out.drawn, false)
end)

test("an output whose reader went away stays silent", function()
  local out = term.open(1, { tty = false, color = false })
  out.fd = 999
  out:line("nobody")
  ok(out.closed)
  out:line("still nobody")
end)

test("a bar has its width at any share", function()
  for done = -1, 12 do eq(term.columns(term.bar(done, 10, 16)), 16) end
  eq(term.columns(term.bar(1, 0, 4)), 4)
end)

test("reading leaves a descriptor in the mode that others share", function()
  local fs, proc = require "fs", require "proc"
  local dir <close> = ok(fs.temp_dir())
  ok(fs.write(dir.path .. "/read.lua", [[
    local term, fs = require "people.terminal", require "fs"
    local function mode() return fs.read("/proc/self/fdinfo/0"):match("flags:%s*(%d+)") end
    local before = mode()
    print(term.read(0), term.read(0), mode() == before)]]))
  local child = ok(proc.spawn { require("base.sys").exe(), "exec", dir.path .. "/read.lua" })
  check.defer(function() child:kill() end)
  ok(child:write("hello"))
  child:close_stdin()
  local said
  for line in child:lines() do said = line end
  eq(said, "hello\tnil\ttrue")
end)
