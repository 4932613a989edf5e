-- The main task: the command line in, the exit code out.
local sys = require "core.sys"
local task = require "core.task"
local errors = require "errors"

local SOFTWARE = 70 -- sysexits.h: our own bug

---@return integer exit_code
local function main()
  task.on_unhandled(function(err, name)
    err = errors.clean(err) -- a script's own __tostring would run where no limit reaches it
    require("log").error("a background task failed", { task = name, error = tostring(err), trace = err.traceback })
  end)
  local ok, result = xpcall(function() return require("people.cli").main(sys.args()) end, function(e)
    if errors.is(e) then return e end
    return sys.traceback(e)
  end)
  if ok then return result end
  sys.write(2, "moontide: " .. tostring(result) .. "\n")
  return errors.is(result) and 1 or SOFTWARE
end

return main
