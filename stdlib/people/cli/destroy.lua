-- moontide destroy: takes an environment down, by order of a person who means it.
local order = require "people.cli.order"

---@type Command
return {
  summary = "take down everything of an environment (targets of kind helmsman)",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", doc = "the environment" },
  },
  flags = {
    { name = "yes", doc = "yes, take it down" },
    { name = "no-wait", doc = "return when the order is accepted" },
  },
  example = "moontide destroy shop staging --yes",
  more = "It is held afterwards: nothing comes up until `moontide apply`. A protected environment is never taken down.",
  run = function(ctx)
    if not ctx.flags.yes then
      ctx:complain(("this takes down everything of %s %s"):format(ctx.args.APP, ctx.args.ENV), "say --yes")
      return 2
    end
    return order.run(ctx, "destroy")
  end,
}
