-- The client with a real kubelet: logs of containers that run, and our own program inside a pod.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local cluster, own_image = require "cluster.lab", require "cluster.own_image"
local kubernetes, task = require "kubernetes", require "task"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local TALK <const> = [[
local time = require "time"
for i = 1, 60 do
  print(("line %d %s"):format(i, ("x"):rep(i % 7 * 30)))
  time.sleep(0.05)
end
print "the end"
]]

local function pod(name, image, more)
  local spec = { restartPolicy = "Never", containers = { { name = "app", image = image } } }
  for key, value in pairs(more or {}) do spec[key] = value end
  return { apiVersion = "v1", kind = "Pod", metadata = { name = name }, spec = cluster.on_real_node(spec) }
end

test("a log is followed from before its container starts to its end, and read afterwards", function()
  local c = cluster.open()
  c:need_real()
  local ns, registry = c:namespace "kube-logs", lab.registry {}
  local client = ok(kubernetes.open { kubeconfig = c.kubeconfig })
  local pods = kubernetes.path("pod", ns)
  ok(client:create(pods, pod("talk", own_image(registry, "team/talk", TALK))))
  local lines, times = {}, 0
  ok(client:logs(ns, "talk", { follow = true, within = 90, on_line = function(line, at)
    lines[#lines + 1] = line:match("^line %d+") or line
    times = times + (at and 1 or 0)
  end }))
  local want = {}
  for i = 1, 60 do want[i] = "line " .. i end
  want[61] = "the end"
  eq(lines, want)
  eq(times, 61)
  local text = ok(client:logs(ns, "talk", { container = "app" }))
  has(text, "line 1 ")
  has(text, "\nthe end\n")
  eq(client:log_tail(ns, "talk", { tail = 1 }), { "the end" })
  fails("invalid", client:logs(ns, "talk", { container = "none" }))
  fails("not_found", client:logs(ns, "nobody"))
  fails("invalid", client:logs(ns, "talk", { previous = true }))
  eq(client:log_tail(ns, "talk", { previous = true }), {})
  ok(client:create(pods, pod("never", registry.host .. "/team/none:none")))
  local err = fails("invalid", client:logs(ns, "never", { follow = true, within = 3, on_line = print }))
  has(err.message, "waiting to start")
end, 180)

test("the log of a container's former life is there", function()
  local c = cluster.open()
  c:need_real()
  local ns, registry = c:namespace "kube-logs", lab.registry {}
  local client = ok(kubernetes.open { kubeconfig = c.kubeconfig })
  local image = own_image(registry, "team/fails", 'print "it went wrong" error "no"')
  ok(client:create(kubernetes.path("pod", ns), pod("fails", image, { restartPolicy = "Always" })))
  local watched <close> = ok(client:follow(kubernetes.path("pod", ns, "fails")))
  ok(watched:wait(function(r)
    local own = r:items()[ns .. "/fails"]
    local container = own and own.status.containerStatuses and own.status.containerStatuses[1]
    return container and container.restartCount > 0
  end, 90))
  -- The kubelet soon forgets a life when there was another.
  check.eventually(function()
    return (client:logs(ns, "fails", { previous = true }) or ""):find("it went wrong", 1, true)
  end, 60)
end, 150)

local INSIDE <const> = [[
local kubernetes = require "kubernetes"
local cluster = assert(kubernetes.open "default")
print("namespace " .. cluster.namespace)
local maps <close> = assert(cluster:follow(kubernetes.path("configmap", cluster.namespace), nil, {
  keep = function(map) return map.data and map.data.go end,
}))
print "following"
assert(maps:wait(function() return maps:items()[cluster.namespace .. "/signal"] == "yes" end, 60))
print "seen"
local _, err = cluster:list(kubernetes.path("secret", cluster.namespace))
print(err.message)
]]

test("inside a pod the cluster is found without a word of configuration", function()
  local c = cluster.open()
  c:need_real()
  local ns, registry = c:namespace "kube-pod", lab.registry {}
  local client = ok(kubernetes.open { kubeconfig = c.kubeconfig })
  c:service_account(ns, "inside", { { resources = { "configmaps" }, verbs = { "list", "watch" } } })
  local image = own_image(registry, "team/inside", INSIDE)
  ok(client:create(kubernetes.path("pod", ns), pod("inside", image, { serviceAccountName = "inside" })))
  local lines, ended = {}, false
  local reading = task.spawn(function()
    local function on_line(line) lines[#lines + 1] = line end
    local done, err = client:logs(ns, "inside", { follow = true, within = 90, on_line = on_line })
    ended = true
    return done, err
  end)
  check.eventually(function() return ended or lines[2] ~= nil end, 90)
  eq(lines[2], "following", table.concat(lines, "\n"))
  ok(client:create(kubernetes.path("configmap", ns), {
    apiVersion = "v1", kind = "ConfigMap", metadata = { name = "signal" }, data = { go = "yes" },
  }))
  ok(reading:join(60))
  eq(lines, { "namespace " .. ns, "following", "seen",
    ("may not list secrets in namespace %s as system:serviceaccount:%s:inside"):format(ns, ns) })
end, 180)
