-- Calendar versions: tags such as 2026.03.2 or 2026-03-02, of which the latest day runs. They are no SemVer: a month
-- may begin with a zero, and every month is a new "major".
--
--   production = { policy = "calendar-versions" }

-- A number that grows with the day, and with the third figure within a month: 2026.03.2 -> 20260302.
local function day_of(tag)
  local year, month, day = tag:match("^v?(20%d%d)[.-](%d%d?)[.-](%d%d?%d?)$")
  local y, m, d = tonumber(year), tonumber(month), tonumber(day)
  if not (y and m and d) or m < 1 or m > 12 then return nil end
  return y * 100000 + m * 1000 + d
end

-- The latest tag above what runs; every other that is not simply older is refused.
local function latest(place, running)
  local best
  for _, tag in ipairs(place:tags()) do
    local day = day_of(tag.name)
    if not day then
      place:refuse(tag.name, "not a version of the calendar, such as 2026.03.2")
    elseif tag.was then
      place:alarm(tag.name, "the tag moved from %s to %s", tag.was:sub(1, 7), tag.commit:sub(1, 7))
    elseif day > running and not tag.old and (not best or day > best.day) then
      best = { name = tag.name, commit = tag.commit, day = day }
    end
  end
  return best
end

return policy {
  first = "adopt",

  watch = function(place)
    local current = place:current()
    local tag = latest(place, current and current.version and day_of(current.version) or 0)
    if not tag then return nil, "no later day" end
    local key = tag.name .. "@" .. tag.commit
    local failed = place:failed(key)
    if failed then return nil, ("run %d tried %s and %s: %s"):format(failed.id, tag.name, failed.how, failed.error) end
    local title = ("%s of %s"):format(tag.name, tag.commit:sub(1, 7))
    return { key = key, title = title, version = tag.name, commit = tag.commit }
  end,

  run = function(run, release)
    local image = run:image(release.commit, { version = release.version })
    image:tag(release.version)
    run:release(image, { version = release.version })
  end,
}
