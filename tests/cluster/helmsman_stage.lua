-- What the cluster's tests of helmsman begin with: small charts, desired state files, a namespace, a target.
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base, cluster, tools = require "lab.base", require "cluster.lab", require "cluster.tools"
local bundle = require "extensions.charts.bundle"
local check = require "check"
local json, kubernetes, targets = require "json", require "kubernetes", require "targets"
local ok = check.ok

local M = {}

-- A chart with a ConfigMap that shows its version and, when its value `stage` says so, a Deployment.
function M.chart(dir, name, version)
  local at = ("%s/charts/%s-%s"):format(dir, name, version)
  base.write(at .. "/Chart.yaml", ("apiVersion: v2\nname: %s\nversion: %s\n"):format(name, version))
  base.write(at .. "/values.yaml", "stage: none\ndelay: 0.2s\ntext: hello\n")
  base.write(at .. "/templates/all.yaml", [[
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }} }
data: { version: {{ .Chart.Version | quote }}, text: {{ .Values.text | quote }} }
{{- if ne .Values.stage "none" }}
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: {{ .Release.Name }} }
spec:
  selector: { matchLabels: { app: {{ .Release.Name }} } }
  template:
    metadata:
      labels: { app: {{ .Release.Name }} }
      annotations: { lab.moontide/stage: {{ .Values.stage | quote }}, lab.moontide/delay: {{ .Values.delay | quote }} }
    spec: { containers: [ { name: app, image: "lab.test/app:1" } ] }
{{- end }}
]])
  return at
end

local function app(ns, name, more)
  local text = { ("  %s:"):format(name), "    namespace: " .. ns, "    enabled: true" }
  local variable = "$" .. bundle.variable(name)
  local fields = { chart = ("./charts/%s-%s"):format(name, variable), version = '"' .. variable .. '"' }
  for key, value in pairs(more or {}) do fields[key] = value end
  for key, value in pairs(fields) do text[#text + 1] = ("    %s: %s"):format(key, value) end
  return table.concat(text, "\n")
end

function M.write_files(dir, ns, apps)
  local list = {}
  for _, each in ipairs(apps) do list[#list + 1] = app(ns, each.name, each.more) end
  return base.write(dir .. "/state.yaml", ("context: %s\nnamespaces:\n  %s: {}\napps:\n%s\n"):format(ns, ns,
    table.concat(list, "\n")))
end

---@class HelmsmanStage
local Stage = {}
Stage.__index = Stage

-- A namespace, desired state files and a target for them. `apps`: { name=, more= }.
function M.open(apps, options)
  options = options or {}
  local c = cluster.open()
  local s = setmetatable({ c = c, ns = c:namespace "helmsman", dir = base.dir "helmsman", said = {} }, Stage)
  for _, each in ipairs(apps) do
    for _, version in ipairs(each.versions or { "0.1.0", "0.2.0" }) do M.chart(s.dir, each.name, version) end
  end
  s.file = M.write_files(s.dir, s.ns, apps)
  s.config = {
    kind = "helmsman", files = { s.file }, context = s.ns, cluster = "lab", namespaces = { s.ns }, run = "process",
    command = { tools.path "helmsman" }, only = {}, groups = {}, keep_untracked = true, flags = {},
    override_context = false, env = { PATH = tools.cache() .. "/bin:/usr/bin:/bin" }, variables = {}, timeout = 120,
  }
  for key, value in pairs(options) do s.config[key] = value end
  s.cfg = { state = s.dir .. "/moontide", dir = s.dir, clusters = { lab = { kubeconfig = c.kubeconfig } } }
  check.defer(kubernetes.forget)
  return s
end

function Stage:target()
  local t = targets.open({ name = "staging", app = "shop", target = self.config, verify = {} },
    require("engine.world").of(self.cfg))
  t.pending_wait = 1
  return t
end

function Stage:request(release, versions)
  local parts = {}
  for name, version in pairs(versions) do parts[#parts + 1] = { name = name, version = version } end
  local set = ok(bundle.make(parts))
  return {
    image = set.image, digest = set.digest, version = set.version, versions = set.versions, release = release,
    hooks = {
      output = function(_, line) self.said[#self.said + 1] = line end,
      progress = function(text) self.said[#self.said + 1] = "progress: " .. text end,
    },
  }
end

function Stage:map(name)
  local object = self.c:get(("/api/v1/namespaces/%s/configmaps/%s"):format(self.ns, name))
  return object and object.data
end

function Stage:releases()
  local list = {}
  for _, r in ipairs(json.decode(self.c:helm { "list", "-n", self.ns, "-o", "json" })) do
    list[r.name] = ("%s %s %s"):format(r.chart, r.status, r.revision)
  end
  return list
end

function Stage:words() return table.concat(self.said, "\n") end

return M
