-- Manifests of an app's repository, applied by target.kubernetes to the real API server at the released commit.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local cluster = require "cluster.lab"
local kit = require "cluster.targets"
local image, open, release, request = kit.image, kit.open, kit.release, kit.request
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local WEB <const> = [[
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 1
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
      - { name: app, image: "web:dev", env: [{ name: MODE, value: "@MODE@" }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: web }
data: { colour: "@COLOUR@" }
]]

local function manifests(mode, colour)
  return { ["deploy/web.yaml"] = (WEB:gsub("@(%u+)@", { MODE = mode, COLOUR = colour })), ["deploy/README.md"] = "no" }
end

test("manifests are applied at the released commit, with the image by digest, also on the way back", function()
  local c = cluster.open()
  local ns = c:namespace "target"
  local repo, one, app = kit.repository(manifests("first", "red"))
  local two = repo:commit(manifests("second", "blue"))
  local t, cfg = open(ns, { manifests = "deploy/" })
  cfg.apps.web, cfg.credentials, cfg.github = app, {}, {}
  local r = request("a", 1, { commit = one })
  release(t, r) -- everything is new
  eq(r.lines, { "applied ConfigMap web", "applied Service web", "applied Deployment web" })
  local function state()
    local container = c:get(kit.path(ns)).spec.template.spec.containers[1]
    local map = c:get("/api/v1/namespaces/" .. ns .. "/configmaps/web")
    return { container.image, container.env[1].value, map.data.colour }
  end
  eq(state(), { image "a", "first", "red" })
  release(t, request("b", 2, { commit = two }))
  eq(state(), { image "b", "second", "blue" })
  local before = c:get(kit.path(ns)).metadata.generation
  ok(t:apply(request("b", 2, { commit = two }))) -- asked again after a crash
  eq(c:get(kit.path(ns)).metadata.generation, before)
  release(t, request("a", 3, { commit = one, restored = true }))
  eq(state(), { image "a", "first", "red" })
  eq(t:current().commit, one)
  -- What reaches further than the namespace is refused before anything is changed.
  local files = manifests("third", "green")
  files["deploy/a-role.yaml"] = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: { name: x }\n"
  local three = repo:commit(files)
  local err = fails("denied", t:apply(request("b", 4, { commit = three })))
  has(err.message, "deploy/a-role.yaml: ClusterRole x lives in no namespace")
  eq(state(), { image "a", "first", "red" })
  -- And so is what belongs to somebody else in it: another app's, or Helm's, which our own configuration may be.
  for owner, annotations in pairs {
    ["the Helm release moontide"] = { ["meta.helm.sh/release-name"] = "moontide" },
    ["the app shop"] = { ["moontide.dev/app"] = "shop" },
  } do
    local path = "/api/v1/namespaces/" .. ns .. "/configmaps"
    c:create(path, { metadata = { name = "theirs", annotations = annotations }, data = { colour = "gold" } })
    files = manifests("third", "green")
    files["deploy/b.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: theirs }\ndata: { colour: mine }\n"
    err = fails("denied", t:apply(request("b", 5, { commit = repo:commit(files) })))
    has(err.message, "deploy/b.yaml: ConfigMap theirs belongs to " .. owner)
    eq(c:get(path .. "/theirs").data.colour, "gold")
    eq(state(), { image "a", "first", "red" })
    c:delete(path .. "/theirs")
  end
end)
