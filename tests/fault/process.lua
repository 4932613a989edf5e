-- Every allocation that the questions about the process and the program need, failed in turn.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local errors, sys = require "errors", require "base.sys"
local sweep = require "lib.sweep"

sweep.run("sys.args, env", function() return #sys.args() > 0 and (sys.env "PATH" or true) end)
sweep.run("sys.hostname, cwd, exe", function() return #sys.hostname() > 0 and #sys.cwd() > 0 and #sys.exe() > 0 end)
sweep.run("sys.pid, uid, memory", function() return sys.pid() > 0 and sys.uid() >= 0 and sys.memory() > 0 end)
sweep.run("sys.isatty, width", function() return sys.isatty(0) ~= nil and sys.width() > 0 end)
sweep.run("sys.write", function() return sys.write(1, "") end)
sweep.run("sys.embedded", function()
  local list = sys.embedded_list()
  return #sys.embedded(list[1]) > 0 and sys.embedded "nothing" == nil
end)
sweep.run("sys.compile", function() return sys.compile("local a = {}; return function() return a end", "=x", {})() end)
sweep.run("sys.compile of what is none", function() return sys.compile("return return", "=x", {}) == nil end)
sweep.run("sys.slurp", function() return #sys.slurp "tests/fault/process.lua" > 1000 end)
sweep.run("sys.traceback, where", function() return sys.traceback("x"):find "stack" and sys.where(1) end)
sweep.run("sys.plain", function()
  local plain = sys.plain(setmetatable({ 1, a = { "x" } }, { __index = function() error "asked" end }))
  return plain[1] == 1 and plain.a[1] == "x" and plain.b == nil
end)
sweep.run("sys.script_line", function() return sys.script_line():find("process.lua:%d") end)
sweep.run("sys.defined", function() return sys.defined(function() end):find("process.lua:%d") end)
sweep.run("sys.framed", function() return sys.framed(function(...) return select("#", ...) end)(1, nil) == 2 end)
sweep.run("print", function()
  print("some", 1, nil, {})
  return true
end)
sweep.run("sys.killpoint", function()
  sys.killpoint "nowhere"
  return true
end)
sweep.run("sys.deadman", function() return sys.deadman(3600) and sys.deadman() end)
sweep.run("errors.new", function()
  return errors.is(errors.new("io", "text", { op = "a", target = "b", cause = errors.new("io", "c") }), "io")
end)
sweep.run("sys.cpu, whole, hash", function()
  return sys.cpu() > 0 and sys.whole(function(a) return a end, 1) == 1 and sys.hash "text" ~= 0
end)
