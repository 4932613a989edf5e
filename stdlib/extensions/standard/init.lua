-- What Moontide has without any other extension.
local extension = require "extension"

local function keys(kind) return function() return require("config.targets")[kind] end end

return extension {
  target = {
    { name = "docker", keys = keys "docker", open = function(...) return require("targets.docker").open(...) end },
    { name = "podman", keys = keys "podman", open = function(...) return require("targets.podman").open(...) end },
    { name = "command", keys = keys "command", open = function(...) return require("targets.command").open(...) end },
    { name = "kubernetes", keys = keys "kubernetes",
      open = function(...) return require("targets.kubernetes").open(...) end },
  },
}
