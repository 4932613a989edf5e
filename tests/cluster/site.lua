-- What `make cluster-up` brings up: a control plane, nodes that kwok plays, and a real one where that can be.
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local fake, nodes, planes, stages =
  require "cluster.fake", require "cluster.node", require "cluster.plane", require "cluster.stages"
local lab = require "cluster.lab"

local M = {}

local FAKE_NODES <const> = 4

---Brings it up in an empty folder.
---@async
---@param dir string
---@param tell fun(text: string, ...)
---@return Cluster
function M.open(dir, tell)
  local plane = planes.open { dir = dir, progress = tell }
  local c = lab.of(plane)
  tell("kwok and %d nodes that it plays", FAKE_NODES)
  fake.start(plane)
  for i = 1, FAKE_NODES do c:create("/api/v1/nodes", stages.node("kwok-" .. i)) end
  local why = nodes.unavailable()
  if why then
    tell("no real node: %s", why)
  else
    tell("kubelet and containerd: a real node")
    c.real = nodes.start(plane).name
    c:node_ready(c.real, 60)
  end
  return c:description()
end

return M
