-- Rollouts without a cluster: how far one is, why pods do not run, what is written into a workload, and who may.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local json = require "json"
local PREFIX <const> = require("base.labels").PREFIX
local manifest, patch, pods_of, rollout, watch = require "cluster.rollout.manifest", require "cluster.rollout.patch",
  require "cluster.rollout.pods", require "cluster.rollout", require "cluster.rollout.watch"
local event = require "cluster.rollout.event"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function digest(letter) return "sha256:" .. letter:rep(64) end
local function image(letter) return "lab.test/web@" .. digest(letter) end

local function workload(kind, spec, status, more)
  local object = {
    apiVersion = kind == "CronJob" and "batch/v1" or "apps/v1", kind = kind,
    metadata = { name = "web", namespace = "shop", uid = "uid-1", generation = 4, resourceVersion = "77" },
    spec = spec or {}, status = status or {},
  }
  object.status.observedGeneration = object.status.observedGeneration or 4
  if kind ~= "CronJob" then
    object.spec.template = object.spec.template or { spec = { containers = { { name = "app", image = image "a" } } } }
  end
  for k, v in pairs(more or {}) do object[k] = v end
  return object
end

local function state(kind, spec, status)
  local s = rollout.status(workload(kind, spec, status))
  return s.state, s.text, s
end

-- ---- how far ----

test("workloads are named like kubectl's, and nothing else is", function()
  eq(ok(rollout.workload "deployment/web").resource, "deployments")
  eq(ok(rollout.workload "CronJob/nightly.v2").group, "batch/v1")
  for _, wrong in ipairs { "web", "pod/web", "deployment/", "deployment/Web", "deployment/../x", "deployment/a..b",
    "deployment/-a", "deployment/a b" } do
    has(fails("invalid", rollout.workload(wrong)).message, "no workload")
  end
end)

test("a Deployment is done by kubectl's rule", function()
  local done = { replicas = 3, updatedReplicas = 3, availableReplicas = 3 }
  eq(state("Deployment", { replicas = 3 }, done), "done")
  eq(state("Deployment", {}, { replicas = 1, updatedReplicas = 1, availableReplicas = 1 }), "done", "replicas are 1")
  eq(state("Deployment", { replicas = 0 }, {}), "done")
  local is, words = state("Deployment", { replicas = 3 }, { replicas = 4, updatedReplicas = 2,
    availableReplicas = 3 })
  eq({ is, words }, { "progressing", "2 of 3 updated, 3 available, 2 of before still there" })
  eq(state("Deployment", { replicas = 3 }, { replicas = 4, updatedReplicas = 3, availableReplicas = 3 }),
    "progressing",
    "an old one is still there")
  eq(state("Deployment", { replicas = 3 }, { replicas = 3, updatedReplicas = 3, availableReplicas = 2 }),
    "progressing")
  is, words = state("Deployment", { replicas = 3 },
    { observedGeneration = 3, replicas = 3, updatedReplicas = 3, availableReplicas = 3 })
  eq({ is, words }, { "progressing", "the cluster has not seen the change yet" })
end)

test("a Deployment fails by its deadline, and says what keeps it from making pods", function()
  local late = { type = "Progressing", status = "False", reason = "ProgressDeadlineExceeded",
    message = 'ReplicaSet "web-1" has timed out progressing.' }
  local is, words = state("Deployment", {}, { conditions = { late }, updatedReplicas = 1, replicas = 1 })
  eq(is, "failed")
  has(words, "ProgressDeadlineExceeded: ReplicaSet")
  eq(state("Deployment", {}, { conditions = { late }, updatedReplicas = 1, replicas = 1,
    availableReplicas = 1 }), "done")
  local quota = { type = "ReplicaFailure", status = "True", reason = "FailedCreate",
    message = "exceeded quota: tight" }
  local s = rollout.status(workload("Deployment", {}, { conditions = { quota } }))
  eq({ s.state, s.blocked }, { "progressing", "FailedCreate: exceeded quota: tight" })
  s = rollout.status(workload("Deployment", { paused = true }, { replicas = 1, availableReplicas = 1 }))
  eq({ s.state, s.paused }, { "progressing", true })
  has(s.text, "somebody paused it")
end)

test("a StatefulSet is done when all its pods are of the new revision, or those that its partition names", function()
  local function set(more, spec)
    local status = { replicas = 3, readyReplicas = 3, availableReplicas = 3, updatedReplicas = 3,
      currentRevision = "web-2", updateRevision = "web-2" }
    for k, v in pairs(more or {}) do status[k] = v end
    return (state("StatefulSet", spec or { replicas = 3 }, status))
  end
  eq(set(), "done")
  eq(set { currentRevision = "web-1" }, "progressing")
  eq(set { readyReplicas = 2 }, "progressing")
  eq(set { updatedReplicas = 2 }, "progressing")
  local part = { replicas = 3, updateStrategy = { type = "RollingUpdate", rollingUpdate = { partition = 2 } } }
  eq(set({ updatedReplicas = 1, currentRevision = "web-1" }, part), "done")
  eq(set({ updatedReplicas = 0, currentRevision = "web-1" }, part), "progressing")
  local manual = { replicas = 3, updateStrategy = { type = "OnDelete" } }
  eq(set({ updatedReplicas = 1, currentRevision = "web-1" }, manual), "progressing")
  eq(set({ currentRevision = "web-1" }, manual), "done")
  local _, words = state("StatefulSet", manual, { readyReplicas = 3, availableReplicas = 3, updatedReplicas = 1 })
  has(words, "OnDelete")
end)

test("a DaemonSet counts nodes, a CronJob waits for nothing", function()
  eq(state("DaemonSet", {}, { desiredNumberScheduled = 2, updatedNumberScheduled = 2, numberAvailable = 2 }), "done")
  eq(state("DaemonSet", {}, { desiredNumberScheduled = 2, updatedNumberScheduled = 1, numberAvailable = 2 }),
    "progressing")
  eq(state("DaemonSet", {}, {}), "done", "no node wants it")
  local is, words = state("CronJob", { suspend = true }, {})
  eq(is, "done")
  has(words, "suspended")
end)

-- ---- why not ----

local function pod(name, container, more)
  local p = {
    metadata = { name = name, uid = name, labels = { app = "web" } },
    spec = { containers = { { name = "app", image = image "a" } } },
    status = { phase = "Running", conditions = {}, containerStatuses = { container } },
  }
  for k, v in pairs(more or {}) do p[k] = v end
  return p
end

local function waiting(reason, message, restarts, last)
  return { name = "app", ready = false, restartCount = restarts or 0,
    state = { waiting = { reason = reason, message = message } }, lastState = { terminated = last } }
end

test("pods say why they do not run, in their own words", function()
  local f = pods_of.faults(pod("web-1", waiting("ImagePullBackOff", 'Back-off pulling image "x"')))
  eq({ #f, f[1].weight, f[1].text }, { 1, "stuck", 'ImagePullBackOff: Back-off pulling image "x"' })
  eq(pods_of.faults(pod("web-1", waiting("InvalidImageName", "no")))[1].weight, "fatal")
  eq(pods_of.faults(pod("web-1", waiting "ContainerCreating")), {})
  f = pods_of.faults(pod("web-1", waiting("CrashLoopBackOff", "back-off 10s", 3, { exitCode = 137,
    reason = "OOMKilled" })))
  eq({ f[1].text, f[1].crashed, f[1].restarts }, { "CrashLoopBackOff (OOMKilled, exit code 137, 3 restarts)",
    true, 3 })
  f = pods_of.faults(pod("web-1", { name = "app", ready = false, restartCount = 1, state = { running = {} },
    lastState = { terminated = { exitCode = 1, reason = "Error" } } }))
  eq({ f[1].reason, f[1].previous }, { "Restarted", true })
  eq(pods_of.faults(pod("web-1", { name = "app", ready = true, restartCount = 1, state = { running = {} },
    lastState = { terminated = { exitCode = 1 } } })), {}, "it came through")
  f = pods_of.faults(pod("web-1", nil, { status = { phase = "Pending", conditions = {
    { type = "PodScheduled", status = "False", reason = "Unschedulable", message = "0/4 nodes are available" } } } }))
  eq({ f[1].weight, f[1].text }, { "waiting", "Unschedulable: 0/4 nodes are available" })
  eq(pods_of.faults(pod("web-1", waiting "ImagePullBackOff", { metadata = { name = "web-1",
    deletionTimestamp = "x" } })),
    {}, "it goes anyway")
end)

test("an init container that ended well is no fault, one that did not is", function()
  local function with_init(code)
    return pod("web-1", waiting "PodInitializing", { status = { initContainerStatuses = {
      { name = "migrate", restartCount = 0, state = { terminated = { exitCode = code, reason = "Error" } } } } } })
  end
  eq(pods_of.faults(with_init(0)), {})
  local f = pods_of.faults(with_init(3))
  eq({ f[1].container, f[1].text }, { "migrate", "it ended (exit code 3, 0 restarts)" })
end)

test("faults become one line, the worst first, without what a terminal would obey", function()
  local list = {
    pod("web-1", waiting("ImagePullBackOff", "\27[31mno such image")), pod("web-2",
      waiting("ImagePullBackOff", "same")),
    pod("web-3", waiting("InvalidImageName", "bad")),
  }
  local words = pods_of.words(pods_of.all_faults(list))
  has(words, "pod web-3, container app: InvalidImageName: bad; pod web-1, container app: ImagePullBackOff:")
  has(words, "(and 1 more)")
  ok(not words:find("\27", 1, true))
  eq(pods_of.unready { pod("web-4", { name = "app", ready = false, restartCount = 0, state = { running = {} } }) },
    "pod web-4 is not ready")
end)

test("only pods of the newest revision count", function()
  local function owned(name, by, labels, img)
    return { metadata = { name = name, uid = name, labels = labels,
      ownerReferences = { { uid = by, controller = true } } }, spec = { containers = { { name = "app",
        image = img } } } }
  end
  local function names(list)
    local out = {}
    for i, p in ipairs(list) do out[i] = p.metadata.name end
    return out
  end
  local web = workload("Deployment", { template = { spec = { containers = { { name = "app",
    image = image "b" } } } } })
  web.metadata.annotations = { ["deployment.kubernetes.io/revision"] = "2" }
  local function set(uid, revision, img)
    return { metadata = { uid = uid, annotations = { ["deployment.kubernetes.io/revision"] = revision },
      ownerReferences = { { uid = "uid-1", controller = true } } },
      spec = { template = { spec = { containers = { { name = "app", image = img } } } } } }
  end
  local list = { owned("old", "rs-1", {}, image "a"), owned("new", "rs-2", {}, image "b"),
    owned("same image", "rs-0", {}, image "b") }
  eq(names(pods_of.newest(web, list, { set("rs-1", "1", image "a"), set("rs-2", "2", image "b") })), { "new" })
  eq(names(pods_of.newest(web, list)), { "new", "same image" }, "without the right to see ReplicaSets")
  -- The revision number is still the one before: the controller has not seen the change.
  eq(names(pods_of.newest(web, list, { set("rs-1", "2", image "a") })), { "new", "same image" })
  local db = workload("StatefulSet", {}, { updateRevision = "web-2" })
  eq(names(pods_of.newest(db, { owned("a", "uid-1", { ["controller-revision-hash"] = "web-1" }, image "a"),
    owned("b", "uid-1", { ["controller-revision-hash"] = "web-2" }, image "a") })), { "b" })
end)

test("the selector of a workload finds its pods", function()
  eq(watch.selector(workload("Deployment", { selector = { matchLabels = { b = "2", a = "1" }, matchExpressions = {
    { key = "tier", operator = "In", values = { "x", "y" } }, { key = "old", operator = "DoesNotExist" } } } })),
    "!old,a=1,b=2,tier in (x,y)")
end)

-- ---- what is written ----

local WHO <const> = { host = "one", id = "aaaa", app = "web", environment = "staging" }

local function request(letter, release, more)
  local r = { image = image(letter), digest = digest(letter), commit = ("c"):rep(40), version = "v1.2.0",
    release = release or 5, run = 7, by = "alice", generation = 3, since = 1000 }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

local function with_containers(kind, ...)
  local list = {}
  for i, name in ipairs { ... } do list[i] = { name = name, image = "lab.test/web:1", env = { { name = "A" } } } end
  local template = { spec = { containers = list, initContainers = { { name = "migrate",
    image = "lab.test/web:1" } } } }
  if kind == "CronJob" then
    return workload(kind, { jobTemplate = { spec = { template = template } } })
  end
  return workload(kind, { template = template })
end

test("exactly the named containers are patched; a wrong name is an error that tells the right ones", function()
  local web = with_containers("Deployment", "app", "side")
  local err = fails("invalid", patch.choose(web, { containers = { "ap" } }))
  has(err.message, "deployment/web has no container 'ap'; it has: app, side")
  has(fails("invalid", patch.choose(web, { containers = { "app" }, init_containers = { "nope" } })).message,
    "no init container 'nope'; it has: migrate")
  has(fails("invalid", patch.choose(web, {})).message, "`containers` must name those that get the image")
  local chosen = ok(patch.choose(web, { containers = { "app" }, init_containers = { "migrate" } }))
  local body = patch.body(web, chosen, request "b", WHO, json.null)
  eq(body.spec, { template = { spec = { containers = { { name = "app", image = image "b" } },
    initContainers = { { name = "migrate", image = image "b" } } } } })
  eq(body.metadata.resourceVersion, "77")
  local one = with_containers("Deployment", "only")
  eq(ok(patch.choose(one, {})).containers[1].name, "only")
  eq(patch.body(one, ok(patch.choose(one, {})), request "b", WHO, json.null).spec.template.spec.initContainers, nil)
end)

test("a CronJob is patched one level deeper", function()
  local job = with_containers("CronJob", "app")
  local body = patch.body(job, ok(patch.choose(job, {})), request "b", WHO, json.null)
  eq(body.spec, { jobTemplate = { spec = { template = { spec = { containers = {
    { name = "app", image = image "b" } } } } } } })
end)

test("server-side apply names the object and leaves out what is absent, a merge takes it away", function()
  local web = with_containers("Deployment", "app")
  local chosen = ok(patch.choose(web, {}))
  local r = request("b", 5, { version = false })
  r.version = nil
  local merge, apply = patch.body(web, chosen, r, WHO, json.null), patch.body(web, chosen, r, WHO, json.null, true)
  eq(merge.metadata.annotations["moontide.dev/version"], json.null)
  eq(apply.metadata.annotations["moontide.dev/version"], nil)
  eq({ apply.apiVersion, apply.kind, apply.metadata.name, apply.metadata.namespace },
    { "apps/v1", "Deployment", "web", "shop" })
  local a = merge.metadata.annotations
  local function said(key) return a["moontide.dev/" .. key] end
  eq({ said "by", said "commit", said "run", said "release", said "generation", said "state", said "host" },
    { "alice", ("c"):rep(40), "7", "5", "3", "aaaa", "one" })
  eq(a["kubernetes.io/change-cause"], "moontide: ccccccc by alice")
end)

test("what was written is known again, whoever asks", function()
  local web = with_containers("Deployment", "app")
  local chosen = ok(patch.choose(web, {}))
  eq(patch.applied(web, chosen, request "b", WHO), false)
  chosen.containers[1].image = image "b"
  web.metadata.annotations = patch.annotations(patch.story(web, request "b", WHO))
  eq(patch.applied(web, chosen, request "b", WHO), true)
  eq(patch.applied(web, chosen, request("b", 6), WHO), false, "another release of it gets its own story")
  local other = { host = "two", id = "bbbb", app = "web", environment = "staging" }
  eq(patch.applied(web, chosen, request "b", other), true, "another host decided the same and was first")
  eq(patch.applied(web, chosen, request "a", other), false)
end)

test("a host whose turn is over, or that was overtaken, does not write", function()
  local web = with_containers("Deployment", "app")
  ok(patch.fence(web, request "b", WHO))
  local function written(more, who)
    web.metadata.annotations = patch.annotations(patch.story({}, request("b", 5, more), who or WHO))
  end
  written()
  ok(patch.fence(web, request("c", 6), WHO))
  ok(patch.fence(web, request("b", 5), WHO))
  has(fails("conflict", patch.fence(web, request("a", 4), WHO)).message, "release 5 (v1.2.0, by host one) came after")
  written { generation = 9 }
  local err = fails("conflict", patch.fence(web, request("c", 6), WHO))
  has(err.message, "generation 9; ours is 3")
  eq(err.generation, 9)
  ok(patch.fence(web, request("c", 6, { generation = 9 }), WHO))
  written({}, { host = "two", id = "bbbb", app = "web", environment = "staging" })
  has(fails("conflict", patch.fence(web, request("c", 6), WHO)).message,
    "another Moontide, on host two, released v1.2.0")
  ok(patch.fence(web, request("c", 6, { since = 4102444800 }), WHO), "decided after that")
end)

test("annotations of an earlier release are read, and go when this one writes", function()
  local web = with_containers("Deployment", "app")
  local chosen = ok(patch.choose(web, {}))
  local function earlier(story)
    for key, value in pairs(story) do web.metadata.annotations["moontide/" .. key] = value end
  end
  web.metadata.annotations = { other = "stays" }
  earlier(patch.story({}, request("b", 5, { generation = 7 }), WHO))
  eq({ patch.annotation(web, "version"), patch.annotation(web, "release"), patch.generation(web) },
    { "v1.2.0", "5", 7 })
  local err = fails("conflict", patch.fence(web, request("c", 6, { generation = 3 }), WHO))
  eq(err.generation, 7)
  has(err.message, "moontide/generation-")
  local merge = patch.body(web, chosen, request("c", 6, { generation = 8 }), WHO, json.null).metadata.annotations
  eq({ merge["moontide/version"], merge["moontide/generation"], merge.other }, { json.null, json.null })
  eq(merge["moontide.dev/generation"], "8")
  local apply = patch.body(web, chosen, request("c", 6, { generation = 8 }), WHO, json.null, true).metadata.annotations
  eq({ apply["moontide/version"], apply["moontide.dev/generation"] }, { nil, "8" })
  -- A host of the earlier release that writes once more, later, is the last one to have written.
  for key, value in pairs(patch.annotations(patch.story({}, request("c", 6, { generation = 8 }), WHO))) do
    web.metadata.annotations[key] = value
  end
  eq(patch.generation(web), 8)
  earlier { generation = "9", at = "2999-01-01T00:00:00.000Z" }
  eq(patch.generation(web), 9)
end)

test("whatever somebody writes into our annotations, no host is locked out for good", function()
  local web = with_containers("Deployment", "app")
  local story = patch.story({}, request("b", 5), WHO)
  local function written(key, value)
    web.metadata.annotations = patch.annotations(story)
    web.metadata.annotations[PREFIX .. key] = value
  end
  for _, bomb in ipairs { "9223372036854775807", "9223372036854775806", "4611686018427387904", ("9"):rep(400) } do
    written("generation", bomb)
    local err = fails("conflict", patch.fence(web, request("c", 6), WHO))
    -- a host takes the next one, and so does each after it: below what a Lease can count
    ok(err.generation > 3 and err.generation + 1 < 2 ^ 31 - 2, bomb)
    local risen = request("c", 6, { generation = err.generation + 1 })
    ok(patch.fence(web, risen, WHO))
    ok(tonumber(patch.story(web, risen, WHO).generation) < 2 ^ 31)
  end
  for _, none in ipairs { "1e18", "0x7fffffffffffffff", "-1", "1.5", "many", "" } do
    written("generation", none)
    eq(patch.generation(web), 0)
    ok(patch.fence(web, request("c", 6), WHO))
  end
  for _, none in ipairs { "1e308", "6.5", "inf", "0xfff" } do
    written("release", none)
    ok(patch.fence(web, request("c", 6), WHO))
  end
  web.metadata.annotations = patch.annotations(patch.story({}, request("b", 5),
    { host = "two", id = "bbbb", app = "web", environment = "staging" }))
  fails("conflict", patch.fence(web, request("c", 6), WHO))
  web.metadata.annotations[PREFIX .. "at"] = "2199-01-01T00:00:00.000Z"
  ok(patch.fence(web, request("c", 6), WHO), "a clock that is wrong by years")
end)

test("who changed the image stands in managedFields", function()
  local web = with_containers("Deployment", "app")
  web.metadata.managedFields = {
    { manager = "kubectl-create", operation = "Update", time = "2026-01-01T00:00:00Z",
      fieldsV1 = { ["f:spec"] = { ["f:template"] = { ["f:spec"] = { ["f:containers"] = {
        ['k:{"name":"side"}'] = { ["f:image"] = {} } } } } } } },
    { manager = "helm", operation = "Apply", time = "2026-01-02T00:00:00Z",
      fieldsV1 = { ["f:spec"] = { ["f:template"] = { ["f:spec"] = { ["f:containers"] = {
        ['k:{"name":"app"}'] = { ["."] = {}, ["f:image"] = {} } } } } } } },
    { manager = "kube-controller-manager", operation = "Update", time = "2026-01-03T00:00:00Z",
      fieldsV1 = { ["f:status"] = {} } },
  }
  eq(patch.managers(web, "containers", "app"),
    { { manager = "helm", operation = "Apply", time = "2026-01-02T00:00:00Z" } })
  local chosen = ok(patch.choose(web, { containers = { "app" } }))
  eq(patch.foreign(web, chosen, request "b"),
    "helm (Apply, 2026-01-02T00:00:00Z) set the image of container app to lab.test/web:1")
  chosen.containers[1].image = image "b"
  eq(patch.foreign(web, chosen, request "b"), nil)
end)

test("a digest is read from an image's name, and only a whole one", function()
  eq(patch.digest(image "a"), digest "a")
  eq(patch.digest "lab.test/web:1", nil)
  eq(patch.digest "lab.test/web@sha256:abc", nil)
  eq(patch.digest(nil), nil)
end)

-- ---- manifests ----

local function read(...)
  local files = {}
  for i, text in ipairs { ... } do files[i] = { path = ("deploy/%d.yaml"):format(i), text = text } end
  return manifest.read(files)
end

local DEPLOYMENT <const> = [[
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, creationTimestamp: null }
spec:
  template:
    metadata: { creationTimestamp: null }
    spec:
      containers: [{ name: app, image: "web:dev" }]
      volumes: [{ name: c, configMap: { name: c, defaultMode: 0440 } }]
]]

test("manifests are applied in an order in which nothing waits for what comes later", function()
  local list = ok(read(DEPLOYMENT .. "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: web }\n",
    "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: Service, metadata: { name: web } }\n"
      .. '- { apiVersion: v1, kind: ConfigMap, metadata: { name: c }, data: { mode: "0644", empty: "" } }\n---\n---\n',
    "apiVersion: example.com/v1\nkind: Widget\nmetadata: { name: w }\n"))
  local kinds = {}
  for i, entry in ipairs(list) do kinds[i] = entry.object.kind end
  eq(kinds, { "ConfigMap", "Service", "Widget", "Deployment", "Ingress" })
  eq(list[1].object.data.mode, "0644", "quoted is text")
  local web = list[4].object
  eq(web.spec.template.spec.volumes[1].configMap.defaultMode, 288) -- 0440
  eq(web.metadata.creationTimestamp, nil)
  local place = ok(manifest.place(list, ok(rollout.workload "deployment/web"), "shop"))
  eq(place.object, web)
  for _, entry in ipairs(list) do eq(entry.object.metadata.namespace, "shop") end
  manifest.put(web, ok(patch.choose(web, {})), image "b", { ["moontide.dev/by"] = "alice" })
  eq(web.spec.template.spec.containers[1].image, image "b")
  eq(web.metadata.annotations, { ["moontide.dev/by"] = "alice" })
end)

test("manifests that reach further than their app, or that nobody can apply, are refused", function()
  local shop = ok(rollout.workload "deployment/web")
  local function refused(words, ...)
    local list, err = read(...)
    if list then list, err = manifest.place(list, shop, "shop") end
    has(fails("invalid", list, err).message, words)
  end
  refused("names the namespace kube-system; this target's is shop",
    DEPLOYMENT .. "---\napiVersion: v1\nkind: Secret\nmetadata: { name: s, namespace: kube-system }\n")
  refused("hold no deployment/web; they hold: statefulset/db",
    "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: { name: db }\n")
  refused("no apiVersion, kind or metadata.name", "kind: Deployment\n")
  for _, path in ipairs { "web/scale", "../secrets/s", "..", ".", "a%%2fb" } do
    refused("is not the name of a Deployment", (DEPLOYMENT:gsub("name: web", ("name: %q"):format(path), 1)))
  end
  refused("a document is no object", "- 1\n")
  refused("deploy/2.yaml: Deployment web stands in deploy/1.yaml too", DEPLOYMENT, DEPLOYMENT)
  refused("deploy/1.yaml:", "a: [\n")
  local odd = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { template: { spec: { %s } } }\n"
  for _, spec in ipairs { "containers: 5", "containers: [5]", "containers: [[1]], initContainers: x" } do
    local place = ok(manifest.place(ok(read(odd:format(spec))), shop, "shop"))
    fails("invalid", patch.choose(place.object, { containers = { "a" } }))
    local job = { kind = "Job", metadata = { name = "x", labels = "x" }, spec = place.object.spec }
    local made, err = require("checks.job").make(job, { app = "web", environment = "e" }, "n", "shop")
    if made then eq(spec, "none of these is a pod") end
    fails("invalid", made, err)
  end
  local many = {}
  for i = 1, 201 do many[i] = ("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c%d }\n"):format(i) end
  refused("more than 200 objects", table.concat(many, "---\n"))
end)

-- ---- events ----

test("an event is strict, and the same for the same effect", function()
  local web = with_containers("Deployment", "app")
  local one = event.make(web, "released", "aaaa 5", ("x"):rep(3000) .. "\27")
  eq(one.metadata.name, event.make(web, "released", "aaaa 5", "y").metadata.name)
  ok(one.metadata.name ~= event.make(web, "failed", "aaaa 5", "y").metadata.name)
  ok(one.metadata.name ~= event.make(web, "released", "aaaa 6", "y").metadata.name)
  ok(#one.note <= 1024 and one.eventTime:find("^%d+%-%d+%-%d+T[%d:]+%.%d%d%d%d%d%dZ$"))
  eq({ one.regarding.kind, one.regarding.name, one.type, one.reason, one.reportingController },
    { "Deployment", "web", "Normal", "Released", "moontide" })
end)

test("what is kept of a pod is enough to tell why it does not run", function()
  local p = pod("web-1", waiting("CrashLoopBackOff", "x", 3, { exitCode = 1 }))
  p.spec.volumes, p.metadata.annotations = { {} }, { big = "x" }
  local slim = pods_of.slim(p)
  eq(pods_of.faults(slim), pods_of.faults(p))
  eq({ slim.spec.volumes, slim.metadata.annotations }, {})
end)

-- ---- jobs ----

local job = require "checks.job"

local function check_request(more)
  local r = { app = "web", environment = "staging", commit = ("c"):rep(40), digest = digest "a", image = image "a",
    run = 7, release = 5 }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

test("a Job's name is the same for the same run, another for every other, and always one", function()
  local name = job.name("cronjob/smoke", "aaaa", check_request())
  eq(name, job.name("cronjob/smoke", "aaaa", check_request()))
  ok(name:find("^smoke%-%x+$"))
  for _, other in ipairs { job.name("cronjob/smoke", "bbbb", check_request()),
    job.name("cronjob/smoke", "aaaa", check_request { run = 8 }),
    job.name("cronjob/smoke", "aaaa", check_request { release = 6 }),
    job.name("cronjob/other", "aaaa", check_request()) } do
    ok(other ~= name)
  end
  for _, what in ipairs { "checks/" .. ("x"):rep(200) .. ".yaml", "a/Smoke_Test.yml", "---.yaml", "cronjob/a.b" } do
    local made = job.name(what, "aaaa", check_request())
    ok(#made <= 63 and rollout.is_name(made), made)
  end
end)

test("a Job gets the release in its environment, the released image where it is the app's, and no owner", function()
  local function made(spec, kind)
    local source = { kind = kind or "Job", apiVersion = "batch/v1", metadata = { name = "smoke" },
      spec = kind == "CronJob" and { schedule = "x", jobTemplate = { metadata = { labels = { a = "b" } },
        spec = spec } }
        or spec }
    return job.make(source, check_request(), "smoke-1", "shop")
  end
  local result = ok(made({ suspend = true, template = { spec = { containers = {
    { name = "own", image = "lab.test/web:dev", env = { { name = "IMAGE", value = "old" }, { name = "X",
      value = "1" } } },
    { name = "tool", image = "lab.test/webber:1" },
  } } } }, "CronJob"))
  local containers = result.spec.template.spec.containers
  eq({ containers[1].image, containers[2].image }, { image "a", "lab.test/webber:1" })
  local env = {}
  for _, e in ipairs(containers[1].env) do env[#env + 1] = e.name .. "=" .. e.value end
  eq(env, { "APP=web", "COMMIT=" .. ("c"):rep(40), "DIGEST=" .. digest "a", "ENVIRONMENT=staging",
    "IMAGE=" .. image "a", "RELEASE=5", "X=1" })
  eq({ result.metadata.labels.a, result.metadata.ownerReferences, result.spec.suspend, result.spec.backoffLimit,
    result.spec.template.spec.restartPolicy, result.metadata.annotations["cronjob.kubernetes.io/instantiate"],
    result.metadata.annotations["moontide.dev/run"] }, { "b", nil, nil, 0, "Never", "manual", "7" })
  eq(ok(made { backoffLimit = 3, template = { spec = { containers = {} } } }).spec.backoffLimit, 3)
  has(fails("invalid", made {}).message, "job/smoke describes no pod")
end)
