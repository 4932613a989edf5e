-- moontide rollback: the release before the present one.
local order = require "people.cli.order"

---@type Command
return {
  summary = "put the release before the present one back, and hold it",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", optional = true, doc = "the environment (default: the only one, or production)" },
  },
  flags = { { name = "no-wait", doc = "return when the order is accepted" } },
  example = "moontide rollback web production",
  more = "No build is needed: the image is known by its digest. The environment is then held until the source"
    .. " moves on.",
  run = function(ctx) return order.run(ctx, "rollback") end,
}
