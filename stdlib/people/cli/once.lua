-- moontide once: poll every app once, finish the runs that this starts.
local show = require "people.cli.show"
local sys = require "base.sys"
local task = require "task"
local time = require "time"

local GRACE <const> = 10 -- seconds that runs have to finish when it is stopped

---@type Command
return {
  summary = "look at every source once, finish what that starts",
  flags = { { name = "fresh", doc = "begin a new journal where there was one that is gone" } },
  example = "moontide once",
  more = "The exit code is 0 when every look and every run went well, else 1. With `leader` it acts only"
    .. " when no other host does.",
  run = function(ctx)
    local run = require "people.cli.run"
    local console = require("people.console").open(ctx.out, ctx.flags.output)
    local config = ctx:config()
    if not config then return 2 end
    local lead, problem
    if config.leader then
      lead, problem = require("hosts.leader").take(config)
      if not lead then return ctx:fail(problem) end
    end
    local engine, code = run.open(ctx, console, config, lead and lead.options)
    if not engine then
      if lead then lead.close() end
      return code
    end
    sys.catch("TERM", "INT")
    local signals <close> = task.spawn(run.obey_signals, engine, console, GRACE)
    local result, err = engine:once()
    signals:cancel()
    if lead then lead.close() end
    console:close()
    if not result then return ctx:fail(err) end
    if not console.json and #result.runs > 0 then show.runs(ctx.out, result.runs, time.now()) end
    if not result.ok then ctx:complain("not everything went well", "moontide why APP says more") end
    return result.ok and 0 or 1
  end,
}
