-- Every allocation that counting lines needs, failed in turn.
local sweep, sys = require "lib.sweep", require "base.sys"

local code = assert(sys.compile("local a = 1\nreturn a", "@scripts/counted.lua", {}))
sweep.run("sys.cover, covered", function()
  sys.cover()
  return code() == 1 and type(sys.covered()) == "table"
end)
