-- Several hosts and one Lease of a real API server: who dies, is stopped, is cut off or says goodbye, and who acts
-- then.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local base, check, kubernetes = require "lab.base", require "check", require "kubernetes"
local election, fs, hash, lease = require "hosts.election", require "fs", require "hash", require "hosts.lease"
local stages, task, time = require "cluster.leader_stage", require "task", require "time"
local test, eq, ok = check.test, check.eq, check.ok

local DURATION <const>, RENEW <const>, RETRY <const> = stages.DURATION, stages.RENEW, stages.RETRY
local SLACK <const> = 1 -- seconds for starting programs on a busy machine

local stage, relay = stages.stage, stages.relay

local function took(words, seconds, most)
  print(("# %s: %.2f s (lease %g s)"):format(words, seconds, DURATION))
  ok(seconds <= most, ("%s took %.2f s, more than %.2f"):format(words, seconds, most))
end

-- ---- the proofs ----

test("a standby is alive and ready, not active, and says who leads; the leader is all three", function()
  local s = stage()
  local a, b = s:pair { work = 50 }
  for path, want in pairs { ["/healthz"] = 200, ["/readyz"] = 200, ["/activez"] = 503, ["/metrics"] = 200 } do
    eq(b:get(path), want, path)
  end
  check.has(select(2, b:get "/activez"), "standby; a_")
  check.has(select(2, b:get "/metrics"), "moontide_leader 0")
  base.eventually("the leader acts", 20, function() return a:get "/activez" == 200 end) -- it has looked at its sources
  for path in pairs { ["/healthz"] = 1, ["/readyz"] = 1 } do eq(a:get(path), 200, path) end
  check.has(select(2, a:get "/metrics"), "moontide_leader 1")
  check.has(select(2, a:get "/metrics"), "moontide_generation 1")
  local standby, leader = b:status(), a:status()
  eq(standby.standby, true)
  ok(standby.leader.holder:find("^a_"))
  eq(leader.leader.holder, standby.leader.holder)
  eq(leader.leader.generation, 1)
  eq(s:lease().holderIdentity, leader.leader.identity)
  eq(fs.exists(b.state .. "/journal.db"), false) -- a standby has nothing of the state open
  local err = check.fails("busy", require("people.client").open(b.state, b.state .. "/control-b.sock"):hold {
    app = "web", by = "me" })
  check.has(err.message, "ask the one that acts: a_")
end)

test("SIGKILL in the middle of a run, one state folder: the standby finishes that very run from the journal", function()
  local s = stage()
  local a, b = s:pair({ state = "shared", work = 3000 }, { state = "shared", work = 300 })
  s:await("tick")
  time.sleep(0.3)
  local killed = time.now()
  a.process:kill("KILL")
  local leads = b:wait_for "^leads from now on"
  took("takeover after SIGKILL", leads - killed, DURATION + RETRY * 1.2 + SLACK)
  s:await("end", "one")
  base.eventually("the run is done", 5, function() return #b:done() > 0 end)
  eq(b:done(), { 1 }) -- the run that a began
  ok(b:said "goes on")
  ok(s:last_act "a" < leads, "a child of the dead host outlived its lease")
  s:never_two()
  eq(s.world:image_tags()["registry.invalid/team/web:staging"] ~= nil, true)
  local builds = 0
  for _, e in ipairs(s.world:effects()) do builds = builds + (e:find("^build") and 1 or 0) end
  eq(builds, 1)
end, 60)

test("SIGKILL, two state folders: the standby starts clean, and rolls out again only what is new", function()
  local s = stage()
  local a, b = s:pair({ work = 100 }, { work = 100 })
  s:await("end", "one")
  s.world:tag("v1.0.0", "one")
  s:await("end", "one", 20, 2)
  ok(require("people.client").open(a.state, a.state .. "/control-a.sock"):hold {
    app = "web", environment = "production", by = "ann" })
  time.sleep(RETRY * 2) -- what a successor should know goes with the next renewal
  local killed = time.now()
  a.process:kill("KILL")
  took("takeover with an empty state", b:wait_for "^leads from now on" - killed, DURATION + RETRY * 1.2 + SLACK)
  b:wait_for "adopted what runs: v1.0.0"
  time.sleep(1.5)
  eq(s:count("begin", "one"), 2) -- nothing runs twice
  s.world:push("main", "two")
  s.world:tag("v1.1.0", "two")
  s:await("end", "two")
  time.sleep(1)
  eq(s:count "begin", 3) -- production is held, by somebody who told the other host
  local door = require("people.client").open(b.state, b.state .. "/control-b.sock")
  eq(assert(door:status()).apps[1].environments[2].hold.by, "ann")
  ok(door:unhold { app = "web", environment = "production", by = "ann" })
  s:await("end", "two", 20, 2)
  eq(s:count "begin", 4)
  s:never_two()
end, 60)

test("SIGTERM parks, releases, and the standby need not wait for the lease to run out", function()
  local s = stage()
  local a, b = s:pair({ state = "shared", work = 60000 }, { state = "shared", work = 100 })
  s:await("tick")
  a.process:kill("TERM")
  time.sleep(0.2)
  a.process:kill("TERM") -- at once
  eq(assert(a.process:wait(20)).code, 0)
  local ended = time.now()
  took("takeover after SIGTERM", b:wait_for "^leads from now on" - ended, RETRY * 1.2 + SLACK)
  s:await("end", "one")
  base.eventually("the run is done", 5, function() return #b:done() > 0 end)
  eq(b:done(), { 1 }) -- the run that a parked
  s:never_two()
  b.process:kill("TERM")
  eq(assert(b.process:wait(20)).code, 0)
  eq(s:lease().holderIdentity, nil)
  eq(s:lease().leaseDurationSeconds, 1)
end, 60)

for _, how in ipairs { "hang", "refuse" } do
  test(("cut off from the API server (%s), the leader stops acting before another begins, and comes back"):format(how),
  function()
    local s = stage()
    local way = relay(s)
    local a, b = s:pair({ kubeconfig = way.kubeconfig, state = "shared", work = 60000 },
      { state = "shared", work = 100 })
    s:await("tick")
    way.mode = how
    local cut = time.now()
    local stopped = a:wait_for "^stops acting"
    local leads = b:wait_for "^leads from now on"
    took("the cut-off leader stops", stopped - cut, RENEW + 0.3)
    ok(s:last_act "a" < leads, "it still acted")
    print(("# its last act was %.2f s before the other one led"):format(leads - s:last_act "a"))
    s:await("end", "one")
    s:never_two()
    a:wait_for "^does not lead any more"
    eq(a:get "/healthz", 200) -- the same process, alive
    way.mode = "pass"
    a:wait_for "^stands by: b_"
    eq(a:get "/readyz", 200)
    b.process:kill("KILL")
    local again = base.eventually("a leads again", 15, function()
      local at = a:said "^leads from now on"
      return at and at > leads and at
    end)
    ok(again > leads)
    s.world:push("main", "two")
    s:await("begin", "two")
  end, 120)
end

test("a leader that stands still for too long is ended by the kernel before another begins, children too", function()
  local s = stage()
  local a, b = s:pair({ state = "shared", work = 60000 }, { state = "shared", work = 100 })
  s:await("tick")
  a.process:kill("STOP") -- its children go on
  local result = assert(a.process:wait(10))
  local leads = b:wait_for "^leads from now on"
  eq(result.signal, "SIGKILL")
  ok(s:last_act "a" < leads, ("its child acted %.2f s after the other one led"):format(s:last_act "a" - leads))
  s:await("end", "one")
  s:never_two()
end, 60)

test("wall clocks that differ by more than a year change nothing", function()
  if not base.exists "faketime" then return check.skip and check.skip "there is no faketime" end
  local s = stage()
  local way = relay(s) -- TLS, too, would have an opinion on the date
  local wrap = { "/usr/bin/faketime", "-f", "+400d" }
  local a = s:start("a", { kubeconfig = way.kubeconfig, state = "shared", work = 200, wrap = wrap,
    env = { FAKETIME_DONT_FAKE_MONOTONIC = "1", DONT_FAKE_MONOTONIC = "1",
      ASAN_OPTIONS = "verify_asan_link_order=0" } }) -- faketime preloads a library
  a:wait_for "^leads from now on"
  ok(s:lease().renewTime:find("^2027") or s:lease().renewTime:find("^2028"), s:lease().renewTime)
  local b = s:start("b", { state = "shared", work = 200 })
  b:wait_for "^stands by: a_"
  time.sleep(DURATION * 1.5)
  eq(b:said "^leads from now on", nil)
  local killed = time.now()
  a.process:kill("KILL")
  took("takeover from a host of another year", b:wait_for "^leads from now on" - killed,
    DURATION + RETRY * 1.2 + SLACK)
end, 60)

test("ten candidates at one Lease: one leads, never two at a time, every race decided by a conflict", function()
  local s = stage()
  local client = assert(kubernetes.open({ kubeconfig = s.kubeconfig, namespace = s.ns }))
  local conflicts, most, holds, over, tasks, all = 0, 0, {}, false, {}, {}
  local function counted(store)
    local face = {}
    for _, word in ipairs { "get", "create", "update" } do
      face[word] = function(_, record)
        local answer, err = store[word](store, record)
        if err and (err.code == "conflict" or err.code == "exists") then conflicts = conflicts + 1 end
        return answer, err
      end
    end
    return face
  end
  for i = 1, 10 do
    local e = election.new {
      store = counted(lease.new(client:with { attempts = 1 }, s.ns, "race")), identity = "host" .. i, duration = 1.2,
      renew = 0.8, retry = 0.2,
    }
    all[i] = e
    tasks[i] = task.spawn(function()
      while e:acquire(function() return over end) do
        local hold = { generation = e.generation, from = time.monotonic() }
        holds[#holds + 1] = hold
        local stop = time.monotonic() + 0.2
        repeat
          hold.to = e.renewed_at + e.renew -- until then it may act
          time.sleep(0.1)
        until time.monotonic() > stop or not e:try()
        if hash.random(1):byte() < 128 and e:acting() then
          hold.to = time.monotonic()
          e:release(1)
        else
          hold.to = math.min(hold.to, time.monotonic()) -- ends without a word
          e.leading = false
        end
      end
    end)
  end
  local watcher <close> = task.spawn(function()
    while true do
      local acting = 0
      for _, e in ipairs(all) do acting = acting + (e:acting() and 1 or 0) end
      most = math.max(most, acting)
      time.sleep(0.002)
    end
  end)
  ok(watcher)
  time.sleep(12)
  over = true
  for _, t in ipairs(tasks) do t:join(3) end
  eq(most, 1)
  ok(#holds >= 8, "only " .. #holds .. " turns")
  for i = 2, #holds do
    ok(holds[i].from >= holds[i - 1].to, "two at a time")
    ok(holds[i].generation > holds[i - 1].generation, "a generation came twice")
  end
  ok(conflicts > 0, "nobody raced")
  print(("# %d turns, %d conflicts"):format(#holds, conflicts))
end, 60)

test("rights that are missing are named, and the host stands by", function()
  local s = stage()
  local nobody = s.c:service_account(s.ns, "nobody")
  local a = s:start("a", { kubeconfig = s.c:kubeconfig_for(nobody, s.ns) })
  a:wait_for "^stands by as"
  base.eventually("status tells why", 10, function()
    local host = a:status()
    return host.leader.error and host.leader.error.message:find("get leases", 1, true)
      and host.leader.error.message:find("system:serviceaccount:" .. s.ns .. ":nobody", 1, true)
  end)
  eq(a:get "/healthz", 200)
  eq(a:get "/activez", 503)
end, 30)

test("once acts only when no other host does, and gives the lead back", function()
  local s = stage()
  local dir = base.dir("once")
  base.write(dir .. "/moontide.lua", ([[return { state = "%s/state", clusters = { default = { kubeconfig = "%s" } },
    leader = { identity = "once", duration = "4s", renew = "2.5s", retry = "0.5s", namespace = "%s" },
    apps = { web = { source = "%s/nothing.git", image = "127.0.0.1:1/team/web", environments = { staging = {
      target = { kind = "command", apply = { "/bin/true" } } } } } } }]]):format(dir, s.kubeconfig, s.ns, dir))
  local function once()
    return assert(require("proc").run { require("base.sys").exe(), "once",
      "--config", dir .. "/moontide.lua", timeout = 60,
      stderr = "stdout" })
  end
  local a = s:start("a", { work = 50 })
  a:wait_for "^leads from now on"
  local result = once()
  eq(result.code, 1)
  check.has(result.stdout, "another host acts: a_")
  eq(fs.exists(dir .. "/state/journal.db"), false)
  a.process:kill("TERM")
  a.process:wait(20)
  result = once()
  eq(result.code, 1) -- its source is not there, but it looked
  ok(fs.exists(dir .. "/state/journal.db"), result.stdout)
  eq(s:lease().holderIdentity, nil)
  eq(s:lease().leaseTransitions, 1)
end, 60)
