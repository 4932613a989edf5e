-- moontide once: look at every source once, finish what that starts.
local show = require "cli.show"
local sys = require "sys"
local task = require "task"
local time = require "time"

---@type Command
return {
  summary = "look at every source once, finish what that starts",
  example = "moontide once",
  more = "The exit code is 0 when every look and every run went well, else 1.",
  run = function(ctx)
    local run = require "cli.run"
    local console = require("console").open(ctx.out, ctx.flags.output)
    local engine, code = run.open(ctx, console)
    if not engine then return code end
    sys.catch("TERM", "INT")
    local signals <close> = task.spawn(function()
      sys.next_signal()
      run.note(console, "stopping: runs may finish or park")
      engine:stop(10)
    end)
    local result, err = engine:once()
    signals:cancel()
    console:close()
    if not result then return ctx:fail(err) end
    if not console.json and #result.runs > 0 then show.runs(ctx.out, result.runs, time.now()) end
    if not result.ok then ctx:complain("not everything went well", "moontide why APP says more") end
    return result.ok and 0 or 1
  end,
}
