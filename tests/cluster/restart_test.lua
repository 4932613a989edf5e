-- The control plane is taken away in the middle of a rollout: what began is finished, nothing is blamed on the release.
local base, check, cluster = require "lab.base", require "check", require "cluster.lab"
local kit, stages = require "cluster.targets", require "cluster.fault_stage"
local task, time = require "task", require "time"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

local own -- one control plane for all of them
local function plane()
  own = own or cluster.private { nodes = 1 }
  return own
end

test("a host with a service account goes on when the API server is killed before, in and after a rollout", function()
  local s = stages.open(plane(), { direct = true, web = { replicas = 3, durations = { delay = "1s" } } })
  eq(s:released("one", 60).state, "done")
  for i, when in ipairs { "before", "in", "in", "after" } do
    local name, revision = "kill" .. i, s:revision()
    if when == "before" then
      s.c.plane:stop_api()
      s:push(name)
      time.sleep(1.5)
    else
      s:push(name)
      s:begun(name)
      if when == "after" then s.c:rolled_out(s.ns, "web", 20) end
      s.c.plane:stop_api(i == 3 and "TERM" or nil)
      time.sleep(1)
    end
    s.c.plane:start_api()
    base.eventually(name .. " is released", 60, function()
      local run = s:runs()[1]
      if run.state == "failed" then error(("%s: %s"):format(when, run.error and run.error.message), 0) end
      return run.state == "done" and run.kind == "change" and s:digest() == stages.digest(name)
    end)
    eq(s:revision(), revision + 1, when)
  end
  eq(#s:runs(), 5, "one run for each commit, and nothing taken back")
end, 240)

test("an API server that is killed and comes back in the middle of a rollout costs time, and nothing else", function()
  local c = plane()
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
