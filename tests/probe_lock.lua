-- Tries to open a host on a state folder that another one holds; prints the error's code.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: return-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local sim = require "sim"
local state = ...
local config = sim.config(state)
local host, err = require("engine").open { config = config, world = {}, load = function() return config end }
print(host and "open" or err.code)
return 0
