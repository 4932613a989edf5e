-- B10's own side: moontide exec tests/bench/own_plan.lua CONFIG. Plans what the configuration says, in one process, and
-- prints the seconds it took, the longest time for which nothing else had its turn, and what came out.
local json, task, time = require "json", require "task", require "time"

local TICK <const> = 0.001

local config = assert(require("config.load").load((...)))
local stall = 0.0
local watching = task.spawn(function()
  while true do
    local before = time.monotonic()
    time.sleep(TICK)
    stall = math.max(stall, time.monotonic() - before - TICK)
  end
end)

local began = time.monotonic()
local plan = assert(require("engine.plan").make { config = config })
local took = time.monotonic() - began
watching:cancel()
print(json.encode {
  wall = took, stall = stall * 1000, changes = plan.summary.changes, unchanged = plan.summary.unchanged,
  errors = plan.summary.errors,
})
