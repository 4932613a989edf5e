-- Charts: apps that follow chart repositories instead of a git repository, and charts that a release publishes.
local extension = require "extension"

local function config(key) return function() return require("extensions.charts.config")[key] end end

local function follow(name) return function(...) return require("extensions.charts.follow")[name](...) end end

local function word(kind, name, plan)
  return {
    [kind] = function(...) return assert(require("extensions.charts.words")[kind][name])(...) end, plan = plan,
  }
end

local function planner(name) return function(...) return require("extensions.charts.plan")[name](...) end end

---@class (partial) World
---@field charts fun(repository: ChartRepositoryConfig|string): ChartRepository

return extension {
  source = {
    charts = {
      key = config "charts",
      cross = function(...) return require("extensions.charts.config").cross(...) end,
      poll = follow "poll",
      expire = follow "expire",
      resolve = function(place, what) -- `api=1.2.3 web=2.0.0`
        local set, err = require("extensions.charts.follow").compose(place, what)
        return set and { title = set.version, data = { set = set } }, err
      end,
      accepts = {
        doc = "staging (0.0.0-staging.N) and version:VERSION", words = { "staging", "version:" },
        rule = function(...) return require("extensions.charts.version").rule(...) end,
      },
    },
  },
  key = {
    chart_repositories = {
      key = config "repositories",
      cross = function(repositories)
        for name, repository in pairs(repositories) do repository.name = name end
      end,
    },
  },
  app_key = {
    publish = {
      key = config "publish",
      cross = function(...) return require("extensions.charts.config").cross_publish(...) end,
    },
  },
  opener = {
    ---Opens a chart repository: world.charts(repository).
    charts = {
      open = function(...) return require("extensions.charts.repository").repository(...) end,
      reads = { "versions", "digest", "confirmed", "expire", "config", "world" },
    },
  },
  word = {
    charts = word("place", "charts"), bundle = word("place", "bundle"),
    chart = word("run", "chart", { chart = planner "chart" }),
    publish = word("run", "publish", { ["chart version"] = planner "version" }),
  },
}
