-- The story of the system that this one replaces, as far as charts go: a push builds and publishes a chart, staging
-- follows it by helmsman; a tag publishes a version, production follows that; a bad one is taken back. With real git,
-- the real helm, a real API server, and the stand-ins for ChartMuseum and helmsman. Images and the app's own place are
-- simulated: other stories tell of them.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, cluster, lab, tools = require "lab.base", require "cluster.lab", require "lab", require "cluster.tools"
local chart_museum = require "cluster.chart_museum"
local errors, json, kubernetes, targets = require "errors", require "json", require "kubernetes", require "targets"
local secret = require "config.secret"
local sim = require "sim"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local CHART <const> = [[
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }} }
data: { version: {{ .Chart.Version | quote }}, app: {{ .Chart.AppVersion | quote }}, text: {{ .Values.text | quote }} }
]]

-- Desired state whose versions come by variables: nobody edits it.
local function desired(dir, museum, ns)
  local file = ([[
context: %s
helmRepos: { main: "http://dev:chart-word@%s" }
namespaces: { %s: {} }
apps:
  web: { namespace: %s, enabled: true, chart: main/web, version: "$WEB_VERSION" }
]]):format(ns, museum.url:gsub("^http://", ""), ns, ns)
  return base.write(("%s/%s.yaml"):format(dir, ns), file)
end

local function environment(name, accept, target)
  return {
    name = name, app = "shop", policy = "charts", rollback = "rollback", accept = accept, match_prerelease = true,
    watch_for = 300, notify = { "ops" }, target = target,
    verify = { { http = "http://127.0.0.1/", status = 200, within = 1, every = 1 } },
  }
end

local function open()
  local c, dir = cluster.open(), base.dir "story"
  local museum = chart_museum.open { user = "dev", password = "chart-word" }
  local git = lab.git {}
  local repo = git:repo("web")
  local s = { c = c, museum = museum, repo = repo, ns = { staging = c:namespace "story-a", production = c:namespace
    "story-b" } }
  local login = { name = "main", url = museum.url, username = "dev",
    password = secret.new("file", base.write(dir .. "/word", "chart-word")) }
  local function helmsman(ns)
    return {
      kind = "helmsman", files = { desired(dir, museum, ns) }, context = ns, cluster = "lab", namespaces = { ns },
      run = "process", command = { tools.path "helmsman" }, only = {}, groups = {}, keep_untracked = true, flags = {},
      override_context = false, env = { PATH = tools.cache() .. "/bin:/usr/bin:/bin" }, variables = {}, timeout = 120,
    }
  end
  local cfg = sim.config(dir .. "/state")
  cfg.chart_repositories, cfg.clusters = { main = login }, { lab = { name = "lab", kubeconfig = c.kubeconfig } }
  local web = cfg.apps.web
  web.source, web.publish = { url = repo.url }, {
    charts = { "chart" }, to = login, version = "0.0.0-staging.{count}", command = { tools.path "helm" }, timeout = 60,
  }
  local list = {
    environment("staging", "staging", helmsman(s.ns.staging)),
    environment("production", "major", helmsman(s.ns.production)),
  }
  local shop = {
    name = "shop", follows = "charts", source = { url = museum.url }, poll = 3600, environment_list = list,
    environments = { staging = list[1], production = list[2] },
    charts = { web = { name = "web", chart = "web", repository = login } },
  }
  cfg.apps.shop = shop
  table.insert(cfg.app_list, shop)
  s.sim = sim.open(dir .. "/world")
  local world, real = s.sim:world(), require("engine.world").real()
  local simulated = world.target
  world.repository, world.charts = real.repository, real.charts
  world.target = function(at, outside) return at.app == "shop" and targets.open(at, outside) or simulated(at) end
  world.verify = function(_, request)
    if s.sick and request.app == "shop" and request.version == s.sick then
      return errors.fail("unhealthy", "the check got status 500", { op = "verify" })
    end
    return true
  end
  s.engine = ok(require("engine").open { config = cfg, world = world, load = function() return cfg end })
  check.defer(function() s.engine:close() end)
  check.defer(kubernetes.forget)
  function s.map(name)
    local object = c:get(("/api/v1/namespaces/%s/configmaps/web"):format(s.ns[name]))
    return object and object.data or {}
  end
  function s.revision(name)
    local found = json.decode(c:helm { "list", "-n", s.ns[name], "-o", "json" })
    return found[1] and found[1].revision
  end
  return s
end

test("from a push to staging, from a tag to production, and back when it is bad", function()
  local s = open()
  local one = s.repo:commit {
    ["chart/Chart.yaml"] = "apiVersion: v2\nname: web\nversion: 0.0.0\n", ["chart/values.yaml"] = "text: one\n",
    ["chart/templates/all.yaml"] = CHART,
  }
  sim.settle(s.engine)
  eq(s.map "staging", { version = "0.0.0-staging.1", app = "sha-" .. one, text = "one" })
  eq(s.map "production", {})

  s.repo:tag("v1.0.0")
  sim.settle(s.engine)
  eq(s.map "production", { version = "1.0.0", app = "v1.0.0", text = "one" })
  eq(s.map("staging").version, "0.0.0-staging.1")

  local two = s.repo:commit { ["chart/values.yaml"] = "text: two\n" }
  sim.settle(s.engine)
  eq(s.map "staging", { version = "0.0.0-staging.2", app = "sha-" .. two, text = "two" })

  s.sick = "web=1.1.0"
  s.repo:tag("v1.1.0")
  sim.settle(s.engine)
  eq(s.map "production", { version = "1.0.0", app = "v1.0.0", text = "one" })
  eq(s.revision "production", "3") -- it was there, and was taken back
  has(table.concat(s.sim:messages(), "\n"), "took back web=1.1.0")
  sim.settle(s.engine)
  eq(s.revision "production", "3")

  s.repo:tag("v1.1.1")
  s.repo:push(one .. ":refs/heads/main") -- and staging goes back to the first commit, as something new
  sim.settle(s.engine)
  eq(s.map "production", { version = "1.1.1", app = "v1.1.1", text = "two" })
  eq(s.map "staging", { version = "0.0.0-staging.3", app = "sha-" .. one, text = "one" })
  for _, run in ipairs(ok(s.engine:history { limit = 100 }).runs) do
    local bad = run.app == "shop" and run.kind == "change" and run.title:find("1.1.0", 1, true)
    eq(run.state, bad and "failed" or "done", ("%s %s %s"):format(run.app, run.environment, run.title))
  end
end, 300)
