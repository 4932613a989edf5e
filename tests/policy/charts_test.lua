-- The charts policy: the real one, on an engine whose target is simulated and whose repositories are the stand-in of
-- ChartMuseum, so that what is followed is followed as it comes over the wire.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local bundle, errors, fs = require "extensions.charts.bundle", require "errors", require "fs"
local hash, json, time = require "hash", require "json", require "time"
local chart_museum = require "cluster.chart_museum"
local sim = require "sim"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- A host that follows charts of a museum; `trouble(version)` says which sets fail their checks.
local function story(accepts, options)
  options = options or {}
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local self = { museum = chart_museum.open(options.museum), sim = sim.open(dir.path .. "/world"), dir = dir.path }
  self.sim.app = "shop"
  local repository = { url = self.museum.url, kind = options.kind }
  function self.config()
    local list, environments = {}, {}
    for _, name in ipairs { "staging", "production" } do
      if accepts[name] then
        local environment = {
          name = name, app = "shop", policy = "charts", rollback = "rollback", accept = accepts[name],
          match_prerelease = true, watch_for = 300, notify = { "ops" }, target = { kind = "command" },
          verify = { { http = "http://127.0.0.1/", status = 200, within = 1, every = 1 } },
        }
        environments[name], list[#list + 1] = environment, environment
      end
    end
    local app = {
      name = "shop", follows = "charts", source = { url = repository.url }, poll = 3600, environments = environments,
      environment_list = list, charts = {},
    }
    for _, name in ipairs(options.charts or { "api", "web" }) do
      app.charts[name] = { name = name, chart = name, repository = repository,
        accept = options.accept and options.accept[name] }
    end
    return {
      file = "sim.lua", dir = ".", poll = 3600, state = self.dir .. "/state", registries = {}, credentials = {},
      chart_repositories = {}, clusters = {}, github = { api = "https://api.github.com" },
      builder = { kind = "auto", env = {} }, notify = {}, retention = { runs = 500, days = 90 },
      apps = { shop = app }, app_list = { app },
    }
  end
  local world = self.sim:world()
  world.charts = require("engine.world").real().charts
  world.verify = function(_, request)
    if self.trouble and self.trouble(request.version) then
      return errors.fail("unhealthy", "the check got status 500", { op = "verify" })
    end
    return true
  end
  local target = world.target
  self.applied = {}
  world.target = function(environment)
    local real = target(environment)
    local apply = real.apply
    real.apply = function(at, request)
      table.insert(self.applied, { environment = environment.name, versions = request.versions, image = request.image,
        digest = request.digest })
      return apply(at, request)
    end
    return real
  end
  function self.open()
    self.engine = ok(require("engine").open { config = self.config(), world = world, load = self.config })
    return self.engine
  end
  function self.settle() sim.settle(self.engine) end
  function self.runs(_, environment)
    local running = self.sim:running(environment or "production")
    return running and running.version
  end
  function self.why(_, environment)
    local reasons = {}
    for _, d in ipairs(ok(self.engine:why("shop", environment or "production")).decisions) do
      reasons[#reasons + 1] = (d.subject and d.subject ~= "" and d.subject .. ": " or "") .. d.reason
    end
    return table.concat(reasons, "\n")
  end
  check.defer(function() if self.engine then self.engine:close() end end)
  self:open()
  return self
end

test("an app follows several charts, and all their versions go out together", function()
  local s = story { production = "major" }
  s.museum:put("api", "1.2.3")
  s.museum:put("web", "2.0.0")
  s.museum:put("web", "2.1.0-rc.1")
  s:settle()
  eq(s:runs(), "api=1.2.3 web=2.0.0")
  eq(#s.applied, 1)
  eq(s.applied[1].versions, { api = "1.2.3", web = "2.0.0" })
  local parts = ok(bundle.read(s.applied[1].image))
  eq(parts.api.digest, "sha256:" .. hash.sha256("api1.2.3"))
  eq(s.applied[1].digest, "sha256:" .. hash.sha256(s.applied[1].image))
  has(s:why(), "web 2.1.0-rc.1: 2.1.0-rc.1 has the pre-release")

  s:settle()
  eq(#s.applied, 1)
  s.museum:put("api", "1.3.0")
  s:settle()
  eq(s:runs(), "api=1.3.0 web=2.0.0")
  s.museum:put("api", "1.2.9") -- an older line is maintained: nothing for us
  s.museum:put("web", "3.0.0")
  s:settle()
  eq({ s:runs(), #s.applied }, { "api=1.3.0 web=3.0.0", 3 })
  eq(s.engine:status().apps[1].source, s.museum.url)
end)

test("accept holds for charts as for images, in each environment, and a chart may have its own", function()
  local s = story({ staging = "staging", production = "minor" }, { charts = { "api", "web", "redis" },
    accept = { redis = "range:>=7 <8", web = { production = "patch" } } })
  for _, v in ipairs { "1.0.0", "0.0.0-staging.9", "0.0.0-staging.10" } do
    s.museum:put("api", v)
    s.museum:put("web", v)
  end
  s.museum:put("redis", "7.2.0")
  s.museum:put("redis", "8.0.0")
  s:settle()
  eq(s:runs("staging"), "api=0.0.0-staging.10 redis=7.2.0 web=0.0.0-staging.10")
  eq(s:runs("production"), "api=1.0.0 redis=7.2.0 web=1.0.0")
  s.museum:put("api", "2.0.0")
  s.museum:put("api", "1.5.0")
  s.museum:put("web", "1.5.0")
  s.museum:put("web", "1.0.1")
  s.museum:put("web", "0.0.0-staging.11")
  s.museum:put("redis", "7.10.0")
  s:settle()
  eq(s:runs("staging"), "api=0.0.0-staging.10 redis=7.10.0 web=0.0.0-staging.11")
  eq(s:runs("production"), "api=1.5.0 redis=7.10.0 web=1.0.1")
  has(s:why(), 'api 2.0.0: 2.0.0 changes the major number of 1.5.0, which the policy "minor" keeps')
  has(s:why(), "web 1.5.0: 1.5.0 changes the minor number")
  has(s:why(), "redis 8.0.0: it does not fit range:>=7 <8")
end)

test("whatever the rule, what is newest by it runs, and stays", function()
  for rule, want in pairs {
    force = "2.0.0-rc.1", all = "2.0.0-rc.1", major = "1.10.0", ["glob:1.*"] = "1.10.0", ["regexp:^1\\.9"] = "1.9.0",
    ["range:<1.10"] = "1.9.0", ["version:1.9.0"] = "1.9.0",
  } do
    local s = story({ production = rule }, { charts = { "web" } })
    for _, v in ipairs { "1.9.0", "1.10.0", "1.2.0", "2.0.0-rc.1", "0.0.0-staging.1" } do s.museum:put("web", v) end
    s:settle()
    eq(s:runs(), "web=" .. want, rule)
    s:settle()
    s.museum:put("web", "1.2.1")
    s:settle()
    eq({ s:runs(), #s.applied }, { "web=" .. want, 1 }, rule)
    s.museum:remove("web", want) -- taken back: nothing goes down by itself, but under force
    s:settle()
    if rule ~= "force" then eq({ s:runs(), #s.applied }, { "web=" .. want, 1 }, rule) end
  end
end)

test("one version that is written over again and again is followed by its digest", function()
  local s = story({ staging = "version:0.0.0-staging" }, { charts = { "web" } })
  s.museum:put("web", "0.0.0-staging", "bytes one")
  s:settle()
  eq(s:runs("staging"), "web=0.0.0-staging")
  s:settle()
  eq(#s.applied, 1)
  s.museum:put("web", "0.0.0-staging", "bytes two")
  s:settle()
  eq(#s.applied, 2)
  has(s.applied[2].image, hash.sha256("bytes two"))
  ok(s.applied[1].digest ~= s.applied[2].digest)
  s.engine:close() -- the journal remembers which bytes run
  s:open()
  s:settle()
  eq(#s.applied, 2)
  s.museum:put("web", "0.0.0-staging", "bytes three")
  s:settle()
  eq(#s.applied, 3)
end)

test("a published version that changes is refused, loudly", function()
  local s = story({ production = "major" }, { charts = { "web" } })
  s.museum:put("web", "1.0.0", "bytes one")
  s:settle()
  s.museum:put("web", "1.0.0", "bytes two")
  s:settle()
  eq(#s.applied, 1)
  has(s:why(), "web 1.0.0: a published version must not change")
  check.eventually(function() -- people are told beside what goes on
    return table.concat(s.sim:messages(), "\n"):find("a published version must not change", 1, true) ~= nil
  end)
  s.museum:put("web", "1.0.1")
  s:settle()
  eq(s:runs(), "web=1.0.1")
end)

test("a version that is taken back from the repository keeps running; nothing goes down by itself", function()
  local s = story({ production = "major" }, { charts = { "web" } })
  for _, v in ipairs { "1.0.0", "1.1.0", "1.2.0" } do s.museum:put("web", v) end
  s:settle()
  s.museum:remove("web", "1.2.0")
  s:settle()
  eq({ s:runs(), #s.applied }, { "web=1.2.0", 1 })
  has(s:why(), "web 1.2.0: it runs, and is gone from the repository: it stays")
  s.museum:put("web", "1.2.1", nil, { removed = true })
  s:settle()
  eq(s:runs(), "web=1.2.0")
end)

test("a bad set is taken back as a whole, and not tried again until there is another", function()
  local s = story { production = "major" }
  s.museum:put("api", "1.0.0")
  s.museum:put("web", "1.0.0")
  s:settle()
  local good = s.applied[1]
  s.trouble = function(v) return v:find("web=1.1.0", 1, true) ~= nil end
  s.museum:put("api", "1.1.0")
  s.museum:put("web", "1.1.0")
  s:settle()
  eq(s:runs(), "api=1.0.0 web=1.0.0")
  eq({ #s.applied, s.applied[3].image, s.applied[3].digest }, { 3, good.image, good.digest })
  eq(bundle.versions(s.applied[3].image), { api = "1.0.0", web = "1.0.0" }) -- all that a target needs
  has(table.concat(s.sim:messages(), "\n"), "took back api=1.1.0 web=1.1.0")
  s:settle()
  eq(#s.applied, 3)
  has(s:why(), "tried api=1.1.0 web=1.1.0 and failed")
  s.museum:put("web", "1.1.1")
  s:settle()
  eq(s:runs(), "api=1.1.0 web=1.1.1")
end)

test("half an index, a repository that is gone, and one without our chart change nothing", function()
  local s = story({ production = "major" }, { museum = { api = false } })
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
    eq(#s.applied, 1, "cut at " .. at)
  end
  ok(s.engine:status().apps[1].poll_error)
  s.museum.broken = function() return { status = 500, body = "no" } end
  ok(s.engine:poll())
  eq(#s.applied, 1)
  s.museum.broken = nil
  s:settle()
  eq(s:runs(), "api=1.7.0 web=1.6.0")
end)

test("what runs at first sight is adopted, and only what is newer goes out", function()
  local s = story { production = "major" }
  s.sim:put("production", { image = "api=1.0.0 web=2.0.0", digest = "sha256:" .. ("0"):rep(64),
    version = "api=1.0.0 web=2.0.0" })
  s.museum:put("api", "1.0.0")
  s.museum:put("web", "2.0.0")
  s:settle()
  eq(#s.applied, 0)
  s.museum:put("web", "2.0.1")
  s:settle()
  eq(s:runs(), "api=1.0.0 web=2.0.1")
end)

test("a person names versions, older ones too; a rollback goes to the set before", function()
  local s = story { production = "major" }
  for _, v in ipairs { "1.0.0", "1.1.0" } do
    s.museum:put("api", v)
    s.museum:put("web", v)
  end
  s:settle()
  local function act(name, more)
    local request = { app = "shop", by = "ann" }
    for k, v in pairs(more or {}) do request[k] = v end
    local info, err = s.engine[name](s.engine, request)
    if not info then return nil, err end
    s:settle()
    return info
  end
  ok(act("release", { what = "api=1.0.0" }))
  eq(s:runs(), "api=1.0.0 web=1.1.0")
  eq(s.applied[#s.applied].versions, { api = "1.0.0", web = "1.1.0" })
  ok(act("rollback"))
  eq(s:runs(), "api=1.1.0 web=1.1.0")
  check.fails("not_found", act("release", { what = "api=9.0.0" }))
  check.fails("not_found", act("release", { what = "db=1.0.0" }))
  check.fails("invalid", act("release", { what = "v1.0.0" }))
  s:settle()
  eq(s:runs(), "api=1.1.0 web=1.1.0")
end)

test("a version that stays missing is told of, and a policy that cannot be understood is an error", function()
  local s = story({ production = "version:9.9.9" }, { charts = { "web" } })
  s.museum:put("web", "1.0.0")
  s:settle()
  has(s:why(), "web has no version that may run here")
  has(s:why(), "web 1.0.0: it does not fit version:9.9.9")
  local other = story({ production = "major" }, { charts = { "web" } })
  ok(other.engine:poll())
  has(other:why(), "the repository has no chart web")
  eq(other.engine:status().apps[1].poll_error.code, "not_found")
end)

test("the change is plain data that a run can be resumed with", function()
  local s = story { production = "major" }
  s.museum:put("api", "1.0.0")
  s.museum:put("web", "1.0.0")
  s:settle()
  local row = s.engine.journal:row("SELECT id FROM runs ORDER BY id LIMIT 1")
  local change = s.engine.journal:run_by_id(row.id).change
  eq(change.set.versions, { api = "1.0.0", web = "1.0.0" })
  eq(json.decode(json.encode(change.set)), change.set)
  ok(time.now() > 0)
end)
