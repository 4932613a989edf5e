-- What the configuration says of charts: repositories, what is followed, what is published, and what cannot be.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local config, secret = require "config.load", require "config.secret"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local function environments(accept)
  return { production = { policy = "charts", accept = accept,
    target = { kind = "command", apply = { "/bin/true" } } } }
end

local function load(value) return config.check(value, { file = "test.lua" }) end

local function charts_of(charts, more)
  local value = { apps = { shop = { charts = charts, environments = environments() } } }
  for k, v in pairs(more or {}) do value[k] = v end
  return value
end

local function fault(value, path, words)
  local loaded, faults = load(value)
  eq(loaded, nil)
  local all = {}
  for _, f in ipairs(faults) do
    all[#all + 1] = config.describe(f)
    if f.path == path then return has(config.describe(f), words) end
  end
  error(("no fault at %s; there are:\n%s"):format(path, table.concat(all, "\n")), 2)
end

local URL <const> = "https://charts.example.com"

test("an app follows charts by address and by name; what it is not told is filled in", function()
  local cfg = ok(load(charts_of({
    api = { repository = "main" },
    web = { repository = URL .. "/", chart = "frontend", accept = "patch" },
    db = { repository = "oci://ghcr.io/team/charts", accept = { production = "range:>=7 <8" } },
  }, { chart_repositories = { main = { url = URL, username = "dev", password = { file = "/etc/hostname" } } } })))
  local app = cfg.apps.shop
  eq({ app.follows, app.branch, app.image, app.build }, { "charts" })
  eq({ app.charts.api.chart, app.charts.web.chart, app.charts.api.name }, { "api", "frontend", "api" })
  eq(app.charts.web.repository, cfg.chart_repositories.main) -- one address, one login
  eq(app.charts.db.repository, { url = "oci://ghcr.io/team/charts" })
  eq(app.source.url, URL .. " oci://ghcr.io/team/charts")
  ok(secret.is(cfg.chart_repositories.main.password))
  eq(app.environment_list[1].policy, "charts")
end)

test("an app follows a repository or charts, not both and not neither", function()
  local both = charts_of { api = { repository = URL } }
  both.apps.shop.source, both.apps.shop.image = "https://git.example.com/a.git", "ghcr.io/a/b"
  fault(both, "apps.shop.source", "does not belong to an app that follows charts")
  fault(both, "apps.shop.image", "does not belong")
  local neither = { apps = { shop = { environments = environments() } } }
  fault(neither, "apps.shop.source", "is missing")
  fault(neither, "apps.shop.image", "is missing")
  fault(charts_of {}, "apps.shop.charts", "is empty")
end)

test("what is wrong with charts is told in words", function()
  fault(charts_of({ api = { repository = "mian" } }, { chart_repositories = { main = { url = URL } } }),
    "apps.shop.charts.api.repository", "did you mean main?")
  fault(charts_of { api = {} }, "apps.shop.charts.api.repository", "is missing")
  fault(charts_of { api = { repository = "ftp://x/y" } }, "apps.shop.charts.api.repository", "http")
  fault(charts_of { api = { repository = "https://u:p@x/y" } }, "apps.shop.charts.api.repository", "password")
  fault(charts_of { api = { repository = "oci://ghcr.io" } }, "apps.shop.charts.api.repository", "no path")
  fault(charts_of { api = { repository = URL, chart = "../x" } },
    "apps.shop.charts.api.chart", "not the name of a chart")
  fault(charts_of { api = { repository = URL, accept = "range:>>1" } }, "apps.shop.charts.api.accept", "no range")
  fault(charts_of { api = { repository = URL, accept = "version:staging" } },
    "apps.shop.charts.api.accept", "no version")
  fault(charts_of { api = { repository = URL, accept = "range:" .. ("x"):rep(300) } },
    "apps.shop.charts.api.accept", "range")
  fault(charts_of { api = { repository = URL, accept = { nowhere = "major" } } },
    "apps.shop.charts.api.accept.nowhere",
    "no environment")
  fault(charts_of { ["a b"] = { repository = URL } }, 'apps.shop.charts["a b"]', "lower-case")
  local function repository(value, path, words)
    fault(charts_of({ api = { repository = "main" } }, { chart_repositories = { main = value } }),
      "chart_repositories.main" .. path, words)
  end
  repository({ url = URL, username = "dev" }, "", "has no password")
  repository({ url = URL, token = { file = "/etc/hostname" }, username = "d", password = { file = "/etc/hostname" } },
    "",
    "one of them")
  repository({ url = "oci://ghcr.io/x", token = { file = "/etc/hostname" } }, "", "a registry takes")
  repository({ url = URL, password = "plain", username = "dev" }, ".password", "in plain sight")
  repository({ url = URL .. "?x=y" }, ".url", "query")
end)

test("policies of charts are none for images, but ranges are for both", function()
  local function git(accept)
    return { apps = { web = { source = "https://git.example.com/a.git", image = "ghcr.io/a/b",
      environments = environments(accept) } } }
  end
  ok(load(git "range:>=1.2 <2"))
  fault(git "staging", "apps.web.environments.production.accept", "for charts")
  fault(git "version:1.2.3", "apps.web.environments.production.accept", "for charts")
  local cfg = charts_of { api = { repository = URL } }
  cfg.apps.shop.environments = environments "staging"
  ok(load(cfg))
end)

test("charts of a repository are published from it", function()
  local function git(publish)
    return { apps = { web = { source = "https://git.example.com/a.git", image = "ghcr.io/a/b", publish = publish,
      environments = environments() } } }
  end
  local cfg = ok(load(git { charts = { "charts/web" }, to = URL }))
  eq(cfg.apps.web.publish, { charts = { "charts/web" }, to = { url = URL }, version = "0.0.0-staging.{count}",
    command = { "helm" }, timeout = 300.0 })
  fault(git { charts = {}, to = URL }, "apps.web.publish.charts", "at least 1")
  fault(git { charts = { "../x" }, to = URL }, "apps.web.publish.charts[1]", "must not leave")
  fault(git { charts = { "x" }, to = "main" }, "apps.web.publish.to", "no chart repository")
  fault(git { charts = { "x" }, to = URL, version = "0.0.0-staging" },
    "apps.web.publish.version", "must hold {count}")
  fault(git { charts = { "x" }, to = URL, version = "staging-{count}" },
    "apps.web.publish.version", "makes no version")
  fault(git { charts = { "x" } }, "apps.web.publish.to", "is missing")
end)
