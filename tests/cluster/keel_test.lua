-- keel against the real API server and a real registry: beside it (a stand-in, see tests/cluster/README.md), instead of
-- it, and from the one to the other without an edit.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster, kit = require "cluster.lab", require "cluster.keel"
local base, errors, fs, hash, http, json, registries, sim, task, time = require "lab.base", require "errors",
  require "fs", require "hash", require "http", require "json", require "lab.registry", require "sim", require "task",
  require "time"
local eq, ok, has = check.eq, check.ok, check.has

-- A busy machine's cluster takes its time.
local function test(name, fn) check.test(name, fn, 240) end

local function folder()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  return dir.path
end

local function stage(auth)
  local c = cluster.open()
  local s = { c = c, ns = c:namespace "keel", registry = registries.open { auth = auth } }
  check.defer(function() s.registry:stop() end)
  s.repo = s.registry.host .. "/team/web"
  function s.push(tag, text) return kit.push(s.registry, "team/web", tag, text) end
  function s.path(name) return ("/apis/apps/v1/namespaces/%s/deployments/%s"):format(s.ns, name) end
  function s.web(name, tag, keel, more)
    local annotations = { ["keel.sh/trigger"] = "poll", ["keel.sh/pollSchedule"] = "@every 1s" }
    for k, v in pairs(keel) do annotations["keel.sh/" .. k] = v end
    local options = { annotations = annotations, containers = { { name = "app", image = s.repo .. ":" .. tag,
      imagePullPolicy = "Always" } } }
    for k, v in pairs(more or {}) do options[k] = v end
    c:deployment(s.ns, name, options)
    return c:rolled_out(s.ns, name)
  end
  function s.image(name) return c:get(s.path(name)).spec.template.spec.containers[1].image end
  function s.eventually(what, fn) return base.eventually(what, 60, fn) end
  return s
end

local function clusters(s) return { default = { name = "default", kubeconfig = s.c.kubeconfig } } end

-- Polls and runs until the test ends. It outlives the test's own task, so that stopping it waits for its runs: they
-- write into the folder that goes next.
local function run(host)
  local running = task.start({ name = "host", detached = true }, function() return host:run() end)
  local function stop()
    host:stop(0)
    pcall(running.join, running)
  end
  check.defer(stop)
  return stop
end

---A host that does keel's work in the namespace.
local function instead(s, options)
  local function config()
    local cfg = sim.config(s.state, { poll = 1 })
    cfg.apps, cfg.app_list, cfg.clusters, cfg.notify = {}, {}, clusters(s), {}
    cfg.keel = {
      cluster = "default", namespaces = { s.ns }, poll = 1, policy = "keel", rollback = false, watch_for = 300,
      notify = {}, timeout = options and options.timeout or 30, platforms = true,
      pull_secrets = options and options.pull_secrets,
    }
    return cfg
  end
  s.state = s.state or folder()
  local host = assert(require("engine").open { config = config(), load = config })
  return host, run(host)
end

---A host that builds and pushes beside keel: git and builds are simulated, registry and cluster are real.
local function beside(s, world)
  local dir = folder()
  local function config()
    local cfg = sim.config(dir, { poll = 0.3, rollback = false })
    local app = cfg.app_list[1]
    app.image, cfg.clusters, cfg.notify = s.repo, clusters(s), {}
    for _, env in ipairs(app.environment_list) do
      env.verify, env.notify = {}, {}
      env.target = { kind = "keel", cluster = "default", namespace = s.ns, workload = "deployment/web-" .. env.name,
        containers = {}, timeout = 30, patience = 30 }
    end
    return cfg
  end
  local real, parts = require("engine.world").real(), world:world()
  parts.registry, parts.target, parts.verify, parts.cluster = real.registry, real.target, real.verify, real.cluster
  parts.ensure_image = function(request)
    local digest = s.push("sha-" .. request.commit, request.commit)
    return {
      repository = s.repo, commit = request.commit, digest = digest, image = s.repo .. "@" .. digest, built = true,
    }
  end
  local host = assert(require("engine").open { config = config(), load = config, world = parts })
  return host, run(host)
end

local function release_of(host, app, environment)
  for _, a in ipairs(host:status().apps) do
    for _, e in ipairs(a.name == app and a.environments or {}) do
      if e.name == environment then return e.current, e end
    end
  end
end

test("beside keel: what is pushed is rolled out by keel, watched, and verified by the pods' digests", function()
  local s = stage()
  s.push("staging", "old")
  s.push("v1.0.0", "old")
  kit.kubelet(s.c, s.ns, s.registry)
  s.web("web-staging", "staging", { policy = "force", matchTag = "true" })
  s.web("web-production", "v1.0.0", { policy = "major" })
  local world = sim.open(folder())
  world:push("main", "a")
  local keel = kit.start(s.c, s.ns)
  local host = beside(s, world)
  local a, b = sim.commit "a", sim.commit "b"
  s.eventually("staging runs a", function()
    local r = release_of(host, "web", "staging")
    return r and r.commit == a
  end)
  local now = s.c:get(s.path "web-staging")
  eq(now.spec.template.spec.containers[1].image, s.repo .. ":staging") -- keel pins nothing
  has(now.metadata.annotations["kubernetes.io/change-cause"], "keel automated update, version staging -> staging")
  ok(now.spec.template.metadata.annotations["keel.sh/update-time"])
  eq(now.metadata.annotations["moontide.dev/digest"], nil) -- and we write nothing
  s.eventually("production is adopted", function() return release_of(host, "web", "production") end)
  eq(release_of(host, "web", "production").version, "v1.0.0")
  world:push("main", "b")
  world:tag("v1.1.0", "b")
  s.eventually("production runs v1.1.0", function()
    local r = release_of(host, "web", "production")
    return r and r.version == "v1.1.0" and r.commit == b
  end)
  eq(s.image "web-production", s.repo .. ":v1.1.0")
  s.eventually("staging runs b", function() return release_of(host, "web", "staging").commit == b end)
  -- what keel would never do is said at once
  s.c:patch(s.path "web-production", { metadata = { annotations = { ["keel.sh/policy"] = "patch" } } })
  world:tag("v1.2.0", "b")
  local why = s.eventually("production says why not", function()
    local _, env = release_of(host, "web", "production")
    return env.state == "failed" and env.reason
  end)
  has(why, "keel would never act on deployment/web-production: keel.sh/policy patch at v1.1.0 would not take v1.2.0")
  keel:stop()
end)

test("beside keel: what it would never act on is told before anybody waits, and its absence is noticed", function()
  local s = stage()
  local target = require "targets"
  local digest = s.push("staging", "one")
  s.push("1.0.0", "one")
  kit.kubelet(s.c, s.ns, s.registry)
  local function open(name, timeout)
    return assert(target.open({ app = "web", name = "x", target = { kind = "keel", cluster = "default",
      namespace = s.ns, workload = "deployment/" .. name, containers = {}, timeout = timeout or 5, patience = 30 } },
      require("engine.world").of { clusters = clusters(s), registries = {}, state = folder() }))
  end
  local hooks = { output = function() end, progress = function() end }
  local function apply(name, version, other)
    local _, err = open(name):apply { image = s.repo .. "@" .. digest, digest = other or digest, version = version,
      release = 1, hooks = hooks }
    return err and err.message or "fine"
  end
  s.web("none", "staging", {}, { annotations = {} })
  has(apply "none", "it has no keel.sh/policy")
  s.web("hook", "staging", { policy = "force", matchTag = "true", trigger = "default" })
  has(apply "hook", "keel.sh/trigger is not poll")
  s.web("wrong", "staging", { policy = "major" })
  has(apply "wrong", "goes by other tags and never takes staging again: it needs force with keel.sh/matchTag")
  s.web("lazy", "staging", { policy = "force", matchTag = "true" },
    { containers = { { name = "app", image = s.repo .. ":staging", imagePullPolicy = "IfNotPresent" } } })
  has(apply "lazy", "imagePullPolicy of container app is IfNotPresent")
  s.web("pinned", "staging@" .. digest, { policy = "force", matchTag = "true" })
  has(apply "pinned", "pinned by digest")
  s.web("good", "staging", { policy = "force", matchTag = "true" })
  eq(apply "good", "fine")
  has(apply("good", nil, "sha256:" .. ("0"):rep(64)), "push it before the release")
  s.web("versions", "1.0.0", { policy = "minor" })
  has(apply("versions", "2.0.0"), "would not take 2.0.0: 2.0.0 changes the major number")
  has(apply("versions", "1.1.0"), "points to nothing")
  has(apply("none", "1.0.0"), "it has no keel.sh/policy")
  -- nobody acts
  local two = s.push("staging", "two")
  local t = open("good", 2)
  local request = { image = s.repo .. "@" .. two, digest = two, release = 2, hooks = hooks }
  ok(t:apply(request))
  local done, err = t:wait(request)
  eq({ done, err.code, errors.passing(err) }, { nil, "timeout", true }) -- which says nothing of the release
  has(err.message, "keel has not acted: it looks for " .. s.repo .. ":staging @every 1s; is keel running")
  -- or waits for people
  s.web("votes", "staging", { policy = "force", matchTag = "true", approvals = "2" })
  s.eventually("the pods say what they run", function() return open("votes"):current().digest == two end)
  local three = s.push("staging", "three")
  done, err = open("votes", 1):wait { image = s.repo .. "@" .. three, digest = three, release = 3, hooks = hooks }
  eq({ done, errors.passing(err) }, { nil, true })
  has(err.message, "keel has not acted: it looks for " .. s.repo .. ":staging @every 1s, and asks people for 2 votes")
  -- what runs is told by the pods
  local running = s.eventually("the pods say what they run", function()
    local r = t:current()
    return r.digest == digest and r
  end)
  eq({ running.healthy, running.version }, { true, nil })
  eq(ok(open("versions"):current()).version, "1.0.0")
end)

test("beside keel: taking back moves the tag and waits for keel, whatever the bad pods do meanwhile", function()
  local s = stage()
  local one = s.push("staging", "one")
  local hand = kit.kubelet(s.c, s.ns, s.registry)
  s.web("web", "staging", { policy = "force", matchTag = "true" })
  local function open()
    return assert(require("targets").open({ app = "web", name = "x", target = { kind = "keel", cluster = "default",
      namespace = s.ns, workload = "deployment/web", containers = {}, timeout = 60, patience = 0 } },
      require("engine.world").of { clusters = clusters(s), registries = {}, state = folder() }))
  end
  s.eventually("it runs one", function() return open():current().digest == one end)
  -- What keel does, by hand: then it is known when.
  local function act(word)
    s.c:patch(s.path "web", { spec = { template = { metadata = { annotations = { ["lab.moontide/stage"] = word,
      ["keel.sh/update-time"] = time.iso():gsub("T", " "):gsub("Z", ".5 +0000 UTC m=+1.5") } } } } })
  end
  local two = s.push("staging", "two")
  act "crash"
  s.eventually("a pod of two crashes beside those of one", function()
    local found = {}
    for _, pod in ipairs(s.c:pods(s.ns, "app=web")) do
      local status = (pod.status.containerStatuses or {})[1]
      found[status and status.imageID:match("@(.*)$") or "?"] = true
    end
    return found[one] and found[two]
  end)
  hand:cancel() -- it would take what the tag points to for what crashed pods ran
  local said = {}
  local back = { image = s.repo .. "@" .. one, digest = one, release = 3, restored = true, since = time.now(), hooks = {
    output = function() end, progress = function(words) said[#said + 1] = words end } }
  local target = open()
  ok(target:apply(back))
  eq(require("images.registry").repository(s.repo, { registries = {} }):digest("staging"), one)
  local waiting = task.spawn(function() return target:wait(back) end)
  s.eventually("it waits", function() return said[1] end)
  has(said[1], "keel has not acted")
  time.sleep(1) -- whole seconds are written
  act "ready"
  kit.kubelet(s.c, s.ns, s.registry)
  local done, err = waiting:join()
  eq({ done, err and err.message }, { true })
end)

test("from beside keel to instead of it: keel is stopped, and nothing in the manifests changes", function()
  local s = stage()
  s.push("staging", "one")
  s.push("1.0.0", "one")
  kit.kubelet(s.c, s.ns, s.registry)
  s.web("staging", "staging", { policy = "force", matchTag = "true" })
  s.web("production", "1.0.0", { policy = "major" })
  local keel = kit.start(s.c, s.ns)
  time.sleep(1.5) -- its first look
  local two = s.push("staging", "two")
  s.push("1.1.0", "two")
  s.eventually("keel updated both", function()
    local annotations = s.c:get(s.path "staging").spec.template.metadata.annotations or {}
    return s.image "production" == s.repo .. ":1.1.0" and annotations["keel.sh/update-time"]
  end)
  s.c:rolled_out(s.ns, "staging")
  -- Before the tag moves: the kubelet's hand asks what it points to at that moment.
  s.eventually("the pods say that they run it", function()
    local pods = s.c:pods(s.ns, "app=staging")
    for _, pod in ipairs(pods) do
      local status = (pod.status.containerStatuses or {})[1]
      if not status or status.imageID:match("@(.*)$") ~= two then return false end
    end
    return #pods > 0
  end)
  keel:stop()
  local missed = s.push("staging", "three") -- while nobody looks
  local host = instead(s)
  s.eventually("what was missed is found", function() return s.image "staging" == s.repo .. ":staging@" .. missed end)
  local newest = s.push("1.2.0", "four")
  s.push("2.0.0-rc.1", "five")
  s.eventually("production is updated", function() return s.image "production" == s.repo .. ":1.2.0@" .. newest end)
  local now = s.eventually("it is released", function()
    local r = release_of(host, s.ns .. "/production", "deployment")
    return r and r.version == "1.2.0" and s.c:get(s.path "production")
  end)
  local a = now.metadata.annotations
  has(a["kubernetes.io/change-cause"], "moontide automated update, version 1.1.0 -> 1.2.0")
  eq({ a["keel.sh/policy"], a["keel.sh/trigger"], a["moontide.dev/version"] }, { "major", "poll", "1.2.0" })
  ok(now.spec.template.metadata.annotations["keel.sh/update-time"])
  local again = s.push("staging", "six")
  s.eventually("staging follows", function() return s.image "staging" == s.repo .. ":staging@" .. again end)
end)

test("instead of keel: approvals hold an update up, over a restart of the host", function()
  local s = stage()
  s.push("1.0.0", "one")
  s.web("web", "1.0.0", { policy = "major", approvals = "1" })
  local two = s.push("1.1.0", "two")
  local host, stop = instead(s)
  local app = s.ns .. "/web"
  local function waits(h)
    return s.eventually("it waits for approval", function()
      local _, env = release_of(h, app, "deployment")
      return env and env.state == "waiting" and env.approval
    end)
  end
  eq(waits(host).name, ("deployment/%s/web:1.1.0"):format(s.ns))
  stop()
  eq(s.image "web", s.repo .. ":1.0.0")
  host = instead(s)
  waits(host)
  ok(host:approve { app = app, by = "ann" })
  s.eventually("it is updated", function() return s.image "web" == s.repo .. ":1.1.0@" .. two end)
end)

test("instead of keel: a list of tags that shrinks takes nothing back", function()
  local s = stage()
  for i = 0, 5 do s.push("1.0." .. i, "image " .. i) end
  s.web("web", "1.0.0", { policy = "patch" })
  local host = instead(s)
  s.eventually("it is up to date", function() return s.image("web"):find(":1.0.5@", 1, true) end)
  for i = 2, 5 do
    local head = http.head(("%s/v2/team/web/manifests/1.0.%d"):format(s.registry.url, i),
      { headers = { Accept = "application/vnd.oci.image.manifest.v1+json" } })
    local gone = http.delete(("%s/v2/team/web/manifests/%s"):format(s.registry.url,
      head.headers["docker-content-digest"]))
    eq(gone.status, 202)
  end
  time.sleep(5)
  ok(s.image("web"):find(":1.0.5@", 1, true))
  eq(#host:history({ app = s.ns .. "/web" }).runs, 1)
end)

test("instead of keel: an update that fails is tried again when its pause is over", function()
  local s = stage()
  s.push("1.0.0", "one")
  local bad = s.push("1.1.0", "two")
  s.web("web", "1.0.0", { policy = "major" }, { stage = "image if " .. bad })
  local host = instead(s, { timeout = 3 })
  local app = s.ns .. "/web"
  s.eventually("it fails", function()
    local _, env = release_of(host, app, "deployment")
    return env and env.state == "failed" and env.last
  end)
  -- Its owner puts the manifest back, and what was wrong with the image's pods is mended.
  s.c:request("PATCH", s.path "web", json.encode { spec = { template = {
    metadata = { annotations = { ["lab.moontide/stage"] = "ready" } },
    spec = { containers = { { name = "app", image = s.repo .. ":1.0.0" } } },
  } } }, { content_type = "application/strategic-merge-patch+json" })
  s.c:rolled_out(s.ns, "web")
  time.sleep(2.5)
  eq(s.image "web", s.repo .. ":1.0.0") -- not at once
  host.journal:write("UPDATE runs SET ended_at = ended_at - 61")
  s.eventually("it is tried again", function() return s.image "web" == s.repo .. ":1.1.0@" .. bad end)
  s.eventually("and released", function()
    local r = release_of(host, app, "deployment")
    return r and r.version == "1.1.0"
  end)
end)

test("instead of keel: every kind that keel knows, and exactly the monitored containers", function()
  local s = stage()
  s.push("1.0.0", "one")
  local annotations = {
    ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll", ["keel.sh/pollSchedule"] = "@every 1s",
    ["keel.sh/monitorContainers"] = "^(app|setup)$", ["keel.sh/initContainers"] = "true",
  }
  local image = s.repo .. ":1.0.0"
  local template = { metadata = { labels = { app = "web" } }, spec = {
    initContainers = { { name = "setup", image = image } },
    containers = { { name = "app", image = image }, { name = "side", image = image } },
  } }
  local meta = { name = "web", annotations = annotations }
  local spec = { selector = { matchLabels = { app = "web" } }, template = template, serviceName = "web" }
  local apps, batch = "/apis/apps/v1/namespaces/" .. s.ns, "/apis/batch/v1/namespaces/" .. s.ns
  s.c:create(apps .. "/statefulsets", { apiVersion = "apps/v1", kind = "StatefulSet", metadata = meta, spec = spec })
  spec = { selector = spec.selector, template = template }
  s.c:create(apps .. "/daemonsets", { apiVersion = "apps/v1", kind = "DaemonSet", metadata = meta, spec = spec })
  local job = { metadata = template.metadata, spec = { restartPolicy = "Never", containers = template.spec.containers,
    initContainers = template.spec.initContainers } }
  s.c:create(batch .. "/cronjobs", { apiVersion = "batch/v1", kind = "CronJob", metadata = meta, spec = {
    schedule = "0 0 1 1 *", jobTemplate = { spec = { template = job } } } })
  local newest = s.push("1.1.0", "two")
  local host = instead(s)
  local pinned = s.repo .. ":1.1.0@" .. newest
  for path, kind in pairs { [apps .. "/statefulsets/web"] = "statefulset", [apps .. "/daemonsets/web"] = "daemonset",
    [batch .. "/cronjobs/web"] = "cronjob" } do
    local pod = s.eventually(kind .. " is updated", function()
      local r = release_of(host, s.ns .. "/web", kind)
      local object = s.c:get(path)
      return r and r.version == "1.1.0" and (object.spec.jobTemplate or object).spec.template.spec
    end)
    eq({ kind, pod.initContainers[1].image, pod.containers[1].image, pod.containers[2].image },
      { kind, pinned, pinned, image })
  end
end)

test("instead of keel: a workload's pull secret opens a private registry", function()
  local s = stage "htpasswd"
  s.push("1.0.0", "one")
  local config = json.encode { auths = { [s.registry.host] = {
    auth = hash.base64(("%s:%s"):format(s.registry.user, s.registry.password)) } } }
  s.c:create(("/api/v1/namespaces/%s/secrets"):format(s.ns), {
    apiVersion = "v1", kind = "Secret", metadata = { name = "pull" }, type = "kubernetes.io/dockerconfigjson",
    data = { [".dockerconfigjson"] = hash.base64(config) },
  })
  s.web("web", "1.0.0", { policy = "major" }, { pod = { imagePullSecrets = { { name = "pull" } } } })
  local two = s.push("1.1.0", "two")
  instead(s, { pull_secrets = true })
  s.eventually("it is updated", function() return s.image "web" == s.repo .. ":1.1.0@" .. two end)
end)
