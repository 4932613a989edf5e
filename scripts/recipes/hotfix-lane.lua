-- Hotfix lane: a patch of the version that runs goes out at once; everything else waits for office hours and for
-- somebody's approval.
--
--   production = { policy = "hotfix-lane", accept = "major", settings = { hours = "Mon-Thu 9:00-16:00", votes = 1 } }
local semver, versions = require "semver", require "shared.versions"

-- Whether only the last number of a version rises.
local function is_patch(from, to)
  local a, b = from and semver.tag(from), semver.tag(to)
  return a and b and a.major == b.major and a.minor == b.minor
end

return policy {
  first = "adopt",
  settings = {
    hours = { type = "text", default = "Mon-Thu 9:00-16:00", doc = "When releases other than patches may begin." },
    zone = { type = "text", default = "UTC", doc = "Whose clock that is." },
    votes = { type = "integer", default = 1, min = 0, doc = "Of people, for releases other than patches." },
  },

  watch = function(place)
    local version, reason = versions.newest(place)
    if not version then return nil, reason end
    local current, settings = place:current(), place.settings
    version.hotfix = is_patch(current and current.version, version.version) or nil
    local open, why = place:window { settings.hours, zone = settings.zone }
    if not version.hotfix and not open then
      return nil, ("%s is no patch, and waits: %s"):format(version.version, why)
    end
    return version
  end,

  run = function(run, version)
    if not version.hotfix and run.settings.votes > 0 then run:approval { votes = run.settings.votes } end
    versions.release(run, version)
  end,
}
