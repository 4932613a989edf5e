-- A rollout by another program that came late: after the run had stopped waiting for it.
local targets, time = require "targets", require "time"

local M = {}

---Finds out whether the release that a run stopped waiting for runs now. A queued retry then starts at once and checks
---it; without one, the release becomes the live one.
---@async
---@param engine table
---@param place Place
function M.look(engine, place)
  local single = place.config.target
  if not single or not targets.follows(single.kind) then return end -- of several each waits for its turn anew
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
