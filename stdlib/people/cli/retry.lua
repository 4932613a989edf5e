-- moontide retry: what failed, was cancelled or was marked bad gets another try.
local order = require "people.cli.order"

---@type Command
return {
  summary = "try again what failed for good, was cancelled, or was marked bad",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", optional = true, doc = "the environment (default: the only one, or production)" },
  },
  flags = { { name = "no-wait", doc = "return when the order is accepted" } },
  example = "moontide retry web production",
  more = "It puts out the newest that the environment's policy would choose if nothing were known of failures. When it"
    .. " proves itself, its digest is no longer marked bad. A rejection by a person is final.",
  run = function(ctx) return order.run(ctx, "retry") end,
}
