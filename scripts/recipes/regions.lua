-- Regions in turn: a version goes to one region after another, with a pause in which each must stay well.
--
--   production = {
--     policy = "regions", settings = { pause = "30m" },
--     targets = { { name = "eu", kind = "docker", ... }, { name = "us", ... }, { name = "asia", ... } },
--   }
local versions = require "shared.versions"

return policy {
  first = "adopt",
  settings = {
    regions = { type = "list", required = true, min = 1, doc = "Names of the targets, in their turn." },
    pause = { type = "duration", default = "30m", doc = "Between two regions." },
  },

  watch = versions.newest,

  run = function(run, release)
    local image = versions.image_of(run, release)
    for i, region in ipairs(run.settings.regions) do
      if i > 1 then run:sleep(run.settings.pause) end
      run:release(image, { part = region, version = release.version })
      run:log("%s is out in %s, %d of %d", release.version, region, i, #run.settings.regions)
    end
    run:release(image, { version = release.version }) -- all have it: it is live
  end,
}
