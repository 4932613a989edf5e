-- The control plane is taken away in the middle of a rollout: what began is finished, nothing is blamed on the release.
local check = require "check"
local cluster = require "cluster.lab"
local kit = require "cluster.targets"
local task, time = require "task", require "time"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

test("an API server that is killed and comes back in the middle of a rollout costs time, and nothing else", function()
  local c = cluster.private { nodes = 1 }
  local ns = c:namespace "restart"
  c:deployment(ns, "web", { replicas = 3, durations = { delay = "1s" } })
  local t = kit.open(ns, nil, c)
  local r = kit.request("a", 1)
  ok(t:apply(r))
  local breaker <close> = task.spawn(function()
    time.sleep(0.5)
    c.plane:stop_api()
    time.sleep(2)
    c.plane:start_api()
  end)
  ok(breaker)
  ok(t:wait(r))
  ok(t:settle(r))
  eq(t:current().healthy, true)
  -- Gone for good: neither apply nor wait call the release bad.
  c.plane:stop_api()
  t = kit.open(ns, { timeout = 2 }, c)
  fails("refused", t:apply(kit.request("b", 2)))
  fails("refused", t:wait(r))
end, 180)
