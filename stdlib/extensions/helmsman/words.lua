-- Words of policies: run:destroy().
local errors, targets = require "errors", require "targets"

local M = { run = {}, plan = {} }

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

---The planner of destroy.
---@async
---@param run Run
---@return Planned[]
---@return true
function M.plan.destroy(run)
  local said = {}
  for i, part in ipairs(targets.parts(run.place.config)) do
    local target, err = run.world.target(part)
    local now
    if target then now, err = target:current() end
    if err then error(err, 0) end
    local where = ("%s %s (%s)"):format(run.app, targets.called(part, " "), part.target.kind)
    local what = now and (now.version or now.commit or now.digest) or "nothing runs there"
    said[i] = {
      action = now and "remove" or "none", target = part.target.kind, part = part.part, from = now and now.digest,
      text = now and ("%s: takes down everything, %s runs"):format(where, what) or ("%s: %s"):format(where, what),
    }
  end
  return said, true
end

return M
