-- moontide release: a version or a commit by order of a person.
local order = require "people.cli.order"

---@type Command
return {
  summary = "release a version or a commit, whatever the policy would say",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", doc = "the environment" },
    { name = "VERSION|COMMIT", doc = "a version (a tag, v1.4.0) or a commit; of charts \"api=1.2.3 web=2.0.0\"" },
  },
  flags = { { name = "no-wait", doc = "return when the order is accepted" } },
  example = "moontide release web production v1.4.0",
  run = function(ctx) return order.run(ctx, "release", ctx.args["VERSION|COMMIT"]) end,
}
