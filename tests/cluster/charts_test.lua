-- Charts with the real helm and the real registry: what we read, package and push is what Helm reads, packages and
-- pushes; and the stand-in for ChartMuseum is one to Helm. No cluster is asked.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local archive, charts = require "extensions.charts.archive", require "extensions.charts.repository"
local oci = require "extensions.charts.oci"
local lab, tools = require "lab", require "cluster.tools"
local chart_museum = require "cluster.chart_museum"
local outside = require("engine.world").of
local fs, hash, http, json, proc, yaml = require "fs", require "hash", require "http", require "json", require "proc",
  require "yaml"
local secret = require "config.secret"
local test, eq, ok, has, fails = check.test, check.eq, check.ok, check.has, check.fails

local HELM <const> = tools.path "helm"
local home

-- Runs helm in a home of this test's; raises when it fails, unless `may_fail`.
local function helm(argv)
  home = home or lab.dir("helm")
  local command = { HELM, table.unpack(argv) }
  command.env = lab.env { HOME = home, HELM_CACHE_HOME = home .. "/cache", HELM_CONFIG_HOME = home .. "/config",
    HELM_DATA_HOME = home .. "/data", KUBECONFIG = "/dev/null" }
  command.cwd, command.stderr, command.timeout = argv.cwd or home, "stdout", 60
  local result = ok(proc.run(command))
  if not result.ok and not argv.may_fail then
    error(("helm %s: %s"):format(table.concat(argv, " "), result.stdout), 2)
  end
  return result.stdout, result.code
end

-- A chart made by `helm create`, in a folder.
local function create(dir, name)
  helm { "create", name, cwd = dir }
  return dir .. "/" .. name
end

local function word(text) return secret.new("file", lab.write(lab.dir("secret") .. "/word", text)) end

local function config(more)
  local cfg = { registries = {}, app_list = {}, chart_repositories = {} }
  for k, v in pairs(more or {}) do cfg[k] = v end
  return cfg
end

test("helm takes the stand-in for a chart repository, with a login and with tenants", function()
  local dir = lab.dir("charts")
  create(dir, "web")
  for _, options in ipairs {
    {}, { user = "dev", password = "chart-word", context = "/museum" }, { tenant = "/org" },
  } do
    local museum = chart_museum.open(options)
    local login = options.user and { "--username", options.user, "--password", options.password } or {}
    local base = museum.url:gsub("/museum$", ""):gsub("/org$", "")
    local api = base .. (options.context or "") .. "/api" .. (options.tenant or "") .. "/charts"
    local auth = options.user and { user = options.user, password = options.password }
    for _, version in ipairs { "1.2.3", "1.10.0", "0.0.0-staging.7" } do
      helm { "package", "web", "--version", version, "--app-version", "sha-abc", cwd = dir }
      local bytes = ok(fs.read(("%s/web-%s.tgz"):format(dir, version)))
      local answer = ok(http.post(api, bytes, { auth = auth }))
      eq({ answer.status, answer:json().saved }, { 201, true })
      eq(ok(http.post(api, bytes, { auth = auth })).status, 409)
    end
    helm { "repo", "add", "museum", museum.url, "--force-update", table.unpack(login) }
    helm { "repo", "update" }
    local found = json.decode((helm { "search", "repo", "museum/web", "-l", "--devel", "-o", "json" }))
    local versions = {}
    for i, entry in ipairs(found) do versions[i] = entry.version end
    eq(versions, { "1.10.0", "1.2.3", "0.0.0-staging.7" })
    has(helm { "show", "chart", "museum/web" }, "version: 1.10.0")
    -- Helm's own way to choose a staging version is the one that we publish for.
    has(helm { "show", "chart", "museum/web", "--version", ">=0.0.0-staging.0 <0.0.1-0" }, "version: 0.0.0-staging.7")
    helm { "pull", "museum/web", "--version", "1.2.3", "-d", home }
    local list = ok(charts.repository({ url = museum.url, username = options.user,
      password = options.user and word(options.password) }, outside(config())):versions("web"))
    eq(list[1].version, "1.10.0")
    eq(list[2].digest, "sha256:" .. hash.sha256(ok(fs.read(home .. "/web-1.2.3.tgz"))))
    helm { "repo", "remove", "museum" }
  end
  -- What Helm does not take, the stand-in does not take.
  local museum = chart_museum.open()
  eq(ok(http.post(museum.url .. "/api/charts", "no chart")).status, 400)
  local out, code = helm { "package", "web", "--version", "staging", cwd = dir, may_fail = true }
  ok(code ~= 0, out)
end)

test("what `helm push` puts into a registry is followed, by tag and digest", function()
  local dir, where = lab.dir("charts"), lab.registry { auth = "htpasswd" }
  create(dir, "web")
  helm { "registry", "login", where.host, "--plain-http", "--username", where.user, "--password", where.password }
  for _, version in ipairs { "1.2.3", "1.10.0+build.5", "0.0.0-staging.7" } do
    helm { "package", "web", "--version", version, cwd = dir }
    helm { "push", "--plain-http", ("%s/web-%s.tgz"):format(dir, version), "oci://" .. where.host .. "/charts" }
  end
  local cfg = config { registries = { [where.host] = { host = where.host, username = where.user,
    password = word(where.password) } } }
  local repo = charts.repository("oci://" .. where.host .. "/charts", outside(cfg))
  local list = ok(repo:versions("web"))
  local versions = {}
  for i, entry in ipairs(list) do versions[i] = entry.version end
  eq(versions, { "1.10.0+build.5", "1.2.3", "0.0.0-staging.7" })
  local digest = ok(repo:digest("web", list[1]))
  local said = helm { "push", "--plain-http", dir .. "/web-1.10.0+build.5.tgz", "oci://" .. where.host .. "/charts" }
  has(said, "Pushed: " .. where.host .. "/charts/web:1.10.0_build.5")
  local manifest = ok(oci.registry(repo, "web"):manifest(digest))
  eq(json.decode(manifest.body).config.mediaType, "application/vnd.cncf.helm.config.v1+json")
  eq(oci.app_version(repo, "web", list[1]), "1.16.0") -- helm create's
end)

-- ---- packaging ----

-- A repository whose chart `web` needs one of its neighbours and one out of a museum.
local function repository(museum_url)
  local git = lab.git {}
  local repo = git:repo("shop")
  local dir = repo.work .. "/charts"
  ok(fs.mkdir(dir, { parents = true }))
  create(dir, "web")
  create(dir, "base")
  local chart = ok(fs.read(dir .. "/web/Chart.yaml"))
  lab.write(dir .. "/web/Chart.yaml", chart .. ([[
dependencies:
  - { name: base, version: ">=0.1.0", repository: "file://../base" }
  - { name: redis, version: "7.x", repository: "%s" }
]]):format(museum_url))
  lab.write(dir .. "/web/.helmignore", "*.md\n")
  lab.write(dir .. "/web/NOTES.md", "not packaged\n")
  return repo, repo:commit { ["README"] = "shop\n" }
end

local function publisher(repo, to, cfg, state)
  local app = { name = "shop", follows = "git", poll = 30, image = "registry.invalid/shop", source = { url = repo.url },
    publish = { charts = { "charts/web" }, to = to, version = "0.0.0-staging.{count}", command = { HELM },
      timeout = 60 } }
  local words = {}
  return {
    app = app, cfg = cfg, world = outside(cfg), work = state .. "/work", repo = require("sources.git").repository {
      url = repo.url, mirrors = state .. "/mirrors" },
    hooks = { output = function(_, line) table.insert(words, line) end, progress = function() end }, words = words,
  }
end

local function publish(request, commit, version, app_version)
  request.commit, request.path, request.version, request.app_version = commit, "charts/web", version, app_version
  return require("extensions.charts.publish").chart(request)
end

-- A museum with a login that has the chart which others need.
local function museum_with_redis()
  local dir = lab.dir("redis")
  create(dir, "redis")
  helm { "package", "redis", "--version", "7.4.0", cwd = dir }
  local museum = chart_museum.open { user = "dev", password = "chart-word" }
  museum:put("redis", "7.4.0", ok(fs.read(dir .. "/redis-7.4.0.tgz")), { apiVersion = "v2" })
  return museum, { url = museum.url, username = "dev", password = word "chart-word", name = "main" }
end

test("a commit's chart is packaged with its dependencies, pushed once, and found ever after", function()
  local museum, main = museum_with_redis()
  local repo, commit = repository(museum.url)
  local registry = lab.registry {}
  local cfg = config { chart_repositories = { main = main } }
  local state = lab.dir("state")

  local request = publisher(repo, main, cfg, state)
  local first = ok(publish(request, commit, "1.2.3", "v1.2.3"))
  eq({ first.found, first.name, first.version }, { false, "web", "1.2.3" })
  has(table.concat(request.words, "\n"), "Successfully packaged chart")
  eq(ok(publish(request, commit, "1.2.3", "v1.2.3")), { found = true, name = "web", version = "1.2.3",
    digest = first.digest })
  check.eventually(function() return #ok(fs.list(state .. "/work")) == 0 end)

  helm { "repo", "add", "main", museum.url, "--username", "dev", "--password", "chart-word", "--force-update" }
  local about = yaml.decode((helm { "show", "chart", "main/web", "--version", "1.2.3" }))
  eq({ about.version, about.appVersion, #about.dependencies }, { "1.2.3", "v1.2.3", 2 })
  helm { "pull", "main/web", "--version", "1.2.3", "-d", home }
  local bytes = ok(fs.read(home .. "/web-1.2.3.tgz"))
  eq("sha256:" .. hash.sha256(bytes), first.digest)
  local inside = {}
  for _, entry in ipairs(ok(archive.read(bytes))) do inside[entry.path] = true end
  ok(inside["web/charts/base/Chart.yaml"] and inside["web/charts/redis/Chart.yaml"] and not inside["web/NOTES.md"])
  helm { "lint", home .. "/web-1.2.3.tgz" }
  has(helm { "template", "x", "main/web", "--version", "1.2.3" }, "kind: Deployment")

  -- The same to a registry, from nothing: another host would push the very same bytes.
  local target = { url = "oci://" .. registry.host .. "/charts" }
  local other = publisher(repo, target, cfg, lab.dir("state"))
  local pushed = ok(publish(other, commit, "1.2.3", "v1.2.3"))
  eq(pushed.found, false)
  eq(ok(publish(other, commit, "1.2.3", "v1.2.3")), { found = true, name = "web", version = "1.2.3",
    digest = pushed.digest })
  has(helm { "show", "chart", "--plain-http", target.url .. "/web", "--version", "1.2.3" }, "appVersion: v1.2.3")
  has(helm { "template", "x", "--plain-http", target.url .. "/web@" .. pushed.digest }, "kind: Deployment")
  local there = charts.repository(target, outside(cfg))
  local where = oci.registry(there, "web")
  local manifest = json.decode(ok(where:manifest("1.2.3")).body)
  eq(manifest.layers[1].digest, first.digest)

  -- Another commit under the same version is told of; a helm push of the same chart counts as the same.
  local changed = repo:commit { ["charts/web/values.yaml"] = "changed: true\n" }
  has(tostring(fails("conflict", publish(other, changed, "1.2.3", "v1.2.3"))), "other contents")
  fails("conflict", publish(request, changed, "1.2.3", "v1.2.3"))
  helm { "push", "--plain-http", home .. "/web-1.2.3.tgz", "oci://" .. registry.host .. "/others" }
  local third = publisher(repo, { url = "oci://" .. registry.host .. "/others" }, cfg, state)
  eq(ok(publish(third, commit, "1.2.3", "v1.2.3")).found, true)
end, 180)

test("what cannot be packaged fails with helm's own words, and leaves nothing behind", function()
  local museum, main = museum_with_redis()
  local repo = repository(museum.url)
  local state = lab.dir("state")
  local request = publisher(repo, main, config { chart_repositories = { main = main } }, state)
  local function try(files, code, words)
    local commit = repo:commit(files)
    local err = fails(code, publish(request, commit, "1.0.0", "v1.0.0"))
    has(tostring(err), words)
    ok(not tostring(err):find("chart-word", 1, true))
    check.eventually(function() return #fs.list(state .. "/work") == 0 end)
  end
  local chart = "apiVersion: v2\nname: %s\nversion: 0.1.0\n"
  try({ ["charts/web/Chart.yaml"] = chart:format("web") .. 'dependencies: [{ name: redis, version: "9.x", repository: "'
    .. museum.url .. '" }]\n' }, "exit", "helm dependency ended with")
  try({ ["charts/web/Chart.yaml"] = "apiVersion: v9\nname: web\nversion: 0.1.0\n" }, "exit", "helm package ended with")
  try({ ["charts/web/Chart.yaml"] = chart:format("../../etc/x") }, "invalid", "names no chart")
  try({ ["charts/web/Chart.yaml"] = "a: [" }, "invalid", "cannot be read")
  try({ ["charts/web/Chart.yaml"] = { link = "../base/Chart.yaml" } }, "invalid", "not a regular file")
  try({ ["charts/web/Chart.yaml"] = false }, "not_found", "Chart.yaml")
end, 120)

test("a link out of the checkout brings no file of this machine into a chart", function()
  local museum, main = museum_with_redis()
  local repo = repository(museum.url)
  repo:commit {
    ["charts/web/Chart.yaml"] = "apiVersion: v2\nname: web\nversion: 0.1.0\n", ["charts/web/files/folder"] = "",
  }
  local commit = repo:commit { ["charts/web/files/passwd"] = { link = "/etc/passwd" } }
  local request = publisher(repo, main, config { chart_repositories = { main = main } }, lab.dir("state"))
  ok(publish(request, commit, "1.0.0"))
  local entries = ok(archive.read(museum.files["web-1.0.0.tgz"]))
  eq(archive.file(entries, "files/passwd"), "/etc/passwd") -- the link's own text
end)

test("staging and production publish a repository's charts; a branch that is reset gets new numbers", function()
  local museum, main = museum_with_redis()
  local repo, one = repository(museum.url)
  local sim = require "sim"
  local dir = lab.dir("story")
  local state = dir .. "/state"
  local cfg = sim.config(state)
  local app = cfg.apps.web
  app.source, app.publish = { url = repo.url }, publisher(repo, main, cfg, dir).app.publish
  cfg.chart_repositories = { main = main }
  local world = sim.open(dir .. "/world"):world()
  local real = require("engine.world").real()
  world.repository, world.charts = real.repository, real.charts
  local engine = ok(require("engine").open { config = cfg, world = world, load = function() return cfg end })
  check.defer(function() engine:close() end)
  local function versions()
    local list = {}
    for i, entry in ipairs(museum.charts.web or {}) do list[i] = entry.version .. " " .. entry.appVersion:sub(1, 10) end
    return list
  end
  sim.settle(engine)
  eq(versions(), { "0.0.0-staging.1 sha-" .. one:sub(1, 6) })
  local two = repo:commit { ["charts/web/values.yaml"] = "two: true\n" }
  sim.settle(engine)
  eq(versions()[1], "0.0.0-staging.2 sha-" .. two:sub(1, 6))
  repo:push(one .. ":refs/heads/main")
  sim.settle(engine)
  eq(versions()[1], "0.0.0-staging.3 sha-" .. one:sub(1, 6))
  repo:tag("v1.0.0", { commit = two })
  sim.settle(engine)
  eq(versions()[1], "1.0.0 v1.0.0")
  eq(#versions(), 4)
  for _, run in ipairs(ok(engine:history { app = "web" }).runs) do eq(run.state, "done", run.title) end
end, 120)
