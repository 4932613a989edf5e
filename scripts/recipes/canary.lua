-- Canary: a version goes to one target first, is measured there, and then goes to the others, or back.
--
-- On one machine, with two containers behind a proxy:
--
--   production = {
--     policy = "canary",
--     targets = {
--       { name = "canary", kind = "docker", ports = { "127.0.0.1:8081:8080" } },
--       { name = "main", kind = "docker", ports = { "127.0.0.1:8080:8080" } },
--     },
--     settings = { metric = {
--       prometheus = "http://127.0.0.1:9090", query = "sum(rate(http_errors_total[1m]))", below = 1,
--     } },
--   }
--
-- In a cluster, with a Deployment of one pod beside the one of many, under the same Service:
--
--     targets = {
--       { name = "canary", kind = "kubernetes", namespace = "shop", workload = "deployment/web-canary" },
--       { name = "main", kind = "kubernetes", namespace = "shop", workload = "deployment/web" },
--     },
local versions = require "shared.versions"

return policy {
  first = "adopt",
  settings = {
    canary = { type = "text", default = "canary", doc = "The target that gets a version first." },
    metric = { type = "record", required = true, doc = "What is measured there, as run:metric takes it.", keys = {
      prometheus = { type = "text", required = true }, query = { type = "text", required = true },
      below = { type = "number", required = true },
      over = { type = "duration", default = "10m" }, every = { type = "duration", default = "30s" },
    } },
  },

  watch = versions.newest,

  run = function(run, release)
    local image = versions.image_of(run, release)
    run:release(image, { part = run.settings.canary, version = release.version })
    local measured = run:metric(run.settings.metric)
    run:log("%s passed as a canary: %s", release.version or image.commit:sub(1, 7), measured.summary)
    run:release(image, { version = release.version })
  end,
}
