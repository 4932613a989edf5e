-- moontide approve: one vote for what waits.
local order = require "people.cli.order"

---@type Command
return {
  summary = "vote for a change that waits for approval",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", optional = true, doc = "the environment (default: the one where something waits)" },
  },
  flags = {
    { name = "id", value = "ID", doc = "which one, when several wait: its id or its version" },
    { name = "by", value = "NAME", doc = "who votes (default: you); a second vote of one name counts nothing" },
  },
  example = "moontide approve shop/web",
  run = function(ctx) return order.approval(ctx, "approve") end,
}
