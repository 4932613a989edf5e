-- Rollback puts the last good digest back when a release fails its checks, or turns unhealthy while it is watched. It
-- is asked at once when a run failed, and at each poll.
--
-- The bad digest is marked and never chosen again. The environment then stays as it is until its source moves.

-- What was adopted may have neither a version nor a commit.
local function called(release)
  return release.version or release.commit and release.commit:sub(1, 7) or release.digest:sub(1, 19)
end

return policy {
  queue = "all",

  watch = function(place)
    return place:bad_release()
  end,

  run = function(run, bad)
    local name = bad.version or bad.commit and bad.commit:sub(1, 7) or "the release"
    run:mark_bad(bad.release, bad.reason)
    if not run.by and run:overtaken(bad.release) then
      return run:log("%s is bad (%s), but another release took its place meanwhile", name, bad.reason)
    end
    local good = run:good_before(bad.release)
    if not good then
      run:notify("%s is bad (%s), and there is no earlier release to go back to", name, bad.reason)
      return
    end
    run:restore(good)
    run:notify("took back %s (%s): %s runs again", name, bad.reason, called(good))
  end,
}
