-- Events of forges (GitHub) make the next poll of an app come at once.
local errors, log, task = require "errors", require "log", require "task"

local M = {}

-- Listens to one repository's events.
local function listen(engine, app)
  local forge = engine.world.forge(app)
  if not forge then return end
  engine:app_state(app.name).forge = forge
  forge:follow(function()
    engine.world.repository(app):expire()
    engine:poll_soon(app.name)
  end)
end

local function start(engine, app)
  return task.spawn(function()
    local ok, err = pcall(listen, engine, app)
    if not ok and not errors.is(err, "cancelled") then
      log.warn("following the forge failed", { app = app.name, error = tostring(err) })
    end
  end)
end

---Follows the forges of all apps until it is cancelled. A reload leaves those alone that stay the same.
---@async
---@param engine table
function M.follow(engine)
  local listeners, edition = {}, engine.world_edition ---@type table<AppConfig, Task>
  while true do
    local config = engine.config
    for app, listener in pairs(listeners) do
      if config.apps[app.name] ~= app or engine.world_edition ~= edition then
        listener:cancel()
        listeners[app] = nil
      end
    end
    edition = engine.world_edition
    for _, app in ipairs(config.app_list) do
      if app.source and app.source.github and not listeners[app] then listeners[app] = start(engine, app) end
    end
    repeat engine.reloaded:wait(60) until engine.config ~= config
  end
end

return M
