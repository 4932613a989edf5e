-- The client of the Kubernetes API against a real API server.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster = require "cluster.lab"
local access, kubernetes = require "cluster.access", require "kubernetes"
local http, json, task, time = require "http", require "json", require "task", require "time"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function admin(c, namespace) return ok(kubernetes.open { kubeconfig = c.kubeconfig, namespace = namespace }) end

local function as(c, token, namespace)
  return ok(kubernetes.open { kubeconfig = c:kubeconfig_for(token, namespace) })
end

local function config_map(name, value)
  return { apiVersion = "v1", kind = "ConfigMap", metadata = { name = name }, data = { v = value } }
end

test("objects are made, read, changed in each way, replaced and deleted", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local client = admin(c)
  local list, web = kubernetes.path("deployment", ns), kubernetes.path("deployment", ns, "web")
  local made = ok(client:create(list, cluster.deployment("web", { replicas = 0 })))
  eq({ made.kind, made.metadata.managedFields }, { "Deployment", nil })
  eq(fails("exists", client:create(list, cluster.deployment("web", {}))).status, 409)
  local ours = false
  for _, field in ipairs(ok(client:get(web, nil, { managed_fields = true })).metadata.managedFields) do
    ours = ours or field.manager == "moontide"
  end
  eq(ours, true)

  local patched = ok(client:patch(web, { spec = { template = { spec = { containers = {
    { name = "app", image = "lab.test/app:2" } } } } } }, "strategic"))
  eq(#patched.spec.template.spec.containers, 1)
  eq(patched.spec.template.spec.containers[1].image, "lab.test/app:2")
  eq(ok(client:patch(web, { metadata = { annotations = { a = "1" } } }, "merge")).metadata.annotations.a, "1")
  eq(ok(client:patch(web, { metadata = { annotations = { a = json.null } } }, "merge")).metadata.annotations.a, nil)
  local pause = json.array { { op = "replace", path = "/spec/paused", value = true } }
  eq(ok(client:patch(web, pause, "json")).spec.paused, true)

  local current, replaced
  check.eventually(function() -- the controllers write too
    current = ok(client:get(web))
    current.spec.paused = nil
    replaced = client:replace(web, current)
    return replaced
  end)
  eq(replaced.spec.paused, nil)
  local err = fails("conflict", client:replace(web, current)) -- its version is old now
  eq(err.reason, "Conflict")
  has(err.message, "the object has been modified")
  fails("conflict", client:patch(web, { metadata = { resourceVersion = current.metadata.resourceVersion } }, "merge"))

  err = fails("invalid", client:patch(web, { spec = { replicas = -1 } }, "merge"))
  eq({ err.status, err.causes[1].field }, { 422, "spec.replicas" })
  fails("invalid", client:patch(web, { spec = { replicas = "many" } }, "merge"))
  ok(client:delete(web, { preconditions = { uid = made.metadata.uid } }))
  check.eventually(function() return not client:get(web) end, 20)
  has(fails("not_found", client:get(web)).message, ('deployments.apps "web" not found in namespace %s'):format(ns))
  fails("not_found", client:delete(web))
end)

test("server-side apply makes, changes and meets the fields of others", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local client = admin(c)
  local path = kubernetes.path("configmap", ns, "settings")
  local one = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings" }, data = { a = "1", b = "2" } }
  ok(client:patch(path, one, "apply"))
  one.data = { a = "3" }
  eq(ok(client:patch(path, one, "apply")).data, { a = "3" }) -- what we leave out we give up
  one.data = { a = "4" }
  local err = fails("conflict", client:patch(path, one, "apply", { fieldManager = "somebody" }))
  eq({ err.managers, err.causes[1].field }, { { "moontide" }, ".data.a" })
  has(err.message, "configmaps settings in namespace " .. ns .. ": .data.a belong to moontide")
  eq(ok(client:patch(path, one, "apply", { fieldManager = "somebody", force = true })).data.a, "4")
  eq(fails("conflict", client:patch(path, { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings" },
    data = { a = "5" } }, "apply")).managers, { "somebody" })
end)

test("a list comes in pages, whole, with only what is kept", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local client = admin(c)
  local path = kubernetes.path("configmap", ns)
  for i = 1, 23 do ok(client:create(path, config_map("m" .. i, tostring(i)))) end
  local before = client.counters.requests
  local list = ok(client:list(path, { limit = 5 }, { keep = function(o) return o.data.v end }))
  eq(client.counters.requests - before, 5)
  table.sort(list.items, function(a, b) return tonumber(a) < tonumber(b) end)
  eq({ #list.items, list.items[23] }, { 23, "23" }) -- the cluster's own has no v
  eq(#ok(client:list(path, { fieldSelector = "metadata.name=m7" })).items, 1)
end)

test("what is not allowed is named, and tokens that are none are refused", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local rule = { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "get" } }
  local token = c:service_account(ns, "bot", { rule })
  local client = as(c, token, ns)
  eq(client.namespace, ns)
  local who = ("system:serviceaccount:%s:bot"):format(ns)
  local web = kubernetes.path("deployment", ns, "web")
  fails("not_found", client:get(web))
  local err = fails("denied", client:patch(web, {}, "strategic"))
  eq(err.message, ("may not patch deployments in namespace %s as %s"):format(ns, who))
  eq({ err.verb, err.resource, err.namespace, err.user }, { "patch", "deployments", ns, who })
  local function denied(what, ...)
    local message = fails("denied", ...).message
    eq(message, ("may not %s as %s"):format(what:gsub("HERE", "in namespace " .. ns), who))
  end
  denied("list pods HERE", client:list(kubernetes.path("pod", ns)))
  denied("list nodes in the whole cluster", client:list(kubernetes.path("node")))
  denied("watch deployments HERE", client:watch(web, nil, function() end))
  denied("get pods/log HERE", client:logs(ns, "web-1"))
  denied("create jobs HERE", client:create(kubernetes.path("job", ns), { apiVersion = "batch/v1", kind = "Job" }))
  err = fails("denied", client:follow(kubernetes.path("deployment", ns)))
  has(err.message, ("deployments in namespace %s as %s"):format(ns, who)) -- list or, where lists are streamed, watch
  fails("unauthorized", as(c, "no.such.token", ns):get(web))
end)

test("quota and other admission say what they object to", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local client = admin(c)
  local hard = { ["count/configmaps"] = "1" }
  ok(client:create(kubernetes.path("resourcequota", ns), {
    apiVersion = "v1", kind = "ResourceQuota", metadata = { name = "small" }, spec = { hard = hard },
  }))
  check.eventually(function()
    local quota = ok(client:get(kubernetes.path("resourcequota", ns, "small")))
    return quota.status and quota.status.used and quota.status.used["count/configmaps"]
  end, 20)
  local err = fails("denied", client:create(kubernetes.path("configmap", ns), config_map("more", "1")))
  has(err.message, "the cluster does not let us create configmaps in namespace " .. ns)
  has(err.message, "exceeded quota: small")
  err = fails("not_found", client:create(kubernetes.path("configmap", "no-such-namespace"), config_map("x", "1")))
  has(err.message, 'namespaces "no-such-namespace" not found')
end)

test("a followed list sees what happens, also only one object of it", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local client = admin(c)
  local path = kubernetes.path("configmap", ns)
  ok(client:create(path, config_map("one", "1")))
  local told = {}
  local all <close> = ok(client:follow(path, nil, {
    keep = function(o) return o.data and o.data.v end,
    on_change = function(change, key, value)
      told[#told + 1] = ("%s %s %s"):format(change, key:match("[^/]+$"), tostring(value))
    end,
  }))
  local one <close> = ok(client:follow(path .. "/one"))
  eq(one.count, 1)
  ok(client:create(path, config_map("two", "2")))
  ok(client:patch(path .. "/one", { data = { v = "11" } }, "merge"))
  ok(client:delete(path .. "/two"))
  ok(all:wait(function() return #told >= 4 end, 20))
  eq(told, { "ADDED one 1", "ADDED two 2", "MODIFIED one 11", "DELETED two nil" })
  ok(one:wait(function(r) return r:items()[ns .. "/one"].data.v == "11" end, 20))
  ok(client:delete(path .. "/one"))
  ok(one:wait(function(r) return r.count == 0 end, 20))
  eq(all.client.counters.relists <= 4, true)
end)

test("kinds are found out about, custom ones too", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local client = admin(c)
  local group = ns .. ".example.com"
  fails("not_found", client:resource(group .. "/v1", "Widget"))
  ok(client:create(kubernetes.path("crd"), {
    apiVersion = "apiextensions.k8s.io/v1", kind = "CustomResourceDefinition",
    metadata = { name = "widgets." .. group },
    spec = { group = group, scope = "Namespaced",
      names = { plural = "widgets", singular = "widget", kind = "Widget" },
      versions = json.array { { name = "v1", served = true, storage = true, schema = { openAPIV3Schema = {
        type = "object", ["x-kubernetes-preserve-unknown-fields"] = true } } } } },
  }))
  check.defer(function() client:delete(kubernetes.path("crd", nil, "widgets." .. group)) end)
  local kind
  check.eventually(function()
    client.known.groups = {}
    kind = client:resource(group .. "/v1", "Widget")
    return kind
  end, 30)
  eq({ kind.plural, kind.namespaced }, { "widgets", true })
  local widget = { apiVersion = group .. "/v1", kind = "Widget", metadata = { name = "w", namespace = ns },
    spec = { list = json.array(), map = {}, none = json.null } }
  local path = ok(client:path_of(widget))
  check.eventually(function() return client:patch(path, widget, "apply") end, 20)
  local got = ok(client:get(path, nil, { nulls = true }))
  eq({ got.spec.list, json.is_array(got.spec.list), got.spec.map, got.spec.none }, { {}, true, {}, json.null })
  fails("unsupported", client:patch(path, { spec = {} }, "strategic")) -- not for custom resources
  has(client:version().gitVersion, "v1.")
  eq(client:minor_version() >= 20, true)
end)

test("a service account's files are a way in", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local token = c:service_account(ns, "pod", { { resources = { "configmaps" }, verbs = { "list" } } })
  local dir = c:pod_secrets(token, ns)
  local sys, proc = require "base.sys", require "proc"
  local base = require "lab.base"
  local script = base.write(base.dir("script") .. "/pod.lua", [[
local access, kubernetes = require "cluster.access", require "kubernetes"
local client = kubernetes.client(assert(access.in_cluster(...)))
local list = assert(client:list(kubernetes.path("configmap", client.namespace)))
print(client.namespace, #list.items)
print(select(2, client:list(kubernetes.path("secret", client.namespace))).message)
]])
  local host, port = c.server:match("//(.+):(%d+)$")
  local result = ok(proc.run { sys.exe(), "exec", script, dir,
    env = { KUBERNETES_SERVICE_HOST = host, KUBERNETES_SERVICE_PORT = port } })
  local said = "%s\t1\nmay not list secrets in namespace %s as system:serviceaccount:%s:pod\n"
  eq(result.stdout, said:format(ns, ns, ns))
end)

test("the server proves itself by its authority, by another name, or not at all when that is asked for", function()
  local c = cluster.open()
  local base, fs, hash = require "lab.base", require "fs", require "hash"
  local ca = hash.base64(ok(fs.read(c.ca)))
  local function try(more)
    local client = ok(kubernetes.open { kubeconfig = base.write(base.dir("config") .. "/config", ([[
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "%s"%s}}]
users: [{name: u, user: {client-certificate-data: %s, client-key-data: %s}}]
]]):format(c.server, more, hash.base64(ok(fs.read(c.cert))), hash.base64(ok(fs.read(c.key))))) })
    local space, err = client:get("/api/v1/namespaces/default")
    eq(client.counters.retries, 0) -- a certificate does not get better
    return space, err
  end
  ok(try(", certificate-authority-data: " .. ca))
  ok(try(", insecure-skip-tls-verify: true"))
  fails("tls", try "")
  ok(try(", tls-server-name: kubernetes.default.svc, certificate-authority-data: " .. ca))
  fails("tls", try(", tls-server-name: other.example.com, certificate-authority-data: " .. ca))
end)

test("a token that is taken away is replaced by the new one in its file", function()
  local c = cluster.open()
  local ns = c:namespace "kube"
  local rules = { { resources = { "configmaps" }, verbs = { "list" } } }
  local first = c:service_account(ns, "first", rules)
  local file = require("lab.base").write(require("lab.base").dir("token") .. "/token", first)
  local client = ok(kubernetes.open { kubeconfig = require("lab.base").write(file .. ".config", ([[
current-context: c
contexts: [{name: c, context: {cluster: c, user: u, namespace: %s}}]
clusters: [{name: c, cluster: {server: "%s", certificate-authority: %s}}]
users: [{name: u, user: {tokenFile: %s}}]
]]):format(ns, c.server, c.ca, file)) })
  local path = kubernetes.path("configmap", ns)
  ok(client:list(path))
  c:delete(("/api/v1/namespaces/%s/serviceaccounts/first"):format(ns)) -- its tokens are worth nothing from now on
  check.eventually(function()
    local list, err = client:list(path)
    return not list and err.code == "unauthorized"
  end, 30)
  require("fs").write(file, c:service_account(ns, "second", rules))
  ok(client:list(path))
end)

test("a followed list outlives the API server's restart, compaction and all", function()
  local c = cluster.private { controllers = false }
  local ns = c:namespace "kube"
  local client = admin(c)
  local path = kubernetes.path("configmap", ns)
  for i = 1, 6 do ok(client:create(path, config_map("m" .. i, "1"))) end
  local maps <close> = ok(client:follow(path))
  eq(maps.count, 6)
  c.plane:stop_api()
  check.eventually(function() return maps.err end, 20)
  eq(maps.count, 6) -- what was known stays known
  fails("refused", client:with { attempts = 1 }:get(path .. "/m1"))
  c.plane:start_api()
  ok(client:patch(path .. "/m1", { data = { v = "2" } }, "merge"))
  ok(maps:wait(function(r) return r:items()[ns .. "/m1"].data.v == "2" end, 60))
  check.eventually(function() return maps.err == nil end)

  -- versions of before are gone for good
  local raw = ok(client:request { path = path, query = { limit = 2 } })
  local old = raw.metadata
  for i = 1, 6 do ok(client:patch(path .. "/m" .. i, { data = { v = "3" } }, "merge")) end
  ok(client:delete(path .. "/m6"))
  local now = ok(client:get(path .. "/m1"))
  local etcd = ("http://127.0.0.1:%d/v3/kv/compaction"):format(c.plane.ports.etcd)
  local body = { revision = tonumber(now.metadata.resourceVersion), physical = true }
  eq(ok(http.post(etcd, body)).status, 200)
  c.plane:stop_api "TERM" -- its cache remembers more than etcd
  c.plane:start_api()
  local function expired(_, err) eq({ err.code, err.status, err.reason }, { "conflict", 410, "Expired" }) end
  expired(client:request { path = path, query = { limit = 2, continue = old.continue } })
  expired(client:watch(path, { resourceVersion = old.resourceVersion }, function() end))
  ok(client:patch(path .. "/m2", { data = { v = "4" } }, "merge"))
  ok(maps:wait(function(r) return r:items()[ns .. "/m2"].data.v == "4" and r.count == 5 end, 60))
end, 240)

test("many clients of one API server share its connections and its counters", function()
  local c = cluster.open()
  local client = admin(c)
  local before = client.counters.requests
  local jobs = {}
  for i = 1, 40 do jobs[i] = function() return ok(client:get("/api/v1/namespaces/default")) end end
  task.all(jobs)
  eq(client.counters.requests - before, 40)
  eq(ok(kubernetes.open { kubeconfig = c.kubeconfig }).counters.requests >= 40, true)
  eq(time.monotonic() > 0 and access.reread, 60)
end)
