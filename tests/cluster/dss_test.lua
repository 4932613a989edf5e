-- config/dss/: the whole system up, upgraded, down and up again, by the files that people get. The charts that they
-- name are played by small ones (charts/README.md), the repositories by one of ours; everything else is as it stands.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, cluster, tools = require "lab.base", require "cluster.lab", require "cluster.tools"
local museums = require "cluster.chart_museum"
local fs, http, json, proc = require "fs", require "http", require "json", require "proc"
local sys, yaml = require "base.sys", require "yaml"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local REPOSITORIES <const> = {
  "https://charts.min.io", "https://helm.twun.io", "https://chartmuseum.github.io/charts", "https://charts.keel.sh",
  "http://chartmuseum.storage.svc:8080",
}

---@class DssStage
local Stage = {}
Stage.__index = Stage

-- The files, with our repository in the place of the public ones, and a cluster of their own: their namespaces have
-- fixed names.
local function stage()
  local s = setmetatable({ c = cluster.private {}, dir = base.dir "dss", museum = museums.open() }, Stage)
  for path in fs.walk "config" do
    local text = (path:find("^dss/") or path:find("^chart/")) and fs.read("config/" .. path)
    for _, url in ipairs(text and REPOSITORIES or {}) do
      local at, stop = text:find(url, 1, true)
      if at then text = text:sub(1, at - 1) .. s.museum.url .. text:sub(stop + 1) end
    end
    if text then base.write(s.dir .. "/config/" .. path, text) end
  end
  -- kwok's nodes have no volumes to give.
  local values = ok(fs.read(s.dir .. "/config/dss/values/moontide.yaml"))
  values = values:gsub("persistence: {.-}", "persistence: { enabled: false }")
  base.write(s.dir .. "/config/dss/values/moontide.yaml", values)
  return s
end

---Puts a version of a chart into the repository.
function Stage:publish(name, version)
  local chart = ("%s/%s"):format(base.dir "package", name)
  for path in fs.walk "tests/cluster/charts/public" do
    local text = fs.read("tests/cluster/charts/public/" .. path)
    if text then base.write(chart .. "/" .. path, (text:gsub("name: public", "name: " .. name))) end
  end
  local to = base.dir "packages"
  self.c:helm { "package", chart, "--version", version, "-d", to }
  self.museum:put(name, version, ok(fs.read(("%s/%s-%s.tgz"):format(to, name, version))))
end

-- helmsman, as a user has it in a shell.
function Stage:helmsman(words, env, cwd)
  self.home = self.home or base.dir "home"
  local all = { PATH = tools.cache() .. "/bin:/usr/bin:/bin", HOME = self.home, KUBECONFIG = self.c.kubeconfig,
    TMPDIR = self.home, HELMSMAN_STAND_IN_DIFF = "1" }
  for key, value in pairs(env or {}) do all[key] = value end
  local argv = { tools.path "helmsman", "-no-banner", env = all, cwd = cwd or self.dir, timeout = 300,
    stderr = "stdout" }
  table.move(words, 1, #words, #argv + 1, argv)
  return ok(proc.run(argv))
end

---The same, which must end well.
function Stage:must(words, env)
  local result = self:helmsman(words, env)
  if not result.ok then error(table.concat(words, " ") .. ":\n" .. result.stdout, 2) end
  return result.stdout
end

---Releases of all namespaces: { ["storage/registry"] = "docker-registry-3.0.0 deployed 1" }
function Stage:releases()
  local list = {}
  for _, r in ipairs(json.decode(self.c:helm { "list", "-A", "-o", "json" })) do
    list[r.namespace .. "/" .. r.name] = ("%s %s %s"):format(r.chart, r.status, r.revision)
  end
  return list
end

local UP <const> = { "-apply", "-parallel-files", "-p=2", "-f=config/dss/storage.yaml", "-f=config/dss/tools.yaml" }
local DOWN <const> = { "-destroy", "-parallel-files", "-p=2", "-f=config/dss/storage.yaml", "-f=config/dss/tools.yaml" }

-- Moontide itself, with the app of values/moontide.yaml and helmsman as a program of this machine.
function Stage:configure(more)
  local said = ok(yaml.decode(ok(fs.read(self.dir .. "/config/dss/values/moontide.yaml")))).config
  for name, environment in pairs(said.apps.shop.environments) do
    local target = environment.target
    target.flags = nil -- here it makes the namespaces
    target.run, target.files = "process", { ("%s/config/dss/application-%s.yaml"):format(self.dir, name) }
    target.command, target.env = { tools.path "helmsman" }, { PATH = tools.cache() .. "/bin:/usr/bin:/bin" }
  end
  said.api, said.state = nil, self.dir .. "/state"
  for key, value in pairs(more or {}) do said[key] = value end
  said.clusters = { default = { kubeconfig = self.c.kubeconfig } }
  base.write(self.dir .. "/moontide.json", json.encode(said))
end

function Stage:moontide(word, ...)
  self:configure()
  local argv = { sys.exe(), word, "--config", self.dir .. "/moontide.json", ... }
  argv.timeout, argv.stderr = 300, "stdout"
  local result = ok(proc.run(argv))
  if not result.ok then
    local history = proc.run { sys.exe(), "history", "--output", "json", "--config", self.dir .. "/moontide.json" }
    error(("moontide %s:\n%s\n%s"):format(word, result.stdout, history.stdout), 2)
  end
  return result.stdout
end

test("the system goes up by one command, is upgraded, goes down by one command and comes up again", function()
  local s = stage()
  for name, version in pairs { minio = "5.4.0", ["docker-registry"] = "3.0.0", chartmuseum = "3.10.4" } do
    s:publish(name, version)
  end
  local all = {
    ["storage/object-storage"] = "minio-5.4.0 deployed 1", ["storage/registry"] = "docker-registry-3.0.0 deployed 1",
    ["storage/chartmuseum"] = "chartmuseum-3.10.4 deployed 1",
  }
  local version = ok(fs.read "config/chart/Chart.yaml"):match("\nversion: (%S+)")
  all["moontide/helmsman"] = "helmsman-0.1.0 deployed 1"
  all["moontide/moontide"] = ("moontide-%s deployed 1"):format(version)
  -- As the README has it, from the folder where config/ is; from elsewhere the files of setFile are not found.
  s.c:kubectl { "create", "namespace", "moontide" }
  has(s:must { "-dry-run", "-f=config/dss/tools.yaml" }, "Plan applied")
  eq(s:releases(), {})
  local elsewhere = s:helmsman({ "-dry-run", ("-f=%s/config/dss/tools.yaml"):format(s.dir) }, nil, base.dir "elsewhere")
  eq(elsewhere.ok, false)
  has(elsewhere.stdout, "config/dss/application-")
  s:must(UP)
  eq(s:releases(), all)
  for _, place in ipairs { "storage/object-storage", "storage/registry", "storage/chartmuseum", "moontide/moontide" } do
    local ns, name = place:match("^(.-)/(.+)$")
    s.c:rolled_out(ns, name)
  end
  local map = s.c:get "/api/v1/namespaces/moontide/configmaps/helmsman"
  eq(map.data["staging.yaml"], ok(fs.read(s.dir .. "/config/dss/application-staging.yaml")))
  local job = s.c:get "/apis/batch/v1/namespaces/moontide/cronjobs/helmsman"
  eq(job.spec.suspend, true)
  eq(job.spec.jobTemplate.spec.template.spec.containers[1].args, { "-apply", "-f=/dss/staging.yaml" })

  -- Nothing to do, and it says so.
  has(s:must(UP), "Nothing to execute")
  eq(s:releases(), all)

  -- A newer chart within the range goes in, and nothing else moves.
  s:publish("docker-registry", "3.1.0")
  s:publish("minio", "6.0.0") -- beyond its range
  has(s:must { "-f=config/dss/storage.yaml" }, "Release [ registry ] will be upgraded")
  s:must(UP)
  all["storage/registry"] = "docker-registry-3.1.0 deployed 2"
  eq(s:releases(), all)

  s:must(DOWN)
  eq(s:releases(), {})
  eq(s.c:get("/apis/apps/v1/namespaces/storage/deployments").items, {})
  eq(#s.c:get("/apis/rbac.authorization.k8s.io/v1/namespaces/staging/rolebindings").items, 0)

  s:must(UP)
  all["storage/registry"] = "docker-registry-3.1.0 deployed 1"
  eq(s:releases(), all)
  s.c:rolled_out("moontide", "moontide")
end, 400)

test("keel is laid over the tools, and goes when it is left out", function()
  local s = stage()
  s:publish("keel", "1.2.0")
  s:must { "-apply", "-f=config/dss/tools.yaml", "-f=config/dss/keel.yaml" }
  eq(s:releases()["moontide/keel"], "keel-1.2.0 deployed 1")
  eq(s:releases()["moontide/helmsman"], "helmsman-0.1.0 deployed 1")
  has(s:must { "-f=config/dss/tools.yaml" }, "Untracked release [ keel ] found and it will be deleted")
  s:must { "-apply", "-f=config/dss/tools.yaml" }
  eq(s:releases()["moontide/keel"], nil)
end, 300)

test("Moontide follows the charts and puts them out by the files, in staging as they come, in production by version",
  function()
    local s = stage()
    for _, name in ipairs { "api", "web" } do
      s:publish(name, "0.0.0-staging.9")
      s:publish(name, "1.0.0")
    end
    s:moontide "once"
    eq(s:releases(), {
      ["staging/api"] = "api-0.0.0-staging.9 deployed 1", ["staging/web"] = "web-0.0.0-staging.9 deployed 1",
      ["production/api"] = "api-1.0.0 deployed 1", ["production/web"] = "web-1.0.0 deployed 1",
    })
    s:moontide "once"
    eq(s:releases()["staging/api"], "api-0.0.0-staging.9 deployed 1")

    s:publish("api", "0.0.0-staging.10")
    s:publish("web", "1.1.0")
    s:publish("web", "2.0.0") -- `accept = minor` leaves it
    s:moontide "once"
    eq(s:releases(), {
      ["staging/api"] = "api-0.0.0-staging.10 deployed 2", ["staging/web"] = "web-0.0.0-staging.9 deployed 1",
      ["production/api"] = "api-1.0.0 deployed 1", ["production/web"] = "web-1.1.0 deployed 2",
    })
    local status = s:moontide "status"
    has(status, "api=0.0.0-staging.10 web=0.0.0-staging.9")
    has(status, "api=1.0.0 web=1.1.0")

    -- The same files, by hand: what Moontide put out is what they know.
    local versions = { API_VERSION = "1.0.0", WEB_VERSION = "1.1.0" }
    has(s:must({ "-f=config/dss/application-production.yaml" }, versions), "Release [ web ] installed and up-to-date")
    s:must({ "-destroy", "-f=config/dss/application-production.yaml" }, versions)
    s:must({ "-destroy", "-f=config/dss/application-staging.yaml" }, versions)
    eq(s:releases(), {})
  end, 400)

test("Moontide killed while helm works goes on where it was: a first release and an upgrade, each put out once",
  function()
    local s = stage()
    for _, name in ipairs { "api", "web" } do s:publish(name, "1.0.0") end
    -- Only production has something to do; its first chart takes some seconds to become ready.
    local file = s.dir .. "/config/dss/application-production.yaml"
    base.write(file, (ok(fs.read(file)):gsub("chart: main/api\n", "%0    set: { delay: 5s }\n")))
    local function die_at(status)
      s:configure()
      local host <close> = ok(proc.spawn { sys.exe(), "run", "--config", s.dir .. "/moontide.json" })
      base.eventually("helm works", 60, function()
        return (s:releases()["production/api"] or ""):find(status, 1, true)
      end)
      host:kill "KILL"
      host:wait()
    end
    die_at "pending-install"
    s:moontide "once"
    eq(s:releases(), {
      ["production/api"] = "api-1.0.0 deployed 2", -- the way back finished the installation
      ["production/web"] = "web-1.0.0 deployed 1",
    })
    s:publish("api", "1.1.0")
    die_at "pending-upgrade"
    s:moontide "once"
    has(s:releases()["production/api"], "api-1.1.0 deployed")
    local history = json.decode(s:moontide("history", "--output", "json"))
    local states = {}
    for _, run in ipairs(history.runs) do
      if run.environment == "production" then
        states[#states + 1] = ("%s %s %d"):format(run.title, run.state, run.attempts)
      end
    end
    eq(states, { "api 1.1.0 done 2", "api 1.0.0, web 1.0.0 done 2" })
    has(s:moontide "status", "api=1.1.0 web=1.0.0")
  end, 400)

test("a pipeline takes staging down and brings it up by the API, with the versions that it wants", function()
  local s = stage()
  for _, name in ipairs { "api", "web" } do
    s:publish(name, "0.0.0-staging.1")
    s:publish(name, "0.0.0-staging.2")
  end
  base.write(s.dir .. "/token", "token-of-the-pipeline\n")
  local port = base.port()
  s:configure { listen = "127.0.0.1:" .. port, api = { token = { file = s.dir .. "/token" } } }
  local host <close> = ok(proc.spawn { sys.exe(), "run", "--config", s.dir .. "/moontide.json" })
  local function ask(method, path, body)
    return http.request { method = method, url = ("http://127.0.0.1:%d%s"):format(port, path),
      body = body and json.encode(body), auth = { bearer = "token-of-the-pipeline" } }
  end
  local function done(order, body)
    local answer = ok(ask("POST", order, body))
    eq(answer.status, 202, answer.body)
    return base.eventually(order .. " is done", 90, function()
      local job = ok(ask("GET", answer.headers.location)):json().job
      if job.state == "failed" then error(job.error.message, 0) end
      return job.state == "done" and job
    end)
  end
  base.eventually("staging is up", 90, function()
    return s:releases()["staging/web"] == "web-0.0.0-staging.2 deployed 1"
      and (ok(ask("GET", "/jobs?state=done")):json().jobs[1] ~= nil)
  end)
  done("/destroy", { app = "shop", environment = "staging", by = "pipeline" })
  eq(s:releases(), {})
  local job = done("/apply", { app = "shop", environment = "staging", versions = { api = "0.0.0-staging.1" } })
  eq(job.release.version, "api=0.0.0-staging.1 web=0.0.0-staging.2")
  eq(s:releases(), {
    ["staging/api"] = "api-0.0.0-staging.1 deployed 1", ["staging/web"] = "web-0.0.0-staging.2 deployed 1",
  })
  eq(ok(ask("POST", "/destroy", { app = "shop", environment = "production" })).status, 403)
  local words = {}
  for _, event in ipairs(ok(ask("GET", "/events?app=shop&environment=staging&limit=1000")):json().events) do
    words[event.event] = true
  end
  ok(words.run and words.step and words.change)
  host:kill "TERM"
  host:wait()
end, 300)

test("what the files say is understood by Moontide, helm and the API server", function()
  local s = stage()
  s.c:helm { "lint", s.dir .. "/config/dss/helmsman" }
  s.c:kubectl { "create", "namespace", "staging" }
  s.c:kubectl { "create", "namespace", "production" }
  s.c:kubectl { "create", "namespace", "moontide" }
  local made = s.c:helm { "template", "helmsman", s.dir .. "/config/dss/helmsman", "-n", "moontide", "--set-file",
    "files.staging=" .. s.dir .. "/config/dss/application-staging.yaml", "--set", "secretEnv.TOKEN.secret=a",
    "--set", "secretEnv.TOKEN.key=b" }
  s.c:kubectl { "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin = made }
  has(made, "name: TOKEN")
  has(s:moontide "check", "1 app, 2 environments")
end, 200)
