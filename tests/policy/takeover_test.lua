-- A host whose state is empty, after another one: it starts clean from what the target and the registry show, rolls
-- nothing out that runs already, forgets nothing that the sources still show, and never puts an older version over a
-- newer one. And a host that must not act any more.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, sim, task = require "errors", require "fs", require "sim", require "task"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local C = sim.commit

-- A world with a host before ("a"), which ends before the next one ("b") begins on a state of its own.
local function stage(options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { world = sim.open(dir.path .. "/world"), dir = dir.path }
  check.defer(function() if s.host then s.host:close() end end)
  function s.enter(name, more)
    if s.host then s.host:close() end
    local all = { watch_for = 0, engine = { host = name } }
    for _, extra in ipairs { options or {}, more or {} } do
      for k, v in pairs(extra) do all[k] = v end
    end
    s.host = sim.host(s.world, ("%s/state-%s"):format(dir.path, name), all)
    return s.host
  end
  function s.settle() sim.settle(s.host) end
  function s.count(what)
    local n = 0
    for _, e in ipairs(s.world:effects()) do n = n + (e:find(what, 1, true) == 1 and 1 or 0) end
    return n
  end
  function s.decision(environment, subject)
    for _, d in ipairs(assert(s.host:why("web", environment)).decisions) do
      if d.policy == environment and d.subject == subject then return d end
    end
  end
  s.enter "a"
  s.world:push("main", "one")
  s.settle()
  s.world:tag("v1.0.0", "one")
  s.settle()
  return s
end

test("what runs is what should be: nothing is built, tagged or rolled out, and both releases are known", function()
  local s = stage()
  local before = #s.world:effects()
  s.enter "b"
  s.settle()
  eq(#s.world:effects(), before)
  eq(#s.host:history { app = "web" }.runs, 0)
  local places = s.host:status().apps[1].environments
  eq(places[1].current.commit, C "one")
  eq(places[2].current.version, "v1.0.0")
  eq(places[2].current.adopted, true)
  eq(s.decision("staging").verdict, "unchanged")
end)

test("where a target keeps no generation, the release's number tells of the host before: newer tags count", function()
  local s = stage()
  local function forgetful(host) -- as docker and podman are
    local real = host.world.target
    host.world.target = function(...)
      local target = real(...)
      local current = target.current
      target.current = function(self)
        local running, err = current(self)
        if running then running.generation, running.host = nil, nil end
        return running, err
      end
      return target
    end
  end
  s.world:tag("v0.9.0", "one")
  s.world:push("main", "two")
  s.world:tag("v1.1.0", "two")
  forgetful(s.enter "b")
  s.settle()
  eq(s.world:running("production").version, "v1.1.0")
  eq(s.count "roll out web/production", 2)
  has(s.decision("production", "v0.9.0").reason, "before Moontide")
end)

test("a push and a tag that came while nobody acted are released, once, in the right order", function()
  local s = stage()
  s.world:tag("v0.9.0", "one")
  s.world:push("main", "two")
  s.world:tag("v1.1.0", "two")
  s.enter "b"
  s.settle()
  eq(s.world:running("staging").commit, C "two")
  eq(s.world:running("production").version, "v1.1.0")
  eq(s.count "roll out web/staging", 2)
  eq(s.count "roll out web/production", 2)
  eq(s.count "build", 2)
  has(s.decision("production", "v0.9.0").reason, "before Moontide")
  s.enter "c"
  s.settle()
  eq(s.count "roll out", 4)
end)

test("a host that never was here before leaves old tags alone", function()
  local s = stage()
  s.world:put("production", { digest = s.world:running("production").digest, commit = C "one", version = "v1.0.0" })
  s.world:push("main", "two")
  s.world:tag("v1.1.0", "two")
  s.enter "b"
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  has(s.decision("production", "v1.1.0").reason, "before Moontide")
end)

test("a release that the host before left half-way is proved by the next one, without another rollout", function()
  local s = stage()
  s.world:push("main", "two")
  s.settle()
  local rolled = s.count "roll out web/staging"
  s.enter "b"
  local world = s.host.world
  local open = world.target
  world.target = function(...) -- still under way: nobody can say that it is well
    local target = open(...)
    local current = target.current
    target.current = function(...)
      local running, err = current(...)
      if running then running.healthy = nil end
      return running, err
    end
    return target
  end
  s.settle()
  eq(s.count "roll out web/staging", rolled)
  local run = s.host:history({ app = "web", environment = "staging" }).runs[1]
  eq(run.state, "done")
  eq(run.release.commit, C "two")
end)

test("a target that knows no generations is not started anew with what it runs", function()
  local s = stage()
  local running = s.world:running("staging")
  s.world:put("staging", { digest = running.digest, image = running.image })
  s.enter "b"
  local world, applied = s.host.world, 0
  local open = world.target
  world.target = function(e, ...)
    local target = open(e, ...)
    local current, apply = target.current, target.apply
    target.current = function(...)
      local now = current(...)
      if now then now.commit, now.version, now.generation, now.healthy = nil, nil, nil, nil end
      return now
    end
    target.apply = function(...)
      if e.name == "staging" then applied = applied + 1 end
      return apply(...)
    end
    return target
  end
  s.settle()
  eq(applied, 0)
  s.world:push("main", "two")
  s.settle()
  eq(applied, 1)
  eq(s.world:running("staging").commit, C "two")
end)

test("the registry tells which version runs when the target cannot, and no older one goes over it", function()
  local s = stage()
  s.world:push("main", "two")
  s.world:tag("v1.5.0", "two")
  s.settle()
  local running = s.world:running("production")
  s.world:put("production", { digest = running.digest, image = running.image })
  s.enter "b"
  s.settle()
  eq(s.host:status().apps[1].environments[2].current.version, "v1.5.0")
  s.world:push("main", "three")
  s.world:tag("v1.4.9", "three") -- somebody's late fix of the line before
  s.settle()
  eq(s.world:running("production").digest, running.digest)
  has(s.decision("production", "v1.4.9").reason, "v1.5.0")
  s.world:tag("v1.5.1", "three")
  s.settle()
  eq(s.world:running("production").version, "v1.5.1")
end)

test("a registry that does not answer at first sight puts the decision off, and takes nothing for new", function()
  local s = stage()
  local running = s.world:running("production")
  s.world:put("production", { digest = running.digest })
  s.enter "b"
  local world = s.host.world
  local registry = world.registry
  world.registry = function(...)
    local real = registry(...)
    real.labels = function() return errors.fail("refused", "the registry is away") end
    return real
  end
  s.host:poll()
  eq(s.decision("production").verdict, "error")
  has(s.decision("production").reason, "registry is away")
  world.registry = registry
  s.settle()
  eq(s.host:status().apps[1].environments[2].current.version, "v1.0.0")
end)

test("a later host's generation is above the one before, and the one before is refused from then on", function()
  local s = stage()
  local old = s.host
  s.host = nil
  check.defer(function() old:close() end)
  s.enter "b"
  s.settle()
  ok(s.host.journal.generation > old.journal.generation)
  s.world:push("main", "two")
  s.settle()
  eq(s.world:running("staging").host, "b")
  s.world:push("main", "three") -- the old one wakes up, believes that it acts, and is faster
  sim.settle(old)
  eq(s.world:running("staging").commit, C "two")
  local run = old:history({ app = "web", environment = "staging" }).runs
  local refused
  for _, r in ipairs(run) do refused = refused or r.error and r.error.message end
  has(refused, "b released here in generation")
  s.settle()
  eq(s.world:running("staging").commit, C "three")
  eq(s.count "roll out web/staging", 3)
end)

test("the host that holds the lead rises above a generation that it finds; one that does not is refused", function()
  local s = stage()
  local running = s.world:running("staging")
  running.generation, running.host = 40, "somebody"
  s.world:put("staging", running)
  local asked, given = {}, nil
  s.enter("a", { engine = { host = "a", outrank = function(least)
    asked[#asked + 1] = least
    return given
  end } })
  s.world:push("main", "two")
  s.settle()
  eq(s.world:running("staging").commit, C "one")
  given = 41
  s.world:push("main", "three")
  s.settle()
  eq(s.world:running("staging").commit, C "three")
  eq(s.world:running("staging").generation, 41)
  eq(s.host.journal.generation, 41)
  eq(asked[1], 41)
end)

-- ---- what a host hands over ----

local handover = require "hosts.handover"

test("holds and bad releases are handed over; nothing bad goes out again, and who unheld did so for good", function()
  local s = stage { rollback = "rollback" }
  s.world:push("main", "sick")
  s.world:trouble("sick", "check")
  s.settle()
  eq(s.world:running("staging").commit, C "one") -- taken back
  ok(s.host:hold { app = "web", environment = "production", by = "ann", reason = "sale" })
  local left = { [handover.KEY] = handover.write(s.host.journal, "state-a") }
  local rolled = s.count "roll out"
  s.world:tag("v1.1.0", "one")
  s.enter "b"
  eq(handover.take(s.host.journal, s.host.config, left), 2)
  s.settle()
  eq(s.count "roll out", rolled)
  eq(s.world:running("staging").commit, C "one")
  eq(s.decision("staging").verdict, "refused")
  has(s.decision("staging").reason, "took it back")
  local held = s.host:status().apps[1].environments[2]
  eq(held.state, "held")
  eq(held.hold.by, "ann")
  eq(handover.take(s.host.journal, s.host.config, left), 0) -- a second time
  ok(s.host:unhold { app = "web", environment = "production", by = "ann" })
  s.settle()
  eq(s.world:running("production").version, "v1.1.0")
  -- The host before leads again, with a state of its own that still has the hold.
  left = { [handover.KEY] = handover.write(s.host.journal, "state-b") }
  s.enter("a", { engine = { host = "a", generation = s.host.journal.generation + 1 } })
  handover.take(s.host.journal, s.host.config, left)
  eq(s.host:status().apps[1].environments[2].hold, nil)
end)

test("what a host of an earlier release handed over is taken, unless one of this release did so later", function()
  local s = stage()
  local function left(by)
    return require("json").encode { state = "state-x", generation = by == "ann" and 98 or 99,
      holds = { { app = "web", environment = "production", by = by } }, bad = {} }
  end
  eq(handover.take(s.host.journal, s.host.config, { ["moontide/handed-over"] = left "ann" }), 1)
  local function holder()
    local by = s.host:status().apps[1].environments[2].hold.by
    ok(s.host:unhold { app = "web", environment = "production", by = "me" })
    return by
  end
  eq(holder(), "ann")
  handover.take(s.host.journal, s.host.config, { ["moontide/handed-over"] = left "ann", [handover.KEY] = left "bob" })
  eq(holder(), "bob")
  handover.take(s.host.journal, s.host.config, { ["moontide/handed-over"] = left "cy", [handover.KEY] = left "ann" })
  eq(holder(), "cy")
end)

test("a handover of the same state, of the past, or of nonsense changes nothing", function()
  local s = stage()
  ok(s.host:hold { app = "web", environment = "production", by = "ann" })
  local own = assert(require("cluster.rollout.identity").of(s.host.state))
  eq(handover.take(s.host.journal, s.host.config, { [handover.KEY] = handover.write(s.host.journal, own) }), 0)
  eq(handover.take(s.host.journal, s.host.config, nil), 0)
  local json = require "json"
  local odd = {
    "", "null", "[]", "{", ("x"):rep(20000), json.encode { state = "x", generation = 0, holds = {} },
    json.encode { state = "x", generation = "9", holds = {} },
    json.encode { state = "x", generation = 99, holds = { { app = 1, environment = {} }, 7, { app = "nope",
      environment = "production" }, { app = "web", environment = "production", by = "ann" } }, bad = { {}, "x",
      { app = "web", environment = "staging" } } },
  }
  for _, text in ipairs(odd) do eq(handover.take(s.host.journal, s.host.config, { [handover.KEY] = text }), 0) end
  eq(s.host:status().apps[1].environments[2].hold.by, "ann")
end)

-- ---- a host that must not act any more ----

-- An engine that runs in a task of its own, with a fence that the test holds.
local function running_host(s, name, more)
  local fence = { open = true }
  local how = { host = name, fence = function() return fence.open end }
  local host = s.enter(name, { poll = 0.05, engine = how, delay = more and more.delay })
  s.host = nil -- run closes it
  local done = task.spawn(function() return host:run() end)
  return host, fence, done
end

test("no effect begins once the fence is closed; the run is parked and goes on with the next host", function()
  local s = stage()
  s.world.delay = 0.2
  local host, fence, done = running_host(s, "a")
  s.world:push("main", "two")
  check.eventually(function() return s.count "build" == 2 end)
  fence.open = false
  local result, err = done:join(30)
  eq(result, nil)
  eq(err.code, "conflict")
  ok(not host.unfinished)
  eq(s.world:running("staging").commit, C "one")
  s.world.delay = 0
  s.enter "a"
  local run = s.host:history({ app = "web", environment = "staging" }).runs[1]
  eq(run.state, "running")
  eq(run.attempts, 0) -- losing the lead is no crash
  s.host:close()
  local again
  again, fence, done = running_host(s, "a")
  check.eventually(function()
    local now = s.world:running("staging")
    return now and now.commit == C "two"
  end)
  eq(s.count "build", 2)
  again:stop(1)
  eq(done:join(30), true)
  ok(fence.open)
end)

test("a lost lead ends what waits at once, whatever grace was given before", function()
  local s = stage()
  s.world.delay = 500
  local host, _, done = running_host(s, "a")
  s.world:push("main", "two")
  check.eventually(function() return host.lanes["web/staging"] and next(host.lanes["web/staging"].runs) end)
  host:stop(600)
  host.lead:lose(errors.new("conflict", "another host leads"))
  local _, err = done:join(40)
  has(tostring(err), "another host leads")
end)

test("a journal that another host took over refuses this one's writes, and the host stops", function()
  local s = stage()
  local host, _, done = running_host(s, "a")
  check.eventually(function() return host.ready end)
  local other = assert(require("journal").open(host.state)) -- a file system whose locks do not hold
  check.defer(function() other:close() end)
  eq(other:take_turn("thief"), host.journal.generation + 1)
  s.world:push("main", "two")
  local _, err = done:join(100)
  has(tostring(err), "taken over by another host (thief, generation")
  eq(s.world:running("staging").commit, C "one")
  eq(s.count "build", 1)
end)

-- A target whose things bear the number of their release and no generation, and say nothing of their health: docker,
-- and podman, which cannot take its pods over.
local function numbered(host, takes_over)
  local open = host.world.target
  host.world.target = function(environment, ...)
    local target = open(environment, ...)
    local current, apply = target.current, target.apply
    target.takes_over = takes_over
    function target.current(...)
      local now, err = current(...)
      if now then now.generation, now.host, now.healthy = nil, nil, nil end
      return now, err
    end
    function target.apply(self, request)
      local all = {}
      for name, value in pairs(request) do all[name] = value end
      all.generation, all.host = nil, nil
      return apply(self, all)
    end
    function target.wait(_, request)
      local now = target.current()
      local known_by = takes_over and "release" or "digest"
      if now and now[known_by] == request[known_by] then return true end
      return errors.fail("unhealthy", "it is gone: somebody removed it")
    end
    return target
  end
end

test("a state that is lost: what runs is adopted under its number, healthy, and goes on", function()
  for _, takes_over in ipairs { true, false } do
    local s = stage()
    for _, environment in ipairs { "staging", "production" } do
      local running = s.world:running(environment)
      running.generation, running.host, running.release = nil, nil, running.release + 40
      s.world:put(environment, running)
    end
    local before = s.count "roll out"
    numbered(s.enter "b", takes_over)
    s.settle()
    s.settle()
    eq(s.count "roll out", before)
    for i, environment in ipairs(s.host:status().apps[1].environments) do
      eq({ environment.state, environment.current.commit }, { "idle", C "one" }, i)
    end
    eq(s.host.journal:row("SELECT count(*) AS n FROM releases WHERE state IN ('bad', 'failed')").n, 0)
    ok(s.host.journal:release_by_id(s.world:running("production").release))
    local function order(what, more)
      local run = ok(s.host[what](s.host, { app = "web", environment = more[1], what = more[2], by = "ann" }))
      s.settle()
      eq(s.host.journal:run_by_id(run.id).state, "done", what)
    end
    order("apply", { "staging" })
    order("release", { "production", "v1.0.0" })
    s.world:push("main", "two")
    s.world:tag("v1.1.0", "two")
    s.settle()
    eq({ s.world:running("staging").commit, s.world:running("production").version }, { C "two", "v1.1.0" })
    ok(s.world:running("production").release > 40)
  end
end)

test("a place where a host of before called what runs bad is repaired by apply and by release", function()
  local s = stage()
  local running = s.world:running("staging")
  running.generation, running.host, running.release = nil, nil, 40
  s.world:put("staging", running)
  numbered(s.enter "b", true)
  s.settle()
  s.host.journal:write("UPDATE releases SET state = 'bad', reason = 'it is gone' WHERE environment = 'staging'")
  local run = ok(s.host:apply { app = "web", environment = "staging", by = "ann" })
  s.settle()
  eq(s.host.journal:run_by_id(run.id).state, "done")
  local now = s.host:status().apps[1].environments[1]
  eq({ now.state, now.current.commit }, { "idle", C "one" })
  eq(s.host.journal:row("SELECT count(*) AS n FROM releases WHERE state = 'bad'").n, 0)
end)

-- What a run asks for when its host has just lost the right to act, with the steps before.
local WORDS <const> = {
  { "run:image(change.commit)", 0 },
  { "local image = run:image(change.commit) run:log 'lost' image:tag 'x'", 1 },
  { "local image = run:image(change.commit) run:log 'lost' run:release(image)", 1 },
  { "run:restore { id = 1, digest = 'sha256:' .. ('a'):rep(64), image = 'i' }", 0 },
  { "run:mark_bad(1, 'it is')", 0 },
  { "run:hold 'wait'", 0 },
  { "run:notify 'hello'", 0 },
  { "run:step('mine', nil, function() return true end)", 0 },
}

test("a host that may not act any more writes no intent and no release, whatever word its run is at", function()
  for _, word in ipairs(WORDS) do
    local dir = assert(fs.temp_dir())
    check.defer(function() dir:close() end)
    local script, before = word[1], word[2]
    if before == 0 then script = "run:log 'lost' " .. script end
    local text = "return policy { watch = function(place) return place:head() end, run = function(run, change) %s end }"
    for _, name in ipairs { "staging", "production", "rollback" } do
      local nothing = "return policy { watch = function() return nil, 'no' end, run = function() end }"
      assert(fs.write(("%s/%s.lua"):format(dir.path, name), name == "staging" and text:format(script) or nothing))
    end
    local may, world = true, sim.open(dir.path .. "/world")
    world:push("main", "one")
    local host = sim.host(world, dir.path .. "/state", {
      scripts = dir.path, engine = { fence = function() return may end },
      on_event = function(event) if event.text == "lost" then may = false end end,
    })
    check.defer(function() host:close() end)
    assert(host:poll())
    for _ = 1, 200 do
      if host.lead.lost then break end
      host.idle:wait(0.05)
    end
    ok(host.lead.lost, script)
    eq(#host.journal:steps(1), before, script)
    eq(host.journal:row("SELECT count(*) AS n FROM releases").n, 0)
    eq(host.journal:hold_of("web", "staging"), nil)
    eq(#world:messages(), 0)
  end
end)
