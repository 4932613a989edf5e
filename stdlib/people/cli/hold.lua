-- moontide hold: no policy releases until unhold.
local order = require "people.cli.order"

---@type Command
return {
  summary = "keep what runs: no policy releases until unhold",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", optional = true, doc = "the environment (default: all of the app)" },
  },
  flags = { { name = "reason", value = "TEXT", doc = "what status and why will say" } },
  example = 'moontide hold web production --reason "sale until Monday"',
  more = "A run under way stops before its next effect, and goes on after unhold. Rollbacks and orders of people pass.",
  run = function(ctx) return order.hold(ctx, "hold") end,
}
