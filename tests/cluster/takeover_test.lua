-- Two Moontides and one real Deployment: whoever acts, each commit is rolled out once, and none goes over a newer one.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base, check = require "lab.base", require "check"
local sim, stages, task, time = require "sim", require "cluster.leader_stage", require "task", require "time"
local test, eq, ok = check.test, check.eq, check.ok

local ROLLOUT <const> = {
  { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "get", "list", "watch", "patch" } },
  { apiGroups = { "apps" }, resources = { "replicasets" }, verbs = { "get", "list", "watch" } },
  { apiGroups = { "" }, resources = { "pods" }, verbs = { "get", "list", "watch" } },
  { apiGroups = { "" }, resources = { "pods/log" }, verbs = { "get" } },
  { apiGroups = { "", "events.k8s.io" }, resources = { "events" }, verbs = { "create", "patch" } },
}

local function path(s) return ("/apis/apps/v1/namespaces/%s/deployments/web"):format(s.ns) end

local function image_of(s)
  local d = assert(s.c:get(path(s)))
  return d.spec.template.spec.containers[1].image:match("@(.*)$"), d
end

local function digest(name) return "sha256:" .. require("hash").sha256("image of " .. sim.commit(name)) end

-- How many pod templates it had: metadata.generation rises with annotations, too.
local function revision(d) return tonumber(d.metadata.annotations["deployment.kubernetes.io/revision"]) end

-- Everything that the Deployment ever said, in order: its images, seen by a watch of the test's own.
local function history(s)
  local images = {}
  local client = assert(require("kubernetes").open({ kubeconfig = s.c.kubeconfig, namespace = s.ns }))
  local seen = task.spawn(function()
    local follow <close> = assert(client:follow(path(s), nil, { on_change = function(_, _, d)
      local image = type(d) == "table" and d.spec and d.spec.template.spec.containers[1].image:match("@(.*)$")
      if image and images[#images] ~= image then images[#images + 1] = image end
    end }))
    follow:wait(function() end, 600)
  end)
  return images, seen
end

local function rolled(s, name, seconds)
  base.eventually(name .. " is rolled out", seconds or 30, function()
    local image, d = image_of(s)
    local status = d.status
    return image == digest(name) and status.observedGeneration == d.metadata.generation
      and (status.updatedReplicas or 0) == d.spec.replicas and (status.availableReplicas or 0) == d.spec.replicas
      and status.replicas == d.spec.replicas
  end)
end

test("SIGKILL in the middle of a rollout, two state folders: the next host proves it, and rolls nothing out again",
function()
  local s = stages.stage(ROLLOUT)
  s.c:deployment(s.ns, "web", { stage = "ready", durations = { delay = "6s" } })
  local a, b = s:pair({ deployment = "web" }, { deployment = "web" })
  base.eventually("the rollout begins", 20, function() return image_of(s) == digest "one" end)
  a.process:kill("KILL")
  b:wait_for "^leads from now on"
  b:wait_for "adopted what runs"
  rolled(s, "one")
  base.eventually("b knows that it runs", 30, function()
    return b:said "runs already" or #b:done() > 0
  end)
  local _, d = image_of(s)
  eq(revision(d), 2) -- as created, and one rollout
  eq(d.metadata.annotations["moontide.dev/generation"], "2")
  s.world:push("main", "two")
  rolled(s, "two", 40)
  _, d = image_of(s)
  eq(revision(d), 3)
end, 120)

test("two hosts that know nothing of each other: one rollout for each commit, never an older one over a newer one",
function()
  local s = stages.stage(ROLLOUT)
  s.c:deployment(s.ns, "web", { stage = "ready" })
  local images, watching = history(s)
  local hosts = {}
  for i = 1, 2 do -- engines without a leader, each with its own state
    local host = sim.host(s.world, ("%s/alone-%d"):format(s.dir, i), { poll = 0.2, watch_for = 0, rollback = false,
      engine = { host = "alone-" .. i } })
    host.config.clusters = { default = { name = "default", kubeconfig = s.kubeconfig, namespace = s.ns } }
    host.config.app_list[1].environment_list[1].target = {
      kind = "kubernetes", cluster = "default", workload = "deployment/web", containers = {}, init_containers = {},
      patience = 5, timeout = 30, server_side = false,
    }
    local real = host.world.target
    host.world.target = function(environment)
      if environment.name == "staging" then return require("targets").open(environment, host.world) end
      return real(environment)
    end
    hosts[i] = { engine = host, done = task.spawn(function() return host:run() end) }
  end
  local order = { "one" }
  for i = 1, 12 do
    local name = ("c%02d"):format(i)
    order[#order + 1] = name
    time.sleep(math.random() * 0.8)
    s.world:push("main", name)
  end
  rolled(s, "c12", 60)
  time.sleep(1.5)
  for _, host in ipairs(hosts) do
    host.engine:stop(5)
    host.done:join(15)
  end
  watching:cancel()
  local place = {}
  for i, name in ipairs(order) do place[digest(name)] = i end
  local last, distinct = 0, 0
  for _, image in ipairs(images) do
    local at = place[image]
    ok(at > last, ("%s went over %s"):format(order[at], order[last] or "nothing"))
    last, distinct = at, distinct + 1
  end
  local _, d = image_of(s)
  eq(revision(d), 1 + distinct)
  print(("# %d commits, %d rollouts"):format(#order, distinct))
end, 120)
