-- The Helm chart against a real API server: what it makes, what it refuses, and exactly what it may do.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check, cluster, lab = require "check", require "cluster.lab", require "lab"
local fs, json, yaml = require "fs", require "json", require "yaml"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local CHART <const>, GOLDEN <const> = "config/chart", "tests/cluster/golden"

-- The variants that people choose. Namespaces are placeholders here, real ones in a cluster.
local VARIANTS = {
  small = {
    config = { apps = { web = {
      source = "https://git.example.com/team/web.git", image = "registry.example.com/team/web",
      environments = {
        staging = { target = { kind = "kubernetes", namespace = "STAGE", workload = "deployment/web" } },
        production = { target = { kind = "kubernetes", namespace = "PROD", workload = "deployment/web" } },
      },
    } } },
  },
  full = {
    replicas = 2, persistence = { enabled = true, accessModes = { "ReadWriteMany" }, keep = true },
    image = { repository = "registry.example.com/moontide", digest = "sha256:" .. ("0a"):rep(32) },
    imagePullSecrets = { { name = "pull" } }, secrets = { "registry" }, certificates = { "company" },
    secretEnv = { SLACK_URL = { secret = "slack", key = "url" } }, sshSecret = "deploy-key",
    policies = { ["staging.lua"] = "return policy {}\n" },
    ingress = { enabled = true, className = "nginx", hosts = { "moontide.example.com" } },
    tools = { { name = "buildctl", image = "moby/buildkit:v0.34.2", path = "/usr/bin/buildctl" } },
    config = {
      registries = {
        ["registry.example.com"] = { username = "ci", password = { file = "/etc/moontide/secrets/registry/password" } },
      },
      builder = { kind = "job", namespace = "BUILD", login = "registry-login" },
      apps = {
        web = {
          source = "https://git.example.com/team/web.git", image = "registry.example.com/team/web",
          environments = {
            staging = { target = { kind = "keel", namespace = "STAGE", workload = "deployment/web" } },
            production = {
              target = { kind = "kubernetes", namespace = "PROD", workload = "statefulset/web", manifests = "deploy/" },
              verify = { { job = "cronjob/smoke" } },
            },
          },
        },
        nightly = {
          source = "https://git.example.com/team/web.git", image = "registry.example.com/team/nightly",
          environments = {
            production = { target = { kind = "kubernetes", namespace = "PROD", workload = "cronjob/nightly" } },
          },
        },
      },
    },
  },
  keel = { config = { apps = {}, keel = { namespaces = { "STAGE", "PROD" } } } },
  everywhere = { config = { apps = {}, keel = { platforms = false } } },
}

local function values(variant, names, more)
  local function walk(value)
    if type(value) == "string" then return names[value] or value end
    if type(value) ~= "table" then return value end
    local copy = {}
    for k, v in pairs(value) do copy[k] = walk(v) end
    return copy
  end
  local all = walk(VARIANTS[variant])
  for k, v in pairs(more or {}) do all[k] = v end
  return lab.write(lab.dir("values") .. "/values.json", ok(json.encode(all)))
end

local PLACES <const> = { STAGE = "stage", PROD = "prod", BUILD = "builds" }

local function template(c, variant, ...)
  return c:helm { "template", "demo", CHART, "--namespace", "moon", "--values", values(variant, PLACES), ... }
end

test("lint finds nothing, not even a warning", function()
  local c = cluster.open()
  for variant in pairs(VARIANTS) do
    local said = c:helm { "lint", "--strict", CHART, "--values", values(variant, PLACES) }
    has(said, "0 chart(s) failed")
    eq(said:find("WARNING", 1, true), nil, said)
  end
end)

test("what the main variants make is what it was", function()
  local c = cluster.open()
  for variant in pairs(VARIANTS) do
    local file = ("%s/%s.yaml"):format(GOLDEN, variant)
    local made, kept = template(c, variant), fs.read(file, { max = 1 << 20 })
    if made ~= kept then
      ok(fs.write(file, made))
      error(("%s differs: it is written anew; look at the difference, and commit it when it is meant"):format(file))
    end
    ok(#ok(yaml.decode_all(made)) > 5)
  end
end)

test("values that nobody can mean are refused, and secrets are never values", function()
  local c = cluster.open()
  local refused = {
    "nonsense=1", "replicas=two", "image.digest=latest", "config.registries.host.password=literal",
    "config.github.token=literal", "config.nonsense.a=1", "config.credentials.host.password.literal=x",
    "secrets[0].password=x", "service.port=0", "ingress.hosts=x", "rbac.manifests[0].resources[0]=secrets",
    "policies.Staging=x", "config.registries.host.pasword=x",
  }
  for _, set in ipairs(refused) do
    local result = c:try_helm { "template", "demo", CHART, "--set", set }
    ok(not result.ok, set .. " was accepted")
    has(result.stderr, "values don't meet the specifications")
  end
end)

test("the schema knows every top-level key of the configuration, but those that the chart decides", function()
  local schema = ok(json.decode(ok(fs.read(CHART .. "/values.schema.json"))))
  local known = schema.properties.config.properties
  local own = { state = true, listen = true, scripts = true }
  local printed = lab.run { require("base.sys").exe(), "help", "config", "--markdown" }
  local count = 0
  for key in printed:gmatch("\n| `([%w_]+)` |") do
    eq(known[key] ~= nil, not own[key], key)
    count = count + 1
  end
  ok(count > 10, count)
end)

-- ---- in the cluster ----

-- Namespaces of this test; the release's own admits only what pod security "restricted" does.
local function places(c)
  local names = { STAGE = c:namespace "stage", PROD = c:namespace "prod", BUILD = c:namespace "builds" }
  local own = c:namespace "moon"
  c:kubectl { "label", "ns", own, "pod-security.kubernetes.io/enforce=restricted",
    "pod-security.kubernetes.io/warn=restricted" }
  return own, names
end

-- On nodes that play, with volumes that nobody would bind.
local function install(c, own, variant, names, more)
  more = more or {}
  more.nodeSelector = more.nodeSelector or { ["lab.moontide/node"] = "kwok" }
  local result = c:try_helm { "upgrade", "--install", "demo", CHART, "--namespace", own, "--values",
    values(variant, names, more), "--wait", "--timeout", "120s", timeout = 150 }
  ok(result.ok, result.stderr .. result.stdout)
  eq(result.stderr:lower():find("warn", 1, true), nil, result.stderr)
  return result.stdout
end

local LISTED <const> = "deployments,pods,services,configmaps,serviceaccounts,networkpolicies,"
  .. "poddisruptionbudgets,ingresses,roles,rolebindings,persistentvolumeclaims,jobs"

local function left(c, ns)
  local list = {}
  for name in c:kubectl({ "-n", ns, "get", LISTED, "-o", "name", "--ignore-not-found" }):gmatch("[^\n]+") do
    if not name:find("kube-root-ca", 1, true) and name ~= "serviceaccount/default" then list[#list + 1] = name end
  end
  return list
end

test("it installs, tests, upgrades, tests and goes, where only restricted pods are admitted", function()
  local c = cluster.open()
  local own, names = places(c)
  has(install(c, own, "small", names), "1 app(s)")
  has(c:helm { "test", "demo", "--namespace", own, "--timeout", "60s" }, "Succeeded")
  local pods = ok(json.decode(c:kubectl { "-n", own, "get", "pods", "-o", "json" })).items
  eq(#pods, 1)
  -- The full variant: two hosts, secrets, tools, ingress; the volume is an emptyDir: nothing binds claims here.
  local more = { persistence = { enabled = false } }
  has(install(c, own, "full", names, more), "2 app(s)")
  has(c:helm { "test", "demo", "--namespace", own, "--timeout", "60s" }, "Succeeded")
  eq(ok(json.decode(c:kubectl { "-n", own, "get", "pdb", "demo-moontide", "-o", "json" })).spec.maxUnavailable, 1)
  c:helm { "rollback", "demo", "1", "--namespace", own, "--wait", "--timeout", "60s" }
  c:helm { "uninstall", "demo", "--namespace", own, "--wait" }
  for _, ns in ipairs { own, names.STAGE, names.PROD, names.BUILD } do
    check.eventually(function() return #left(c, ns) == 0 end, 30, "nothing is left in " .. ns)
  end
end, 400)

-- ---- rights ----

local VERBS <const> = { "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection" }

-- All that the server can be asked about: { group, resource }, subresources included.
local function resources(c)
  local list = {}
  local function take(path, group)
    for _, resource in ipairs(ok(c:get(path)).resources) do
      list[#list + 1] = { group = group, resource = resource.name, namespaced = resource.namespaced }
    end
  end
  take("/api/v1", "")
  for _, group in ipairs(ok(c:get("/apis")).groups) do
    take("/apis/" .. group.preferredVersion.groupVersion, group.name)
  end
  return list
end

local function may(c, token, attributes)
  local answer = c:request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ok(json.encode {
    apiVersion = "authorization.k8s.io/v1", kind = "SelfSubjectAccessReview",
    spec = { resourceAttributes = attributes },
  }), { token = token })
  return ok(json.decode(answer.body)).status.allowed
end

-- What everybody may who has signed in.
local EVERYBODY <const> = {
  ["authorization.k8s.io/selfsubjectaccessreviews create"] = true,
  ["authorization.k8s.io/selfsubjectrulesreviews create"] = true,
  ["authentication.k8s.io/selfsubjectreviews create"] = true,
}

-- Where a role may name objects, some of those are asked for, and one that no role names.
local NAMED <const> = {
  deployments = { "", "web", "other" }, statefulsets = { "", "web", "other" }, daemonsets = { "", "web" },
  cronjobs = { "", "nightly", "smoke", "other" }, leases = { "", "demo-moontide", "other" }, secrets = { "", "web" },
  configmaps = { "", "demo-moontide" }, jobs = { "", "web" }, pods = { "", "web" },
}

-- Asks for each verb of each resource, and compares with a list: "group/resource[:name] verb" by namespace.
local function exactly(c, token, expected, namespaces)
  local all, asked = resources(c), 0
  for _, ns in ipairs(namespaces) do
    local want, got = {}, {}
    for line in pairs(EVERYBODY) do want[line] = true end
    for resource, verbs in pairs(expected[ns] or {}) do
      for verb in verbs:gmatch("%a+") do want[resource .. " " .. verb] = true end
    end
    for _, r in ipairs(all) do
      local resource, sub = r.resource:match("^([^/]+)/?(.*)$")
      for _, verb in ipairs(VERBS) do
        for _, name in ipairs(NAMED[r.resource] or { "" }) do
          local id = ("%s/%s%s %s"):format(r.group, r.resource, name == "" and "" or ":" .. name, verb)
          local general = ("%s/%s %s"):format(r.group, r.resource, verb)
          if not (name ~= "" and (verb == "create" or verb == "deletecollection")) then
            asked = asked + 1
            local allowed = may(c, token, { namespace = ns, group = r.group, resource = resource, verb = verb,
              subresource = sub ~= "" and sub or nil, name = name ~= "" and name or nil })
            if allowed and not (name ~= "" and got[general]) then got[id] = true end
          end
        end
      end
    end
    for line in pairs(got) do ok(want[line], ("in %q it may, and should not: %s"):format(ns, line)) end
    for line in pairs(want) do ok(got[line], ("in %q it should, and may not: %s"):format(ns, line)) end
  end
  print(("# %d questions about rights"):format(asked))
end

local READ <const>, RELEASE <const> = "get list watch", "get list watch patch"

local function with(base, more)
  local all = {}
  for k, v in pairs(base) do all[k] = v end
  for k, v in pairs(more) do all[k] = v end
  return all
end

local WATCHING <const> = {
  ["/pods"] = READ, ["/pods/log"] = "get", ["apps/replicasets"] = READ, ["events.k8s.io/events"] = "create",
}
local JOBS <const> = { ["/pods"] = READ, ["/pods/log"] = "get", ["batch/jobs"] = "create get list watch delete" }

test("its account may do exactly what it needs, and nothing else: each verb of each resource", function()
  local c = cluster.open()
  local own, names = places(c)
  install(c, own, "full", names, { persistence = { enabled = false } })
  local expected = {
    [own] = {
      ["coordination.k8s.io/leases"] = "create", ["coordination.k8s.io/leases:demo-moontide"] = "get update",
    },
    [names.STAGE] = with(WATCHING, { ["apps/deployments:web"] = READ }),
    [names.PROD] = with(with(WATCHING, JOBS), {
      ["apps/statefulsets:web"] = RELEASE, ["apps/statefulsets"] = "create", ["batch/cronjobs:nightly"] = RELEASE,
      ["batch/cronjobs:smoke"] = "get", ["/services"] = "get create patch", ["/configmaps"] = "get create patch",
    }),
    [names.BUILD] = JOBS,
  }
  exactly(c, c:token(own, "demo-moontide"), expected, { own, names.STAGE, names.PROD, names.BUILD, "kube-system", "" })
end, 400)

test("keel's annotations in all namespaces need the one ClusterRole, and no secrets", function()
  local c = cluster.open()
  local own, names = places(c)
  install(c, own, "everywhere", names)
  local everywhere = with(WATCHING, {
    ["apps/deployments"] = RELEASE, ["apps/statefulsets"] = RELEASE, ["apps/daemonsets"] = RELEASE,
    ["batch/cronjobs"] = RELEASE,
  })
  exactly(c, c:token(own, "demo-moontide"), { [own] = everywhere, ["kube-system"] = everywhere, [""] = everywhere },
    { own, "kube-system", "" })
  install(c, own, "keel", names)
  local nodes = { ["/nodes"] = "list" }
  exactly(c, c:token(own, "demo-moontide"), { [own] = nodes, [names.PROD] = with(everywhere, nodes), [""] = nodes },
    { own, names.PROD, "" })
end, 400)
