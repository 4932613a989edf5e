-- B8: how long the loop is kept at a time when git lists 150,000 tags, and a registry 8,225; and when the production
-- policy judges and sorts 100,000 new ones.
local json, sys = require "json", require "base.sys"
local kit = require "bench.kit"

return function()
  local git_tags, rounds = kit.size(150000, 30000), kit.size(5, 3)
  local bench = kit.begin("B8", ("longest turn of the loop with %d git tags, processor time"):format(git_tags))
  for _ = 1, rounds do
    local cost = kit.measure({ sys.exe(), "exec", "tests/large_host.lua", tostring(git_tags), "8225" })
    for _, part in ipairs(json.decode(cost.out:match "(%[.*%])")) do
      bench:add(part.name, "turn", part.turn)
      bench:add(part.name, "seconds", part.seconds)
    end
    local turn, seconds = kit.measure(kit.moontide("own_tags", 100000)).out:match("([%d.]+) ([%d.]+)")
    bench:add("a poll of 100,000", "turn", assert(tonumber(turn)))
    bench:add("a poll of 100,000", "seconds", assert(tonumber(seconds)))
  end
  bench:show("turn", "ms at a time")
  bench:show("seconds", "s")
  for _, name in ipairs { "first sight", "nothing new", "one tag more", "after a restart", "nearly all gone",
    "registry tags", "a poll of 100,000" } do
    bench:judge("longest turn, " .. name, bench:median(name, "turn"), "<=", 20, " ms")
  end
  bench:close()
end
