-- Discovery of apps while the host runs, beside those of the configuration.
--
-- A source is a module that opens with its part of the configuration and is observed periodically. Each observation
-- replaces the one before; an app that is gone loses its place, not its history.
local extensions = require "extensions"
local errors, task, time = require "errors", require "task", require "time"

local M = {}

local PAUSE <const> = 10 -- seconds after a failed observation

---@class AppSource
---@field look fun(self): AppConfig[]?, Err? All apps that there are now, in order. An unchanged one is the same table.
---@field wait fun(self) Waits until another observation may differ.
---@field close fun(self)

-- The kinds of sources that the configuration has, by its keys.
local function finders(config)
  local list = {}
  for _, finder in ipairs(extensions.all "finder") do
    if config[finder.name] then list[#list + 1] = finder end
  end
  return list
end

---Calls a function of every kind of sources that there is, where it has one.
---@param engine table
---@param word "expire"|"tidy"
function M.each(engine, word)
  for _, finder in ipairs(finders(engine.config)) do
    if finder[word] then finder[word](engine.world) end
  end
end

---The policies that apps of the sources may use.
---@param config Config
---@return string[] names
function M.policies(config)
  local names = {}
  for _, finder in ipairs(finders(config)) do
    for _, name in ipairs(finder.policies(config[finder.name])) do names[#names + 1] = name end
  end
  return names
end

-- Puts the apps that sources found behind those of the file.
local function merge(config, found)
  for i = #config.app_list, 1, -1 do
    local app = config.app_list[i]
    if app.found then config.app_list[i], config.apps[app.name] = nil, nil end
  end
  for _, finder in ipairs(finders(config)) do
    for _, app in ipairs(found[finder.name] or {}) do
      app.found = finder.name
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
local function follow(engine, finder)
  local source, err = finder.open(engine.config[finder.name], engine.world)
  if not source then error(err, 0) end
  local guard <close> = setmetatable({}, { __close = function() source:close() end })
  assert(guard)
  while not engine.draining do
    if look(engine, finder.name, source) then source:wait() else time.sleep(PAUSE) end
  end
end

---Follows all sources until the engine drains; a reload of more than apps opens them again.
---@async
---@param engine table
function M.run(engine)
  while not engine.draining do
    local tasks, edition = {}, engine.world_edition
    for _, finder in ipairs(finders(engine.config)) do
      tasks[#tasks + 1] = task.spawn(function()
        while true do
          local ok, err = pcall(follow, engine, finder)
          if ok or errors.is(err, "cancelled") then return end
          engine:trouble(("looking for apps (%s) failed"):format(finder.name), err)
          time.sleep(PAUSE)
        end
      end)
    end
    while engine.world_edition == edition and not engine.draining do engine.reloaded:wait(60) end
    for _, each in ipairs(tasks) do each:cancel() end
  end
end

---Observes every source once.
---@async
---@param engine table
---@return boolean ok
function M.once(engine)
  local ok = true
  for _, finder in ipairs(finders(engine.config)) do
    local source, err = finder.open(engine.config[finder.name], engine.world)
    if source then
      ok = look(engine, finder.name, source) and ok
      source:close()
    else
      ok = false
      engine:trouble(("looking for apps (%s) failed"):format(finder.name), err)
    end
  end
  return ok
end

return M
