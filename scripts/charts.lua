-- Charts are followed in their repositories: what is new within `accept` goes out, all of an app's charts together.
--
-- A published version must not change; only `accept = "version:..."` follows one version and its bytes.

-- The newest version that may follow the one that runs; what is newer and may not is refused, with the reason.
local function choose(place, chart)
  for _, version in ipairs(chart.versions) do
    if version.allowed then return version end
    local turn_down = version.changed and place.alarm or place.refuse
    turn_down(place, chart.name .. " " .. version.version, "%s", version.reason)
  end
  if chart.gone then
    place:refuse(chart.name .. " " .. chart.current.version, "it runs, and is gone from the repository: it stays")
  end
end

return policy {
  first = "adopt", -- what runs already stays, until something newer comes

  watch = function(place)
    local parts, news = {}, {}
    for _, chart in ipairs(place:charts()) do
      local new = choose(place, chart)
      local version = new or chart.current
      if not version then return nil, ("%s has no version that may run here"):format(chart.name) end
      parts[#parts + 1] = { name = chart.name, version = version.version, digest = version.digest }
      if new then news[#news + 1] = chart.name .. " " .. new.version .. (new.changed and ", changed" or "") end
    end
    if #news == 0 then return nil, "every chart is as new as it may be" end

    local set = place:bundle(parts)
    local failed = place:failed(set.digest)
    if failed then
      return nil, ("run %d tried %s and %s: %s"):format(failed.id, set.version, failed.how, failed.error)
    end
    return { key = set.digest, title = table.concat(news, ", "), set = set }
  end,

  run = function(run, change)
    run:release(change.set, { version = change.set.version, versions = change.set.versions })
  end,
}
