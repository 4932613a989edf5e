-- Charts by helmsman and its desired state files: a kind of targets.
local extension = require "extension"

return extension {
  target = {
    helmsman = {
      destroys = true,
      keys = function() return require("extensions.helmsman.config").target end,
      open = function(...) return require("extensions.helmsman.target").open(...) end,
    },
  },
  word = {
    destroy = {
      run = function(...) return require("extensions.helmsman.words").run.destroy(...) end,
      plan = function(...) return require("extensions.helmsman.words").plan.destroy(...) end,
    },
  },
}
