-- The keys of `builder`, with those of each kind of builders.
local extensions = require "extensions"
local names = require "config.names"
local s = require "base.schema"
local shapes = require "config.shapes"

local with, text, command, file = shapes.with, shapes.text, shapes.command, shapes.file
local url, plain_env = shapes.url, shapes.plain_env

local function builder_fits(value, at)
  if value.kind == "buildkit" and not value.address then
    return at:fault("needs the address of a BuildKit daemon", 'address = "tcp://buildkitd:1234"')
  end
  if (value.cert == nil) ~= (value.key == nil) then return at:fault("cert and key belong together") end
  return value
end

local M = {}

---The keys that all kinds have in common, and those of the program.
---@type SchemaField[]
M.common = {
  { "socket", text("Socket of the Docker Engine. Default: the engine's own.") },
  { "network", text("Network of build steps.") },
  { "command", command "Program and first arguments instead of the builder's own." },
  { "env", plain_env "Environment of the builder." },
  { "address", text("buildkit: its address, tcp://HOST:PORT or unix:///PATH.", {
    verify = function(value, at)
      if not (value:find("^tcp://[%w.:%[%]-]+:%d+$") or value:find("^unix:///.")) then
        return at:fault("is not an address of BuildKit",
          '"tcp://buildkitd:1234" or "unix:///run/buildkit/buildkitd.sock"')
      end
      return value
    end }) },
  { "ca", file "buildkit: CA certificate (PEM) of the daemon." },
  { "cert", file "buildkit: certificate (PEM) that we show." },
  { "key", file "buildkit: its key (PEM)." },
  { "cluster", text("job: the cluster to build in. Default: default.") },
  { "namespace", text("job: the namespace. Default: the cluster's.",
    { what = "a namespace", verify = with(names.namespace) }) },
  { "image", text("job: image with buildah.", { default = "quay.io/buildah/stable:v1.41.4" }) },
  { "login", text("job: Secret (kubernetes.io/dockerconfigjson) there, to push and to pull with.",
    { what = "the name of a Secret", verify = with(names.namespace) }) },
  { "authorities", text("job: ConfigMap there with the registry's CA certificate as ca.crt.",
    { what = "the name of a ConfigMap", verify = with(names.namespace) }) },
  { "url", url "job: where its pods reach `listen` of this host. Default: http://$POD_IP and the port." },
  { "service_account", text("job: its service account, which needs no rights. Default: the namespace's default.") },
  { "privileged", s.boolean { doc = "job: for nodes that let no container make user namespaces.", default = false } },
  { "cpu", text("job: processors asked for.", { default = "250m" }) },
  { "memory", text("job: memory asked for, and its limit.", { default = "2Gi" }) },
  { "keep", s.duration { doc = "job: how long a finished Job stays.", default = "1h", min = 0 } },
}

---The shape of `builder`.
---@return Shape
function M.shape()
  local kinds, further = { "auto" }, {}
  for _, entry in ipairs(extensions.all "builder") do
    kinds[#kinds + 1] = entry.name
    table.move(extensions.fields(entry), 1, #extensions.fields(entry), #further + 1, further)
  end
  local fields = { { "kind", s.choice(kinds, {
    doc = "What builds images; auto takes docker, buildah or podman as it finds them at the first build, and keeps to"
      .. " it (the file `builder` in the state folder). buildkit: a remote BuildKit, through buildctl. job: buildah in"
      .. " a Job of a cluster.",
    default = "auto" }) } }
  table.move(M.common, 1, #M.common, 2, fields)
  table.move(further, 1, #further, #fields + 1, fields)
  return s.record(fields, { doc = "What builds images.", default = {}, verify = builder_fits })
end

return M
