-- Workloads that follow their images by keel's annotations, with an installed keel or instead of it.
local extension = require "extension"

return extension {
  target = {
    keel = {
      follows = true, -- keel rolls out
      keys = function() return require("extensions.keel.config").target end,
      open = function(...) return require("extensions.keel.target").open(...) end,
    },
  },
}
