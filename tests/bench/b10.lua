-- B10: what plan takes for 1,000 apps, over the same look at them by `once`, and when each of them has a change.
local json, sys = require "json", require "base.sys"
local apps = require "bench.apps"
local kit = require "bench.kit"

local COUNT <const> = 1000

-- Every app has something to do, in five steps.
local CHANGES <const> = [[
return policy {
  watch = function(place) return place:head() end,
  run = function(run, head)
    run:notify("%s goes out", head.title)
    run:approval { votes = 2 }
    run:sleep "1m"
    run:hold "done"
  end,
}
]]

-- The figures that a plan prints of itself; wrong ones are no plan.
local function planned(path, changes)
  return function()
    local figures = assert(json.decode(kit.measure(kit.moontide("own_plan", path)).out))
    assert(figures.errors == 0 and figures.changes == changes, "the plan says something else")
    return { wall = figures.wall * 1000, stall = figures.stall }
  end
end

return function()
  local port, stop = kit.server()
  local looks, changes = apps.config(COUNT, port), apps.config(COUNT, port, CHANGES)
  local bench = kit.begin("B10", ("plan of %d apps"):format(COUNT))
  bench:rounds(kit.size(7, 2), {
    { name = "once, nothing to do", run = function()
      return { wall = kit.measure { sys.exe(), "once", "--config", looks }.wall * 1000 }
    end },
    { name = "plan, nothing to do", run = planned(looks, 0) },
    { name = "plan, all change", run = planned(changes, COUNT) },
  })
  stop()
  bench:show("wall", "ms")
  bench:show("stall", "longest stall, ms")
  local once, plan = bench:median("once, nothing to do", "wall"), bench:median("plan, nothing to do", "wall")
  bench:judge("plan of 1,000 apps, over once", plan / once, "<=", 1.2)
  bench:judge("plan of 1,000 apps", plan, nil, nil, " ms")
  bench:judge("plan of 1,000 apps, all change", bench:median("plan, all change", "wall"), nil, nil, " ms")
  bench:judge("longest stall, all change", bench:median("plan, all change", "stall"), nil, nil, " ms")
  bench:close()
end
