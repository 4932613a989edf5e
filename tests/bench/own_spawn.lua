-- B5's own side: moontide exec tests/bench/own_spawn.lua COUNT BALLAST_MB. Prints microseconds for each child, and
-- how late a 1 ms timer was served meanwhile (ms): the worst, and the 99th percentile.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local json, proc, task, time = require "json", require "proc", require "task", require "time"

local count, ballast_mb = ...
local ballast = {}
for i = 1, tonumber(ballast_mb) do ballast[i] = ("x"):rep(1 << 20) .. i end

local late, last, over = {}, time.monotonic(), false
local ticker = task.spawn(function()
  while not over do
    time.sleep(0.001)
    local now = time.monotonic()
    late[#late + 1] = math.max(0, (now - last) * 1e3 - 1)
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
table.sort(late)
print(json.encode { each = each, stall = late[#late], p99 = late[#late * 99 // 100 + 1], ballast = #ballast })
