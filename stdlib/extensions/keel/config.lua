-- The keys of keel: of a target that an installed keel rolls out.
local names = require "config.names"
local s = require "base.schema"
local shapes = require "config.shapes"

local with, text = shapes.with, shapes.text

local M = {}

M.target = s.record({
  { "cluster", text("Cluster it runs in: a name of `clusters`.", { default = "default" }) },
  { "namespace", text("Namespace. Default: the cluster's.",
    { what = "a namespace", verify = with(names.namespace) }) },
  { "workload", text("What keel rolls out: deployment/NAME, statefulset/NAME, daemonset/NAME or cronjob/NAME.",
    { required = true, what = "a workload", verify = shapes.workload, example = '"deployment/web"' }) },
  { "containers", s.list(s.text { plural = "container names", verify = shapes.label_name },
    { doc = "Containers to look at. Default: all that keel monitors.", default = {} }) },
  { "timeout", s.duration { doc = "Time for keel to act and for the rollout. When keel has not acted by then, the"
    .. " release waits and is tried again.", default = "10m", min = 1 } },
  { "patience", s.duration { doc = "How long a pod may fail (pull, crash) before the release does.",
    default = "30s", min = 0 } },
}, {
  doc = "A workload that an installed keel rolls out when its tag is pushed; here it is watched.",
  cross = shapes.cross_workload,
})

return M
