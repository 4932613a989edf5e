local M = {}
function M.main(args)
  local sandbox, sys = require "sandbox", require "sys"
  if args[1] ~= "exec" then return 2 end
  local path = args[2]
  local text = assert(require("core.sys").slurp(path), "cannot read " .. path)
  local chunk = assert(sys.compile(text, "@" .. path, sandbox.exec_env(path:match("^(.*)/") or ".")))
  local code = chunk(table.unpack(args, 3))
  return math.type(code) == "integer" and code or 0
end
return M
