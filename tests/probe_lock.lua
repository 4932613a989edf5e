-- Tries to open a host on a state folder that another one holds; prints the error's code.
local sim = require "sim"
local state = ...
local config = sim.config(state)
local host, err = require("engine").open { config = config, world = {}, load = function() return config end }
print(host and "open" or err.code)
return 0
