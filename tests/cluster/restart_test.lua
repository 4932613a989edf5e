-- The control plane is taken away in the middle of a rollout: what began is finished, nothing is blamed on the release.
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, cluster = require "check", require "cluster.lab"
local kit, stages = require "cluster.targets", require "cluster.fault_stage"
local http, task, time = require "http", require "task", require "time"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

-- One control plane for each: its own controllers come back later from each outage, up to half a minute.
local plane
local function fresh()
  if plane then plane:stop() end
  local c = cluster.private { nodes = 1 }
  plane = c.plane
  return c
end

local function killed(when)
  local s = stages.open(fresh(), { direct = true, web = { replicas = 3, durations = { delay = "1s" } } })
  eq(s:released("one", 60).state, "done")
  if when == "before" then
    s.c.plane:stop_api()
    s:push "two"
    time.sleep(1)
  else
    s:push "two"
    s:begun "two"
    if when == "after" then s.c:rolled_out(s.ns, "web", 20) end
    s.c.plane:stop_api()
    time.sleep(0.5)
  end
  s.c.plane:start_api()
  eq(s:ended("change", 60, 1).state, "done")
  eq({ s:digest(), s:revision(), #s:runs() }, { stages.digest "two", 3, 2 }, "one rollout, nothing taken back")
  s.engine:stop(0)
  s.running:join(15)
end

for _, when in ipairs { "before", "in", "after" } do
  test(("a host with a service account goes on when the API server is killed %s a rollout"):format(when),
    function() killed(when) end, 180)
end

test("versions that are compacted away while a wait is cut off: it lists again, and the rollout is the same one",
function()
  local s = stages.open(fresh(), { web = { replicas = 2, durations = { delay = "6s" } } })
  local cut = false
  s.wire.harm = function(_, watch)
    if not watch then return end
    if cut then return stages.status(503, "ServiceUnavailable", "cut off") end
    return { cut = function() return cut and 0 or nil end }
  end
  s:push "one"
  s:begun "one"
  time.sleep(0.5)
  cut = true
  for i = 1, 5 do s.c:patch(s:path(), { metadata = { annotations = { ["somebody/" .. i] = "here" } } }) end
  local etcd = ("http://127.0.0.1:%d/v3/kv/compaction"):format(s.c.plane.ports.etcd)
  local body = { revision = tonumber(s:web().metadata.resourceVersion), physical = true }
  eq(ok(http.post(etcd, body)).status, 200)
  s.c.plane:stop_api "TERM" -- its cache remembers more than etcd
  s.c.plane:start_api()
  cut = false
  eq(s:ended("change", 90).state, "done")
  ok(s.wire.gone, "a watch was answered with 410")
  eq({ s:digest(), s:revision(), #s:runs() }, { stages.digest "one", 2, 1 })
  s.engine:stop(0)
  s.running:join(15)
end, 180)

test("an API server that is killed and comes back in the middle of a rollout costs time, and nothing else", function()
  local c = fresh()
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
  ok(t:ready())
  t.client = t.client:with { attempts = 2 } -- 25 seconds otherwise
  fails("refused", t:apply(kit.request("b", 2)))
  fails("refused", t:wait(r))
end, 180)
