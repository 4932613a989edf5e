-- Sources of apps: those that are found while the host runs, beside the ones that the configuration names.
--
-- A source is a module that opens with its part of the configuration and is looked at again and again. What it finds
-- takes the place of what it found before; an app that is gone loses its place, not its history.
local errors, task, time = require "errors", require "task", require "time"

local M = {}

local PAUSE <const> = 10 -- seconds after a look that failed

-- Keys of the configuration whose room finds apps: KEY/discovery.lua gives `policies(part)`, the names of the policies
-- that its apps use, and `open(part, cfg, world)` -> source.
local ROOMS <const> = { "keel" }

---@class AppSource
---@field look fun(self): AppConfig[]?, Err? All apps that there are now, in order. An unchanged one is the same table.
---@field wait fun(self) Waits until another look may show something else.
---@field close fun(self)

---The policies that apps of the sources may use.
---@param config Config
---@return string[] names
function M.policies(config)
  local names = {}
  for _, key in ipairs(ROOMS) do
    for _, name in ipairs(config[key] and require("extensions." .. key .. ".discovery").policies(config[key]) or {}) do
      names[#names + 1] = name
    end
  end
  return names
end

-- Puts the apps that sources found behind those of the file.
local function merge(config, found)
  for i = #config.app_list, 1, -1 do
    local app = config.app_list[i]
    if app.found then config.app_list[i], config.apps[app.name] = nil, nil end
  end
  for _, key in ipairs(ROOMS) do
    for _, app in ipairs(config[key] and found[key] or {}) do
      app.found = key
      config.apps[app.name] = app
      config.app_list[#config.app_list + 1] = app
    end
  end
end

local function same(a, b)
  if not a or #a ~= #b then return false end
  for i, app in ipairs(a) do
    if app ~= b[i] then return false end
  end
  return true
end

-- Runs that a host before us did not finish go on as soon as their app is found again.
local function resume(engine, before, now)
  for _, row in ipairs(engine.journal:unfinished()) do
    local app = not before[row.app] and now[row.app]
    if app and app.environments[row.environment] then engine:lane(engine:place(row.app, row.environment)):kick() end
  end
end

---What a source found takes the place of what it found before.
---@param engine table
---@param key string The source.
---@param apps AppConfig[]
function M.replace(engine, key, apps)
  if same(engine.found[key], apps) then return end
  local before, now = {}, {}
  for _, app in ipairs(engine.found[key] or {}) do before[app.name] = app end
  for _, app in ipairs(apps) do now[app.name] = app end
  engine.found[key] = apps
  merge(engine.config, engine.found)
  local added, gone = 0, 0
  for name, app in pairs(before) do
    if now[name] ~= app then
      for _, environment in ipairs(app.environment_list) do engine.places[name .. "/" .. environment.name] = nil end
      engine.hurry[name] = now[name] and true or nil -- what is asked for is another thing now
    end
    if not now[name] then
      gone = gone + 1
      engine.app_states[name] = nil
      for _, environment in ipairs(app.environment_list) do
        for _, policy in ipairs { environment.policy, environment.rollback or nil } do
          engine.said[("%s/%s/%s"):format(name, environment.name, policy)] = nil
        end
      end
    end
  end
  for name in pairs(now) do
    if not before[name] then added = added + 1 end
  end
  engine.app_edition = engine.app_edition + 1
  if gone > 0 then engine:tidy() end
  engine.wake:notify()
  if added > 0 then resume(engine, before, now) end
  if added + gone > 0 then
    engine:emit {
      event = "note", level = "info",
      text = ("%s: %d apps found, %d new, %d gone"):format(key, #apps, added, gone),
    }
  end
end

---A configuration that was loaded again starts with what was found before.
---@param engine table
---@param config Config
function M.keep(engine, config) merge(config, engine.found) end

local function look(engine, key, source)
  local apps, err = source:look()
  if not apps then
    engine:trouble(("looking for apps (%s) failed"):format(key), err)
    return false
  end
  M.replace(engine, key, apps)
  return true
end

-- Follows one source for as long as its part of the configuration stays.
local function follow(engine, key)
  local config = engine.config
  local source, err = require("extensions." .. key .. ".discovery").open(config[key], engine.world)
  if not source then error(err, 0) end
  local _ <close> = task.defer(function() source:close() end)
  while not engine.draining do
    if look(engine, key, source) then source:wait() else time.sleep(PAUSE) end
  end
end

---Follows all sources until the engine drains; a reload opens them again.
---@async
---@param engine table
function M.run(engine)
  while not engine.draining do
    local tasks, config = {}, engine.config
    for _, key in ipairs(ROOMS) do
      if config[key] then
        tasks[#tasks + 1] = task.spawn(function()
          while true do
            local ok, err = pcall(follow, engine, key)
            if ok or errors.is(err, "cancelled") then return end
            engine:trouble(("looking for apps (%s) failed"):format(key), err)
            time.sleep(PAUSE)
          end
        end)
      end
    end
    while engine.config == config and not engine.draining do engine.reloaded:wait(60) end
    for _, each in ipairs(tasks) do each:cancel() end
  end
end

---Looks at every source once.
---@async
---@param engine table
---@return boolean ok
function M.once(engine)
  local ok = true
  for _, key in ipairs(ROOMS) do
    if engine.config[key] then
      local source, err = require("extensions." .. key .. ".discovery")
        .open(engine.config[key], engine.world)
      if source then
        ok = look(engine, key, source) and ok
        source:close()
      else
        ok = false
        engine:trouble(("looking for apps (%s) failed"):format(key), err)
      end
    end
  end
  return ok
end

return M
