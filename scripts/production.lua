-- Production follows SemVer tags: a new tag above the version in production, within the environment's `accept`.
--
-- The number always rises; the commit under it may be older, and then the release is a rollback in seconds, because
-- the image of that commit exists. Several tags at once: the newest is released, then each of the others gets its image
-- tag. With settings = { proven_by = "staging" } a tag waits until staging has released its commit and it ran well
-- there, and that very image, by digest, is what production gets. The rules stand in shared/versions.lua.
local versions = require "shared.versions"

return policy {
  first = "adopt", -- a new app's production takes what already runs, and waits for the next tag
  queue = "all",   -- releases keep their order
  settings = { proven_by = versions.proven_by },
  watch = versions.newest,
  run = versions.release,
}
