-- Rights that are missing, as people see them: a real host with a service account that may do too little, and what
-- `moontide why`, `logs` and `status` say about it.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check, cluster, hosts, lab = require "check", require "cluster.lab", require "lab.host", require "lab"
local stages = require "cluster.fault_stage"
local test, eq, has = check.test, check.eq, check.has

local CONFIG <const> = [[
return {
  poll = "0.5s",
  clusters = { lab = { kubeconfig = "@KUBECONFIG@" } },
  apps = { web = { source = "@SOURCE@", image = "@REGISTRY@/team/web",
    environments = { staging = { target = { kind = "kubernetes", cluster = "lab", namespace = "@NS@",
      workload = "deployment/web", patience = "3s", timeout = "30s" } } } } },
}
]]

-- The rights of a rollout without one verb of one resource.
local function without(resource, verb)
  local rules = {}
  for i, rule in ipairs(stages.RIGHTS) do
    local verbs = {}
    for _, v in ipairs(rule.verbs) do
      if rule.resources[1] ~= resource or v ~= verb then verbs[#verbs + 1] = v end
    end
    rules[i] = { apiGroups = rule.apiGroups, resources = rule.resources, verbs = verbs }
  end
  return rules
end

test("a right that is missing is named by why, logs and status: verb, resource, namespace, account", function()
  local c, git, registry = cluster.open(), lab.git {}, lab.registry {}
  local ns, repo = c:namespace "denied", git:repo "web"
  c:deployment(ns, "web")
  local token = c:service_account(ns, "moontide", without("deployments", "patch"))
  local commit = repo:commit { version = "one" }
  local function push(id)
    lab.image(registry, { version = id:sub(1, 8), tag = "sha-" .. id,
      labels = { ["org.opencontainers.image.revision"] = id } })
  end
  push(commit)
  local values = { KUBECONFIG = c:kubeconfig_for(token, ns), SOURCE = repo.url, REGISTRY = registry.host, NS = ns }
  local host = hosts.new((CONFIG:gsub("@(%u+)@", values)))
  host:start()
  local words = ("may not patch deployments in namespace %s as system:serviceaccount:%s:moontide"):format(ns, ns)
  local function says(...)
    local said = host:command(...).stdout
    has((said:gsub("%s+", " ")), words) -- however it was wrapped
  end
  host:until_("staging", "has failed", 60, function(e) return e.state == "failed" and e.last.kind == "rollback" end)
  says("why", "web")
  says("logs", "1")
  says("status")
  says("history", "-o", "json")
  -- The next release finds the right in place.
  c:grant(ns, "moontide", { { apiGroups = { "apps" }, resources = { "deployments" }, verbs = { "patch" } } })
  commit = repo:commit { version = "two" }
  push(commit)
  local last = host:until_("staging", "runs two", 60, function(e)
    return e.current and e.current.commit == commit and e
  end).last
  eq(last.state, "done")
  eq(host:stop("TERM").code, 0)
end, 180)
