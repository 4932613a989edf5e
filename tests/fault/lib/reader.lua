-- The half of tasks.lua that reads from its standard input: writes "more" for each text that it wants.
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local sys = require "base.sys"
local sweep = require "sweep"

sweep.run("sys.read", function()
  sys.write(1, "more\n")
  local text = sys.read(0)
  return text and #text > 0
end)
return 0
