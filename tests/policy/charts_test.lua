-- The charts policy: the real one, in the simulated world. How charts come over the wire: charts_wire_test.lua.
---@diagnostic disable: need-check-nil -- a nil fails the test
local check = require "check"
local bundle, hash, json, simulation = require "extensions.charts.bundle", require "hash", require "json",
  require "simulation"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

check.virtual_time()

-- An app that follows charts.
---@param accepts table<string, string> By the environments' names.
---@param charts? table<string, table>
local function story(accepts, charts)
  local world = simulation.new { poll = "1h" }
  check.defer(function() world:close() end)
  local environments = {}
  for name, accept in pairs(accepts) do
    environments[name] = { policy = "charts", accept = accept, match_prerelease = true }
  end
  local shop = world:app("shop", { charts = charts or { api = {}, web = {} }, environments = environments })
  local self = { world = world, shop = shop }
  function self.runs(_, environment)
    local running = shop:running(environment or "production")
    return running and running.version
  end
  function self.applied() return #world:effects() end
  function self.status() return world:ask(function(engine) return engine:status() end).apps[1] end
  function self.why(_, environment)
    local reasons = {}
    local why = ok(world:ask(function(engine) return engine:why("shop", environment or "production") end))
    for _, d in ipairs(why.decisions) do
      reasons[#reasons + 1] = (d.subject and d.subject ~= "" and d.subject .. ": " or "") .. d.reason
    end
    return table.concat(reasons, "\n")
  end
  return self
end

test("an app follows several charts, and all their versions go out together", function()
  local s = story { production = "major" }
  s.shop:chart("api", "1.2.3", { text = "api's bytes" })
  s.shop:chart("web", "2.0.0")
  s.shop:chart("web", "2.1.0-rc.1")
  s.world:settle()
  eq(s:runs(), "api=1.2.3 web=2.0.0")
  eq(s.applied(), 1)
  local running = s.shop:running "production"
  eq(running.versions, { api = "1.2.3", web = "2.0.0" })
  eq(ok(bundle.read(running.image)).api.digest, "sha256:" .. hash.sha256("api's bytes"))
  eq(running.digest, "sha256:" .. hash.sha256(running.image))
  has(s:why(), "web 2.1.0-rc.1: 2.1.0-rc.1 has the pre-release")

  s.world:settle()
  eq(s.applied(), 1)
  s.shop:chart("api", "1.3.0")
  s.world:settle()
  eq(s:runs(), "api=1.3.0 web=2.0.0")
  s.shop:chart("api", "1.2.9") -- an older line is maintained: nothing for us
  s.shop:chart("web", "3.0.0")
  s.world:settle()
  eq({ s:runs(), s.applied() }, { "api=1.3.0 web=3.0.0", 3 })
  eq(s.status().source, "https://charts.simulated")
end)

test("accept holds for charts as for images, in each environment, and a chart may have its own", function()
  local s = story({ staging = "staging", production = "minor" }, {
    api = {}, redis = { accept = "range:>=7 <8" }, web = { accept = { production = "patch" } },
  })
  for _, v in ipairs { "1.0.0", "0.0.0-staging.9", "0.0.0-staging.10" } do
    s.shop:chart("api", v)
    s.shop:chart("web", v)
  end
  s.shop:chart("redis", "7.2.0")
  s.shop:chart("redis", "8.0.0")
  s.world:settle()
  eq(s:runs("staging"), "api=0.0.0-staging.10 redis=7.2.0 web=0.0.0-staging.10")
  eq(s:runs("production"), "api=1.0.0 redis=7.2.0 web=1.0.0")
  s.shop:chart("api", "2.0.0")
  s.shop:chart("api", "1.5.0")
  s.shop:chart("web", "1.5.0")
  s.shop:chart("web", "1.0.1")
  s.shop:chart("web", "0.0.0-staging.11")
  s.shop:chart("redis", "7.10.0")
  s.world:settle()
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
    local s = story({ production = rule }, { web = {} })
    for _, v in ipairs { "1.9.0", "1.10.0", "1.2.0", "2.0.0-rc.1", "0.0.0-staging.1" } do s.shop:chart("web", v) end
    s.world:settle()
    eq(s:runs(), "web=" .. want, rule)
    s.world:settle()
    s.shop:chart("web", "1.2.1")
    s.world:settle()
    eq({ s:runs(), s.applied() }, { "web=" .. want, 1 }, rule)
    s.shop:withdraw("web", want) -- taken back: nothing goes down by itself, but under force
    s.world:settle()
    if rule ~= "force" then eq({ s:runs(), s.applied() }, { "web=" .. want, 1 }, rule) end
  end
end)

test("one version that is written over again and again is followed by its digest", function()
  local s = story({ staging = "version:0.0.0-staging" }, { web = {} })
  s.shop:chart("web", "0.0.0-staging", { text = "bytes one" })
  s.world:settle()
  eq(s:runs("staging"), "web=0.0.0-staging")
  local first = s.shop:running("staging").digest
  s.world:settle()
  eq(s.applied(), 1)
  s.shop:chart("web", "0.0.0-staging", { text = "bytes two" })
  s.world:settle()
  eq(s.applied(), 2)
  local second = s.shop:running "staging"
  has(second.image, hash.sha256("bytes two"))
  ok(first ~= second.digest)
  s.world:kill() -- the journal remembers which bytes run
  s.world:settle()
  eq(s.applied(), 2)
  s.shop:chart("web", "0.0.0-staging", { text = "bytes three" })
  s.world:settle()
  eq(s.applied(), 3)
end)

test("a published version that changes is refused, loudly", function()
  local s = story({ production = "major" }, { web = {} })
  s.shop:chart("web", "1.0.0", { text = "bytes one" })
  s.world:settle()
  s.shop:chart("web", "1.0.0", { text = "bytes two" })
  s.world:settle()
  eq(s.applied(), 1)
  has(s:why(), "web 1.0.0: a published version must not change")
  has(table.concat(s.world:told(), "\n"), "a published version must not change")
  s.shop:chart("web", "1.0.1")
  s.world:settle()
  eq(s:runs(), "web=1.0.1")
end)

test("a version that is taken back from the repository keeps running; nothing goes down by itself", function()
  local s = story({ production = "major" }, { web = {} })
  for _, v in ipairs { "1.0.0", "1.1.0", "1.2.0" } do s.shop:chart("web", v) end
  s.world:settle()
  s.shop:withdraw("web", "1.2.0")
  s.world:settle()
  eq({ s:runs(), s.applied() }, { "web=1.2.0", 1 })
  has(s:why(), "web 1.2.0: it runs, and is gone from the repository: it stays")
  s.shop:chart("web", "1.2.1", { removed = true })
  s.world:settle()
  eq(s:runs(), "web=1.2.0")
end)

test("a bad set is taken back as a whole, and not tried again until there is another", function()
  local s = story { production = "major" }
  s.shop:chart("api", "1.0.0")
  s.shop:chart("web", "1.0.0")
  s.world:settle()
  local good = s.shop:running "production"
  s.shop:breaks("web=1.1.0", "check")
  s.shop:chart("api", "1.1.0")
  s.shop:chart("web", "1.1.0")
  s.world:settle()
  eq(s:runs(), "api=1.0.0 web=1.0.0")
  local back = s.shop:running "production"
  eq({ s.applied(), back.image, back.digest }, { 3, good.image, good.digest })
  eq(bundle.versions(back.image), { api = "1.0.0", web = "1.0.0" }) -- all that a target needs
  has(table.concat(s.world:told(), "\n"), "took back api=1.1.0 web=1.1.0")
  s.world:settle()
  eq(s.applied(), 3)
  has(s:why(), "tried api=1.1.0 web=1.1.0 and failed")
  s.shop:chart("web", "1.1.1")
  s.world:settle()
  eq(s:runs(), "api=1.1.0 web=1.1.1")
end)

test("what runs at first sight is adopted, and only what is newer goes out", function()
  local s = story { production = "major" }
  s.shop:put("production", { image = "api=1.0.0 web=2.0.0", digest = "sha256:" .. ("0"):rep(64),
    version = "api=1.0.0 web=2.0.0" })
  s.shop:chart("api", "1.0.0")
  s.shop:chart("web", "2.0.0")
  s.world:settle()
  eq(s.applied(), 0)
  s.shop:chart("web", "2.0.1")
  s.world:settle()
  eq(s:runs(), "api=1.0.0 web=2.0.1")
end)

test("a person names versions, older ones too; a rollback goes to the set before", function()
  local s = story { production = "major" }
  for _, v in ipairs { "1.0.0", "1.1.0" } do
    s.shop:chart("api", v)
    s.shop:chart("web", v)
  end
  s.world:settle()
  ok(s.shop:release("production", "api=1.0.0"))
  s.world:settle()
  eq(s:runs(), "api=1.0.0 web=1.1.0")
  eq(s.shop:running("production").versions, { api = "1.0.0", web = "1.1.0" })
  ok(s.shop:rollback "production")
  s.world:settle()
  eq(s:runs(), "api=1.1.0 web=1.1.0")
  check.fails("not_found", s.shop:release("production", "api=9.0.0"))
  check.fails("not_found", s.shop:release("production", "db=1.0.0"))
  check.fails("invalid", s.shop:release("production", "v1.0.0"))
  s.world:settle()
  eq(s:runs(), "api=1.1.0 web=1.1.0")
end)

test("a version that stays missing is told of, and a policy that cannot be understood is an error", function()
  local s = story({ production = "version:9.9.9" }, { web = {} })
  s.shop:chart("web", "1.0.0")
  s.world:settle()
  has(s:why(), "web has no version that may run here")
  has(s:why(), "web 1.0.0: it does not fit version:9.9.9")
  local other = story({ production = "major" }, { web = {} })
  other.world:poll()
  has(other:why(), "the repository has no chart web")
  eq(other.status().poll_error.code, "not_found")
end)

test("the change is plain data that a run can be resumed with", function()
  local s = story { production = "major" }
  s.shop:chart("api", "1.0.0")
  s.shop:chart("web", "1.0.0")
  s.world:settle()
  local row = s.world.book:row("SELECT id FROM runs ORDER BY id LIMIT 1")
  local change = s.world.book:run_by_id(row.id).change
  eq(change.set.versions, { api = "1.0.0", web = "1.0.0" })
  eq(json.decode(ok(json.encode(change.set))), change.set)
end)
