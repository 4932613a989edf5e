-- The keys of a target of kind helmsman.
local flags = require "extensions.helmsman.flags"
local names = require "config.names"
local s = require "base.schema"
local secret = require "config.secret"
local shapes = require "config.shapes"

local text, with, is = shapes.text, shapes.with, shapes.is

local M = {}

-- What may be the value of a label: HELMSMAN_CONTEXT is one.
local function context(value)
  if #value > 63 or not value:find("^%w[%w_.-]*$") or not value:find("%w$") then
    return "is not a context: letters, digits, - _ and . , at most 63"
  end
end

local function cronjob(value)
  local namespace, name = value:match("^([^/]+)/([^/]+)$")
  if not namespace or names.namespace(namespace) or not name:find("^[a-z0-9][a-z0-9.-]*$") then
    return "is not namespace/name", 'for example "tools/helmsman"'
  end
end

local run = s.either({
  { is "table", s.record {
    { "cronjob", text("CronJob whose template the Job is made from: \"namespace/name\". Suspend it to run nothing by "
      .. "itself.", { required = true, verify = with(cronjob) }) },
  } },
  { function(value) return type(value) ~= "table" end, s.choice { "process" } },
}, { doc = "As a program of this host, or as a Job: { cronjob = \"namespace/name\" }.", default = "process" })

local function check_flags(value, at)
  local wrong, suggestion = flags.check(value)
  if wrong then return at:fault(wrong, suggestion) end
  return value
end

-- Files are this host's when helmsman runs here, the container's when it runs there.
local function files_of(value, at)
  if value.run ~= "process" then
    for name, item in pairs(value.env) do
      if secret.is(item) then
        at:child("env"):child(name):fault("is a secret, and would stand in the Job for everybody to read",
          "name it in the CronJob's template, as a secretKeyRef")
      end
    end
    return value
  end
  if #value.files == 0 then
    return at:child("files"):fault("needs at least one desired state file", 'files = { "dss/staging.yaml" }')
  end
  for i, file in ipairs(value.files) do
    local path = at.source.resolve(file)
    local wrong = at.source.missing(path)
    if wrong then at:child("files"):child(i):fault(wrong) end
    value.files[i] = path
  end
  return value
end

M.target = s.record({
  { "files", s.list(s.text { plural = "files" }, {
    doc = "Desired state files, merged in this order. For a Job: paths in its container; default: its own.",
    default = {}, max = 50 }) },
  { "context", text("The context that the files name: one run at a time, and whose releases are looked at.",
    { default = "default", verify = with(context) }) },
  { "cluster", text("Cluster of `clusters`.", { default = "default" }) },
  { "namespaces", s.list(s.text { plural = "namespaces", verify = with(names.namespace) }, {
    doc = "Where its releases are looked at. Default: everywhere, which needs the right to.", default = {} }) },
  { "run", run },
  { "container", text("Container of the CronJob that is helmsman. Default: the only one.") },
  { "command", shapes.command("Program and first arguments.", { default = { "helmsman" } }) },
  { "only", s.list(s.text { plural = "names" }, {
    doc = "Apps of the files to look at. Default: all.", default = {} }) },
  { "groups", s.list(s.text { plural = "names" }, {
    doc = "Groups of apps to look at. Default: all.", default = {} }) },
  { "keep_untracked", s.boolean {
    doc = "Keep releases of the context that the files name no more; false deletes them.", default = true } },
  { "override_context", s.boolean {
    doc = "Take every release of the files' namespaces for one of the context, without asking its label.",
    default = false } },
  { "flags", s.list(shapes.argument, { doc = "Further flags of helmsman, such as -p=4 or -update-deps.", default = {},
    verify = check_flags }) },
  { "env", shapes.env_map "Further environment of helmsman: files may use it." },
  { "variables", s.map(s.text(), shapes.variable, {
    doc = "Variables of versions. Default: API_VERSION for the chart api.", default = {}, name = "CHART" }) },
  { "timeout", s.duration { doc = "Time for plan and apply.", default = "30m", min = 1 } },
}, {
  doc = "Charts, by helmsman and its desired state files.",
  verify = function(value, at)
    if #value.only > 0 and #value.groups > 0 then
      return at:child("groups"):fault("only and groups exclude each other")
    end
    return files_of(value, at)
  end,
  cross = function(target, _, at, cross)
    cross.cluster(target.cluster, at)
    if #target.only + #target.groups == 0 then
      cross.claim("this helmsman context", ("%s %s"):format(target.cluster, target.context), at, "context",
        "two environments would undo each other's releases")
    end
  end,
})

return M
