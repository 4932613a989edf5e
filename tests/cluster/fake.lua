-- Nodes that kwok plays: pods on them do what stages.lua says, and cost nothing.
local base = require "lab.base"
local fs, json = require "fs", require "json"
local stages, tools = require "cluster.stages", require "cluster.tools"

local M = {}

-- What pods on these nodes have logged, in the format of container runtimes.
local NOW <const> = "2026-01-01T00:00:01.000000000Z stdout F lab: listening on 8080\n"
  .. "2026-01-01T00:00:02.000000000Z stdout F lab: GET / 200\n"
local BEFORE <const> = "2026-01-01T00:00:00.000000000Z stdout F lab: starting\n"
  .. "2026-01-01T00:00:00.500000000Z stderr F lab: no configuration, giving up\n"

---Starts kwok against a control plane. Nodes are created by whoever wants them (stages.node).
---@async
---@param plane Plane
---@return Service
function M.start(plane)
  local dir = plane.dir .. "/kwok"
  assert(fs.mkdir(dir, { parents = true }))
  local logs = { now = base.write(dir .. "/pod.log", NOW), before = base.write(dir .. "/pod-before.log", BEFORE) }
  local documents = {}
  for i, document in ipairs(stages.documents(logs)) do documents[i] = json.encode(document) end
  local config = base.write(dir .. "/kwok.yaml", table.concat(documents, "\n---\n") .. "\n")
  local port, own = base.port(), plane.pki:issue("kwok", { user = "system:node:kwok" })
  return base.start {
    name = "kwok", dir = plane.dir .. "/log", env = { HOME = dir },
    argv = {
      tools.path "kwok", "--kubeconfig", plane.kubeconfig, "--config", config,
      "--manage-nodes-with-annotation-selector", "kwok.x-k8s.io/node=fake", "--node-ip", "127.0.0.1",
      "--node-port", tostring(port), "--server-address", "127.0.0.1:" .. port, "--tls-cert-file", own.cert,
      "--tls-private-key-file", own.key, "--node-lease-duration-seconds", "40", "--cidr", "198.18.0.0/15", "-v", "WARN",
    },
  }
end

return M
