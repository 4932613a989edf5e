-- The stand-in for keel, images for it to find, and a kubelet's hand, for tests of the cluster.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local check = require "check"
local hash, http, json, task, time = require "hash", require "http", require "json", require "task", require "time"
local tools = require "cluster.tools"

local M = {}

local PORT <const> = 9300 -- of the original, which can have no other

---Starts the stand-in for keel for one namespace, or the original that MOONTIDE_KEEL names; it ends with the test, or
---by stop().
---@async
---@param c Cluster
---@param ns string
---@return table service :stop()
function M.start(c, ns)
  local original, dir = tools.original "keel-stand-in", base.dir("keel")
  local listen = "127.0.0.1:" .. (original and PORT or base.port())
  local argv = { tools.path("keel-stand-in"), "-kubeconfig", c.kubeconfig, "-namespace", ns, "-listen", listen }
  if original then
    argv = { original, "--no-incluster", "--kubeconfig", c.kubeconfig, "--ui-dir", dir }
  end
  local service = base.start {
    name = original and "keel" or "keel-stand-in", dir = dir, argv = argv,
    env = original and { POLL = "1", RESTRICTED_NAMESPACE = ns, XDG_DATA_HOME = dir, HOME = dir } or nil,
    ready = function() return http.get(("http://%s/healthz"):format(listen), { timeout = 2 }) end,
  }
  service.url = "http://" .. listen
  check.defer(function() service:stop() end)
  return service
end

local MANIFEST <const> = "application/vnd.oci.image.manifest.v1+json"

local function upload(registry, repository, data)
  local digest = "sha256:" .. hash.sha256(data)
  local url = ("%s/v2/%s/blobs/"):format(registry.url, repository)
  if http.head(url .. digest, registry:options()).status == 200 then return digest end
  local begun = http.post(url .. "uploads/", "", registry:options())
  assert(begun.status == 202, begun.body)
  local where = begun.headers.location
  if where:sub(1, 1) == "/" then where = registry.url .. where end
  local put = http.put(where .. (where:find("?", 1, true) and "&" or "?") .. "digest=" .. http.escape(digest), data,
    registry:options { headers = { ["Content-Type"] = "application/octet-stream" } })
  assert(put.status == 201, put.body)
  return digest
end

---Pushes a small image that a text stands for.
---@async
---@param registry LabRegistry
---@param repository string "team/web"
---@param tag string
---@param text string
---@param platform? {os: string, architecture: string}
---@return string digest
function M.push(registry, repository, tag, text, platform)
  platform = platform or { os = "linux", architecture = "amd64" }
  local config = json.encode { os = platform.os, architecture = platform.architecture,
    config = { Labels = { text = text } }, rootfs = { type = "layers", diff_ids = json.array {} } }
  local layer = "layer of " .. text
  local manifest = json.encode {
    schemaVersion = 2, mediaType = MANIFEST,
    config = { mediaType = "application/vnd.oci.image.config.v1+json", digest = upload(registry, repository, config),
      size = #config },
    layers = { { mediaType = "application/vnd.oci.image.layer.v1.tar", size = #layer,
      digest = upload(registry, repository, layer) } },
  }
  local put = http.put(("%s/v2/%s/manifests/%s"):format(registry.url, repository, tag), manifest,
    registry:options { headers = { ["Content-Type"] = MANIFEST } })
  assert(put.status == 201, put.body)
  return "sha256:" .. hash.sha256(manifest)
end

---Does what a kubelet does and kwok does not: reports the digest that a pod's image was pulled by.
---@async
---@param c Cluster
---@param ns string
---@param registry LabRegistry
---@return Task hand It ends with the test, or by cancel().
function M.kubelet(c, ns, registry)
  local hand = task.spawn(function()
    while true do
      for _, pod in ipairs(c:pods(ns)) do
        local statuses, changed = {}, false
        for i, s in ipairs(pod.status.containerStatuses or {}) do
          local repository, tag = s.imageID:match("^" .. registry.host:gsub("%p", "%%%0") .. "/([^:@]+):([^:@]+)$")
          if repository then
            local head = http.head(("%s/v2/%s/manifests/%s"):format(registry.url, repository, tag),
              registry:options { headers = { Accept = MANIFEST } })
            local digest = head and head.headers["docker-content-digest"]
            if digest then
              s.imageID, changed = ("%s/%s@%s"):format(registry.host, repository, digest), true
            end
          end
          statuses[i] = s
        end
        if changed then
          c:request("PATCH", ("/api/v1/namespaces/%s/pods/%s/status"):format(ns, pod.metadata.name),
            json.encode { status = { containerStatuses = statuses } },
            { content_type = "application/merge-patch+json" })
        end
      end
      time.sleep(0.2)
    end
  end)
  check.defer(function() hand:cancel() end)
  return hand
end

return M
