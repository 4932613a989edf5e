-- Instead of keel: workloads of a simulated cluster follow their images, and what is different from keel on purpose.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, hash, herds, json, sim, task = require "fs", require "hash", require "fixture.herd", require "json",
  require "sim", require "task"
local test, eq, ok = check.test, check.eq, check.ok
local digest = herds.digest

local REPO <const> = "registry.invalid/team/web"

local function folder()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  return dir.path
end

local function keel(policy, more)
  local annotations = { ["keel.sh/policy"] = policy, ["keel.sh/trigger"] = "poll", ["other/thing"] = "x" }
  for k, v in pairs(more or {}) do annotations["keel.sh/" .. k] = v end
  return annotations
end

local function open(herd, options)
  local host = herd:host(folder(), options)
  check.defer(function() pcall(host.close, host) end)
  return host
end

local function titles(host, app)
  local list = {}
  for i, run in ipairs(host:history({ app = app }).runs) do list[i] = run.state .. " " .. run.title end
  return list
end

-- What a policy says of its place now: its own reason and its refusals.
local function why(host, app, subject)
  for _, d in ipairs(assert(host:why(app)).decisions) do
    if d.subject == subject then return d.verdict .. ": " .. d.reason end
  end
end

-- Lets a run's pause after a failure be over.
local function later(host, seconds)
  host.journal:write("UPDATE runs SET ended_at = ended_at - ?", seconds)
end

test("a version policy takes the best tag, by digest, and keeps the tag readable", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "minor", { { "web", REPO .. ":1.2.0" } })
  for _, tag in ipairs { "1.2.0", "1.2.1", "1.3.0", "2.0.0", "latest" } do herd:push(REPO, tag, tag) end
  local host = open(herd)
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.3.0@%s"):format(REPO, digest "1.3.0"))
  eq(titles(host, "shop/web"), { "done 1.2.0 -> 1.3.0" })
  ok(why(host, "shop/web", "2.0.0"):find("refused: 2.0.0 changes the major number", 1, true))
  ok(herd.applied[1].cause:find("version 1.2.0 -> 1.3.0", 1, true))
  eq(host:status().apps[1].environments[1].name, "deployment")
  eq(host:status().apps[1].environments[1].current.version, "1.3.0")
  -- and goes on from there, although it is pinned now
  herd:push(REPO, "1.3.1", "1.3.1")
  sim.settle(host)
  eq(titles(host, "shop/web"), { "done 1.3.0 -> 1.3.1", "done 1.2.0 -> 1.3.0" })
end)

test("every kind is an environment, one name of two kinds is one app, others are left alone", function()
  local herd = herds.new()
  for _, kind in ipairs { "deployment", "statefulset", "daemonset", "cronjob" } do
    herd:put(kind, "shop", "web", keel "all", { { "web", REPO .. ":1.0.0" } })
  end
  herd:put("deployment", "shop", "none", { ["other/thing"] = "x" }, { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "never", keel "never", { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "hooks", keel("all", { trigger = "default" }), { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "label", { ["keel.sh/trigger"] = "poll" }, { { "web", REPO .. ":1.0.0" } },
    { labels = { ["keel.sh/policy"] = "all" } })
  herd:push(REPO, "1.0.1", "x")
  local host = open(herd)
  sim.settle(host)
  local pinned = ("%s:1.0.1@%s"):format(REPO, digest "x")
  for _, kind in ipairs { "deployment", "statefulset", "daemonset", "cronjob" } do
    eq(herd:image(kind, "shop/web"), pinned)
  end
  eq(herd:image("deployment", "shop/label"), pinned)
  for _, name in ipairs { "none", "never", "hooks" } do
    eq(herd:image("deployment", "shop/" .. name), REPO .. ":1.0.0")
  end
  eq(host.config.apps["shop/none"], nil)
  ok(why(host, "shop/hooks", nil):find("only a webhook would update it", 1, true))
  ok(why(host, "shop/never", nil):find("never", 1, true))
  eq(#host.config.apps["shop/web"].environment_list, 4)
end)

test("force with matchTag follows the digest of the tag that runs", function()
  local herd = herds.new()
  local annotations = keel("force", { matchTag = "true" })
  herd:put("deployment", "shop", "web", annotations, { { "web", REPO .. ":staging" } })
  herd:push(REPO, "staging", "one")
  herd:push(REPO, "9.9.9", "nine")
  local host = open(herd)
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), REPO .. ":staging") -- nothing to do, so nothing is done
  herd:push(REPO, "staging", "two")
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:staging@%s"):format(REPO, digest "two"))
  herd:push(REPO, "staging", "three")
  sim.settle(host)
  herd:push(REPO, "staging", "two") -- the tag goes back: so does staging
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:staging@%s"):format(REPO, digest "two"))
  eq(#herd.applied, 3)
  eq(herd.asked.tags, nil) -- only HEAD
end)

test("what changed while nobody looked is found by what the pods run, index or not", function()
  local function with(image_id, prepare)
    local herd = herds.new()
    herd:put("deployment", "shop", "web", keel("force", { matchTag = "true" }), { { "web", REPO .. ":staging" } })
    herd:push(REPO, "staging", "new")
    herd.pods = { { metadata = { name = "web-1" }, status = { containerStatuses = {
      { name = "web", imageID = image_id }, { name = "other", imageID = "r@" .. digest "whatever" },
    } } } }
    if prepare then prepare(herd) end
    sim.settle(open(herd))
    return #herd.applied
  end
  eq(with("r@" .. digest "old"), 1)
  eq(with("r@" .. digest "new"), 0)
  eq(with(""), 0)            -- pods that have not started say nothing
  eq(with(digest "new"), 0)  -- an image's configuration is no manifest
  eq(with("r@" .. digest "child", function(herd)
    herd.children = { [digest "new"] = { digest "another", digest "child" } }
  end), 0)
end)

test("a thousand workloads of ten repositories ask ten times", function()
  local herd = herds.new()
  for i = 1, 1000 do
    local repo = ("registry.invalid/team/r%d"):format(i % 10)
    herd:put("deployment", "ns" .. i % 7, "web" .. i, keel "major", { { "web", repo .. ":1.0.0" } })
    herd:push(repo, "1.0.0", "one")
  end
  local host = open(herd)
  eq(#host.config.app_list, 1000)
  local polls = {}
  for i, app in ipairs(host.config.app_list) do
    polls[i] = task.spawn(function() require("engine.poller").poll(host, app) end)
    if i % 32 == 0 then polls[i]:join() end
  end
  for _, p in ipairs(polls) do p:join() end
  eq(herd.asked, { tags = 10 })
end)

test("who finds something new wakes the others of the repository", function()
  local herd = herds.new()
  for _, name in ipairs { "a", "b", "c" } do
    herd:put("deployment", "shop", name, keel "major", { { "web", REPO .. ":1.0.0" } })
  end
  herd:push(REPO, "1.0.0", "one")
  local host = open(herd)
  sim.settle(host)
  herd:push(REPO, "1.0.1", "two")
  require("extensions.keel.observations").expire(host.world)
  require("engine.poller").poll(host, host.config.apps["shop/b"])
  eq({ host.hurry["shop/a"], host.hurry["shop/b"], host.hurry["shop/c"] }, { true, nil, true })
end)

test("a list of tags that lost half of them is not believed at once, and nothing goes back", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "regexp:^main-(?P<compare>\\d+)$", { { "web", REPO .. ":main-6" } })
  for i = 1, 6 do herd:push(REPO, "main-" .. i, "image " .. i) end
  local host = open(herd)
  sim.settle(host)
  for i = 3, 6 do herd:push(REPO, "main-" .. i, nil) end
  sim.settle(host)
  ok(why(host, "shop/web", nil):find("not believed yet", 1, true))
  for _ = 1, 4 do sim.settle(host) end
  ok(why(host, "shop/web", "main-2"):find("nothing goes back", 1, true))
  eq(#herd.applied, 0)
end)

test("a registry that is down is an error and no news", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  herd.down = true
  local host = open(herd)
  sim.settle(host)
  eq(why(host, "shop/web", nil):match("^error: .*nobody listens"), "error: registry: refused: nobody listens")
  herd.down = false
  sim.settle(host)
  eq(#herd.applied, 1)
end)

test("an update that failed is tried again, with growing pauses, until something newer comes", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  local image = ("%s:1.0.1@%s"):format(REPO, digest "one")
  herd.failing[image] = true
  local host = open(herd)
  sim.settle(host)
  eq(titles(host, "shop/web"), { "failed 1.0.0 -> 1.0.1" })
  -- the workload has the image now; its owner puts the old one back, and we try again after a while
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  sim.settle(host)
  eq(#herd.applied, 1)
  ok(why(host, "shop/web", nil):find("run 1 failed; it is tried again at", 1, true))
  later(host, 61)
  sim.settle(host)
  eq(#herd.applied, 2)
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  later(host, 61)
  sim.settle(host)
  eq(#herd.applied, 2) -- the second pause is longer
  later(host, 61)
  herd.failing[image] = nil
  sim.settle(host)
  eq(titles(host, "shop/web")[1], "done 1.0.0 -> 1.0.1")
end)

test("who goes back to what we pinned is left alone; a manifest applied again is followed again", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  local host = open(herd)
  sim.settle(host)
  herd:push(REPO, "1.0.2", "two")
  sim.settle(host)
  eq(#herd.applied, 2)
  herd:put("deployment", "shop", "web", keel "major", { { "web", ("%s:1.0.1@%s"):format(REPO, digest "one") } })
  later(host, 7200)
  sim.settle(host)
  eq(#herd.applied, 2)
  ok(why(host, "shop/web", nil):find("somebody went back to 1.0.1", 1, true))
  herd:push(REPO, "1.0.3", "three")
  sim.settle(host)
  eq(herd.applied[3].image, ("%s:1.0.3@%s"):format(REPO, digest "three"))
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } }) -- helm upgrade
  sim.settle(host)
  eq(#herd.applied, 3)
  ok(why(host, "shop/web", nil):find("was undone; it is tried again", 1, true))
  later(host, 61)
  sim.settle(host)
  eq(herd.applied[4].image, ("%s:1.0.3@%s"):format(REPO, digest "three"))
end)

test("only monitored containers are touched, init containers when asked, one repository after the other", function()
  local herd = herds.new()
  local other = "registry.invalid/team/proxy"
  local annotations = keel("major", { monitorContainers = "^(web|proxy|setup)$", initContainers = "true" })
  herd:put("deployment", "shop", "web", annotations,
    { { "web", REPO .. ":1.0.0" }, { "proxy", other .. ":2.0.0" }, { "side", REPO .. ":1.0.0" } },
    { pod = { initContainers = { { name = "setup", image = REPO .. ":1.0.0" } } } })
  herd:push(REPO, "1.0.1", "web")
  herd:push(other, "2.1.0", "proxy")
  local host = open(herd)
  sim.settle(host)
  local web, proxy = ("%s:1.0.1@%s"):format(REPO, digest "web"), ("%s:2.1.0@%s"):format(other, digest "proxy")
  eq(herd:image("deployment", "shop/web", "web"), web)
  eq(herd:image("deployment", "shop/web", "setup"), web)
  eq(herd:image("deployment", "shop/web", "proxy"), proxy)
  eq(herd:image("deployment", "shop/web", "side"), REPO .. ":1.0.0")
  eq(titles(host, "shop/web"), { "done 2.0.0 -> 2.1.0 of " .. other, "done 1.0.0 -> 1.0.1 of " .. REPO })
end)

test("each container asks for its own tag, also those of one repository", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "minor",
    { { "web", REPO .. ":1.2.0" }, { "worker", REPO .. ":2.4.0" }, { "cron", REPO .. ":1.2.0" } })
  for _, tag in ipairs { "1.2.0", "1.3.0", "2.4.0", "2.5.0" } do herd:push(REPO, tag, tag) end
  local host = open(herd)
  sim.settle(host)
  local one, two = ("%s:1.3.0@%s"):format(REPO, digest "1.3.0"), ("%s:2.5.0@%s"):format(REPO, digest "2.5.0")
  eq({ herd:image("deployment", "shop/web", "web"), herd:image("deployment", "shop/web", "worker"),
    herd:image("deployment", "shop/web", "cron") }, { one, two, one })
  eq(titles(host, "shop/web"), { ("done 2.4.0 -> 2.5.0 of %s (worker)"):format(REPO),
    ("done 1.2.0 -> 1.3.0 of %s (web, cron)"):format(REPO) })
  -- both may come to the same tag: that is one change for each, and no undoing
  local object = herd.objects.deployment["shop/web"]
  object.metadata.annotations["keel.sh/policy"] = "major"
  herd:changed("deployment", "shop/web")
  herd:look(host)
  herd:push(REPO, "3.0.0", "3.0.0")
  sim.settle(host)
  local three = ("%s:3.0.0@%s"):format(REPO, digest "3.0.0")
  eq({ herd:image("deployment", "shop/web", "web"), herd:image("deployment", "shop/web", "worker") }, { three, three })
  -- and from there on they are one
  herd:push(REPO, "3.0.1", "3.0.1")
  sim.settle(host)
  eq(titles(host, "shop/web")[1], "done 3.0.0 -> 3.0.1")
  eq(#herd.applied, 5)
end)

test("what fails of several images is taken back to its own image, the others stay", function()
  local proxy = "registry.invalid/team/proxy"
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" }, { "proxy", proxy .. ":2.0.0" } })
  herd:push(REPO, "1.0.0", "web 1")
  herd:push(REPO, "1.0.1", "web 2")
  herd:push(proxy, "2.0.0", "proxy 1")
  herd:push(proxy, "2.1.0", "proxy 2")
  herd.running = { [REPO .. ":1.0.0"] = digest "web 1", [proxy .. ":2.0.0"] = digest "proxy 1" }
  herd.failing[("%s:2.1.0@%s"):format(proxy, digest "proxy 2")] = true
  local host = open(herd, { keel = { rollback = "rollback" } })
  sim.settle(host)
  local web = ("%s:1.0.1@%s"):format(REPO, digest "web 2")
  local function runs()
    return { herd:image("deployment", "shop/web", "web"), herd:image("deployment", "shop/web", "proxy") }
  end
  eq(runs(), { web, ("%s:2.0.0@%s"):format(proxy, digest "proxy 1") })
  ok(why(host, "shop/web", nil):find("taken back", 1, true))
  -- a person goes back with what was released last, and that is the proxy
  herd:push(proxy, "2.2.0", "proxy 3")
  sim.settle(host)
  eq(runs()[2], ("%s:2.2.0@%s"):format(proxy, digest "proxy 3"))
  ok(host:rollback { app = "shop/web", environment = "deployment", by = "ann" })
  sim.settle(host)
  eq(runs(), { web, ("%s:2.0.0@%s"):format(proxy, digest "proxy 1") })
  -- what is released of one image says nothing of the other: this one turns unhealthy by itself
  herd:push(REPO, "1.0.2", "web 3")
  sim.settle(host)
  eq(runs()[1], ("%s:1.0.2@%s"):format(REPO, digest "web 3"))
  herd.failing[("%s:1.0.2@%s"):format(REPO, digest "web 3")] = true
  sim.settle(host)
  eq(runs(), { web, ("%s:2.0.0@%s"):format(proxy, digest "proxy 1") })
end)

test("what is rejected, listed without a manifest or unreadable of one image does not hide the other", function()
  local proxy = "registry.invalid/team/proxy"
  local function story(prepare)
    local herd = herds.new()
    herd:put("deployment", "shop", "web", keel("major", { approvals = "1" }),
      { { "web", REPO .. ":1.0.0" }, { "proxy", proxy .. ":2.0.0" } })
    herd:push(REPO, "1.0.1", "web 2")
    herd:push(proxy, "2.1.0", "proxy 2")
    local host = open(herd)
    prepare(herd, host)
    sim.settle(host)
    eq(host:status().apps[1].environments[1].approval.name, "deployment/shop/web:2.1.0")
    ok(host:approve { app = "shop/web", by = "ann" })
    sim.settle(host)
    eq(herd:image("deployment", "shop/web", "proxy"), ("%s:2.1.0@%s"):format(proxy, digest "proxy 2"))
    eq(herd:image("deployment", "shop/web", "web"), REPO .. ":1.0.0")
    return host
  end
  local host = story(function(_, h)
    sim.settle(h)
    ok(h:reject { app = "shop/web", by = "ann", reason = "no" })
  end)
  ok(why(host, "shop/web", nil):find("rejected by ann", 1, true))
  host = story(function(herd) herd.broken = { [REPO] = true } end)
  ok(why(host, "shop/web", nil):find("^error: .*nobody listens"))
  ok(why(host, "shop/web", REPO):find("nobody listens", 1, true))
  host = story(function(herd) herd.unmanifested = { [REPO .. ":1.0.1"] = true } end)
  ok(why(host, "shop/web", "1.0.1 of " .. REPO):find("there is no 1.0.1", 1, true))
end)

test("an image without a platform that the nodes need is passed over", function()
  local herd = herds.new()
  local function node(name, arch, labels)
    return { metadata = { name = name, labels = labels or {} }, spec = {},
      status = { nodeInfo = { operatingSystem = "linux", architecture = arch } } }
  end
  herd.nodes = { node("one", "amd64"), node("two", "arm64", { disk = "fast" }) }
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "fast", keel "major", { { "web", REPO .. ":1.0.0" } },
    { pod = { nodeSelector = { disk = "fast" } } })
  herd:push(REPO, "1.0.1", "both")
  herd:push(REPO, "1.0.2", "arm only")
  local linux = function(arch) return { os = "linux", architecture = arch } end
  herd.platforms = { [digest "both"] = { linux "amd64", linux "arm64" }, [digest "arm only"] = { linux "arm64" } }
  local host = open(herd)
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.1@%s"):format(REPO, digest "both"))
  eq(herd:image("deployment", "shop/fast"), ("%s:1.0.2@%s"):format(REPO, digest "arm only"))
  ok(why(host, "shop/web", "1.0.2"):find("no image for linux/amd64, which node one is", 1, true))
end)

test("what is no image is no candidate, and why says what it is", function()
  local herd, signature = herds.new(), "sha256-" .. ("a"):rep(64) .. ".sig"
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "any", keel "regexp:^.*$", { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "same", keel("force", { matchTag = "true" }), { { "web", REPO .. ":latest" } })
  herd:push(REPO, "1.0.1", "image")
  herd:push(REPO, "1.0.2", "chart")
  herd:push(REPO, signature, "image")
  herd:push(REPO, "latest", "one")
  herd.platforms = { [digest "chart"] = "it is a Helm chart (application/x), not an image" }
  local host = open(herd)
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.1@%s"):format(REPO, digest "image"))
  eq(why(host, "shop/web", "1.0.2"), "refused: it is a Helm chart (application/x), not an image")
  ok(why(host, "shop/any", signature):find("it is a signature that belongs to sha256:aaaaaaaaaaaa", 1, true))
  herd:push(REPO, "latest", "chart")
  sim.settle(host)
  ok(why(host, "shop/same", "latest"):find("a Helm chart", 1, true))
  ok(not herd:image("deployment", "shop/same"):find(digest "chart", 1, true))
end)

test("only nodes that would take the pod matter: taints, tolerations, labels, and closed ones", function()
  local eligible = require("extensions.keel.platforms").eligible
  local function taint(key, effect, text) return { key = key, effect = effect, value = text } end
  local function node(...) return { name = "one", labels = { zone = "a" }, taints = { ... } } end
  local gpu, size = taint("gpu", "NoSchedule", "yes"), taint("size", "NoSchedule", "5")
  for i, case in ipairs {
    { node(), nil, true }, { node(gpu), nil, false }, { node(taint("gpu", "PreferNoSchedule")), nil, true },
    { node(taint("gpu", "NoExecute")), nil, false },
    { node(gpu), { tolerations = { { operator = "Exists" } } }, true },
    { node(gpu), { tolerations = { { key = "gpu", operator = "Exists" } } }, true },
    { node(gpu), { tolerations = { { key = "gpu", value = "yes" } } }, true },
    { node(gpu), { tolerations = { { key = "gpu", operator = "Equal", value = "yes", effect = gpu.effect } } }, true },
    { node(gpu), { tolerations = { { key = "gpu", value = "no" } } }, false },
    { node(gpu), { tolerations = { { key = "gpu", value = "yes", effect = "NoExecute" } } }, false },
    { node(gpu), { tolerations = { { value = "yes" } } }, false },
    { node(gpu), { tolerations = { { key = "disk", operator = "Exists" } } }, false },
    { node(gpu, taint("disk", "NoExecute")), { tolerations = { { key = "gpu", operator = "Exists" } } }, false },
    { node(size), { tolerations = { { key = "size", operator = "Gt", value = "4" } } }, true },
    { node(size), { tolerations = { { key = "size", operator = "Lt", value = "4" } } }, false },
    -- Troubles of the moment say nothing of what a node is for.
    { node(taint("node.kubernetes.io/not-ready", "NoExecute")), nil, true },
    { node(taint("node.kubernetes.io/disk-pressure", "NoSchedule")), nil, true },
    { node(taint("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule", "true")), nil, true },
    { node(taint("node.kubernetes.io/unschedulable", "NoSchedule")), nil, false },
    { node(taint("node.kubernetes.io/unschedulable", "NoSchedule")), { every_node = true }, true },
    { node(gpu), { every_node = true }, false },
    { { name = "one", labels = {}, closed = true }, nil, false },
    { { name = "one", labels = {}, closed = true }, { every_node = true }, true },
    -- A pod that names its node is not scheduled, but it may be ended there.
    { node(gpu), { name = "one" }, true }, { node(taint("gpu", "NoExecute")), { name = "one" }, false },
    { node(), { selector = { zone = "b" } }, false }, { node(), { selector = { zone = "a" } }, true },
    { node(), { affinity = { nodeSelectorTerms = { {} } } }, false }, -- a term that says nothing
    { node(), { affinity = { nodeSelectorTerms = { {}, { matchExpressions = {
      { key = "zone", operator = "In", values = { "a" } },
    } } } } }, true },
    { node(), { affinity = { nodeSelectorTerms = { { matchExpressions = {
      { key = "cores", operator = "Gt", values = { "4" } },
    } } } } }, false }, -- a label that is not there is not more than 4
    { node(), { affinity = { nodeSelectorTerms = { { matchExpressions = {
      { key = "zone", operator = "Lt", values = { "4" } },
    } } } } }, false },
    { node(), { affinity = { nodeSelectorTerms = { { matchFields = {
      { key = "metadata.name", operator = "In", values = { "one" } },
    } } } } }, true },
  } do
    eq(eligible(case[1], case[2]), case[3], i)
  end
end)

test("nodes that the pods cannot go to ask for no platform", function()
  local herd = herds.new()
  local function node(name, arch, taints)
    return { metadata = { name = name, labels = {} }, spec = { taints = taints },
      status = { nodeInfo = { operatingSystem = "linux", architecture = arch } } }
  end
  herd.nodes = { node("one", "amd64"), node("two", "arm64", { { key = "arm", effect = "NoSchedule" } }) }
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "brave", keel "major", { { "web", REPO .. ":1.0.0" } },
    { pod = { tolerations = { { key = "arm", operator = "Exists" } } } })
  herd:push(REPO, "1.0.1", "amd only")
  herd.platforms = { [digest "amd only"] = { { os = "linux", architecture = "amd64" } } }
  local host = open(herd)
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.1@%s"):format(REPO, digest "amd only"))
  eq(herd:image("deployment", "shop/brave"), REPO .. ":1.0.0")
  ok(why(host, "shop/brave", "1.0.1"):find("no image for linux/arm64, which node two is", 1, true))
end)

test("nodes that may not be listed forbid nothing", function()
  local herd = herds.new()
  herd.no_nodes = true
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  sim.settle(open(herd))
  eq(#herd.applied, 1)
end)

test("approvals: the update waits for its votes, and a rejected one is never asked for again", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel("major", { approvals = "2", notify = "ops, nobody" }),
    { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  local host = open(herd)
  sim.settle(host)
  eq(#herd.applied, 0)
  local env = host:status().apps[1].environments[1]
  eq({ env.state, env.approval.name, env.approval.votes }, { "waiting", "deployment/shop/web:1.0.1", 2 })
  ok(env.reason:find("waits for approval (0 of 2 votes) until 20", 1, true))
  ok(herd.messages[1]:find("needs 2 votes: moontide approve shop/web deployment", 1, true))
  ok(why(host, "shop/web", "keel.sh/notify"):find("no notifier nobody", 1, true))
  host:approve { app = "shop/web", by = "ann" }
  eq(#ok(host:approve { app = "shop/web", by = "ann" }).voters, 1) -- twice the same voter is one vote
  eq(ok(host:approve { app = "shop/web", by = "ben" }).state, "approved")
  sim.settle(host)
  eq(#herd.applied, 1)
  check.fails("conflict", host:approve { app = "shop/web", by = "cat" })
  herd:push(REPO, "1.0.2", "two")
  sim.settle(host)
  ok(host:reject { app = "shop/web", by = "ann", reason = "not on Friday" })
  sim.settle(host)
  later(host, 7200)
  sim.settle(host)
  eq(titles(host, "shop/web")[1], "failed 1.0.1 -> 1.0.2")
  ok(why(host, "shop/web", nil):find("rejected by ann: not on Friday", 1, true))
  eq(#herd.applied, 1)
end)

test("what waits for approval makes way for something newer", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel("major", { approvals = "1" }), { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  local host = open(herd)
  sim.settle(host)
  herd:push(REPO, "1.0.2", "two")
  sim.settle(host)
  ok(host:approve { app = "shop/web", by = "ann" })
  sim.settle(host)
  eq(titles(host, "shop/web"), { "done 1.0.0 -> 1.0.2", "superseded 1.0.0 -> 1.0.1" })
  eq(host.journal:approval_of("shop/web", "deployment", "deployment/shop/web:1.0.1").state, "withdrawn")
end)

test("keel's API changes how many votes a workload's updates need, also of what waits", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel("major"), { { "web", REPO .. ":1.0.0" } },
    { labels = { ["keel.sh/approvals"] = "3" } })
  herd:push(REPO, "1.0.1", "one")
  local host = open(herd)
  host.config.api = { token = { reveal = function() return "word" end } }
  local handle = require("people.control").public_handler(host)
  local function put(votes)
    return handle { method = "PUT", path = "/v1/approvals", query = {}, headers = { authorization = "Bearer word" },
      body = json.encode { identifier = "deployment/shop/web", provider = "kubernetes", votesRequired = votes } }.status
  end
  sim.settle(host)
  eq(host:status().apps[1].environments[1].approval.votes, 3)
  ok(host:approve { app = "shop/web", by = "ann" })
  eq(put(1), 200)
  local object = herd.objects.deployment["shop/web"].metadata
  eq({ object.annotations["keel.sh/approvals"], object.labels["keel.sh/approvals"] }, { "1" })
  sim.settle(host)
  eq(#herd.applied, 1) -- ann's vote was enough
end)

test("what waits in a workload that was found goes on when another host finds it", function()
  local herd, state = herds.new(), folder()
  herd:put("deployment", "shop", "web", keel("major", { approvals = "1" }), { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  local host = herd:host(state)
  local running = task.spawn(function() return host:run() end)
  local function waiting() return host:status().apps[1].environments[1].state == "waiting" end
  check.eventually(waiting)
  host:stop(1)
  running:join()
  host = herd:host(state) -- it looks at the cluster after it has opened
  check.defer(function() pcall(host.close, host) end)
  eq(waiting(), true)
  ok(host:approve { app = "shop/web", by = "ann" })
  check.eventually(function() return #herd.applied == 1 end)
  sim.settle(host)
  eq(titles(host, "shop/web"), { "done 1.0.0 -> 1.0.1" })
end)

test("approvals that are no number stop updates, and why says so", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel("major", { approvals = "two" }), { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  local host = open(herd)
  sim.settle(host)
  eq(#herd.applied, 0)
  ok(why(host, "shop/web", nil):find("no number", 1, true))
end)

test("with a rollback policy, what ran before the first update comes back, readable", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "major", { { "web", ("%s:1.0.0@%s"):format(REPO, digest "zero") } })
  herd:push(REPO, "1.0.1", "one")
  local bad = ("%s:1.0.1@%s"):format(REPO, digest "one")
  herd.failing[bad] = true
  local host = open(herd, { keel = { rollback = "rollback" } })
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.0@%s"):format(REPO, digest "zero"))
  later(host, 7200)
  sim.settle(host)
  eq(#herd.applied, 2)
  ok(why(host, "shop/web", nil):find("taken back", 1, true))
  herd:push(REPO, "1.0.2", "two")
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.2@%s"):format(REPO, digest "two"))
  herd.failing[("%s:1.0.2@%s"):format(REPO, digest "two")] = true -- and later it is unhealthy
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.0@%s"):format(REPO, digest "zero"))
  later(host, 7200)
  sim.settle(host)
  eq(#herd.applied, 4)
end)

test("release notes are told with the update", function()
  local herd = herds.new()
  local annotations = keel("major", { releaseNotes = "https://notes.example/1", notify = "ops" })
  herd:put("deployment", "shop", "web", annotations, { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  sim.settle(open(herd))
  ok(table.concat(herd.messages, " "):find("1.0.1: release notes are at https://notes.example/1", 1, true))
end)

test("pull secrets open a registry, where the configuration asks for it", function()
  local function story(options, data)
    local herd = herds.new()
    herd.user, herd.password = "robot", "very secret word"
    herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } },
      { pod = { imagePullSecrets = { { name = "missing" }, { name = "pull" } } } })
    herd:push(REPO, "1.0.1", "one")
    herd.secrets = { ["/api/v1/namespaces/shop/secrets/pull"] = { data = data } }
    local host = open(herd, options)
    sim.settle(host)
    return #herd.applied, herd, why(host, "shop/web", nil)
  end
  local auth = hash.base64("robot:very secret word")
  local new = { [".dockerconfigjson"] = hash.base64(json.encode { auths = {
    ["https://registry.invalid/v1/"] = { auth = auth } } }) }
  local old = { [".dockercfg"] = hash.base64(json.encode { ["registry.invalid"] = {
    username = "robot", password = "very secret word" } }) }
  eq((story({ keel = { pull_secrets = true } }, new)), 1)
  local applied, herd = story({ keel = { pull_secrets = true } }, old)
  eq({ applied, herd.asked["/api/v1/namespaces/shop/secrets/pull"] }, { 1, 1 })
  local none, _, reason = story({}, new)
  eq(none, 0)
  ok(reason:find("wants a password", 1, true))
  for _, bad in ipairs { {}, { [".dockerconfigjson"] = "!!" }, { [".dockerconfigjson"] = hash.base64 "[1,2]" },
    { [".dockerconfigjson"] = hash.base64 '{"auths":{"registry.invalid":{"auth":"!"}}}' } } do
    eq((story({ keel = { pull_secrets = true } }, bad)), 0)
  end
end)

test("a stranger's pull secret neither gets another's answer nor spoils it", function()
  local herd = herds.new()
  herd.user, herd.password, herd.secrets = "robot", "very secret word", {}
  for namespace, password in pairs { evil = "a wrong one", shop = "very secret word" } do
    herd:put("deployment", namespace, "web", keel("major", { pollSchedule = "@every 1h" }),
      { { "web", REPO .. ":1.0.0" } }, { pod = { imagePullSecrets = { { name = "pull" } } } })
    herd.secrets[("/api/v1/namespaces/%s/secrets/pull"):format(namespace)] = { data = {
      [".dockerconfigjson"] = hash.base64(json.encode { auths = { ["registry.invalid"] = {
        username = "robot", password = password } } }) } }
  end
  herd:push(REPO, "1.0.1", "one")
  local host = open(herd, { keel = { pull_secrets = true } })
  sim.settle(host)
  eq(herd:image("deployment", "shop/web"), ("%s:1.0.1@%s"):format(REPO, digest "one"))
  eq(herd:image("deployment", "evil/web"), REPO .. ":1.0.0")
end)

test("a workload that cannot be understood takes no other along", function()
  local workloads = require "extensions.keel.workload"
  for _, word in ipairs { "keep", "app" } do
    local right = workloads[word]
    check.defer(function() workloads[word] = right end)
    workloads[word] = function(...)
      local first, second = ...
      local meta = word == "keep" and second.metadata or first[1]
      assert(meta.namespace ~= "evil", "nobody thought of that")
      return right(...)
    end
    local herd = herds.new()
    for _, namespace in ipairs { "evil", "shop" } do
      herd:put("deployment", namespace, "web", keel "major", { { "web", REPO .. ":1.0.0" } })
    end
    herd:push(REPO, "1.0.1", "one")
    local host = open(herd)
    sim.settle(host)
    eq(herd:image("deployment", "shop/web"), ("%s:1.0.1@%s"):format(REPO, digest "one"))
    eq(host.config.apps["evil/web"], nil)
    workloads[word] = right
  end
end)

test("what is wrong with a workload is news once, not at every poll", function()
  local herd, many = herds.new(), {}
  for i = 1, 500 do many[i] = "n" .. i end
  herd:put("deployment", "shop", "web", keel("major", { notify = table.concat(many, ","), monitorContainers = "(",
    INITCONTAINERS = "true" }), { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.0", "one")
  local host = open(herd)
  local function told() return host.journal:row("SELECT count(*) AS n FROM decisions").n end
  sim.settle(host)
  local before = told()
  ok(before < 10, before)
  ok(why(host, "shop/web", "keel.sh/notify"):find("no notifier n1, n2", 1, true))
  for _ = 1, 3 do
    require("extensions.keel.observations").expire(host.world)
    sim.settle(host)
  end
  eq(told(), before)
end)

test("poll_all takes in workloads that waited for webhooks", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel("major", { trigger = "default" }), { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.1", "one")
  sim.settle(open(herd, { keel = { poll_all = true } }))
  eq(#herd.applied, 1)
end)

test("news of status and images make no other app, and no look", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.0" } })
  local host = open(herd)
  eq(herd.source.dirty, false)
  herd:put("deployment", "shop", "web", keel "major", { { "web", REPO .. ":1.0.1" } })
  eq(herd.source.dirty, false)
  eq(host.config.apps["shop/web"].workloads.deployment.containers[1].image, REPO .. ":1.0.1")
  herd:put("deployment", "shop", "web", keel "major", { { "web", "registry.invalid/other:1.0.1" } })
  eq(herd.source.dirty, true)
end)

test("a person's look asks the registry once for all, too", function()
  local herd = herds.new()
  for i = 1, 20 do herd:put("deployment", "shop", "web" .. i, keel "major", { { "web", REPO .. ":1.0.0" } }) end
  herd:push(REPO, "1.0.0", "one")
  local host = open(herd)
  ok(host:poll())
  eq(herd.asked.tags, 1)
  ok(host:poll())
  eq(herd.asked.tags, 2)
end)

test("workloads come and go while the host runs; new annotations are another app", function()
  local herd = herds.new()
  local host = open(herd)
  herd:put("deployment", "shop", "web", keel "patch", { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.1.0", "one")
  herd:look(host)
  sim.settle(host)
  eq(#herd.applied, 0)
  local app = host.config.apps["shop/web"]
  herd:put("deployment", "shop", "web", keel "patch", { { "web", REPO .. ":1.0.1" } })
  local discovery = require "engine.discovery"
  discovery.replace(host, "keel", herd.source:look())
  ok(host.config.apps["shop/web"] == app) -- another image is not another app
  herd:put("deployment", "shop", "web", keel "minor", { { "web", REPO .. ":1.0.1" } })
  discovery.replace(host, "keel", herd.source:look())
  ok(host.config.apps["shop/web"] ~= app)
  sim.settle(host)
  eq(#herd.applied, 1)
  herd:remove("deployment", "shop/web")
  discovery.replace(host, "keel", herd.source:look())
  eq(#host.config.app_list, 0)
  sim.settle(host)
end)

test("schedules: an interval is the app's, a cron line is due when it says", function()
  local herd = herds.new()
  herd:put("deployment", "shop", "often", keel("major", { pollSchedule = "@every 10s" }),
    { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "yearly", keel("major", { pollSchedule = "@yearly" }), { { "web", REPO .. ":1.0.0" } })
  herd:put("deployment", "shop", "wrong", keel("major", { pollSchedule = "soon" }), { { "web", REPO .. ":1.0.0" } })
  herd:push(REPO, "1.0.0", "one")
  local host = open(herd)
  eq(host.config.apps["shop/often"].poll, 10)
  eq(host.config.apps["shop/wrong"].poll, 60)
  eq(host.config.apps["shop/yearly"].poll, 60)
  local poller = require "engine.poller"
  poller.poll(host, host.config.apps["shop/yearly"])
  eq(herd.asked.tags, 1) -- the first look is due
  local memory = require("extensions.keel.observations").memory(host.world)
  for _, answer in pairs(memory.answers) do answer.at = answer.at - 3600 end
  poller.poll(host, host.config.apps["shop/often"])
  eq(herd.asked.tags, 2)
  memory.answers = {}
  poller.poll(host, host.config.apps["shop/wrong"])
  ok(why(host, "shop/wrong", "keel.sh/pollSchedule"):find("is not a schedule", 1, true))
end)
