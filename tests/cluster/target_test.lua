-- target.kubernetes against the real API server, its controllers and nodes that kwok plays.
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster = require "cluster.lab"
local base, json, task, time = require "lab.base", require "json", require "task", require "time"
local kit = require "cluster.targets"
local digest, image, open, release, request = kit.digest, kit.image, kit.open, kit.release, kit.request
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

test("a release changes exactly the named container, by digest, says who, and is followed to its end", function()
  local c, ns = kit.web { replicas = 3, containers = {
    { name = "app", image = "lab.test/app:1" }, { name = "side", image = "lab.test/side:1" },
  } }
  local t = open(ns, { containers = { "app" } })
  local r = request("a", 1)
  release(t, r)
  local web = c:get(kit.path(ns))
  eq(web.spec.template.spec.containers[1].image, image "a")
  eq(web.spec.template.spec.containers[2].image, "lab.test/side:1")
  eq(#web.spec.template.spec.containers, 2)
  local function said(key) return web.metadata.annotations["moontide.dev/" .. key] end
  eq({ said "by", said "commit", said "version", said "run", said "release", said "host", said "generation",
    said "digest" },
    { "alice", ("a"):rep(40), "v1.0.1", "101", "1", "host-one", "1", digest "a" })
  has(table.concat(r.steps, "\n"), "of 3 updated")
  local now = ok(t:current())
  eq({ now.digest, now.commit, now.version, now.release, now.healthy, now.state },
    { digest "a", ("a"):rep(40), "v1.0.1", 1, true, "3 of 3 updated, 3 available" })
  local before = web.metadata.resourceVersion
  ok(t:apply(r)) -- asked again after a crash
  eq(c:get(kit.path(ns)).metadata.generation, web.metadata.generation)
  ok(before)
end)

-- ---- what goes wrong ----

-- What was good before is there; the next release meets trouble.
local function ready_lab(stage, config, options)
  options = options or {}
  options.stage, options.image = stage, options.image or "lab.test/app:1"
  local c, ns = kit.web(options)
  local t, cfg = open(ns, config)
  release(t, request("a", 1, { timeout = 60 })) -- a machine with much to do is no fault
  return t, c, ns, cfg
end

test("an image that cannot be pulled fails with the kubelet's words, and the one before comes back fast", function()
  local t, c, ns = ready_lab("image if sha256:bbbb")
  local bad = request("b", 2)
  ok(t:apply(bad))
  local err = fails("unhealthy", t:wait(bad))
  has(err.message, "it stands still: 1 of 1 updated")
  has(err.message, "ImagePullBackOff")
  local now = ok(t:current())
  eq({ now.digest, now.version, now.release }, { digest "b", "v1.0.2", 2 })
  local back = request("a", 3, { restored = true, version = "v1.0.1" })
  local began = time.monotonic()
  release(t, back)
  ok(time.monotonic() - began < 5, "fast")
  now = ok(t:current())
  eq({ now.digest, now.healthy, now.release }, { digest "a", true, 3 })
  local reasons = {}
  for _, e in ipairs(c:get("/apis/events.k8s.io/v1/namespaces/" .. ns .. "/events").items) do
    if e.reportingController == "moontide" then reasons[#reasons + 1] = e.reason end
  end
  table.sort(reasons)
  eq(reasons, { "ReleaseFailed", "Released", "Releasing", "Releasing", "Releasing", "RolledBack" })
end)

test("a container that crashes fails with its exit code and its last words", function()
  local t = ready_lab("crash if sha256:bbbb")
  local bad = request("b", 2)
  ok(t:apply(bad))
  local err = fails("unhealthy", t:wait(bad))
  has(err.message, "CrashLoopBackOff")
  has(err.message, "exit code")
  has(err.message, "it said: lab: starting | lab: no configuration, giving up")
  eq(ok(t:current()).healthy, false)
end)

test("pods that never become ready are waited for until the time is over", function()
  local t = ready_lab("never if sha256:bbbb", { timeout = 4 })
  local bad = request("b", 2)
  ok(t:apply(bad))
  local err = fails("unhealthy", t:wait(bad))
  has(err.message, "it did not finish in 4 s: 1 of 1 updated, 1 available, 1 of before still there")
  has(err.message, "is not ready")
end)

test("a pod that no node takes is waited for, and the scheduler's words are told", function()
  local t, c, ns = ready_lab(nil, { timeout = 4 })
  c:patch(kit.path(ns), { spec = { template = { spec = { nodeSelector = { nowhere = "yes" } } } } })
  local bad = request("b", 2)
  ok(t:apply(bad))
  local err = fails("unhealthy", t:wait(bad))
  has(err.message, "did not finish in 4 s")
  has(err.message, "Unschedulable: 0/")
  has(table.concat(bad.steps, "\n"), "Unschedulable")
end)

test("the cluster's own deadline ends the wait", function()
  local t = ready_lab("never if sha256:bbbb", { timeout = 60 }, { deadline = 2 })
  local bad = request("b", 2)
  ok(t:apply(bad))
  has(fails("unhealthy", t:wait(bad)).message, "it failed: ProgressDeadlineExceeded")
end)

test("a quota that leaves no room is told in the cluster's words", function()
  local t, c, ns = ready_lab()
  c:create("/api/v1/namespaces/" .. ns .. "/resourcequotas", { apiVersion = "v1", kind = "ResourceQuota",
    metadata = { name = "tight" }, spec = { hard = { pods = "1" } } })
  base.eventually("the quota counts", 20, function()
    local q = c:get("/api/v1/namespaces/" .. ns .. "/resourcequotas/tight")
    return q.status.used and q.status.used.pods == "1"
  end)
  local bad = request("b", 2)
  ok(t:apply(bad))
  local err = fails("unhealthy", t:wait(bad))
  has(err.message, "FailedCreate")
  has(err.message, "exceeded quota: tight")
end)

test("health that ends after the release is seen", function()
  local c, ns = kit.web { stage = "later", durations = { after = "1s" } }
  local t = open(ns)
  local r = request("a", 1)
  ok(t:apply(r))
  ok(t:wait(r))
  base.eventually("it turns unhealthy", 20, function() return t:current().healthy == false end)
  has(t:current().state, "exit code")
  ok(c)
end)

-- ---- others ----

test("a wrong container is an error, and nothing is added", function()
  local c, ns = kit.web()
  local t = open(ns, { containers = { "wep" } })
  has(fails("invalid", t:apply(request("a", 1))).message, "deployment/web has no container 'wep'; it has: app")
  eq(#c:get(kit.path(ns)).spec.template.spec.containers, 1)
  local none = open(ns, { workload = "deployment/other" })
  has(fails("not_found", none:apply(request("a", 1))).message, "there is no deployment/other")
  eq(none:current(), nil)
end)

test("a paused rollout is left alone until somebody resumes it", function()
  local t, c, ns = ready_lab(nil, { timeout = 2 })
  c:kubectl { "-n", ns, "rollout", "pause", "deployment/web" }
  local r = request("b", 2)
  local err = fails("busy", t:apply(r))
  has(err.message, "somebody paused deployment/web; nothing was changed")
  eq(c:get(kit.path(ns)).spec.template.spec.containers[1].image, image "a")
  ok(t:apply(request("a", 3, { restored = true })), "taking back what never came is no problem")
  c:kubectl { "-n", ns, "rollout", "resume", "deployment/web" }
  release(t, request("b", 4))
end)

test("a rollout that is paused on the way waits, and says so", function()
  local t, c, ns = ready_lab(nil, { timeout = 3 }, { replicas = 3, durations = { delay = "700ms" } })
  local r = request("b", 2)
  ok(t:apply(r))
  c:kubectl { "-n", ns, "rollout", "pause", "deployment/web" }
  has(fails("unhealthy", t:wait(r)).message, "somebody paused it")
  c:kubectl { "-n", ns, "rollout", "resume", "deployment/web" }
  r.timeout = 30
  ok(t:wait(r))
end)

test("somebody who changes the image on the way is named", function()
  local t, c, ns = ready_lab(nil, {}, { replicas = 3, durations = { delay = "1s" } })
  local r = request("b", 2)
  ok(t:apply(r))
  local editor <close> = task.spawn(function()
    time.sleep(0.3)
    c:kubectl { "-n", ns, "set", "image", "deployment/web", "app=lab.test/mine:1" }
  end)
  ok(editor)
  local err = fails("conflict", t:wait(r))
  has(err.message, "somebody else changed it while it was being released: kubectl-set (Update, ")
  has(err.message, "set the image of container app to lab.test/mine:1")
  local now = ok(t:current())
  eq({ now.digest, now.commit, now.version }, {}, "what runs is not ours")
end)

test("somebody who deletes the workload on the way ends the wait", function()
  local t, c, ns = ready_lab(nil, {}, { durations = { delay = "2s" } })
  local r = request("b", 2)
  ok(t:apply(r))
  c:delete(kit.path(ns))
  has(fails("unhealthy", t:wait(r)).message, "somebody deleted it")
end)

test("what somebody else put there by digest is known, without a story", function()
  local c, ns = kit.web { image = "lab.test/app:v1@" .. digest "d" }
  c:rolled_out(ns, "web")
  local t = open(ns)
  local now = ok(t:current())
  eq({ now.digest, now.commit, now.healthy }, { digest "d", nil, true })
  ok(c)
end)

test("two hosts: who was overtaken, or whose turn is over, does not write", function()
  local t, c, ns = ready_lab()
  local other = open(ns)
  local decided = request("b", 1, { host = "host-two" })
  release(t, request("c", 2))
  has(fails("conflict", other:apply(decided)).message, "another Moontide, on host host-one, released v1.0.2")
  eq(c:get(kit.path(ns)).spec.template.spec.containers[1].image, image "c")
  ok(other:apply(request("c", 1, { since = 0 })), "the same digest is there: nothing to do")
  release(other, request("b", 2, { generation = 7, host = "host-two" }))
  local err = fails("conflict", t:apply(request("c", 3)))
  eq(err.generation, 7)
  eq(t:current().digest, digest "b")
  eq(t:current().release, nil, "a release of the other's count")
end)

test("somebody's write in between is looked at, not overwritten", function()
  local t, c, ns = ready_lab()
  local patched, original = 0, t.client.patch
  t.client = setmetatable({ patch = function(self, ...)
    patched = patched + 1
    if patched == 1 then c:kubectl { "-n", ns, "annotate", "deployment/web", "someone=here" } end
    return original(self, ...)
  end }, { __index = t.client })
  ok(t:apply(request("b", 2)))
  ok(patched >= 2) -- the cluster's own controllers may write in between, too
  local web = c:get(kit.path(ns))
  eq({ web.metadata.annotations.someone, web.spec.template.spec.containers[1].image }, { "here", image "b" })
end)

-- ---- the other kinds, the other ways ----

test("a StatefulSet that a bad revision holds up comes back: its broken pod is deleted", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  c:create("/apis/apps/v1/namespaces/" .. ns .. "/statefulsets", { apiVersion = "apps/v1", kind = "StatefulSet",
    metadata = { name = "db" }, spec = { replicas = 2, serviceName = "db", selector = { matchLabels = { app = "db" } },
      template = kit.pods("db", nil, "crash if sha256:bbbb") } })
  local t = open(ns, { workload = "statefulset/db" })
  release(t, request("a", 1))
  local bad = request("b", 2)
  ok(t:apply(bad))
  has(fails("unhealthy", t:wait(bad)).message, "CrashLoopBackOff")
  local back = request("a", 3, { restored = true })
  release(t, back)
  has(table.concat(back.lines, "\n"), "deleted pod db-1 of the release before")
  eq(t:current().healthy, true)
end)

test("a DaemonSet is followed node by node", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  c:create("/apis/apps/v1/namespaces/" .. ns .. "/daemonsets", { apiVersion = "apps/v1", kind = "DaemonSet",
    metadata = { name = "agent" }, spec = { selector = { matchLabels = { app = "agent" } },
      template = kit.pods("agent", nil, "image if sha256:bbbb") } })
  local t = open(ns, { workload = "daemonset/agent" })
  release(t, request("a", 1))
  local bad = request("b", 2)
  ok(t:apply(bad))
  has(fails("unhealthy", t:wait(bad)).message, "ImagePullBackOff")
  release(t, request("a", 3))
end)

test("a CronJob's next job runs the release", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  local path = "/apis/batch/v1/namespaces/" .. ns .. "/cronjobs"
  local template = kit.pods "nightly"
  template.spec.restartPolicy = "Never"
  c:create(path, { apiVersion = "batch/v1", kind = "CronJob", metadata = { name = "nightly" },
    spec = { schedule = "0 3 * * *", jobTemplate = { spec = { template = template } } } })
  local t = open(ns, { workload = "cronjob/nightly" })
  release(t, request("a", 1))
  local spec = c:get(path .. "/nightly").spec.jobTemplate.spec.template.spec
  eq({ #spec.containers, spec.containers[1].image, t:current().digest, t:current().healthy },
    { 1, image "a", digest "a", true })
end)

test("server-side apply takes exactly the image, and tells whose it was", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  local manifest = cluster.deployment("web", { containers = {
    { name = "app", image = "lab.test/app:1", env = { { name = "A", value = "1" } } }, { name = "side", image = "s:1" },
  } })
  c:kubectl { "-n", ns, "apply", "--server-side", "--field-manager=helm", "-f", "-", stdin = json.encode(manifest) }
  local t = open(ns, { containers = { "app" }, server_side = true })
  local r = request("a", 1)
  release(t, r)
  local containers = c:get(kit.path(ns)).spec.template.spec.containers
  eq({ containers[1].image, containers[1].env[1].value, containers[2].image }, { image "a", "1", "s:1" })
  has(table.concat(r.lines, "\n"), "the image of container app also belongs to helm, by server-side apply")
  local plain = request("b", 2, { version = "v9" })
  plain.version = nil
  release(t, plain)
  eq(c:get(kit.path(ns)).metadata.annotations["moontide.dev/version"], nil, "what we no longer say goes")
end)

-- ---- rights ----

local ROLLOUT <const> = {
  { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "get", "list", "watch", "patch" } },
  { apiGroups = { "apps" }, resources = { "replicasets" }, verbs = { "list" } },
  { apiGroups = { "" }, resources = { "pods" }, verbs = { "list", "watch" } },
}

local function restricted(rules, config)
  local c = cluster.open()
  local ns = c:namespace "target"
  c:deployment(ns, "web")
  local t, cfg = open(ns, config)
  cfg.clusters.lab.kubeconfig = c:kubeconfig_for(c:service_account(ns, "bot", rules), ns)
  return t
end

test("the rights that a rollout needs are enough; events and logs are missed by nobody", function()
  release(restricted(ROLLOUT), request("a", 1))
end)

test("a right that is missing is named, with its resource, namespace and who", function()
  local t = restricted { ROLLOUT[2], ROLLOUT[3],
    { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "get", "list", "watch" } } }
  local err = fails("denied", t:apply(request("a", 1)))
  has(err.message, "may not patch deployments in namespace " .. t.namespace)
  has(err.message, "as system:serviceaccount:" .. t.namespace .. ":bot")
  t = restricted { ROLLOUT[1] }
  local r = request("a", 1)
  release(t, r)
  has(table.concat(r.lines, "\n"), "why pods do not run cannot be told: may not list pods in namespace")
end)

test("a canary is a second workload behind the same Service, with fewer pods: it goes out first, and comes back alone",
  function()
    local c = cluster.open()
    local ns = c:namespace "target"
    local stage = "crash if " .. digest "d"
    c:deployment(ns, "web", { replicas = 3, stage = stage })
    c:deployment(ns, "web-canary", { replicas = 1, stage = stage })
    local parts = {}
    for i, name in ipairs { "canary", "rest" } do
      parts[i] = { name = name, target = {
        kind = "kubernetes", cluster = "lab", namespace = ns, containers = {}, init_containers = {}, patience = 1.5,
        workload = i == 1 and "deployment/web-canary" or "deployment/web", timeout = 60, server_side = false,
      } }
    end
    local letters = {}
    for _, name in ipairs { "a", "b", "c", "d" } do letters[require("sim").commit(name)] = name end
    require("fixture.canary").story {
      targets = parts, config = { clusters = { lab = { name = "lab", kubeconfig = c.kubeconfig } } },
      image = function(commit) return { image = image(letters[commit]), digest = digest(letters[commit]) } end,
    }
    local function said(name, key)
      return c:get(("/apis/apps/v1/namespaces/%s/deployments/%s"):format(ns, name)).metadata.annotations[
        "moontide.dev/" .. key]
    end
    eq({ said("web", "digest"), said("web-canary", "digest") }, { digest "c", digest "c" })
    eq(said("web", "environment"), said("web-canary", "environment"))
  end)
