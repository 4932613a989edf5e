-- helmsman as a Job on the real node: a CronJob's template with the stand-in, the real helm and a service account, run
-- by a Moontide that may do little more than make Jobs.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, lab = require "lab.base", require "lab"
local cluster, stage, tools = require "cluster.lab", require "cluster.helmsman_stage", require "cluster.tools"
local fs, hash, json, task = require "fs", require "hash", require "json", require "task"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- A kubeconfig as the pod needs it: the cluster as pods see it, and the token that is mounted there.
local function pod_kubeconfig(s)
  local c = s.c
  local ip = c:get("/api/v1/namespaces/default/services/kubernetes").spec.clusterIP
  base.write(s.dir .. "/kubeconfig", json.encode {
    apiVersion = "v1", kind = "Config", ["current-context"] = "pod",
    clusters = { { name = "pod", cluster = { server = ("https://%s:443"):format(ip),
      ["certificate-authority-data"] = hash.base64(ok(fs.read(c.ca))) } } },
    users = { { name = "pod", user = { tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token" } } },
    contexts = { { name = "pod", context = { cluster = "pod", user = "pod" } } },
  })
end

-- The CronJob, suspended: it runs nothing by itself.
local function cronjob(s, image)
  return {
    apiVersion = "batch/v1", kind = "CronJob", metadata = { name = "helmsman" },
    spec = { schedule = "0 0 1 1 *", suspend = true, jobTemplate = { spec = { template = {
      metadata = { labels = { app = "helmsman" } },
      spec = cluster.on_real_node {
        serviceAccountName = "helmsman", restartPolicy = "Never",
        containers = { {
          name = "helmsman", image = image, command = { "/tools/helmsman" },
          args = { "--apply", "-f", "/dss/state.yaml" },
          env = {
            { name = "PATH", value = "/tools" }, { name = "KUBECONFIG", value = "/dss/kubeconfig" },
            { name = "HOME", value = "/home" }, { name = "TMPDIR", value = "/home" },
          },
          workingDir = "/home",
          volumeMounts = {
            { name = "tools", mountPath = "/tools", readOnly = true },
            { name = "dss", mountPath = "/dss", readOnly = true }, { name = "home", mountPath = "/home" },
          },
        } },
        volumes = {
          { name = "tools", hostPath = { path = tools.cache() .. "/bin" } },
          { name = "dss", hostPath = { path = s.dir } }, { name = "home", emptyDir = json.decode "{}" },
        },
      },
    } } } },
  }
end

local function open(apps)
  cluster.open():need_real()
  local s = stage.open(apps)
  pod_kubeconfig(s)
  local registry = lab.registry {}
  s.c:create(("/apis/batch/v1/namespaces/%s/cronjobs"):format(s.ns), cronjob(s, lab.image(registry, {}).image))
  s.c:service_account(s.ns, "helmsman", {
    { verbs = { "*" }, resources = { "secrets", "configmaps", "deployments" } },
    { verbs = { "get", "list" }, resources = { "pods", "replicasets", "events" } },
  })
  s.c:grant(s.ns, "helmsman", { { verbs = { "get" }, resources = { "namespaces" }, resourceNames = { s.ns } } },
    { cluster = true })
  -- The rights that config/manual/helmsman.md names for Jobs, in this namespace, and no more.
  local token = s.c:service_account(s.ns, "moontide", {
    { apiGroups = { "batch" }, resources = { "cronjobs" }, verbs = { "get" } },
    { apiGroups = { "batch" }, resources = { "jobs" }, verbs = { "create", "get", "list", "delete" } },
    { apiGroups = { "" }, resources = { "pods" }, verbs = { "get", "list" } },
    { apiGroups = { "" }, resources = { "pods/log" }, verbs = { "get" } },
    { apiGroups = { "" }, resources = { "secrets" }, verbs = { "list" } },
  })
  s.cfg.clusters.lab.kubeconfig = s.c:kubeconfig_for(token, s.ns)
  s.config.run, s.config.files, s.config.env = { cronjob = s.ns .. "/helmsman" }, {}, {}
  return s
end

local function jobs(s)
  local names = {}
  for _, job in ipairs(s.c:get(("/apis/batch/v1/namespaces/%s/jobs"):format(s.ns)).items) do
    names[#names + 1] = job.metadata.name
  end
  table.sort(names)
  return names
end

test("a release goes out by two Jobs, whose logs are the run's, and back by two more", function()
  local s = open { { name = "api" } }
  ok(s:target():apply(s:request(1, { api = "0.1.0" })))
  eq(s:releases().api, "api-0.1.0 deployed 1")
  has(s:words(), "plan: 1 to install (api)")
  has(s:words(), "Plan applied")
  eq(#jobs(s), 2)
  eq(s:target():current().version, "api=0.1.0")
  ok(s:target():apply(s:request(2, { api = "0.2.0" })))
  eq(s:map("api").version, "0.2.0")
  ok(s:target():destroy { release = "d1", hooks = s:request(1, { api = "0.1.0" }).hooks })
  eq(s:releases(), {})
  eq(#jobs(s), 6)
end, 240)

test("a Moontide that dies while its Job works finds it again, and makes no second one", function()
  local s = open { { name = "api", more = { wait = "true", timeout = "60",
    set = '{ stage: "ready", delay: "6s" }' } } }
  local dying = task.spawn(function() return s:target():apply(s:request(1, { api = "0.1.0" })) end)
  base.eventually("helm works", 60, function() return (s:releases().api or ""):find "pending%-install" end)
  dying:cancel()
  s.said = {}
  ok(s:target():apply(s:request(1, { api = "0.1.0" })))
  eq(s:releases().api, "api-0.1.0 deployed 1")
  eq(#jobs(s), 2)
  has(s:words(), "Plan applied")
end, 240)

test("a Job whose pod is killed half-way leaves a pending release: the next attempt says how to get out", function()
  local s = open { { name = "api", more = { wait = "true", timeout = "60", set = "{ stage: never }" } } }
  local running = task.spawn(function() return s:target():apply(s:request(1, { api = "0.1.0" })) end)
  base.eventually("helm works", 60, function() return (s:releases().api or ""):find "pending%-install" end)
  local at_work = base.eventually("the apply's pod is told of", 60, function() -- the plan's may still be, too
    for _, pod in ipairs(s.c:pods(s.ns, "batch.kubernetes.io/job-name")) do
      local own = pod.metadata.labels["batch.kubernetes.io/job-name"]:find("-apply-", 1, true)
      if own and pod.status.phase == "Running" then return pod.metadata.name end
    end
  end)
  s.c:kubectl { "delete", "pod", at_work, "-n", s.ns, "--force", "--grace-period=0" }
  fails("failed", running:join())
  local err = fails("busy", s:target():apply(s:request(2, { api = "0.2.0" })))
  has(err.message, ("release api in namespace %s was left pending-install by a helmsman that was killed"):format(s.ns))
  has(err.message, ("helm rollback api 1 -n %s"):format(s.ns))
  s.c:helm { "uninstall", "api", "-n", s.ns }
  stage.write_files(s.dir, s.ns, { { name = "api" } })
  ok(s:target():apply(s:request(3, { api = "0.2.0" })))
  eq(s:releases().api, "api-0.2.0 deployed 1")
end, 240)

test("rights that are missing are named", function()
  local s = open { { name = "api" } }
  local poor = s.c:service_account(s.ns, "poor", { { apiGroups = { "batch" }, resources = { "cronjobs", "jobs" },
    verbs = { "get", "list" } } })
  s.cfg.clusters.lab.kubeconfig = s.c:kubeconfig_for(poor, s.ns)
  local err = fails("denied", s:target():apply(s:request(1, { api = "0.1.0" })))
  has(err.message, ("may not create jobs in namespace %s as system:serviceaccount:%s:poor"):format(s.ns, s.ns))
end, 120)
