-- moontide reject: what waits is turned down, for good.
local order = require "people.cli.order"

---@type Command
return {
  summary = "turn down a change that waits for approval; that is final",
  args = {
    { name = "APP", doc = "the app" },
    { name = "ENV", optional = true, doc = "the environment (default: the one where something waits)" },
  },
  flags = {
    { name = "id", value = "ID", doc = "which one, when several wait: its id or its version" },
    { name = "by", value = "NAME", doc = "who rejects (default: you)" },
    { name = "reason", value = "TEXT", doc = "what why and history will say" },
  },
  example = 'moontide reject shop/web --reason "breaks the checkout"',
  run = function(ctx) return order.approval(ctx, "reject") end,
}
