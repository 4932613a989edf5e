-- The whole story in a cluster: a real git server, registry and builder, the real API server, and a real node where
-- the released version answers a request. Moontide has a token of a service account, with the rights it needs.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster = require "cluster.lab"
local base, json, lab, time = require "lab.base", require "json", require "lab", require "time"
local hosts = require "lab.host"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local CONFIG <const> = [[
local verify = { { job = "checks/smoke.yaml", within = "60s" } }
return {
  poll = "0.5s",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  clusters = { lab = { kubeconfig = "@KUBECONFIG@" } },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    environments = {
      staging = { verify = verify, target = { kind = "kubernetes", cluster = "lab", namespace = "@STAGING@",
        workload = "deployment/web", patience = "3s", timeout = "60s" } },
      production = { verify = verify, target = { kind = "kubernetes", cluster = "lab", namespace = "@PRODUCTION@",
        workload = "deployment/web", manifests = "deploy/", patience = "3s", timeout = "60s" } },
    } } },
}
]]

-- What Moontide needs in a namespace. Production makes what the manifests hold.
local RIGHTS <const> = {
  { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "get", "list", "watch", "patch" } },
  { apiGroups = { "apps" }, resources = { "replicasets" }, verbs = { "list" } },
  { apiGroups = { "" }, resources = { "pods" }, verbs = { "list", "watch", "get" } },
  { apiGroups = { "" }, resources = { "pods/log" }, verbs = { "get" } },
  { apiGroups = { "batch" }, resources = { "jobs" }, verbs = { "get", "list", "watch", "create", "delete" } },
  { apiGroups = { "events.k8s.io" }, resources = { "events" }, verbs = { "create" } },
}
local MANIFEST_RIGHTS <const> = {
  { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "create" } },
  { apiGroups = { "" }, resources = { "configmaps" }, verbs = { "get", "create", "patch" } },
}

-- The released image starts beside the check, and answers it: a Job from the repository, at the released commit.
local function smoke()
  local image = "@REGISTRY@/team/web:any"
  return { apiVersion = "batch/v1", kind = "Job", metadata = { name = "smoke" }, spec = { template = {
    spec = cluster.on_real_node {
      restartPolicy = "Never",
      initContainers = { { name = "app", image = image, restartPolicy = "Always",
        startupProbe = { exec = { command = { "/app", "--check" } }, periodSeconds = 1, failureThreshold = 20 } } },
      containers = { { name = "check", image = image, command = { "/app", "--check" } } },
    } } } }
end

local function files(version, mode, registry)
  local all = lab.app { version = version, mode = mode, dockerfile = "FROM scratch\nCOPY app version mode /\n"
    .. "ENV ADDRESS=0.0.0.0\nENTRYPOINT [\"/app\"]\n" }
  all["checks/smoke.yaml"] = (json.encode(smoke()):gsub("@REGISTRY@", registry.host))
  all["deploy/web.yaml"] = json.encode(cluster.app_deployment("web", registry.host .. "/team/web:any"))
  all["deploy/settings.yaml"] = json.encode { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings" },
    data = { version = version } }
  return all
end

local function world()
  local why = require("lab.docker").unavailable()
  if why then check.skip(why) end
  local c = cluster.open()
  c:need_real()
  local git, registry, docker = lab.git {}, lab.registry {}, lab.docker()
  local repo, staging, production = git:repo "web", c:namespace "story-staging", c:namespace "story-production"
  local token = c:service_account(staging, "moontide", RIGHTS)
  for _, rules in ipairs { RIGHTS, MANIFEST_RIGHTS } do
    c:grant(production, "moontide", rules, { of = staging })
  end
  local zero = lab.image(registry, { version = "zero", tag = "zero" })
  c:create("/apis/apps/v1/namespaces/" .. staging .. "/deployments", cluster.app_deployment("web", zero.image))
  local values = {
    SOCKET = docker.socket, REGISTRY = registry.host, SOURCE = repo.url, STAGING = staging, PRODUCTION = production,
    KUBECONFIG = c:kubeconfig_for(token, staging),
  }
  local host = hosts.new((CONFIG:gsub("@(%u+)@", values)))
  local function serves(name, word)
    local ns = name == "staging" and staging or production
    return host:until_(name, "serves " .. word, 90, function(e)
      return e.state ~= "running" and e.current and e.current.digest and c:ask(ns, "app=web") == word and e
    end)
  end
  return c, host, repo, registry, serves, staging, production
end

local function deployment(ns) return "/apis/apps/v1/namespaces/" .. ns .. "/deployments/web" end

test("push, tag, a bad release that is taken back, a killed host, a branch reset and a rollback", function()
  local c, host, repo, registry, serves, staging, production = world()
  local one = repo:commit(files("one", "good", registry))
  host:start()
  eq(serves("staging", "one").current.commit, one)
  local web = c:get(deployment(staging))
  has(web.spec.template.spec.containers[1].image, registry.host .. "/team/web@sha256:")
  eq({ web.metadata.annotations["moontide.dev/commit"], web.metadata.annotations["moontide.dev/app"] }, { one, "web" })

  repo:tag("v1.0.0", { message = "first" })
  eq(serves("production", "one").current.version, "v1.0.0")
  eq(c:get("/api/v1/namespaces/" .. production .. "/configmaps/settings").data.version, "one")

  repo:commit(files("two", "crash", registry))
  host:until_("staging", "takes the bad one back", 120, function(e)
    return e.last and e.last.kind == "rollback" and e.last.state == "done"
  end)
  serves("staging", "one")
  local history = host:command("history").stdout
  has(history, "CrashLoopBackOff")
  has(history, "fatal: this release cannot start")

  -- Killed between apply and wait: the next host finds the change in the cluster, and waits on.
  local three = repo:commit(files("three", "slow 4", registry))
  host:until_("staging", "has applied it", 60, function(e)
    return e.state == "running" and c:get(deployment(staging)).metadata.annotations["moontide.dev/commit"] == three
  end)
  local generation = c:get(deployment(staging)).metadata.generation
  host.process:kill("KILL")
  host.process:wait(10)
  host:start()
  eq(serves("staging", "three").current.commit, three)
  eq(c:get(deployment(staging)).metadata.generation, generation, "nothing was rolled out twice")

  repo:tag("v1.1.0", { message = "second" })
  eq(serves("production", "three").current.version, "v1.1.0")
  eq(c:get("/api/v1/namespaces/" .. production .. "/configmaps/settings").data.version, "three")

  repo:reset(one)
  eq(serves("staging", "one").current.commit, one)
  local began = time.monotonic()
  eq(host:command("rollback", "web", "production").code, 0)
  eq(serves("production", "one").current.version, "v1.0.0")
  ok(time.monotonic() - began < 30, "back within seconds")
  eq(c:get("/api/v1/namespaces/" .. production .. "/configmaps/settings").data.version, "one")

  local reasons = {}
  for _, e in ipairs(c:get("/apis/events.k8s.io/v1/namespaces/" .. staging .. "/events").items) do
    if e.reportingController == "moontide" then reasons[e.reason] = (reasons[e.reason] or 0) + 1 end
  end
  eq(reasons, { Releasing = 5, Released = 3, ReleaseFailed = 1, RolledBack = 1 })
  base.eventually("the checks' jobs are gone", 20, function()
    return #c:get("/apis/batch/v1/namespaces/" .. staging .. "/jobs").items == 0
  end)
  eq(host:stop("TERM").code, 0)
end, 400)
