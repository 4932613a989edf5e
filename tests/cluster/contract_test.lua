-- The statements of targets (tests/contract/target.lua), proved of a Deployment on the real API server.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local kit = require "cluster.targets"

local LETTERS <const> = { one = "a", two = "b" }

---@return TargetPart
local function kubernetes()
  local cluster, namespace = kit.web()
  local target = kit.open(namespace)
  return {
    generations = true, occupied = true, stays = true, gone = "conflict", open = function() return target end,
    request = function(name, release) return kit.request(LETTERS[name], release) end,
    changes = function() return cluster:get(kit.path(namespace)).metadata.generation end,
  }
end

require("contract.target").statements { kubernetes = kubernetes }
