-- Workloads of a cluster that bear keel's annotations become apps by themselves: a source of apps
-- (engine/discovery.lua).
--
-- Four lists are followed by watch, with a small piece kept of each object that has a policy, so that looking costs the
-- cluster nothing, however many there are. Their images change all the time without the apps becoming others.
local errors, kubernetes, log, task, time = require "errors", require "kubernetes", require "log", require "task",
  require "time"
local workloads = require "extensions.keel.workload"

local M = {}

local CALM <const> = 0.2 -- seconds in which a burst of changes becomes one

---@class KeelConfig
---@field cluster string
---@field namespaces? string[] nil: all.
---@field poll Seconds
---@field poll_all? boolean
---@field pull_secrets? boolean
---@field policy string
---@field rollback string|false
---@field watch_for Seconds
---@field notify string[]
---@field timeout Seconds
---@field platforms boolean
---@field settings? table

---@class KeelSource: AppSource
---@field private part KeelConfig
---@field private cfg Config
---@field reflectors Reflector[]
---@field known table<string, {app: AppConfig, fingerprint: string}>
---@field private changed Signal
local Source = {}
Source.__index = Source

---The policies that found apps use.
---@param part KeelConfig
---@return string[] names
function M.policies(part)
  local names = { part.policy, part.rollback or nil } ---@type any
  return names
end

-- Everybody in the cluster writes annotations: what one of them breaks must not take the others along.
local function alone(what, fn, ...)
  local fine, value, more = pcall(fn, ...)
  if fine then return value, more end
  if errors.is(value, "cancelled") or errors.is(value, "deadline") then error(value, 0) end
  log.error("a workload cannot be understood and is left out", { workload = what, error = tostring(value) })
end

local function name_of(object)
  local meta = object.metadata or {}
  return ("%s/%s"):format(tostring(meta.namespace), tostring(meta.name))
end

---Follows the workloads of the cluster.
---@async
---@param part KeelConfig
---@param world World
---@return KeelSource? source
---@return Err? err
---@return_overload nil, Err
function M.open(part, world)
  local client, err = world.cluster(part.cluster)
  if not client then return nil, err end
  local self = setmetatable({
    part = part, cfg = world.config, reflectors = {}, known = {}, changed = task.signal(), dirty = true,
  }, Source)
  for _, namespace in ipairs(part.namespaces or { false }) do
    for _, kind in ipairs(workloads.KINDS) do
      local reflector
      reflector, err = client:follow(kubernetes.path(kind, namespace or nil), nil, {
        keep = function(object) return (alone(name_of(object), workloads.keep, kind, object)) end,
        on_change = function(_, _, value, old) self:note(kind, value, old) end,
      })
      if not reflector then
        self:close()
        return nil, err
      end
      self.reflectors[#self.reflectors + 1] = reflector
    end
  end
  return self
end

---A workload is another one now. What its policies ask next is answered with what it is. Most changes are news of its
---status or of its images, and make no other app.
---@param kind string
---@param workload? KeelWorkload
---@param old? KeelWorkload
function Source:note(kind, workload, old)
  local known = workload and self.known[workload.namespace .. "/" .. workload.name]
  local others = known and known.app.workloads
  if others and others[kind] and workload then
    others[kind] = workload
    if old and workloads.alike(workload, old) then return end
  end
  self.dirty = true
  self.changed:notify()
end

---All apps that there are now, by name; an unchanged one is the same table.
---@return AppConfig[] apps
function Source:look()
  self.dirty = false
  local groups, names = {}, {}
  for _, reflector in ipairs(self.reflectors) do
    for _, workload in pairs(reflector:items()) do
      local name = workload.namespace .. "/" .. workload.name
      if not groups[name] then
        groups[name], names[#names + 1] = {}, name
      end
      table.insert(groups[name], workload)
    end
  end
  table.sort(names)
  local apps, known = {}, {}
  for _, name in ipairs(names) do
    table.sort(groups[name], function(a, b) return a.kind < b.kind end)
    local app, fingerprint = alone(name, workloads.app, groups[name], self.part, self.cfg)
    local before = self.known[name]
    if app and before and before.fingerprint == fingerprint then
      before.app.workloads = app.workloads
      app = before.app
    end
    if app then
      known[name] = { app = app, fingerprint = fingerprint }
      apps[#apps + 1] = app
    end
  end
  self.known = known
  return apps
end

---Waits until something changed, and a moment more for what comes with it.
---@async
function Source:wait()
  while not self.dirty do self.changed:wait() end
  time.sleep(CALM)
end

---Follows no more.
function Source:close()
  for _, reflector in ipairs(self.reflectors) do reflector:close() end
end

return M
