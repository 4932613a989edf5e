-- Words of policies: run:destroy().
local errors, targets = require "errors", require "targets"

local M = { run = {} }

---Takes down everything that the environment's target put out, and forgets that it runs.
---@async
---@param run Run
function M.run.destroy(run)
  run.steps:perform("destroy", {}, function()
    for _, part in ipairs(targets.parts(run.place.config)) do
      local target, err = run.world.target(part)
      if not target then error(err, 0) end
      if not target.destroy then
        error(errors.new("unsupported", ("a target of kind %s cannot be taken down"):format(part.target.kind),
          { op = "destroy" }), 0)
      end
      local ok
      -- Its number is the run's: there is no release that it could be of.
      ok, err = target:destroy { release = "d" .. run.id, run = run.id, by = run.by, hooks = run.hooks }
      if not ok then error(err, 0) end
    end
    return true
  end, "acts")
  run.steps:value("destroyed", {}, function() return run.journal:taken_down(run.app, run.environment, run.id) end, true)
end

return M
