-- The charts policy on what comes over the wire: the repository is the stand-in of ChartMuseum, the target simulated.
---@diagnostic disable: need-check-nil, undefined-field -- a nil fails the test
local check = require "check"
local chart_museum, configs, fs, sim = require "cluster.chart_museum", require "simulation.config", require "fs",
  require "sim"
local test, eq, ok = check.test, check.eq, check.ok

-- A host that follows the charts api and web of a museum, in production.
local function story(museum)
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local self = { museum = chart_museum.open(museum), sim = sim.open(dir.path .. "/world") }
  self.sim.app = "shop"
  local config = configs.of({ poll = "1h", state = dir.path .. "/state" }, {
    shop = {
      charts = { api = { repository = self.museum.url }, web = { repository = self.museum.url } },
      environments = { production = { policy = "charts", accept = "major" } },
    },
  })
  local world = self.sim:world() ---@type any
  world.charts = require("engine.world").real().charts
  self.engine = ok(require("engine").open { config = config, world = world, load = function() return config end })
  check.defer(function() self.engine:close() end)
  function self.settle() sim.settle(self.engine) end
  function self.runs() return self.sim:running("production").version end
  function self.applied() return #self.sim:effects() end
  return self
end

test("charts of a museum are followed, and an entry that was removed is none", function()
  local s = story()
  s.museum:put("api", "1.2.3")
  s.museum:put("web", "2.0.0")
  s:settle()
  eq(s:runs(), "api=1.2.3 web=2.0.0")
  s.museum:put("api", "1.3.0")
  s.museum:put("web", "2.1.0", nil, { removed = true })
  s:settle()
  eq({ s:runs(), s:applied() }, { "api=1.3.0 web=2.0.0", 2 })
  eq(s.engine:status().apps[1].source, s.museum.url)
end)

test("half an index, a repository that is gone, and one without our chart change nothing", function()
  local s = story { api = false }
  for i = 1, 6 do
    s.museum:put("api", "1." .. i .. ".0")
    s.museum:put("web", "1." .. i .. ".0")
  end
  s:settle()
  eq(s:runs(), "api=1.6.0 web=1.6.0")
  s.museum:put("api", "1.7.0")
  local whole = s.museum:index()
  for at = 40, #whole - 60, 97 do
    s.museum.broken = function(request)
      if request.path == "/index.yaml" then return { status = 200, body = whole:sub(1, at) } end
    end
    ok(s.engine:poll())
    eq(s:applied(), 1, "cut at " .. at)
  end
  ok(s.engine:status().apps[1].poll_error)
  s.museum.broken = function() return { status = 500, body = "no" } end
  ok(s.engine:poll())
  eq(s:applied(), 1)
  local charts = s.museum.charts
  s.museum.broken, s.museum.charts = nil, { api = charts.api }
  ok(s.engine:poll())
  eq(s:applied(), 1)
  s.museum.charts = charts
  s:settle()
  eq(s:runs(), "api=1.7.0 web=1.6.0")
end)
