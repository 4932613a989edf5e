-- B5's own side: moontide exec tests/bench/spawn.lua COUNT BALLAST_MB. Prints microseconds for each child and the
-- longest time in which a 1 ms timer was not served (ms).
local json, proc, task, time = require "json", require "proc", require "task", require "time"

local count, ballast_mb = ...
local ballast = ("x"):rep(tonumber(ballast_mb) << 20)

local stall, last, over = 0, time.monotonic(), false
local ticker = task.spawn(function()
  while not over do
    time.sleep(0.001)
    local now = time.monotonic()
    stall = math.max(stall, (now - last) * 1e3 - 1)
    last = now
  end
end)

local began = time.monotonic()
for _ = 1, tonumber(count) do
  local result = assert(proc.run { "/bin/true" })
  assert(result.ok)
end
local each = (time.monotonic() - began) * 1e6 / tonumber(count)
over = true
ticker:join()
print(json.encode { each = each, stall = stall, ballast = #ballast })
