-- A host in the simulated world of a folder: `moontide once`, in short. Started and killed by sweep.lua.
local sim = require "sim"
local dir = ...
local host = sim.host(sim.open(dir .. "/world"), dir .. "/state", { watch_for = 0 })
assert(host:once())
return 0
