-- The three policies in a simulated world: the whole story, and every refusal with its reason.
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, sim = require "fs", require "sim"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- A world, a host, and short ways to look at both.
local function stage(options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local world = sim.open(dir.path .. "/world")
  local host = sim.host(world, dir.path .. "/state", options)
  local s = { world = world, host = host, dir = dir.path }
  check.defer(function() if s.host then s.host:close() end end)
  function s.settle() sim.settle(s.host) end
  function s.restart(again)
    s.host:close()
    s.host = sim.host(world, dir.path .. "/state", again or options)
  end
  function s.runs(environment)
    local list = {}
    for i, run in ipairs(s.host:history { app = "web", environment = environment, limit = 100 }.runs) do
      list[i] = run.state .. " " .. run.title
    end
    return list
  end
  function s.why(environment, subject)
    for _, d in ipairs(assert(s.host:why("web", environment)).decisions) do
      if d.subject == subject and d.policy == environment then return d end
    end
  end
  return s
end

local C = sim.commit

test("staging releases the branch head, builds each commit once, and follows a reset without a build", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  s.world:push("main", "b")
  s.settle()
  eq(s.world:running("staging").commit, C "b")
  s.world:push("main", "a")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  local builds = 0
  for _, e in ipairs(s.world:effects()) do builds = builds + (e:match("^build ") and 1 or 0) end
  eq(builds, 2)
  eq(s.world:image_tags()["registry.invalid/team/web:staging"], s.world:running("staging").digest)
  local why, err = s.host:why("web", "stagin") -- not: nothing has been decided
  eq({ why, err.code }, { nil, "not_found" })
  check.has(err.message, "web has no environment or policy 'stagin'; it has: ")
  check.has(err.message, "(did you mean staging?)")
end)

test("production promotes the tagged commit, and a newer tag on an older commit is a rollback", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  eq(s.world:running("production"), nil)
  s.world:push("main", "b")
  s.settle()
  s.world:tag("v1.0.0", "b")
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  s.world:tag("v1.0.1", "a")
  s.settle()
  eq({ s.world:running("production").version, s.world:running("production").commit }, { "v1.0.1", C "a" })
  local builds = 0
  for _, e in ipairs(s.world:effects()) do
    if e == "build web a" then builds = builds + 1 end
  end
  eq(builds, 1)
end)

test("several tags in one poll: each gets its image tag, the newest is released", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  for _, t in ipairs { "v1.2.0", "v1.10.0", "v1.9.0", "nightly", "v1.01.0" } do s.world:tag(t, "a") end
  s.settle()
  eq(s.world:running("production").version, "v1.10.0")
  local tags = s.world:image_tags()
  for _, t in ipairs { "v1.2.0", "v1.10.0", "v1.9.0" } do ok(tags["registry.invalid/team/web:" .. t], t) end
  eq(tags["registry.invalid/team/web:nightly"], nil)
  eq(s.why("production", "nightly").verdict, "refused")
  has(s.why("production", "nightly").file, "shared/versions.lua")
  ok(s.why("production", "nightly").line > 0)
  eq(s.why("production", "v1.01.0").verdict, "refused")
end)

test("of several tags in one poll the newest is released although older ones do not build", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  for i, kind in ipairs { "build", false, "build" } do
    if kind then s.world:trouble("c" .. i, kind) end
    s.world:tag("v1.1." .. i - 1, "c" .. i)
  end
  s.world:tag("v1.2.0", "new")
  s.settle()
  eq({ s.world:running("production").version, s.world:running("production").commit }, { "v1.2.0", C "new" })
  eq(s.runs("production"), { "done v1.2.0 of " .. C("new"):sub(1, 7) })
  local tags = s.world:image_tags()
  ok(tags["registry.invalid/team/web:v1.1.1"], "what builds gets its image tag")
  eq({ tags["registry.invalid/team/web:v1.1.0"], tags["registry.invalid/team/web:v1.1.2"] }, {})
  for _, name in ipairs { "v1.1.0", "v1.1.1", "v1.1.2" } do
    has(s.why("production", name).reason, "1.2.0")
    eq(s.why("production", name).reason:find("tried", 1, true), nil, name)
  end
  check.eventually(function()
    local told = table.concat(s.world:messages(), "\n")
    return told:find("v1.1.0 came with v1.2.0", 1, true) and told:find("v1.1.2 came with v1.2.0", 1, true)
  end)
end)

test("when the newest of several tags does not build, the one before it is released", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:trouble("bad", "build")
  s.world:tag("v1.1.0", "good")
  s.world:tag("v1.2.0", "bad")
  s.settle()
  eq(s.world:running("production").version, "v1.1.0")
  has(s.why("production", "v1.2.0").reason, "tried it and failed")
end)

test("of a flood of versions the newest hundred get image tags, and the newest of all is released", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  for i = 1, 130 do s.world:tag("v1.0." .. i, "c" .. i) end
  s.settle()
  eq(s.world:running("production").version, "v1.0.130")
  local tags = s.world:image_tags()
  eq({ tags["registry.invalid/team/web:v1.0.30"], tags["registry.invalid/team/web:v1.0.31"] ~= nil }, { nil, true })
end)

test("what is not above production, or not within accept, is refused with the reason", function()
  local s = stage { accept = "minor" }
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.2.0", "a")
  s.settle()
  s.world:tag("v1.1.9", "a")
  s.world:tag("v2.0.0", "a")
  s.world:tag("v1.3.0-rc.1", "a")
  s.settle()
  eq(s.world:running("production").version, "v1.2.0")
  for _, t in ipairs { "v1.1.9", "v2.0.0", "v1.3.0-rc.1" } do eq(s.why("production", t).verdict, "refused", t) end
  s.world:tag("v1.3.0", "a")
  s.settle()
  eq(s.world:running("production").version, "v1.3.0")
end)

test("a tag that moves is an alarm and not a release", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  s.world:tag("v1.0.0", "b")
  s.settle()
  s.world:tag("v1.0.0", "b")
  s.settle()
  eq(s.world:running("production").commit, C "a")
  has(s.why("production", "v1.0.0").reason, "moved")
  check.eventually(function()
    for _, text in ipairs(s.world:messages()) do if text:find("moved", 1, true) then return true end end
  end)
end)

test("tags that were there before are left alone, also when production already runs something", function()
  local s = stage()
  s.world:push("main", "a")
  s.world:tag("v1.0.0", "a")
  s.world:tag("v1.5.0", "a")
  s.world:put("production", { digest = "sha256:old", commit = C "a", version = "v1.0.0" })
  s.settle()
  eq(s.world:running("production").digest, "sha256:old")
  eq(s.host:status().apps[1].environments[2].current.adopted, true)
  has(s.why("production", "v1.5.0").reason, "before Moontide")
  s.world:tag("v0.9.0", "a")
  s.settle()
  eq(s.world:running("production").digest, "sha256:old")
  s.world:tag("v1.5.1", "a")
  s.settle()
  eq(s.world:running("production").version, "v1.5.1")
end)

test("a release that fails its checks is taken back, told, and not tried again until the source moves", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "bad")
  s.world:trouble("bad", "check")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  s.settle()
  eq(s.runs("staging")[1]:match("^done take back") ~= nil, true)
  eq(s.runs("staging")[2], "failed main at " .. C "bad":sub(1, 7))
  s.world:tag("v1.1.0", "bad")
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  s.settle()
  has(s.why("production", "v1.1.0").reason, "tried it and failed")
  eq(#s.runs("production"), 3)
  check.eventually(function()
    for _, text in ipairs(s.world:messages()) do if text:find("took back v1.1.0", 1, true) then return true end end
  end)
  s.world:push("main", "c")
  s.world:tag("v1.2.0", "c")
  s.settle()
  eq({ s.world:running("staging").commit, s.world:running("production").version }, { C "c", "v1.2.0" })
end)

test("a release that turns unhealthy while it is watched is taken back, and later it is not", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  s.world:trouble("b", "later")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  local t = stage { watch_for = 0 }
  t.world:push("main", "a")
  t.settle()
  t.world:push("main", "b")
  t.settle()
  t.world:trouble("b", "later")
  t.settle()
  eq(t.world:running("staging").commit, C "b")
end)

test("the first release ever that fails leaves nothing to go back to, and says so", function()
  local s = stage()
  s.world:trouble("a", "check")
  s.world:push("main", "a")
  s.settle()
  check.eventually(function()
    for _, text in ipairs(s.world:messages()) do if text:find("no earlier release", 1, true) then return true end end
  end)
  s.world:push("main", "b")
  s.settle()
  eq(s.world:running("staging").commit, C "b")
end)

test("a rollback that fails too is an alarm and does not go in circles", function()
  local s = stage { watch_for = 0 }
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.world:trouble("b", "check")
  s.world:trouble("a", "check")
  s.settle()
  s.settle()
  local taken = 0
  for _, text in ipairs(s.runs("staging")) do if text:find("take back", 1, true) then taken = taken + 1 end end
  eq(taken, 1)
  check.eventually(function()
    for _, text in ipairs(s.world:messages()) do if text:find("a person must look", 1, true) then return true end end
  end)
end)

test("a failed build never reaches the target, and is not repeated until the source moves", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "broken")
  s.world:trouble("broken", "build")
  s.settle()
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  eq(#s.runs("staging"), 2)
  eq(s.host:status().apps[1].environments[1].state, "failed")
end)

test("a source that is down is an error in why, changes nothing, and heals", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:source_down(true)
  s.settle()
  has(s.why("staging", nil).reason, "nobody listens")
  eq(s.world:running("staging").commit, C "a")
  s.world:source_down(false)
  s.world:push("main", "b")
  s.settle()
  eq(s.world:running("staging").commit, C "b")
end)

-- A host whose repository showed eight versions, and then lost seven of them while a version and a push came.
local function shrunken(again)
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  for i = 1, 8 do s.world:tag("v1." .. i .. ".0", "a") end
  s.settle()
  for i = 1, 7 do s.world:tag("v1." .. i .. ".0", nil) end
  if again then s.restart() end
  assert(s.host:poll())
  function s.shrunken() return s.host.world.repository(s.host.config.apps.web).source.shrunken end
  function s.tags() return #s.host:place("web", "production"):tags() end
  return s
end

test("of a list that lost half of its tags only the missing ones are held back, also after a restart", function()
  for _, again in ipairs { false, true } do
    local s = shrunken(again)
    local held = s.why("production", "(missing references)")
    eq(held.verdict, "held")
    has(held.reason, "7 of 8 tags are gone")
    has(held.reason, "since 20")
    has(held.reason, "until 20")
    has(held.reason, "refs/tags/v1.1.0")
    eq(s.tags(), 8)
    eq(s.why("production", nil).verdict, "nothing")
    s.world:push("main", "b")
    s.settle()
    eq(s.world:running("staging").commit, C "b", "a push goes out at once")
    s.world:tag("v1.9.0", "b")
    s.settle()
    eq(s.world:running("production").version, "v1.9.0", "so does a new version")
    ok(s.host:release { app = "web", environment = "production", by = "tess", what = "1.2.0" })
    ok(s.host:apply { app = "web", environment = "staging", by = "tess" })
    s.settle()
    eq(s.world:running("production").version, "v1.2.0", "people's orders are carried out")
  end
end)

test("missing tags are gone after ten minutes, however busy the repository is meanwhile", function()
  local s = shrunken()
  local since = s.why("production", "(missing references)").reason
  for i = 1, 3 do
    s.world:push("main", "push " .. i)
    assert(s.host:poll())
  end
  local function times(reason) return reason:match("since (%S+)"), reason:match("until (%S+)") end
  eq({ times(s.why("production", "(missing references)").reason) }, { times(since) })
  for _, batch in pairs(s.shrunken().gone) do batch.since = batch.since - 601 end
  s.world:push("main", "c")
  s.settle()
  eq(s.tags(), 1)
  eq(s.world:running("staging").commit, C "c")
  eq(s.why("production", "(missing references)").since, nil, "it is no current decision any more")
  s.restart()
  assert(s.host:poll())
  eq({ s.tags(), s.host:app_state("web").held }, { 1 }, "the next host knows that they are gone")
end)

test("missing tags that come back are no news, and those that go missing later have a time of their own", function()
  local s = shrunken()
  for i = 1, 7 do s.world:tag("v1." .. i .. ".0", "a") end
  s.settle()
  eq({ s.tags(), s.host:app_state("web").held }, { 8 })
  for i = 1, 4 do s.world:tag("v1." .. i .. ".0", nil) end
  for _ = 1, 3 do assert(s.host:poll()) end
  for _, batch in pairs(s.shrunken().gone) do batch.since = batch.since - 601 end
  s.world:tag("v1.5.0", nil)
  assert(s.host:poll())
  assert(s.host:poll())
  eq(s.tags(), 4, "the first four are gone, the fifth is held back")
  has(s.why("production", "(missing references)").reason, "refs/tags/v1.5.0;")
end)

test("a source that lists nothing at all is never believed, and nothing of it runs away", function()
  local s = shrunken()
  s.world:empty()
  for _ = 1, 5 do
    assert(s.host:poll())
    for _, batch in pairs(s.shrunken().gone) do batch.since = batch.since - 601 end
  end
  eq(s.tags(), 8)
  has(s.why("staging", nil).reason, "was handled")
  has(s.why("production", "(missing references)").reason, "as long as it lists nothing at all")
  s.world:push("main", "b")
  for i = 5, 8 do s.world:tag("v1." .. i .. ".0", "a") end
  s.settle()
  eq({ s.tags(), s.world:running("staging").commit }, { 4, C "b" })
end)

test("hold keeps changes waiting, the newest only; unhold lets them go", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  ok(s.host:hold { app = "web", environment = "staging", by = "tess", reason = "lunch" })
  check.fails("conflict", s.host:hold { app = "web", environment = "staging", by = "tess" })
  s.world:push("main", "b")
  s.settle()
  s.world:push("main", "c")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  eq(s.host:status().apps[1].environments[1].state, "held")
  s.restart()
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  ok(s.host:unhold { app = "web", environment = "staging", by = "tess" })
  s.settle()
  eq(s.world:running("staging").commit, C "c")
  eq(s.runs("staging")[2], "superseded main at " .. C "b":sub(1, 7))
end)

test("a person's rollback stays until the source moves, and a person's release needs no policy", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "b")
  s.world:tag("v1.1.0", "b")
  s.settle()
  check.fails("not_found", s.host:rollback { app = "nope", by = "tess" })
  ok(s.host:rollback { app = "web", by = "tess" })
  s.settle()
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  check.fails("not_found", s.host:release { app = "web", environment = "production", by = "tess", what = "v9.9.9" })
  ok(s.host:release { app = "web", environment = "production", by = "tess", what = "1.1.0" })
  s.settle()
  eq(s.world:running("production").version, "v1.1.0")
  ok(s.host:release { app = "web", environment = "staging", by = "tess", what = C "a":sub(1, 10) })
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  s.world:tag("v1.2.0", "a")
  s.settle()
  eq(s.world:running("production").version, "v1.2.0")
end)

test("a rollback to what was adopted, without version or commit, names it by its digest and tells its end", function()
  local s = stage()
  s.world:push("main", "a")
  local digest = "sha256:" .. ("0123456789abcdef"):rep(4)
  s.world:put("production", { digest = digest })
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  local run = ok(s.host:rollback { app = "web", environment = "production", by = "tess" })
  s.settle()
  eq(s.world:running("production").digest, digest)
  eq(s.runs("production")[1], "done rollback from v1.0.0 to sha256:0123456789ab")
  local entries = require("engine.runlog").read(s.host.state, run.id or run.run, 0)
  has(entries[#entries].text, "done: rollback")
end)

test("taking back to what was adopted moves what somebody else follows, although it runs still", function()
  local s = stage()
  local old = "sha256:" .. ("0"):rep(64)
  s.world:put("production", { digest = old })
  local moved = old
  local open = s.host.world.target
  -- As keel's: it rolls out what the tag points to, later.
  s.host.world.target = function(environment)
    if environment.name ~= "production" then return open(environment) end
    return {
      follows = true, settle = function() return true end,
      current = function() return { digest = old, healthy = true, state = "running" } end,
      apply = function(_, request)
        moved = request.digest
        return true
      end,
      wait = function(_, request)
        if request.digest == old then return true end
        return require("errors").fail("unhealthy", "its pods crash", { op = "target.wait" })
      end,
    }
  end
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  eq(s.runs("production")[1], "done take back v1.0.0")
  eq(moved, old)
end)

test("what somebody else rolls out late is seen at the next poll: the release waits, and nothing is bad", function()
  local function story(give_up)
    local s = stage()
    local open, there, tries = s.host.world.target, "sha256:" .. ("0"):rep(64), 0
    s.host.config.apps.web.environments.production.target = { kind = "keel" }
    s.host.world.target = function(environment)
      if environment.name ~= "production" then return open(environment) end
      return {
        follows = true, settle = function() return true end, apply = function() return true end,
        current = function() return { digest = there, healthy = true, state = "running" } end,
        wait = function(_, request)
          tries = tries + 1
          if request.digest == there then return true end
          return require("errors").fail("timeout", "keel has not acted", { op = "target.keel", passing = true })
        end,
      }
    end
    s.world:push("main", "a")
    s.settle()
    s.world:tag("v1.0.0", "a")
    s.host.patience = 0
    s.settle()
    local env = s.host:status().apps[1].environments[2]
    eq({ env.state, env.last.state }, { "waiting", "failed" })
    has(env.last.error.message, "keel has not acted")
    local release = s.host.journal:stopped_on_its_way("web", "production")
    eq({ release.version, s.host.journal:known_bad("web", "production", release.digest) }, { "v1.0.0" })
    if give_up then ok(s.host:cancel { run = s.host.journal:next_run("web", "production").id, by = "tess" }) end
    local before = tries
    s.settle()
    eq(tries, before) -- nothing new there, and its time has not come
    there = release.digest
    s.settle()
    env = s.host:status().apps[1].environments[2]
    eq({ env.state, env.current.version, env.current.digest }, { "idle", "v1.0.0", there })
    return s
  end
  eq(story(false).runs("production")[1], "done v1.0.0 of " .. C "a":sub(1, 7))
  story(true)
end)

test("a poll that changes nothing writes nothing", function()
  local s = stage { watch_for = 0 }
  s.world:push("main", "a")
  s.world:tag("nightly", "a")
  s.settle()
  s.settle()
  local before = s.host.journal:row("SELECT total_changes() AS n").n
  for _ = 1, 5 do assert(s.host:poll()) end
  eq(s.host.journal:row("SELECT total_changes() AS n").n, before)
end)
