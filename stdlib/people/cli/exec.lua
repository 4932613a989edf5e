-- moontide exec: a person's own script, with the whole API and the files beside it.
local sys = require "base.sys"

---@type Command
return {
  summary = "run a Lua file with the whole API",
  args = { { name = "FILE", doc = "the file; its arguments follow" } },
  rest = true,
  example = "moontide exec tools/retag.lua web v1.4.0",
  more = "The file gets its arguments as `...` and may require files beside it. An integer that it returns is the"
    .. " exit code.",
  run = function(ctx)
    local path = ctx.args.FILE
    local text, why = sys.slurp(path)
    if not text then
      ctx:complain(("%s cannot be read: %s"):format(path, why or "there is no such file"))
      return 2
    end
    -- A first line for the kernel keeps its number, so that messages name the right lines.
    text = text:gsub("^#[^\n]*", "")
    local dir = path:match("^(.*)/[^/]*$")
    local env = require("policy.sandbox").exec_env(dir == "" and "/" or dir or ".")
    local chunk, message = sys.compile(text, "@" .. path, env)
    if not chunk then
      ctx:complain(message --[[@as string]])
      return 2
    end
    local ok, result = xpcall(chunk, function(raised)
      local errors = require "errors"
      if errors.is(raised) then return raised end
      -- Only the script's own levels: what called it is ours, and so is this handler.
      return (sys.traceback(raised):gsub("\n%s*stdlib/people/cli/exec.lua:[^\n]*", "", 1)
        :gsub("\n%s*%[C%]: in function 'xpcall'.*$", ""))
    end, table.unpack(ctx.rest))
    if not ok then
      if type(result) == "table" then return ctx:fail(result) end
      ctx:trouble(tostring(result))
      return 1
    end
    if math.type(result) == "integer" then return result & 255 end
    return result == false and 1 or 0
  end,
}
