-- Every allocation that virtual time needs, failed in turn: this process has no other from here on.
local sweep, sys, task, time = require "lib.sweep", require "base.sys", require "task", require "time"

sweep.run("sys.virtual_time", function()
  sys.virtual_time(0)
  local sleeper <close> = task.spawn(time.sleep, 60)
  sleeper:join()
  return time.now() == 60
end)
