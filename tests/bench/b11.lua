-- B11: how long a reload takes, and how long it keeps the loop at a time, with 1,000 and 10,000 apps under polls; and
-- how often a saved policy is loaded, checked and swapped in a second.
local json = require "json"
local kit = require "bench.kit"

local CASES <const> = {
  { "1,000 apps", 1000, "lua" }, { "1,000 apps, YAML", 1000, "yaml" }, { "10,000 apps", 10000, "lua" },
}

return function()
  local bench = kit.begin("B11", "reloads: seconds, and the longest turn of the loop in processor time")
  for _ = 1, kit.size(5, 3) do
    for _, case in ipairs(CASES) do
      if not (kit.quick and case[2] > 1000) then
        local cost = kit.measure(kit.moontide("own_reload", case[2], case[3]))
        for _, part in ipairs(json.decode(cost.out:match "(%[.*%])")) do
          local name = ("%s: %s"):format(case[1], part.name)
          if part.name == "swaps" then
            bench:add(name, "rate", 1 / part.seconds)
          else
            bench:add(name, "turn", part.turn)
            bench:add(name, "seconds", part.seconds)
          end
        end
      end
    end
  end
  bench:show("turn", "ms at a time")
  bench:show("seconds", "s")
  bench:show("rate", "swaps a second")
  for _, name in ipairs(bench.order) do
    if bench.figures[name].turn then
      bench:judge("longest turn, " .. name, bench:median(name, "turn"), "<=", 20, " ms")
    end
  end
  bench:close()
end
