-- B12: simulated worlds: stories of two releases a second, lives of one that is killed at each of its places, and a day
-- in which ten apps are polled each minute, as a part of its real length.
local kit = require "bench.kit"

local function figures(which)
  return function()
    local count, seconds = kit.measure(kit.moontide("own_stories", which)).out:match("(%d+) ([%d.]+)")
    count, seconds = assert(tonumber(count)), assert(tonumber(seconds))
    return { rate = count / seconds, seconds = seconds }
  end
end

return function()
  local bench = kit.begin("B12", "simulated worlds, in processor time")
  bench:rounds(kit.size(7, 2), {
    { name = "stories", run = figures "stories" }, { name = "lives", run = figures "lives" },
    { name = "day, polls", run = figures "day" },
  })
  bench:show("rate", "a second")
  bench:show("seconds", "s")
  bench:judge("stories a second", bench:median("stories", "rate"), nil, nil, "")
  bench:judge("lives of a killed story a second", bench:median("lives", "rate"), nil, nil, "")
  local day = bench:median("day, polls", "seconds")
  bench:judge("a day of virtual time with 10 apps polled each minute", day, nil, nil, " s")
  bench:close()
end
