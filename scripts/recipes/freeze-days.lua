-- Freeze days: nothing goes out over the holidays, to any environment that has this policy; the branch is followed on
-- all other days.
--
--   staging = { policy = "freeze-days", settings = { freeze = "12-20..01-06; 2026-11-27..2026-11-30" } }
local time = require "time"

return policy {
  settings = {
    freeze = { type = "text", required = true, doc = "Days or hours without releases: \"12-20..01-06\"." },
    zone = { type = "text", default = "UTC", doc = "Whose calendar that is." },
  },

  watch = function(place)
    local head = place:head()
    local frozen, ends = time.within(place.settings.freeze, place.settings.zone)
    if frozen then
      return nil, ("%s waits: frozen until %s"):format(head.title, ends and time.iso(ends) or "somebody edits the days")
    end
    return head
  end,

  run = function(run, head)
    run:release(run:image(head.commit))
  end,
}
