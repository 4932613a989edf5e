-- A host in the simulated world of a folder: settles what the source says, and ends. Started and killed by kill.lua.
local sim = require "sim"
local dir = ...
local world = sim.open(dir .. "/world")
local host = sim.host(world, dir .. "/state", { watch_for = 0 })
sim.settle(host)
host:stop(0)
host:close()
return 0
