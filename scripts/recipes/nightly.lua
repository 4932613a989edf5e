-- Nightly: at a fixed time what the branch is then goes out; in between nothing does.
--
--   nightly = { policy = "nightly", settings = { at = "daily 02:30", zone = "Europe/Berlin" } }
local time = require "time"

return policy {
  settings = {
    at = { type = "text", default = "daily 02:30", doc = "When: \"Mon-Fri 2:30\", or cron's five fields." },
    zone = { type = "text", default = "UTC", doc = "Whose clock that is." },
  },

  watch = function(place)
    local settings, head, current = place.settings, place:head(), place:current()
    local last = time.last(settings.at, settings.zone)
    if not last then return nil, "its time never comes" end
    if current and current.at >= last then
      local next_night = time.next(settings.at, settings.zone)
      return nil, ("%s waits until %s"):format(head.title, next_night and time.iso(next_night) or "never")
    end
    return {
      key = "night of " .. time.iso(last), -- one change a night, whatever is pushed after it
      title = head.title, commit = head.commit, runs_already = current ~= nil and current.commit == head.commit,
    }
  end,

  run = function(run, night)
    if night.runs_already then return run:log("%s runs already", night.title) end
    run:release(run:image(night.commit))
  end,
}
