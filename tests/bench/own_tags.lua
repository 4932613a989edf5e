-- B8's own side: moontide exec tests/bench/own_tags.lua COUNT. Prints how long the loop was kept at most (ms of
-- processor time), and what the poll took (s of it).
--
-- The shipped production policy is asked of a repository with so many tags, all of them new: it judges each and sorts
-- them. Meanwhile another task wants a turn each millisecond.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local policy, semver, sys, task, time = require "policy.load", require "semver", require "base.sys", require "task",
  require "time"

local count = tonumber((...))
local compiled = assert(policy.compile("production", sys.embedded("scripts/production.lua"), "scripts/production.lua"))
local tags, newest = {}, 0
for i = 1, count do
  local n = i * 7919 % count
  newest = math.max(newest, n)
  tags[i] = { name = ("v%d.%d.%d"):format(1 + n // 10000, n // 100 % 100, n % 100), commit = ("%040x"):format(n) }
end
local face = {
  settings = {}, tags = function() return tags end,
  failed = function() end, refuse = function() end, alarm = function() end,
  allows = function(_, name) return semver.allows("all", "v1.0.0", name) ~= false, "" end,
}
local place = { app = "bench", environment = "production", face = face }

local kept, over = 0, false
local other = task.spawn(function()
  while not over do
    local began = time.cpu()
    time.sleep(0.001)
    kept = math.max(kept, time.cpu() - began)
  end
end)
local began = time.cpu()
local change, reason = policy.ask(compiled, place, 60)
local used = time.cpu() - began
over = true
other:join()
local expected = ("v%d.%d.%d"):format(1 + newest // 10000, newest // 100 % 100, newest % 100)
assert(change and change.version == expected, tostring(reason))
print(("%.3f %.3f"):format(kept * 1000, used))
