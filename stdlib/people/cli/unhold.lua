-- moontide unhold: policies may release again.
local order = require "people.cli.order"

---@type Command
return {
  summary = "let the policies release again",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", optional = true, doc = "the environment (default: all of the app)" },
  },
  example = "moontide unhold web production",
  run = function(ctx) return order.hold(ctx, "unhold") end,
}
