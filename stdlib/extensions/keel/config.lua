-- The keys of keel: of what follows workloads by their annotations, and of a target that an installed keel rolls out.
local health = require "engine.health"
local names = require "config.names"
local s = require "base.schema"
local shapes = require "config.shapes"

local with, text, is = shapes.with, shapes.text, shapes.is

local M = {}

---@class (partial) AppConfig
---@field workloads? table<string, KeelWorkload> of one that was found in a cluster

---@class (partial) Config
---@field keel? KeelConfig workloads that follow their images; absent: none do

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

M.apps = s.record({
  { "cluster", text("Where the workloads are: a name of `clusters`.", { default = "default" }) },
  { "namespaces", s.list(s.text { plural = "namespaces", what = "a namespace", verify = with(names.namespace) },
    { doc = "Only these namespaces. Default: all." }) },
  { "poll", s.duration { doc = "How often registries are asked where no keel.sh/pollSchedule says so.", default = "1m",
    min = 1, max = 86400 } },
  { "poll_all", s.boolean { doc = "Poll workloads whose keel.sh/trigger is not poll, too: they waited for webhooks.",
    default = false } },
  { "pull_secrets", s.boolean { doc = "Read the workloads' pull secrets for registries that `registries` has no user"
    .. " for.", default = false } },
  { "policy", text("Policy that decides: a file in scripts/.", { default = "keel" }) },
  { "rollback", s.either({
    { is "boolean", s.off() }, { is "string", s.text() },
  }, { doc = "Policy that reacts to a bad release; false for none, as keel has none.", default = false }) },
  { "watch_for", s.duration { doc = health.WATCHED, default = "5m" } },
  { "notify", s.list(s.text { plural = "notifier names" }, { doc = "Notifiers for the workloads that have no"
    .. " keel.sh/notify.", default = {} }) },
  { "platforms", s.boolean { doc = "Pass over images that do not run on every node where the workload may be put.",
    default = true } },
  { "timeout", s.duration { doc = "Time for a rollout.", default = "10m", min = 1 } },
  { "settings", require("policy.settings").key "What the policies of its apps read as `place.settings`." },
}, { doc = "Instead of keel: workloads with keel.sh annotations become apps by themselves." })

---Checks what no single key shows.
---@param part KeelConfig
---@param _ table
---@param at Cursor
---@param cross CrossCheck
function M.cross(part, _, at, cross)
  cross.policies(at, "policy", part.policy, "rollback", part.rollback)
  cross.notifiers(part.notify, at)
  cross.cluster(part.cluster, at)
end

return M
