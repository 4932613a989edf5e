-- What an API server, the way to it, and other people do to a release: a whole host, a real Deployment.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redefined-local -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base, check, cluster = require "lab.base", require "check", require "cluster.lab"
local stages = require "cluster.fault_stage"
local time = require "time"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local digest, status = stages.digest, stages.status

-- Harms the first `times` requests that a pattern of "METHOD target" finds.
local function first(times, pattern, answer)
  local left = times
  return function(request)
    if left > 0 and (request.method .. " " .. request.target):find(pattern) then
      left = left - 1
      return answer
    end
  end
end

-- ---- refusals that pass ----

test("429, with Retry-After and without, costs time: every verb, the watch too", function()
  local s = stages.open(cluster.open(), { web = { durations = { delay = "500ms" } } })
  s:released "one"
  for _, wait in ipairs { "without", "1" } do
    local refused = status(429, "TooManyRequests", "Too many requests, please try again later.",
      wait ~= "without" and { ["Retry-After"] = wait } or nil)
    local harms = {
      first(2, "GET .*/deployments/web", refused), first(2, "PATCH", refused), first(2, "watch=1", refused),
    }
    s.wire.counts.harmed = 0
    s.wire.harm = function(request) return harms[1](request) or harms[2](request) or harms[3](request) end
    local name, revision = "busy " .. wait, s:revision()
    local run = s:released(name)
    local where = ("%s: %s"):format(name, run.error and run.error.message or "")
    eq({ run.state, s:digest(), s:revision() }, { "done", digest(name), revision + 1 }, where)
    eq(s.wire.counts.harmed, 6, where)
  end
end, 120)

test("409: somebody writes between our reading and our writing; one rollout, and theirs stays", function()
  local s = stages.open(cluster.open())
  s:released "one"
  local meddled = 0
  s.wire.harm = function(request)
    if request.method ~= "PATCH" or meddled >= 3 then return end
    meddled = meddled + 1
    s.c:patch(s:path(), { metadata = { annotations = { ["somebody/" .. meddled] = "here" } } })
  end
  local revision = s:revision()
  eq(s:released("two").state, "done")
  local web = s:web()
  eq({ meddled, s.wire.counts["409"], s:digest(), s:revision() }, { 3, 3, digest "two", revision + 1 })
  eq({ web.metadata.annotations["somebody/1"], web.metadata.annotations["somebody/3"] }, { "here", "here" })
end)

test("a watch that is cut at every byte of an event follows its rollout all the same", function()
  local follow = require "cluster.follow"
  local before, most = follow.first_pause, follow.longest_pause
  check.defer(function() follow.first_pause, follow.longest_pause = before, most end)
  follow.first_pause, follow.longest_pause = 0.0005, 0.001
  local s = stages.open(cluster.open(), { web = { durations = { delay = "300ms" } } })
  s:released "one"
  local event, at, cuts -- the first event of the Deployment that comes, and how much of it was let through
  s.wire.harm = function(request, watch)
    if not watch or not request.target:find("/deployments?", 1, true) then return end
    if not event then
      local text = ""
      return { cut = function(piece)
        text = text .. piece
        event = event or text:match("^.-\n")
        if event then return 0 end
      end }
    end
    if at < #event then
      at, cuts = at + 1, cuts + 1
      return stages.stream(event:sub(1, at - 1), "cut")
    end
  end
  at, cuts = 0, 0
  local began = time.monotonic()
  local run = s:released("two", 240)
  eq({ run.state, s:digest(), s:revision() }, { "done", digest "two", 3 })
  eq(cuts, #event)
  print(("# an event of %d bytes, cut %d times, in %.1f s"):format(#event, cuts, time.monotonic() - began))
end, 300)

-- ---- other people ----

test("somebody who edits the Deployment while it is released keeps what they did", function()
  local s = stages.open(cluster.open(), { web = { replicas = 3, durations = { delay = "1s" } } })
  s:released "one"
  s:push "two"
  s:begun "two"
  s.c:kubectl { "-n", s.ns, "set", "image", "deployment/web", "app=lab.test/mine:1" }
  local run = s:ended("change", 30, 1)
  eq(run.state, "failed")
  has(run.error.message, "somebody else changed it while it was being released: kubectl-set")
  time.sleep(1.5) -- several polls
  eq({ s:image(), #s:runs() }, { "lab.test/mine:1", 2 }, "nothing is taken back, nothing comes again")
  local reasons = {}
  for _, d in ipairs(ok(s.engine:why("web", "staging")).decisions) do reasons[#reasons + 1] = d.reason end
  has(table.concat(reasons, "\n"), "nothing is taken back")
  -- What nobody of ours wrote, but does not touch the image, is no reason to stop.
  s:push "three"
  s:begun "three"
  s.c:kubectl { "-n", s.ns, "scale", "deployment/web", "--replicas=4" }
  s.c:kubectl { "-n", s.ns, "annotate", "deployment/web", "somebody=here" }
  eq(s:ended("change", 30, run.id).state, "done")
  eq({ s:digest(), s:web().spec.replicas, s:web().metadata.annotations.somebody }, { digest "three", 4, "here" })
end, 120)

test("a paused Deployment is left alone until it is resumed, then the newest goes out once", function()
  local s = stages.open(cluster.open(), { target = { timeout = 60 } })
  s:released "one"
  s.c:kubectl { "-n", s.ns, "rollout", "pause", "deployment/web" }
  local revision = s:revision()
  s:push "two"
  base.eventually("the run waits", 20, function()
    local run = s:runs()[1]
    return run.state == "running" and s:told "somebody paused deployment/web; nothing was changed"
  end)
  time.sleep(1)
  eq({ s:digest(), s:runs()[1].state }, { digest "one", "running" })
  s.c:kubectl { "-n", s.ns, "rollout", "resume", "deployment/web" }
  eq(s:ended("change", 30, 1).state, "done")
  eq({ s:digest(), s:revision() }, { digest "two", revision + 1 })
end, 120)

test("a quota that leaves no room fails the release in the cluster's words, and what ran goes on", function()
  local s = stages.open(cluster.open())
  s:released "one"
  local quotas = "/api/v1/namespaces/" .. s.ns .. "/resourcequotas"
  s.c:create(quotas, { apiVersion = "v1", kind = "ResourceQuota", metadata = { name = "tight" },
    spec = { hard = { pods = "1" } } })
  base.eventually("the quota counts", 20, function()
    local used = s.c:get(quotas .. "/tight").status.used
    return used and used.pods == "1"
  end)
  s:push "two"
  local back = s:ended("rollback", 60)
  eq({ back.state, s:digest() }, { "done", digest "one" })
  local bad = s:runs()[2]
  eq(bad.state, "failed")
  has(bad.error.message, "exceeded quota: tight")
  eq(#s.c:pods(s.ns, "app=web"), 1)
  s.c:rolled_out(s.ns, "web", 10)
end, 120)

-- ---- rights ----

test("a token that is replaced and taken back in the middle of a run: the run goes on with the new one", function()
  local c = cluster.open()
  local file = base.dir("token") .. "/token"
  base.write(file, "none")
  local s = stages.open(c, { direct = true, token_file = file, web = { durations = { delay = "1s" } },
    before = function(s)
      local token, revoke = c:revocable_token(s.ns, "moontide")
      base.write(file, token)
      s.token, s.revoke = token, revoke
    end })
  eq(s:released("one").state, "done")
  s.c:patch(s:path(), { spec = { template = { metadata = { annotations = { ["lab.moontide/delay"] = "16s" } } } } })
  s:push "two"
  s:begun "two"
  local old = s.token
  base.write(file, (c:revocable_token(s.ns, "moontide")))
  s.revoke()
  base.eventually("the old one counts for nothing", 16, function()
    return c:request("GET", s:path(), nil, { token = old }).status == 401
  end)
  eq(s:runs()[1].state, "running")
  eq(s:ended("change", 40, 1).state, "done")
  eq(s:digest(), digest "two")
  eq(s:released("three", 40).state, "done")
  for _, run in ipairs(s:runs()) do eq(run.kind, "change") end
end, 120)
