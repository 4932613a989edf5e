-- A list that follows the cluster: listed once, then kept up by watches for as long as it is open.
--
-- A stream that ends is taken up where it ended; a resourceVersion that is too old, or of another time line, means
-- listing again, and the difference is reported like any other change. Between failures it waits 0.8 s to 30 s, twice
-- as long each time, forgetting after two quiet minutes. Rules: client-go's tools/cache/reflector.go.
local errors, log, task, time = require "errors", require "log", require "task", require "time"
local watch = require "cluster.watch"

local M = {}

local CALM <const> = 120 -- seconds
local FAILURES <const> = 3 -- lasting failures in a row until a waiting task gets the error
local STREAMING <const> = 32 -- minor version from which lists can be streamed
-- How a server refuses it, and how long that is remembered. An old etcd makes it a 500.
local CANNOT <const> = { [400] = true, [422] = true, [500] = true, [501] = true }
local PAGES <const> = 600

-- What will not mend by itself.
local LASTING <const> = { denied = true, unauthorized = true, not_found = true, invalid = true, unsupported = true }

---Seconds between the first failure and the next attempt.
M.first_pause = 0.8
---Seconds between two attempts, at most.
M.longest_pause = 30

---@class FollowOptions
---@field keep? fun(object: table): any what to keep of each object, nil for nothing; default: all of it
---@field on_change? fun(change: "ADDED"|"MODIFIED"|"DELETED", key: string, value: any, old: any) must not wait long
---@field detached? boolean outlives the task that started it, until close
---@field patient? boolean starts although the first list fails

---@class Reflector a list that follows the cluster
---@field synced boolean the list is complete; false only until the first one is
---@field err? KubernetesErr why it is not being followed at the moment
---@field at number when the cluster was last heard of (monotonic)
---@field client KubernetesClient
---@field package path string
---@field package query table
---@field package values table<string, any>
---@field package versions table<string, string>
---@field package version? string
---@field package options FollowOptions
---@field package waiters table<Signal, true>
---@field package failures integer
---@field package closed boolean
---@field package task? Task
local Reflector = {}
Reflector.__index = Reflector

---What an object is called in a reflector: "namespace/name", or its name alone.
---@param object table
---@return string?
function M.key(object)
  local meta = object.metadata
  if type(meta) ~= "table" or type(meta.name) ~= "string" then return nil end
  return type(meta.namespace) == "string" and meta.namespace .. "/" .. meta.name or meta.name
end

-- ---- what is known ----

local function wake(self)
  for signal in pairs(self.waiters) do signal:notify() end
end

local function tell(self, change, key, value, old)
  local fn = self.options.on_change
  if not fn then return end
  local fine, why = pcall(fn, change, key, value, old)
  if fine then return end
  if errors.is(why, "cancelled") or errors.is(why, "deadline") then error(why, 0) end
  log.error("a listener of a followed list failed", { path = self.path, error = tostring(why) })
end

local function put(self, key, version, value)
  local old = self.values[key]
  self.versions[key] = version
  if value == nil then
    if old == nil then return end
    self.values[key], self.count = nil, self.count - 1
    return tell(self, "DELETED", key, nil, old)
  end
  self.values[key] = value
  if old == nil then self.count = self.count + 1 end
  tell(self, old == nil and "ADDED" or "MODIFIED", key, value, old)
end

local function kept(self, object)
  local keep = self.options.keep
  if keep then return keep(object) end
  return object
end

-- Puts a whole new list in the place of the old one: {key, version, value} each.
local function replace(self, fresh, version)
  local there = {}
  for _, item in ipairs(fresh) do there[item[1]] = true end
  for key in pairs(self.versions) do
    if not there[key] then put(self, key, nil, nil) end
  end
  for _, item in ipairs(fresh) do
    if self.versions[item[1]] ~= item[2] then put(self, item[1], item[2], item[3]) end
  end
  self.version, self.synced = version, true
end

-- An object on its way into a list; nil when it is none.
local function entry(self, object)
  local key = M.key(object)
  if key then return { key, object.metadata.resourceVersion or "", kept(self, object) } end
end

-- ---- listing ----

local function list(self)
  self.client.counters.relists = self.client.counters.relists + 1
  local found, err = self.client:list(self.path, self.query, { keep = function(object) return entry(self, object) end })
  if not found then return nil, err end
  replace(self, found.items, found.resource_version)
  return true
end

-- ---- watching ----

local function heard(self)
  self.at, self.failures, self.err = time.monotonic(), 0, nil
end

local function take(self, change, object)
  local meta = type(object.metadata) == "table" and object.metadata or {}
  self.version = type(meta.resourceVersion) == "string" and meta.resourceVersion or self.version
  if change == "BOOKMARK" then return end
  local item = entry(self, object)
  if not item then return end
  if change == "DELETED" then
    put(self, item[1], nil, nil)
  elseif change == "ADDED" or change == "MODIFIED" then
    put(self, item[1], item[2], item[3])
  end
end

local function ends_initial(object)
  local annotations = type(object.metadata) == "table" and object.metadata.annotations
  return type(annotations) == "table" and annotations["k8s.io/initial-events-end"] == "true"
end

-- One stream. Without a version the server is asked to send the list through it first, object by object: neither
-- side ever holds a page of them.
local function stream(self)
  local query, fresh = { resourceVersion = self.version }, nil
  for key, value in pairs(self.query) do query[key] = value end
  if not self.version then
    fresh = {}
    query.sendInitialEvents, query.resourceVersionMatch = true, "NotOlderThan"
    self.client.counters.relists = self.client.counters.relists + 1
  end
  return watch.watch(self.client, self.path, query, function(change, object)
    heard(self)
    if fresh and change == "BOOKMARK" and ends_initial(object) then
      replace(self, fresh, object.metadata.resourceVersion)
      fresh = nil
    elseif fresh and change == "ADDED" then
      fresh[#fresh + 1] = entry(self, object)
    elseif not fresh then
      take(self, change, object)
    end
    if not fresh then wake(self) end
    return self.closed
  end, { attempts = 1, on_open = function() heard(self) end })
end

-- Whether an error means that our version leads nowhere.
local function lost(err)
  if err.status == 410 or err.reason == "Expired" or err.reason == "Gone" then return true end
  for _, cause in ipairs(err.causes or {}) do
    if cause.reason == "ResourceVersionTooLarge" then return true end
  end
  return (err.message or ""):find("Too large resource version", 1, true) ~= nil
end

-- Whether the next list may be streamed.
local function can_stream(self)
  local known = self.client.known
  if self.broken_lists >= 2 or time.monotonic() < (known.pages_until or 0) then return false end
  known.minor = known.minor or self.client:minor_version()
  return (known.minor or 0) >= STREAMING
end

-- Lists when that is needed and follows one stream to its end.
local turn ---@type fun(self: Reflector): any, Err?
function turn(self)
  local initial = not self.version
  if initial and not can_stream(self) then
    local ok, err = list(self)
    if not ok then return nil, err end
    initial, self.broken_lists = false, 0
    heard(self)
    wake(self)
  end
  local ok, err = stream(self)
  if initial and not self.version then
    -- Not even the list came to its end.
    if err and CANNOT[err.status] then
      self.client.known.pages_until = time.monotonic() + PAGES
      return turn(self)
    end
    self.broken_lists = self.broken_lists + 1
    return nil, err or errors.new("reset", "the list was cut off", { op = "kubernetes.follow", target = self.path })
  end
  self.broken_lists = 0
  return ok, err
end

-- ---- its life ----

local function next_pause(self, err)
  local now = time.monotonic()
  if now - (self.failed_at or -CALM) > CALM then self.pause = M.first_pause end
  self.failed_at = now
  local pause = self.pause * (0.75 + math.random() / 2)
  self.pause = math.min(self.pause * 2, M.longest_pause)
  return math.max(pause, math.min(err and err.retry_after or 0, 60))
end

-- Waits after a failure, or after a stream that ended too soon. A version that is too old is no failure, unless it
-- happens again and again.
local function rest(self, ok, err, took)
  local now = time.monotonic()
  if err and lost(err) then
    self.version = nil
    local again = now - (self.lost_at or -CALM) < CALM
    self.lost_at = now
    if not again then return end
  end
  if not ok then
    self.err, self.failures = err, self.failures + 1
    wake(self)
  end
  if not ok or took < 1 then time.sleep(next_pause(self, err)) end
end

local function run(self)
  local fine, why = pcall(function()
    while not self.closed do
      local began = time.monotonic()
      local ok, err = turn(self)
      if self.closed then return end
      rest(self, ok, err, time.monotonic() - began)
    end
  end)
  if fine or self.closed then return end
  -- A mistake in `keep`, or our own.
  self.err, self.closed = errors.wrap(why, "kubernetes.follow"), true
  wake(self)
  if errors.is(why, "cancelled") or errors.is(why, "deadline") then error(why, 0) end
  log.error("a list is no longer followed", { path = self.path, error = tostring(why) })
end

---Starts following a list, or the one object at the path. Waits for the first list.
---@async
---@param client KubernetesClient
---@param path string
---@param query? table
---@param options? FollowOptions
---@return Reflector?
---@return KubernetesErr? err of the first list, unless `patient`
function M.start(client, path, query, options)
  local self = setmetatable({
    client = client, values = {}, versions = {}, count = 0, options = options or {}, waiters = {}, failures = 0,
    broken_lists = 0, synced = false, closed = false, pause = M.first_pause, at = time.monotonic(),
  }, Reflector)
  self.path, self.query = watch.selection(path, query)
  self.task = task.start({ name = "follow", detached = self.options.detached }, run, self)
  if self.options.patient then return self end
  local done, err = self:wait(function() return true end)
  if done then return self end
  self:close()
  return nil, err
end

---The objects, by "namespace/name" (or name); what `keep` made of them. Not to be changed.
---@return table<string, any>
function Reflector:items() return self.values end

---Waits until fn gives something; it is asked when the list is complete and after every change.
---@async
---@param fn fun(reflector: Reflector): any
---@param timeout? Seconds none
---@return any value
---@return Err? err timeout; what keeps it from following, when that will not mend by itself; closed
---@return_overload nil, Err
function Reflector:wait(fn, timeout)
  local signal = task.signal()
  local _ <close> = task.defer(function() self.waiters[signal] = nil end)
  self.waiters[signal] = true
  local last = timeout and time.monotonic() + timeout
  while true do
    if self.closed then
      return errors.fail("closed", "it is no longer followed", { op = "kubernetes.follow", cause = self.err })
    end
    if self.synced then
      local value = fn(self)
      if value then return value end
    end
    local err = self.err
    if err and (self.failures >= FAILURES or not self.synced) and LASTING[err.code] then return nil, err end
    if err and not self.synced and self.failures >= FAILURES and not self.options.patient then return nil, err end
    local left = last and last - time.monotonic()
    if left and left <= 0 then
      return errors.fail("timeout", "it did not happen in time",
        { op = "kubernetes.follow", target = self.client.server .. self.path, cause = err })
    end
    signal:wait(left)
  end
end

---Ends it.
function Reflector:close()
  if self.closed then return end
  self.closed = true
  wake(self)
  if self.task then self.task:cancel() end
end

Reflector.__close = Reflector.close

return M
