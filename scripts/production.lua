-- Production follows SemVer tags: a new tag above the version in production, within the environment's `accept`.
--
-- The number always rises; the commit under it may be older, and then the release is a rollback in seconds, because
-- the image of that commit exists. Several tags at once: each gets its image tag, the newest is released.
local semver = require "semver"

-- Why a tag cannot be released here; nil when it can.
local function problem(place, tag)
  local version, err = semver.tag(tag.name)
  if not version then return "not a version: " .. err.message end
  if not tag.name:find("^[%w.-]+$") or #tag.name > 128 then return "a registry cannot have such a tag" end
  if tag.old then return "it was there before Moontide; 'moontide release' puts it out" end
  local allowed, reason = place:allows(tag.name)
  if not allowed then return reason end
  local failed = place:failed(tag.name .. "@" .. tag.commit)
  if failed then return ("run %d tried it and failed: %s"):format(failed.id, failed.error) end
end

return policy {
  first = "adopt", -- a new app's production takes what already runs, and waits for the next tag
  queue = "all",   -- releases keep their order

  watch = function(place)
    local accepted = {}
    for _, tag in ipairs(place:tags()) do
      local reason = problem(place, tag)
      if tag.was then
        place:alarm(tag.name, "the tag moved from %s to %s; a published version must not change",
          tag.was:sub(1, 7), tag.commit:sub(1, 7))
      elseif reason then
        place:refuse(tag.name, reason)
      else
        accepted[#accepted + 1] = { name = tag.name, commit = tag.commit }
      end
    end
    if #accepted == 0 then return nil, "no new version" end

    table.sort(accepted, function(a, b) return semver.compare(semver.tag(a.name), semver.tag(b.name)) < 0 end)
    local newest = accepted[#accepted]
    return {
      key = newest.name .. "@" .. newest.commit,
      title = ("%s of %s"):format(newest.name, newest.commit:sub(1, 7)),
      version = newest.name, commit = newest.commit, tags = accepted,
    }
  end,

  run = function(run, release)
    for _, tag in ipairs(release.tags) do
      run:image(tag.commit, { version = tag.name }):tag(tag.name)
      run:publish(tag.commit, { version = tag.name })
    end
    run:release(run:image(release.commit), { version = release.version })
  end,
}
