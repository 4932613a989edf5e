-- Every allocation that starting, reading and ending a child needs, failed in turn.
local proc = require "proc"
local sweep = require "lib.sweep"

sweep.run("proc.run", function()
  local result = proc.run { "echo", "hello", stdin = "text" }
  return result and result.stdout == "hello\n"
end)

sweep.run("proc.run with on_line", function()
  local count = 0
  local result = proc.run { "echo", "hello", timeout = 20, on_line = function() count = count + 1 end }
  return result and result.ok and count == 1
end)

sweep.run("proc.run of what is not there", function()
  local _, err = proc.run { "no-such-program" }
  return err and err.code == "not_found"
end)

sweep.run("proc.spawn, write, lines, wait", function()
  local cat <close> = proc.spawn { "cat" }
  if not (cat and cat:write "line\n") then return nil end
  cat:close_stdin()
  local seen
  for line in cat:lines() do seen = line end
  local result = cat:wait(20)
  return seen == "line" and result and result.ok
end)

sweep.run("proc.count", function() return proc.count() >= 0 end)

sweep.run("a child that is killed", function()
  local child <close> = proc.spawn { "sleep", "600" }
  if not child then return nil end
  child:kill "KILL"
  local result = child:wait()
  return result and result.signal == "SIGKILL"
end)
