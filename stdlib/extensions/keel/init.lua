-- Workloads that follow their images by keel's annotations, with an installed keel or instead of it.
local extension = require "extension"

local function word(kind, name)
  return { [kind] = function(...) return require("extensions.keel.words")[kind][name](...) end }
end

---Approvals in the form that keel's clients know.
---@return table<string, RouteKind>
local function route()
  local approvals, all = require "extensions.keel.approvals", {}
  for name, handle in pairs(approvals.routes) do all[name] = { gate = approvals.gate, handle = handle } end
  return all
end

return extension {
  route = route,
  target = {
    keel = {
      follows = true, -- keel rolls out
      keys = function() return require("extensions.keel.config").target end,
      open = function(...) return require("extensions.keel.target").open(...) end,
    },
  },
  finder = {
    keel = {
      key = function() return require("extensions.keel.config").apps end,
      cross = function(...) return require("extensions.keel.config").cross(...) end,
      policies = function(part) return require("extensions.keel.discovery").policies(part) end,
      open = function(...) return require("extensions.keel.discovery").open(...) end,
      expire = function(world) return require("extensions.keel.observations").expire(world) end,
      tidy = function(world) return require("extensions.keel.observations").tidy(world) end,
    },
  },
  source = { workload = {} }, -- its policies observe by themselves
  word = {
    workload = word("place", "workload"), candidates = word("place", "candidates"), update = word("place", "update"),
    adopt = {
      run = function(...) return require("extensions.keel.words").run.adopt(...) end,
      plan = function(...) return require("extensions.keel.words").plan.adopt(...) end,
    },
  },
}
