-- Jobs as checks of a release, in the real cluster: kwok plays their pods.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster = require "cluster.lab"
local base, task, time, verify = require "lab.base", require "task", require "time", require "checks.verify"
local world = require "engine.world"
local kit = require "cluster.targets"
local digest, image, open = kit.digest, kit.image, kit.open
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function cronjob(c, ns, stage, more)
  local template = kit.pods("smoke", { { name = "smoke", image = kit.REPOSITORY .. ":dev",
    env = { { name = "TARGET", value = "$(APP)" }, { name = "VERSION", value = "old" } } } }, stage)
  template.spec.restartPolicy = "Never"
  local spec = { schedule = "0 3 * * *", suspend = true, jobTemplate = { spec = { template = template } } }
  for k, v in pairs(more or {}) do spec[k] = v end
  c:create("/apis/batch/v1/namespaces/" .. ns .. "/cronjobs", { apiVersion = "batch/v1", kind = "CronJob",
    metadata = { name = "smoke" }, spec = spec })
end

local function checked(ns, cfg, release_id, job, within)
  local lines = {}
  local list = { { job = job or "cronjob/smoke", cluster = "lab", namespace = ns, within = within or 20, every = 1 } }
  local value, err = verify.run(list, {
    app = "web", environment = "staging", version = "v1.0.0", commit = ("a"):rep(40), digest = digest "a",
    image = image "a", run = 7, release = release_id, hooks = {
      output = function(_, line) lines[#lines + 1] = line end, progress = function() end },
  }, world.of(cfg))
  return value, err, lines
end

local function jobs(c, ns) return c:get("/apis/batch/v1/namespaces/" .. ns .. "/jobs").items end

test("a Job from a CronJob's template proves a release: it sees it, its log is read, and it goes", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  cronjob(c, ns, "ready")
  local _, cfg = open(ns)
  local seen
  local watcher <close> = task.spawn(function()
    repeat
      time.sleep(0.05)
      seen = jobs(c, ns)[1] or seen
    until false
  end)
  ok(watcher)
  local value, err, lines = checked(ns, cfg, 1)
  ok(value, err)
  eq(lines, { "lab: listening on 8080", "lab: GET / 200" })
  local container, env = seen.spec.template.spec.containers[1], {}
  for _, entry in ipairs(container.env) do env[entry.name] = entry.value end
  eq(container.image, image "a")
  eq({ env.APP, env.VERSION, env.COMMIT, env.IMAGE, env.DIGEST, env.TARGET },
    { "web", "v1.0.0", ("a"):rep(40), image "a", digest "a", "$(APP)" })
  eq({ seen.metadata.ownerReferences, seen.spec.suspend, seen.spec.backoffLimit, seen.spec.ttlSecondsAfterFinished },
    { nil, false, 0, 3600 })
  base.eventually("the job is gone", 10, function() return #jobs(c, ns) == 0 end)
end)

test("a Job that fails, or does not end in time, makes a release unhealthy with its last words", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  cronjob(c, ns, "fail")
  local _, cfg = open(ns)
  local err = fails("unhealthy", checked(ns, cfg, 1))
  has(err.message, "failed (BackoffLimitExceeded")
  has(err.message, "it said: ")
  c:patch("/apis/batch/v1/namespaces/" .. ns .. "/cronjobs/smoke", { spec = { jobTemplate = { spec = { template = {
    metadata = { annotations = { ["lab.moontide/stage"] = "never" } } } } } } })
  err = fails("unhealthy", checked(ns, cfg, 2, nil, 2))
  has(err.message, "did not end in 2")
  base.eventually("the jobs are gone", 20, function() return #jobs(c, ns) == 0 end)
  has(fails("not_found", checked(ns, cfg, 3, "cronjob/other")).message, "other")
end)

test("a run that was interrupted finds its Job instead of starting another", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  cronjob(c, ns, "never")
  local _, cfg = open(ns)
  local first = task.spawn(checked, ns, cfg, 1)
  local job = base.eventually("the job runs", 20, function() return jobs(c, ns)[1] end)
  first:cancel()
  pcall(first.join, first)
  local second = task.spawn(checked, ns, cfg, 1)
  time.sleep(1)
  local there = jobs(c, ns)
  eq({ #there, there[1].metadata.uid }, { 1, job.metadata.uid })
  second:cancel()
  pcall(second.join, second)
end)

test("a Job of a manifest in the repository is made at the released commit", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  local repo, _, app = kit.repository { ["deploy/smoke.yaml"] = [[
apiVersion: batch/v1
kind: Job
metadata: { name: smoke }
spec:
  template:
    spec: { restartPolicy: Never, containers: [{ name: smoke, image: "lab.test/team/web:dev" }] }
]] }
  local commit = repo:commit { ["other"] = "x" }
  local _, cfg = open(ns)
  cfg.apps.web, cfg.credentials, cfg.github = app, {}, {}
  local list = { { job = "deploy/smoke.yaml", cluster = "lab", namespace = ns, within = 20, every = 1 } }
  local r = { app = "web", environment = "staging", commit = commit, digest = digest "a", image = image "a", run = 7,
    release = 1 }
  local outside = world.of(cfg)
  ok(verify.run(list, r, outside))
  list[1].job = "deploy/none.yaml"
  fails("not_found", verify.run(list, r, outside))
  r.run = nil
  ok(verify.run(list, r, outside), "whoever only looks starts none")
end)
