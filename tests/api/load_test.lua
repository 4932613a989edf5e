-- sys, as far as it loads: embedded files, chunks of text, modules and their files.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- Runs a shell's line; $MOONTIDE is this program and $DIR a folder with the given scripts.
local function shell(scripts, line)
  local dir <close> = assert(fs.temp_dir())
  for name, text in pairs(scripts) do assert(fs.write(dir.path .. "/" .. name .. ".lua", text)) end
  return assert(proc.run { "/bin/sh", "-c", line, env = { MOONTIDE = sys.exe(), DIR = dir.path }, timeout = 20 })
end

test("every embedded file is there, and nothing else", function()
  local names = sys.embedded_list()
  ok(#names > 50)
  for _, name in ipairs(names) do eq(sys.embedded(name), assert(fs.read(name)), name) end
  eq(sys.embedded("stdlib/nothing.lua"), nil)
  eq(sys.embedded("../etc/passwd"), nil)
end)

test("only text is compiled", function()
  eq(select("#", sys.compile("return 1", "=x", {})), 1)
  local fn, message = sys.compile("\27Lua", "=x", {})
  eq(fn, nil)
  has(message, "binary")
  local _, syntax = sys.compile("x = = 1", "@file.lua", {})
  has(syntax, "file.lua:1:")
end)

test("a module that comes as byte code tells lines and names as its text would", function()
  local _, trace = xpcall(require("base.suggest").distance, sys.traceback, nil, "x")
  has(trace:gsub(":%d+:", ":N:"), "stdlib/base/suggest.lua:N: attempt to get length of a nil value (local 'a')\n"
    .. "stack traceback:\n\tstdlib/base/suggest.lua:N: in function <stdlib/base/suggest.lua:")
end)

test("a module is read as a whole, and never from what it would have to wait for", function()
  local scripts = { needs = [[require "part"]] }
  local pipe = shell(scripts, "mkfifo $DIR/part.lua && $MOONTIDE exec $DIR/needs.lua")
  eq(pipe.code, 1)
  has(pipe.stderr, "part.lua cannot be read: not a regular file")
  local folder = shell(scripts, "mkdir $DIR/part.lua && $MOONTIDE exec $DIR/needs.lua")
  has(folder.stderr, "part.lua cannot be read: not a regular file")
  local large = shell(scripts, "head -c 1048577 /dev/zero >$DIR/part.lua; $MOONTIDE exec $DIR/needs.lua")
  has(large.stderr, "part.lua cannot be read: larger than 1 MiB")
  eq(shell(scripts, "mkfifo $DIR/pipe && $MOONTIDE exec $DIR/pipe").code, 2)
  has(shell(scripts, "mkfifo $DIR/pipe && $MOONTIDE exec $DIR/pipe").stderr, "not a regular file")
  has(shell(scripts, "$MOONTIDE exec $DIR/none").stderr, "there is no such file")
  local stdlib = shell({ s = "" }, "mkdir $DIR/lib && mkfifo $DIR/lib/fs.lua && "
    .. "echo 'require \"fs\"' >$DIR/f.lua && $MOONTIDE --stdlib $DIR/lib exec $DIR/f.lua")
  has(stdlib.stderr, "lib/fs.lua cannot be read: not a regular file")
  local exact = shell({ part = "--" .. ("x"):rep((1 << 20) - 2), needs = [[require "part" print "fine"]] },
    "$MOONTIDE exec $DIR/needs.lua")
  eq(exact.stdout, "fine\n")
end)
