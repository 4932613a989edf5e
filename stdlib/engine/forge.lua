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

---Follows the forges of all apps until it is cancelled.
---@async
---@param engine table
function M.follow(engine)
  while true do
    local config, listeners = engine.config, {}
    for _, app in ipairs(config.app_list) do
      if app.source.github then
        listeners[#listeners + 1] = task.spawn(function()
          local ok, err = pcall(listen, engine, app)
          if not ok and not errors.is(err, "cancelled") then
            log.warn("following the forge failed", { app = app.name, error = tostring(err) })
          end
        end)
      end
    end
    repeat engine.reloaded:wait() until engine.config ~= config
    for _, listener in ipairs(listeners) do listener:cancel() end
  end
end

return M
