-- The three policies in a simulated world: the whole story, and every refusal with its reason.
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
    if e == "build " .. C "a" then builds = builds + 1 end
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
  has(s.why("production", "nightly").file, "production.lua")
  ok(s.why("production", "nightly").line > 0)
  eq(s.why("production", "v1.01.0").verdict, "refused")
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
  s.world:trouble("bad", "sick")
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
  s.world:trouble("a", "sick")
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
  s.world:trouble("b", "sick")
  s.world:trouble("a", "sick")
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

test("half of the tags gone after a restart is not believed at once", function()
  local s = stage()
  s.world:push("main", "a")
  for i = 1, 8 do s.world:tag("v1." .. i .. ".0", "a") end
  s.settle()
  for i = 1, 7 do s.world:tag("v1." .. i .. ".0", nil) end
  s.restart()
  assert(s.host:poll())
  has(s.why("production", nil).reason, "not believed")
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
