-- Benchmarks with their peers in the same minute on the same machine: moontide exec tests/bench.lua [--quick] [B1 ...]
--
-- Verdicts are ratios: absolute times belong to the machine and are printed only to be looked at. Raw figures of each
-- round stay in build/bench/raw. The exit status is 1 when a ratio misses its goal.
local kit = require "bench.kit"

local ALL = { "b1", "b1t", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "b10", "b11", "b12" }

local chosen = {}
for _, arg in ipairs { ... } do
  if arg == "--quick" then
    kit.quick = true
  else
    chosen[#chosen + 1] = arg:lower()
  end
end

print(kit.machine())
if kit.quick then print("quick: fewer rounds and less work; figures are a hint, verdicts count all the same") end
for _, name in ipairs(#chosen > 0 and chosen or ALL) do require("bench." .. name)() end
require("lab").close()
return kit.finish()
