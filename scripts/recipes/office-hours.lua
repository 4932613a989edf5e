-- Office hours: new versions go out only while somebody is there to look at them.
--
-- A version that comes at night waits, and a newer one takes its place. Orders of people (moontide release, rollback)
-- are carried out at any time.
--
--   production = {
--     policy = "office-hours",
--     settings = { hours = "Mon-Thu 9:00-17:00, Fri 9:00-12:00", zone = "Europe/Berlin" },
--   }
local versions = require "shared.versions"

return policy {
  first = "adopt",
  settings = {
    hours = { type = "text", default = "Mon-Thu 9:00-17:00, Fri 9:00-12:00", doc = "When releases may begin." },
    zone = { type = "text", default = "UTC", doc = "Whose clock that is: Europe/Berlin, America/New_York, ..." },
  },

  watch = function(place)
    local version, reason = versions.newest(place)
    if not version then return nil, reason end
    local open, why = place:window { place.settings.hours, zone = place.settings.zone }
    if not open then return nil, ("%s waits: %s"):format(version.version, why) end
    return version
  end,

  run = versions.release,
}
