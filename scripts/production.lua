-- Production follows SemVer tags: a new tag above the version in production, within the environment's `accept`.
--
-- The number always rises; the commit under it may be older, and then the release is a rollback in seconds, because
-- the image of that commit exists. Several tags at once: each gets its image tag, the newest is released.
local semver = require "semver"

return policy {
  first = "adopt", -- a new app's production takes what already runs, and waits for the next tag
  queue = "all",   -- releases keep their order

  watch = function(place)
    local current = place:current()
    local running, accepted = current and current.version, {}
    for _, tag in ipairs(place:tags()) do
      local version, problem = semver.tag(tag.name)
      if not version then
        place:refuse(tag.name, "not a version: %s", problem.message)
      elseif tag.was then
        place:alarm(tag.name, "this tag moved from %s to %s: published versions must not change",
          tag.was:sub(1, 7), tag.commit:sub(1, 7))
      elseif tag.old then
        place:refuse(tag.name, "it was there before Moontide: 'moontide release' puts it out")
      else
        local allowed, why = semver.allows(place.accept, running and semver.tag(running), version)
        local failed = place:failed(tag.name .. "@" .. tag.commit)
        if not allowed then
          place:refuse(tag.name, why)
        elseif failed then
          place:refuse(tag.name, "run %d tried it and failed: %s", failed.id, failed.error)
        else
          accepted[#accepted + 1] = { name = tag.name, commit = tag.commit, version = version }
        end
      end
    end
    if #accepted == 0 then return nil, running and "no tag above " .. running or "no version tag yet" end
    table.sort(accepted, function(a, b) return semver.compare(a.version, b.version) < 0 end)
    local newest = accepted[#accepted]
    return {
      key = newest.name .. "@" .. newest.commit, title = ("%s of %s"):format(newest.name, newest.commit:sub(1, 7)),
      version = newest.name, commit = newest.commit, tags = accepted,
    }
  end,

  run = function(run, release)
    for _, tag in ipairs(release.tags) do
      run:image(tag.commit, { version = tag.name }):tag(tag.name)
    end
    run:release(run:image(release.commit), { version = release.version })
  end,
}
