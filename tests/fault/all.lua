-- No primitive is forgotten by the sweep: what host/api_*.c registers and host/api.h declares is called by some case.
local known = require "lib.known"

local list = known.primitives()
local forgotten, stale = known.forgotten()
local empty = known.empty_tables()

for _, name in ipairs(forgotten) do print("not ok " .. name .. ": no case of tests/fault calls it") end
for _, name in ipairs(stale) do print("not ok " .. name .. ": an exception in lib/known.lua for what is not there") end
for _, name in ipairs(empty) do print("not ok core." .. name .. ": no functions found in host/api_" .. name .. ".c") end
assert(#list > 100, "the sources were not read right")
if #forgotten == 0 then print(("ok %d primitives, all known to the sweep"):format(#list)) end
return #forgotten + #stale + #empty > 0 and 1 or 0
