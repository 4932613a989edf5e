-- Words of policies: run:destroy().
local errors = require "errors"

local M = { run = {} }

---Takes down everything that the environment's target put out, and forgets that it runs.
---@async
---@param run Run
function M.run.destroy(run)
  local place = run.place
  run.steps:perform("destroy", {}, function()
    local target, err = run.world.target(place.config)
    if not target then error(err, 0) end
    if not target.destroy then
      error(errors.new("unsupported", ("a target of kind %s cannot be taken down"):format(place.config.target.kind),
        { op = "destroy" }), 0)
    end
    local ok
    -- Its number is the run's: there is no release that it could be of.
    ok, err = target:destroy { release = "d" .. run.id, run = run.id, by = run.by, hooks = run.hooks }
    if not ok then error(err, 0) end
    return true
  end, "acts")
  run.steps:value("destroyed", {}, function()
    local live = run.journal:live(run.app, run.environment)
    return live and run.journal:set_release(live.id, "replaced", "taken down by run " .. run.id) or false
  end, true)
end

return M
