-- Majors by approval: minor versions and patches go out by themselves, a new major version when enough people agree.
--
--   production = { policy = "majors-by-approval", accept = "major", settings = { votes = 2, deadline = "3d" } }
local semver, versions = require "semver", require "shared.versions"

return policy {
  first = "adopt",
  settings = {
    votes = { type = "integer", default = 1, min = 1, max = 20, doc = "How many people must agree." },
    deadline = { type = "duration", default = "1d", doc = "How long they have for it." },
  },

  watch = function(place)
    local version, reason = versions.newest(place)
    if not version then return nil, reason end
    local current = place:current()
    local from, to = current and current.version and semver.tag(current.version), semver.tag(version.version)
    if from and to and to.major > from.major then version.major_from = from.tag end
    return version
  end,

  run = function(run, version)
    if version.major_from then
      run:approval {
        votes = run.settings.votes, deadline = run.settings.deadline,
        from = version.major_from, to = version.version,
      }
    end
    versions.release(run, version)
  end,
}
