-- What somebody else rolled out late: a release was given up for a time because keel had not acted, and then it did.
local targets, time = require "targets", require "time"

local M = {}

---Looks, at a place whose target somebody else rolls out, whether what was waited for runs now. A run that waits to be
---tried again goes on at once and proves it; without one, what runs is taken for released.
---@async
---@param engine table
---@param place Place
function M.look(engine, place)
  if not targets.follows(place.config.target.kind) then return end
  local journal, app, environment = engine.journal, place.app, place.environment
  local newest = journal:stopped_on_its_way(app, environment)
  if not newest then return end
  local open = journal:next_run(app, environment)
  if open and not (open.state == "queued" and open.not_before and open.not_before > time.now()) then return end
  local target = engine.world.target(targets.about(place.config, newest))
  local running = target and target:current()
  if not running or running.digest ~= newest.digest or running.healthy ~= true then return end
  local what = require("policy.place").called(newest)
  if open then
    if not journal:hasten(open.id) then return end
    engine:lane(place):kick()
  else
    journal:synced("release", function() return journal:set_release(newest.id, "live") end)
    engine:released(place, newest.id)
  end
  engine:emit {
    event = "note", level = "info", app = app, environment = environment, run = open and open.id,
    text = ("%s runs now, after nobody waited for it any more"):format(what),
  }
end

return M
