-- moontide cancel: ends a run, whether it waits or is under way.
local order = require "people.cli.order"

---@type Command
return {
  summary = "end a run: one that waits, builds, or has not begun",
  args = { { name = "RUN", doc = "its number, as history and status show it" } },
  flags = { { name = "reason", value = "TEXT", doc = "what history and why will say" } },
  example = "moontide cancel 12",
  more = "What the run was just putting out is taken back by the environment's rollback policy; nothing is marked bad."
    .. " The change is not tried again by itself: `moontide retry` does that.",
  run = function(ctx) return order.cancel(ctx) end,
}
