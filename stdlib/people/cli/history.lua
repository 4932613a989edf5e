-- moontide history: the latest runs.
local show = require "people.cli.show"
local time = require "time"

---@type Command
return {
  summary = "list the latest runs",
  args = {
    { name = "APP", optional = true, doc = "only this app" },
    { name = "ENV", optional = true, doc = "only this environment" },
  },
  flags = { { name = "limit", value = "N", number = { min = 1, max = 1000 }, doc = "how many (default 20)" } },
  example = "moontide history web production --limit 5",
  run = function(ctx)
    local query = { app = ctx.args.APP, environment = ctx.args.ENV, limit = ctx.flags.limit or 20 }
    local history, err = ctx:reader():history(query)
    if history and #history.runs == 0 then -- a host that is down does not know what is configured
      local config = ctx:load_config()
      err = config and require("base.unknown").asked(config.app_list, query)
    end
    if err or not history then return ctx:fail(assert(err)) end
    if ctx.json then
      ctx:print_json(history)
    elseif #history.runs == 0 then
      ctx.out:line("nothing has run yet")
    else
      show.runs(ctx.out, history.runs, time.now())
    end
    return 0
  end,
}
