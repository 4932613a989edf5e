-- The kubernetes target against a cluster of memory: what a real one does too seldom, or never when a test looks.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base = require "lab.base"
local errors, json, log, task, time = require "errors", require "json", require "log", require "task", require "time"
local kubernetes, targets = require "kubernetes", require "targets"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local function digest(letter) return "sha256:" .. letter:rep(64) end
local function image(letter) return "lab.test/web@" .. digest(letter) end

-- ---- a cluster of memory ----

local WEB <const> = "/apis/apps/v1/namespaces/shop/deployments/web"
local EVENTS <const> = "/apis/events.k8s.io/v1/namespaces/shop/events"

local function status(wanted, updated, available, old)
  return { observedGeneration = 1, replicas = updated + (old or 0), updatedReplicas = updated,
    availableReplicas = available, wanted = wanted }
end

local Fake = {}
Fake.__index = Fake

local function fake(img)
  return setmetatable({
    namespace = "shop", version = 1, patches = 0, events = {}, pods = {}, logs = {}, followers = {}, deny = {},
    web = { apiVersion = "apps/v1", kind = "Deployment",
      metadata = { name = "web", namespace = "shop", uid = "uid-1", generation = 1, resourceVersion = "1" },
      spec = { replicas = 1, selector = { matchLabels = { app = "web" } },
        template = { spec = { containers = { { name = "app", image = img or "lab.test/web:1" } } } } },
      status = status(1, 1, 1) },
  }, Fake)
end

local function copy(value) return assert(json.decode(json.encode(value))) end

function Fake:get(path)
  if self.deny.get then return nil, self.deny.get end
  if path == WEB and self.web then return copy(self.web) end
  return errors.fail("not_found", path .. " not found", { status = 404 })
end

function Fake:list(path)
  if path:find("pods$") then return { items = copy(self.pods) } end
  return { items = {} }
end

function Fake:patch(path, body)
  self.patches = self.patches + 1
  local before = self.before_patch and self.before_patch(self.patches)
  if before then return nil, before end
  eq(path, WEB)
  if body.metadata.resourceVersion ~= self.web.metadata.resourceVersion then
    return errors.fail("conflict", "the object has been modified", { status = 409 })
  end
  self:change(function(web)
    local meta = web.metadata
    meta.annotations = meta.annotations or {}
    for k, v in pairs(body.metadata.annotations) do meta.annotations[k] = v ~= json.null and v or nil end
    web.spec.template.spec.containers[1].image = body.spec.template.spec.containers[1].image
  end)
  local lost = self.after_patch and self.after_patch(self.patches)
  if lost then return nil, lost end
  return copy(self.web)
end

function Fake:create(path, body)
  eq(path, EVENTS)
  if self.deny.events then return nil, self.deny.events end
  self.events[#self.events + 1] = body
  return body
end

function Fake:log_tail(_, pod, options) return self.logs[pod .. (options.previous and " before" or "")] or {} end

function Fake:change(fn)
  if self.web then
    fn(self.web)
    self.version = self.version + 1
    if self.web then self.web.metadata.resourceVersion = tostring(self.version) end
  end
  for follower in pairs(self.followers) do follower.on_change() end
end

function Fake:follow(path, _, options)
  if self.deny.follow and path:find(self.deny.follow.resource, 1, true) then return nil, self.deny.follow end
  local cluster = self
  local follower = { synced = true, failures = 0, on_change = options.on_change }
  function follower.items()
    if path:find("pods$") then
      local map = {}
      for i, pod in ipairs(cluster.pods) do map[i] = copy(pod) end
      return map
    end
    return { web = cluster.web and copy(cluster.web) or nil }
  end
  function follower.close() cluster.followers[follower] = nil end
  self.followers[follower] = true
  self.follower = path == WEB and follower or self.follower
  return follower
end

local function open(cluster, config)
  kubernetes.open = function() return cluster end
  local target = { kind = "kubernetes", cluster = "lab", workload = "deployment/web", containers = {},
    init_containers = {}, patience = 0.3, timeout = 5, server_side = false }
  for k, v in pairs(config or {}) do target[k] = v end
  return ok(targets.open({ name = "staging", app = "web", target = target, verify = {} },
    require("engine.world").of { state = base.dir("state"), apps = {} }))
end

local function request(letter, release, more)
  local r = { image = image(letter), digest = digest(letter), commit = letter:rep(40), version = "v1.0." .. release,
    release = release, run = release, by = "alice", generation = 1, since = time.now(), steps = {} }
  r.hooks = { output = function() end, progress = function(words) r.steps[#r.steps + 1] = words end }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

local function pod(name, img, container, more)
  local p = { metadata = { name = name, uid = name }, status = { conditions = {}, containerStatuses = { container } },
    spec = { containers = { { name = "app", image = img } } } }
  for k, v in pairs(more or {}) do p[k] = v end
  return p
end

local function crashed(restarts)
  return { name = "app", restartCount = restarts, ready = false,
    state = { waiting = { reason = "CrashLoopBackOff", message = "back-off" } },
    lastState = { terminated = { exitCode = 2, reason = "Error" } } }
end

local function later(seconds, fn)
  return task.spawn(function()
    time.sleep(seconds)
    fn()
  end)
end

-- ---- apply ----

test("an answer that is lost on its way is no second rollout", function()
  local c = fake()
  local t = open(c)
  c.after_patch = function(n) if n == 1 then return errors.new("reset", "the connection broke") end end
  fails("reset", t:apply(request("a", 1)))
  ok(t:apply(request("a", 1))) -- as the run does after a transient error
  eq(c.patches, 1)
end)

test("somebody who writes all the time is given up on, with the cluster's conflict", function()
  local c = fake()
  local t = open(c)
  c.before_patch = function() return errors.new("conflict", "the object has been modified", { status = 409 }) end
  has(fails("conflict", t:apply(request("a", 1))).message, "has been modified")
  eq(c.patches, 6)
end)

test("a workload that is being deleted gets no release", function()
  local c = fake()
  c.web.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
  has(fails("conflict", open(c):apply(request("a", 1))).message, "deployment/web is being deleted")
  eq(c.patches, 0)
end)

test("events that cannot be written are no failure", function()
  local c = fake()
  c.deny.events = errors.new("denied", "may not create events")
  local t = open(c)
  ok(t:apply(request("a", 1)))
  ok(t:settle(request("a", 1)))
end)

test("the request may name other containers than the configuration", function()
  local c = fake()
  local t = open(c, { containers = { "other" } })
  fails("invalid", t:apply(request("a", 1)))
  ok(t:apply(request("a", 1, { containers = { "app" } })))
end)

-- ---- wait ----

-- A rollout that has begun, of image a, in a pod that shows this container.
local function rolling(container, config)
  local c = fake()
  local t = open(c, config)
  ok(t:apply(request("a", 1)))
  c.web.status = status(1, 1, 0, 1)
  c.pods = { pod("web-1", image "a", container) }
  return c, t
end

test("a fault that goes away within patience is none", function()
  local c, t = rolling(crashed(1), { patience = 1 })
  local healer <close> = later(0.3, function()
    c.pods, c.web.status = { pod("web-1", image "a", { name = "app", ready = true, restartCount = 1,
      state = { running = {} } }) }, status(1, 1, 1)
    c:change(function() end)
  end)
  ok(healer)
  local r = request("a", 1)
  ok(t:wait(r))
  has(r.steps[1], "CrashLoopBackOff")
  eq(r.steps[#r.steps], "1 of 1 updated, 1 available")
end)

test("one that lasts ends the wait with the pod's last words, without secrets", function()
  local c, t = rolling(crashed(3), { timeout = 600 })
  log.secret "correct horse battery"
  c.logs["web-1 before"] = { "starting", "password is correct horse battery", "\27[31mno database" }
  local err = fails("unhealthy", t:wait(request("a", 1))) -- the whole time is more than this test has
  has(err.message, "CrashLoopBackOff (exit code 2, 3 restarts)")
  has(err.message, "it said: starting | password is [redacted] |")
  has(err.message, "no database")
  ok(not err.message:find("\27", 1, true))
  eq({ c.events[#c.events].reason, c.events[#c.events].type }, { "ReleaseFailed", "Warning" })
end)

test("pods of the release before do not count", function()
  local c, t = rolling(nil, { timeout = 1 })
  c.pods = { pod("old", image "b", crashed(9)) }
  local err = fails("unhealthy", t:wait(request("a", 1)))
  has(err.message, "it did not finish in 1 s: 1 of 1 updated, 0 available")
  ok(not err.message:find("CrashLoop", 1, true))
end)

test("what cannot be made because old pods still go is waited for", function()
  local c, t = rolling(nil, { timeout = 1 })
  c.web.status.conditions = { { type = "ReplicaFailure", status = "True", reason = "FailedCreate",
    message = "exceeded quota: tight" } }
  c.pods = { pod("old", image "b", nil, { metadata = { name = "old", uid = "o", deletionTimestamp = "x" } }) }
  has(fails("unhealthy", t:wait(request("a", 1))).message, "it did not finish in 1 s")
  c.pods = {}
  has(fails("unhealthy", t:wait(request("a", 1))).message, "it stands still")
end)

test("an image whose registry is out of reach is nothing of the release; one that is not there is", function()
  local function waits(reason, message)
    local c, t = rolling({ name = "app", restartCount = 0, ready = false,
      state = { waiting = { reason = "ErrImagePull", message = message } } }, { patience = 0.3, timeout = 10 })
    -- A kubelet that backs off does not repeat why.
    task.spawn(function()
      time.sleep(0.1)
      c.pods[1].status.containerStatuses[1].state.waiting = { reason = reason, message = "Back-off pulling image" }
      c:change(function() end)
    end)
    local _, err = t:wait(request("a", 1))
    return err.code, errors.passing(err)
  end
  eq({ waits("ImagePullBackOff", "dial tcp 10.0.0.1:5000: connect: connection refused") }, { "refused", true })
  eq({ waits("ImagePullBackOff", "manifest unknown") }, { "unhealthy", false })
  eq({ waits("RegistryUnavailable", "the registry is unavailable") }, { "unreachable", true })
end)

test("a right that is taken away while it is watched ends the wait", function()
  local c, t = rolling(nil)
  local taker <close> = later(0.2, function()
    c.follower.err, c.follower.failures = errors.new("denied", "may not watch deployments in namespace shop"), 5
    c.follower.on_change()
  end)
  ok(taker)
  has(fails("denied", t:wait(request("a", 1))).message, "may not watch deployments")
end)

test("a cluster that is out of reach when the time is over says nothing against the release", function()
  local c, t = rolling(nil, { timeout = 1 })
  local breaker <close> = later(0.1, function() c.follower.err = errors.new("refused", "nobody listens") end)
  ok(breaker)
  has(fails("refused", t:wait(request("a", 1))).message, "the cluster cannot be watched: nobody listens")
end)

test("another Moontide that takes over while we wait is named", function()
  local c, t = rolling(nil)
  local other <close> = later(0.2, function()
    c:change(function(web)
      web.spec.template.spec.containers[1].image = image "b"
      web.metadata.annotations["moontide.dev/host"] = "host-two"
      web.metadata.managedFields = { { manager = "moontide", operation = "Update", time = "2026-01-01T00:00:00Z",
        fieldsV1 = { ["f:spec"] = { ["f:template"] = { ["f:spec"] = { ["f:containers"] = {
          ['k:{"name":"app"}'] = { ["f:image"] = {} } } } } } } } }
    end)
  end)
  ok(other)
  has(fails("conflict", t:wait(request("a", 1))).message,
    "somebody else changed it while it was being released: the Moontide on host host-two set the image")
end)

-- ---- current ----

local function running(img, id)
  return { name = "app", ready = true, restartCount = 0, state = { running = {} }, imageID = id, image = img }
end

test("what a tag put there is known by the digest that its pods report, when they agree", function()
  local c = fake "lab.test/web:v1"
  local t = open(c)
  c.pods = { pod("web-1", "lab.test/web:v1", running("x", "lab.test/web@" .. digest "c")),
    pod("web-2", "lab.test/web:v1", running("x", "docker-pullable://lab.test/web@" .. digest "c")) }
  local now = ok(t:current())
  eq({ now.digest, now.image, now.healthy, now.commit, now.foreign }, { digest "c", image "c", true })
  c.pods[2].status.containerStatuses[1].imageID = "lab.test/web@" .. digest "d"
  eq(t:current().digest, nil)
  c.pods[2].status.containerStatuses[1].imageID = digest "c" -- docker's own id, not the registry's
  eq(t:current().digest, nil)
end)

test("an image of somebody else is neither ours nor a reason to take ours back", function()
  local c = fake()
  local t = open(c)
  ok(t:apply(request("a", 1)))
  c:change(function(web) web.spec.template.spec.containers[1].image = "lab.test/mine:1" end)
  local now = ok(t:current())
  eq({ now.digest, now.version, now.release, now.foreign }, { nil, nil, nil, true })
end)

test("containers with different images are no healthy release", function()
  local c = fake(image "a")
  table.insert(c.web.spec.template.spec.containers, { name = "twin", image = image "b" })
  local now = ok(open(c, { containers = { "app", "twin" } }):current())
  eq(now.healthy, false)
  has(now.state, "different images")
end)

test("pods that have not been ready for long are unhealthy, one that just blinks is not", function()
  local c = fake(image "a")
  local t = open(c)
  c.web.status = status(1, 1, 0)
  local function unready_since(seconds)
    c.pods = { pod("web-1", image "a", { name = "app", ready = false, restartCount = 0, state = { running = {} } },
      { status = { conditions = { { type = "Ready", status = "False",
        lastTransitionTime = time.iso(time.now() - seconds) } } } }) }
  end
  unready_since(5)
  eq(t:current().healthy, nil)
  unready_since(60)
  eq(t:current().healthy, false)
  c.web = nil
  eq({ t:current() }, {})
end)

-- ---- the place of a branch ----

test("a branch's place has its manifests filled, takes nothing from another one, and is deleted with its workload last",
  function()
    local objects, deleted = {}, {} ---@type any, string[]
    local cluster = { namespace = "shop" } ---@type any
    function cluster.get(_, path)
      if objects[path] then return copy(objects[path]) end
      return errors.fail("not_found", path, { status = 404 })
    end
    function cluster.patch(_, path, body)
      objects[path] = copy(body)
      return copy(body)
    end
    function cluster.create() return true end
    function cluster.delete(_, path)
      deleted[#deleted + 1], objects[path] = path:match "[^/]+/[^/]+$", nil
      return true
    end
    function cluster.resource(_, _, kind)
      local apps = kind == "Deployment"
      return { api_version = apps and "apps/v1" or "v1", plural = kind:lower() .. "s", namespaced = true }
    end
    kubernetes.open = function() return cluster end
    local service = "apiVersion: v1\nkind: Service\nmetadata: { name: web-{branch} }\nspec: { ports: [{ port: 80 }] }\n"
    local manifests = service .. [[
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-{branch}
spec:
  selector: { matchLabels: { place: {place} } }
  template:
    metadata: { labels: { place: {place} } }
    spec: { containers: [{ name: app, image: x }] }
]]
    local repo = { fetch = function() return true end, read = function() return manifests end }
    local world = require("engine.world").of({
      state = base.dir("state"), apps = { web = { name = "web", source = { url = "x" } } },
    }, { repository = function() return repo end, cluster = function() return cluster end })
    local function place(label)
      return ok(targets.open({
        name = "preview-" .. label, app = "web", branch = "feature/" .. label, label = label, verify = {},
        target = { kind = "kubernetes", cluster = "lab", workload = "deployment/web-" .. label, containers = {},
          init_containers = {}, patience = 1, timeout = 5, server_side = false, manifests = "web.yaml" },
      }, world))
    end
    local one, two = place "one", place "two"
    ok(one:apply(request("a", 1)))
    ok(two:apply(request("b", 2)))
    local web = objects["/apis/apps/v1/namespaces/shop/deployments/web-one"]
    eq(web.spec.selector.matchLabels.place, "preview-one")
    ok(one:destroy(request("a", 1)))
    eq(deleted, { "services/web-one", "deployments/web-one" })
    ok(one:destroy(request("a", 1)), "what is gone is gone")
    ok(objects["/apis/apps/v1/namespaces/shop/deployments/web-two"])
    manifests = manifests:gsub("name: web%-{branch} }", "name: web }")
    has(fails("invalid", two:apply(request("c", 3))).message, "Service web would be that of every branch")
  end)

-- ---- in a plan ----

test("in a plan's world it tells what runs, and whatever it is asked for writes nothing", function()
  local c = fake(image "a")
  kubernetes.open = function() return c end
  local world = require("engine.world").of({ state = base.dir("state"), apps = {} },
    require("engine.plan_world").of(require("engine.world").real()))
  local environment = { name = "staging", app = "web", verify = {}, target = { kind = "kubernetes", cluster = "lab",
    workload = "deployment/web", containers = {}, init_containers = {}, patience = 0.3, timeout = 5,
    server_side = false } }
  local target = ok(world.target(environment))
  local now = ok(target:current())
  eq({ now.digest, now.healthy }, { digest "a", true })
  fails("denied", target:apply(request("b", 2)))
  -- Not even the target itself, when something has got hold of it.
  local itself = ok(targets.open(environment, world))
  fails("denied", itself:apply(request("b", 2)))
  eq({ c.patches, #c.events, c.web.spec.template.spec.containers[1].image }, { 0, 0, image "a" })
end)
