-- Reload: what is saved becomes live. Configuration and policies are read and judged in isolation; when nothing is
-- wrong with them they take the place of what was there in one stroke, else all stays as it is and people are told.
--
-- What stayed the same keeps its tables, and with them what is remembered of it: an unchanged app goes on with its
-- snapshot, its open repository and its turn to be polled. Runs under way finish with the text that they began with.
local differences, discovery, own_tests = require "engine.differences", require "engine.discovery",
  require "engine.own_tests"
local errors, policy, sys, task, time = require "errors", require "policy.load", require "base.sys", require "task",
  require "time"
local extensions, settings, targets = require "extensions", require "policy.settings", require "targets"
local cursor, describe = require("config.load").cursor, require("config.load").describe

---@class (partial) EngineState
---@field loaded_at Wall
---@field reload_faults? Fault[] Why what is saved is not live.
---@field reloads {loaded: integer, refused: integer}
---@field tests_seen table<string, string> The tests of what is live, by their files: the hash of each text.
---@field tried? table What the last reload read as far as it could be understood: where to look for the next save.
local Reload = {}

local M = { methods = Reload }

local MOST_TOLD <const> = 20 -- faults that people are notified of

---The names of all policies that a configuration uses. Rollback is always there: a person may ask for one.
---@param config Config
---@return string[]
function M.policy_names(config)
  local seen, names = {}, {}
  local function add(name)
    if name and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  add("rollback")
  for _, name in ipairs(discovery.policies(config)) do add(name) end
  for _, app in ipairs(config.app_list) do
    for _, list in ipairs { app.environment_list, app.templates } do
      for _, environment in ipairs(list) do
        add(environment.policy)
        add(environment.rollback)
        for _, part in ipairs(targets.parts(environment)) do
          if targets.destroys(part.target.kind) then add "destroy" end
        end
      end
    end
  end
  return names
end

---Loads the policies of a configuration, and judges its settings by what they declare.
---@async
---@param config Config
---@param suspensions? table<string, Suspension>
---@param edited? table<string, EditedPolicy>
---@return table<string, Policy>? policies
---@return Fault[]? faults
function M.policies(config, suspensions, edited)
  local policies, faults = policy.load(M.policy_names(config), config.scripts, suspensions, edited)
  if not policies then return nil, faults end
  faults = settings.faults(config, policies, cursor(config))
  if #faults > 0 then return nil, faults end
  return policies
end

---The error of a reload that was refused.
---@param faults Fault[]
---@return Err
function M.refusal(faults)
  local err = errors.new(faults[1].code or "invalid",
    ("%d %s; what was loaded before stays: %s"):format(#faults, #faults == 1 and "fault" or "faults",
      faults[1].message), { op = "reload" })
  err.faults = faults
  return err
end

---Whether two reloads were refused for the same.
---@param a? Fault[]
---@param b? Fault[]
---@return boolean
function M.same(a, b)
  if not a or not b or #a ~= #b then return false end
  for i, fault in ipairs(a) do
    if describe(fault) ~= describe(b[i]) then return false end
  end
  return true
end

---Tells of a refusal, one line for each fault.
---@param emit fun(event: table)
---@param faults Fault[]
function M.tell(emit, faults)
  emit {
    at = time.now(), event = "reload", level = "error",
    text = ("the reload was refused, what was loaded before stays: %d %s"):format(#faults,
      #faults == 1 and "fault" or "faults"),
  }
  for _, fault in ipairs(faults) do
    emit { at = time.now(), event = "reload", level = "error", text = describe(fault) }
  end
end

-- What is made while a cycle of the collector is under way is marked at the cycle's end, in one turn, and a
-- configuration of 10,000 apps is too much for one. So none is under way while it is made.
local function without_collector(fn, ...)
  while not sys.hold_collector(true) do time.sleep(0) end
  local _ <close> = task.defer(function() sys.hold_collector(false) end)
  return fn(...)
end

-- What is saved, read once and judged; nothing of it counts yet.
---@async
---@return {config: Config, policies: table<string, Policy>}? saved
---@return Fault[]? faults
local function read(self)
  local config, faults, partial = without_collector(self.load)
  self.tried = config or partial
  if not config then return nil, faults end
  if config.state ~= self.state then
    ---@type Fault
    local fault = {
      file = config.file, path = "state", code = "conflict",
      message = ("cannot change while the host runs: it is %s until the host starts again"):format(self.state),
    }
    return nil, { fault }
  end
  local policies
  policies, faults = M.policies(config, self.suspensions)
  if not policies then return nil, faults end
  faults = own_tests.faults(self, config, policies)
  if #faults > 0 then return nil, faults end
  return { config = config, policies = policies }
end

-- Whether a fault is about an app: of its part of the configuration, of its policies, their modules and their tests.
-- What is of no app is about each.
local function concerns(self, fault, app)
  if fault.file == self.config.file then
    local name = (fault.path or ""):match "^apps%.([^.%[]+)"
    return name == nil or name == app.name
  end
  local file = fault.file:gsub("_test%.lua$", ".lua")
  local somebodys = false
  for name, live in pairs(self.policies) do
    local its = file == live.file or file == ("%s/%s.lua"):format(self.config.scripts or "scripts", name)
    for _, module in pairs(live.modules or {}) do its = its or module.file == file end
    if its then
      somebodys = true
      for _, environment in ipairs(app.environment_list) do
        if environment.policy == name or environment.rollback == name then return true end
      end
    end
  end
  return not somebodys
end

---The faults of what is saved that are about an app.
---@param name string
---@return Fault[]? faults nil: none.
function Reload:reload_faults_of(name)
  local app, list = self.config.apps[name], {}
  for _, fault in ipairs(app and self.reload_faults or {}) do
    if concerns(self, fault, app) then list[#list + 1] = fault end
  end
  return list[1] and list or nil
end

-- Has the notifiers hear of what is wrong, and of its end. The channels are those of the apps that it is about.
local function notify(self)
  local reasons = {}
  local faults = self.reload_faults or {}
  for _, fault in ipairs(table.move(faults, 1, MOST_TOLD, 1, {})) do
    local channels = {}
    for _, app in ipairs(self.config.app_list) do
      if concerns(self, fault, app) then
        for _, environment in ipairs(app.environment_list) do channels[#channels + 1] = environment.notify end
      end
    end
    reasons[describe(fault)] = channels
  end
  self.outages:reload(reasons)
end

-- Puts what was read in the place of what was there. Nobody sees a part of it.
local function swap(self, saved, found)
  local config = saved.config
  self.policies = saved.policies
  extensions.accept()
  if not found.config then return end
  self.places = {} -- each is made anew when it is asked for
  for _, app in ipairs(found.touched) do -- changed or gone
    local state = self.app_states[app.name]
    if state then state.snapshot = nil end
    if not config.apps[app.name] then self.app_states[app.name] = nil end
  end
  if found.outside then
    self.world_edition = self.world_edition + 1
    for _, state in pairs(self.app_states) do state.snapshot = nil end
  end
  discovery.keep(self, config)
  self.world.configure(config, not found.outside)
  self.config, self.app_edition = config, self.app_edition + 1
  self.repl_env = { engine = self, config = config, apps = config.apps }
end

-- Forgets what was decided at places that are gone.
local function forget(self, touched)
  for _, app in ipairs(touched) do
    local now = self.config.apps[app.name]
    for _, environment in ipairs(app.environment_list) do
      if not now or not now.environments[environment.name] then
        for _, name in ipairs { environment.policy, environment.rollback or nil } do
          self.said[("%s/%s/%s"):format(app.name, environment.name, name)] = nil
        end
      end
    end
  end
end

local function settle(self, before, found)
  local words = self.follow and self.follow(before, self.config) or {}
  if self.config ~= before then
    forget(self, found.touched)
    self:tidy()
    self.reloaded:notify()
    task.start({ name = "resuming", detached = true }, self.recover, self) -- it may wait for runs to end
  end
  self.wake:notify()
  return words
end

---Loads what is saved, all or nothing.
---@async
---@param options? {saved?: boolean} saved: because a file changed; what is nothing new is not told.
---@return ReloadResult? result
---@return Err? err Has `faults`.
---@return_overload nil, Err
function Reload:reload(options)
  local _ <close> = task.lock(self, "reload")
  local quiet = options and options.saved or false
  local saved, faults = read(self)
  if not saved then
    extensions.drop()
    ---@cast faults Fault[]
    self.reloads.refused = self.reloads.refused + 1
    if not (quiet and M.same(self.reload_faults, faults)) then M.tell(function(event) self:emit(event) end, faults) end
    self.reload_faults = faults
    notify(self)
    return nil, M.refusal(faults)
  end
  self.journal:restore_places(saved.config)
  local before, well = self.config, self.reload_faults == nil
  local found = differences.find(self, saved.config, saved.policies)
  sys.whole(swap, self, saved, found)
  self.reload_faults, self.loaded_at = nil, time.now()
  self.reloads.loaded = self.reloads.loaded + 1
  if not well then notify(self) end
  local changed = found.words
  for _, words in ipairs(settle(self, before, found)) do changed[#changed + 1] = words end
  if not (quiet and well and #changed == 0) then
    self:emit { event = "reload", level = "info", text = differences.line(changed) }
  end
  return { apps = #self.config.app_list, policies = #M.policy_names(self.config), changed = changed }
end

---Why what is saved is not live, in a line; nil: it is.
---@param faults? Fault[]
---@return string?
function M.words(faults) return faults and M.refusal(faults).message end

return M
