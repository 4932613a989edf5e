-- The lab's cluster itself: rights, tokens, what its pods play, and the control plane that tests may break.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base = require "lab.base"
local cluster = require "cluster.lab"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local function waiting_reason(pod)
  local status = (pod.status.containerStatuses or {})[1]
  return status and status.state.waiting and status.state.waiting.reason
end

-- The only pod of a Deployment once fn() likes it.
local function pod_that(c, ns, app, what, fn)
  return base.eventually(("the pod of %s %s"):format(app, what), 40, function()
    local pod = c:pods(ns, "app=" .. app)[1]
    return pod and fn(pod) and pod
  end)
end

test("a token may do what its rules say and is denied everything else", function()
  local c = cluster.open()
  local ns, other = c:namespace "rights", c:namespace "rights"
  local token = c:service_account(ns, "reader", { { verbs = { "get", "list" }, resources = { "pods" } } })
  local function status(method, path, body) return c:request(method, path, body, { token = token }).status end
  eq(status("GET", ("/api/v1/namespaces/%s/pods"):format(ns)), 200)
  eq(status("GET", ("/api/v1/namespaces/%s/secrets"):format(ns)), 403)
  eq(status("GET", ("/api/v1/namespaces/%s/pods"):format(other)), 403)
  eq(status("POST", ("/apis/apps/v1/namespaces/%s/deployments"):format(ns), cluster.deployment("web", {})), 403)
  eq(c:request("GET", "/api/v1/namespaces", nil, { token = "no.such.token" }).status, 401)
  c:grant(ns, "reader", { { verbs = { "create" }, resources = { "deployments" } } })
  eq(status("POST", ("/apis/apps/v1/namespaces/%s/deployments"):format(ns), cluster.deployment("web", {})), 201)
end)

test("a token can be taken back", function()
  local c = cluster.open()
  local ns = c:namespace "revoke"
  c:service_account(ns, "bot", { { verbs = { "get", "list" }, resources = { "pods" } } })
  local token, revoke = c:revocable_token(ns, "bot")
  local path = ("/api/v1/namespaces/%s/pods"):format(ns)
  eq(c:request("GET", path, nil, { token = token }).status, 200)
  revoke()
  base.eventually("the token is refused", 20, function()
    return c:request("GET", path, nil, { token = token }).status == 401
  end)
end)

test("kubectl and helm work, with another user's kubeconfig too", function()
  local c = cluster.open()
  local ns = c:namespace "programs"
  has(c:kubectl { "version" }, "Server Version: v1.34")
  eq(c:helm { "list", "-n", ns, "-o", "json" }, "[]\n")
  local config = c:kubeconfig_for(c:service_account(ns, "nobody"), ns)
  local denied = c:try_kubectl { "get", "pods", kubeconfig = config }
  eq(denied.code, 1)
  has(denied.stderr, ('User "system:serviceaccount:%s:nobody" cannot list resource "pods"'):format(ns))
end)

test("pods play what their annotation says", function()
  local c = cluster.open()
  local ns = c:namespace "stages"
  for name, stage in pairs {
    good = "ready", never = "never", crash = "crash", later = "later", image = "image", config = "config",
    stuck = "stuck",
  } do
    c:deployment(ns, name, { stage = stage })
  end
  local function ready(want)
    return function(pod)
      for _, condition in ipairs(pod.status.conditions or {}) do
        if condition.type == "Ready" then return condition.status == want and pod.status.phase == "Running" end
      end
    end
  end
  local function waits(reason)
    return function(pod) return waiting_reason(pod) == reason end
  end
  c:rolled_out(ns, "good")
  pod_that(c, ns, "never", "runs and is not ready", ready "False")
  pod_that(c, ns, "image", "cannot pull", waits "ImagePullBackOff")
  pod_that(c, ns, "config", "cannot be configured", waits "CreateContainerConfigError")
  pod_that(c, ns, "stuck", "is being created", waits "ContainerCreating")
  local crashed = pod_that(c, ns, "crash", "crashes", waits "CrashLoopBackOff").status.containerStatuses[1]
  eq(crashed.lastState.terminated.exitCode, 1)
  eq(crashed.restartCount, 1)
  pod_that(c, ns, "later", "crashes in the end", waits "CrashLoopBackOff")
  has(c:kubectl { "logs", "-n", ns, "deploy/good" }, "lab: listening on 8080")
  has(c:kubectl { "logs", "-n", ns, "-p", "deploy/crash" }, "no configuration, giving up")
end, 120)

test("what a pod plays can hang on its image", function()
  local c = cluster.open()
  local ns = c:namespace "images"
  c:deployment(ns, "web", { image = "lab.test/app:1", stage = "crash if :2, image if :3" })
  c:rolled_out(ns, "web")
  local function reason_of(tag)
    c:patch(("/apis/apps/v1/namespaces/%s/deployments/web"):format(ns), { spec = { template = { spec = {
      containers = { { name = "app", image = "lab.test/app:" .. tag } } } } } })
    return base.eventually("the new pod fails", 40, function()
      for _, pod in ipairs(c:pods(ns, "app=web")) do
        local reason = pod.spec.containers[1].image:sub(-#tag) == tag and waiting_reason(pod)
        if reason then return reason end
      end
    end)
  end
  eq(reason_of "2", "CrashLoopBackOff")
  eq(reason_of "3", "ImagePullBackOff")
end, 120)

test("Jobs end well, end badly, and never end", function()
  local c = cluster.open()
  local ns = c:namespace "jobs"
  local path = ("/apis/batch/v1/namespaces/%s/jobs"):format(ns)
  for name, stage in pairs { good = "ready", bad = "fail", endless = "never" } do
    local pod = cluster.deployment(name, { stage = stage, pod = { restartPolicy = "Never" } }).spec.template
    c:create(path, { apiVersion = "batch/v1", kind = "Job", metadata = { name = name },
      spec = { backoffLimit = 0, template = pod } })
  end
  local function condition(name, kind)
    base.eventually(("job %s: %s"):format(name, kind), 40, function()
      for _, one in ipairs(assert(c:get(path .. "/" .. name)).status.conditions or {}) do
        if one.type == kind and one.status == "True" then return true end
      end
    end)
  end
  condition("good", "Complete")
  condition("bad", "Failed")
  eq(assert(c:get(path .. "/endless")).status.active, 1)
end, 120)

test("nodes can be added, and go again", function()
  local c = cluster.open()
  eq(#c:add_nodes(3, "lab-more"), 3)
  base.eventually("they are ready", 30, function()
    return c:kubectl { "get", "node", "lab-more-3" }:find("%f[%w]Ready")
  end)
end)

test("a control plane of one's own can lose its API server and gets it back with what it knew", function()
  local c = cluster.private { api_flags = { "--watch-cache=false" } }
  local ns = c:namespace "own"
  c:deployment(ns, "web", { image = "lab.test/app:1" })
  c:rolled_out(ns, "web")
  c.plane:stop_api()
  eq(c.plane:ready(), false)
  c.plane:start_api()
  eq(ok(c:get(("/apis/apps/v1/namespaces/%s/deployments/web"):format(ns))).status.availableReplicas, 1)
  c.plane:stop_api "TERM"
  c.plane:start_api()
  c.plane:stop()
end, 240)

test("one without controllers is up in seconds, and lets the test play them", function()
  local c = cluster.private { controllers = false }
  local ns = c:namespace "bare"
  c:deployment(ns, "web", { image = "lab.test/app:1" })
  local path = ("/apis/apps/v1/namespaces/%s/deployments/web"):format(ns)
  eq(ok(c:get(path)).status, {})
  c:patch(path .. "/status", { status = { observedGeneration = 1, replicas = 1, updatedReplicas = 1,
    readyReplicas = 1, availableReplicas = 1 } })
  c:rolled_out(ns, "web")
  c.plane:stop()
end, 120)
