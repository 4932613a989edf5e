-- Lanes: what people do to runs that wait, build or failed: they end them, pass them, try them again.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, sim, task, time = require "errors", require "fs", require "sim", require "task", require "time"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

local C = sim.commit

-- A world and a host; `scripts` are policies of our own, beside the shipped ones.
local function stage(scripts, options)
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { world = sim.open(dir.path .. "/world"), dir = dir.path, options = options or {} }
  if scripts then
    s.options.scripts = dir.path .. "/scripts"
    ok(fs.mkdir(s.options.scripts))
    for name, text in pairs(scripts) do ok(fs.write(("%s/%s.lua"):format(s.options.scripts, name), text)) end
  end
  function s.open()
    s.host = sim.host(s.world, dir.path .. "/state", s.options)
    return s.host
  end
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  s.open()
  function s.settle() sim.settle(s.host) end
  function s.run(id) return s.host.journal:run_by_id(id) end
  function s.state(id) return s.run(id).state end
  function s.last() return s.host.journal:row("SELECT max(id) AS id FROM runs").id end
  function s.order(more)
    local act = { app = "web", environment = "staging", by = "ann" }
    for key, value in pairs(more or {}) do act[key] = value end
    return act
  end
  function s.environment(name)
    for _, e in ipairs(s.host:status().apps[1].environments) do
      if e.name == name then return e end
    end
  end
  function s.sleeps() return s.host.journal:row("SELECT 1 AS x FROM steps WHERE name = 'sleep'") end
  -- Builds of a commit wait for `let_go`; says when one is under way.
  function s.slow_build(name)
    local gate, real, slow = task.signal(), s.host.world.ensure_image, { open = false, under_way = false }
    s.host.world.ensure_image = function(request)
      if request.commit == C(name) then
        slow.under_way = true
        while not slow.open do gate:wait() end
      end
      return real(request)
    end
    function slow.let_go()
      slow.open = true
      gate:notify()
    end
    function slow.begun() check.eventually(function() return slow.under_way end) end
    return slow
  end
  -- The target never reports a release of a commit; says when one is under way.
  function s.slow_rollout(name)
    local real, slow = s.host.world.target, { under_way = false }
    s.host.world.target = function(...)
      local target = real(...)
      local wait = target.wait
      target.wait = function(self, request)
        if request.commit == C(name) then
          slow.under_way = true
          time.sleep(86400)
        end
        return wait(self, request)
      end
      return target
    end
    function slow.begun() check.eventually(function() return slow.under_way end) end
    return slow
  end
  -- Checks of a commit take for ever.
  function s.slow_checks(name)
    local real, slow = s.host.world.verify, { under_way = false }
    s.host.world.verify = function(list, request)
      if request.commit == C(name) then
        slow.under_way = true
        time.sleep(86400)
      end
      return real(list, request)
    end
    function slow.begun() check.eventually(function() return slow.under_way end) end
    return slow
  end
  return s
end

-- ---- cancel ----

test("cancel ends a run that builds, and says who did; its key is not tried again by itself, but by retry", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local slow = s.slow_build "b"
  s.world:push("main", "b")
  ok(s.host:poll())
  slow.begun()
  local id = s.last()
  local run = ok(s.host:cancel { run = id, by = "ann", reason = "wrong commit" })
  eq({ run.state, run.error.code, run.error.message }, { "cancelled", "cancelled", "cancelled by ann: wrong commit" })
  slow.let_go()
  s.settle()
  eq({ s.last(), s.world:running("staging").commit, s.environment("staging").state }, { id, C "a", "idle" })
  has(fails("conflict", s.host:cancel { run = id, by = "ann" }).message, "it is cancelled")
  local why
  for _, d in ipairs(s.host:why("web", "staging").decisions) do why = why or d.policy == "staging" and d.reason end
  has(why, "handled by run 2, and ended: cancelled by ann: wrong commit")
  local log = s.host:run_log(id, 0).entries
  eq(log[#log].text, "cancelled: cancelled by ann: wrong commit")
  fails("not_found", s.host:cancel { run = 999, by = "ann" })
  run = ok(s.host:retry(s.order()))
  eq({ run.kind, run.by, run.key }, { "release", "ann", C "b" })
  s.settle()
  eq({ s.state(run.id), s.world:running("staging").commit }, { "done", C "b" })
end)

test("cancel ends a run that waits for people, one that sleeps, and one that never began", function()
  local s = stage { production = "return policy { watch = function() return nil, 'no' end, run = function() end }",
    staging = [[return policy { queue = "all", watch = function(place) return place:head() end,
      run = function(run, head)
        if head.commit:sub(1, 40) == "]] .. C "a" .. [[" then run:sleep(86400) end
        run:approval { id = "x" .. head.commit, votes = 1 }
      end }]] }
  for _, name in ipairs { "a", "b", "c" } do
    s.world:push("main", name)
    ok(s.host:poll())
    check.eventually(function() return s.last() and s.host.journal:row("SELECT 1 AS x FROM steps") end)
  end
  eq({ s.state(1), s.state(2), s.state(3) }, { "running", "queued", "queued" })
  eq(ok(s.host:cancel { run = 2, by = "ann" }).state, "cancelled") -- never began
  eq(ok(s.host:cancel { run = 1, by = "ann" }).state, "cancelled") -- sleeps
  check.eventually(function() return s.host.journal:approvals({ pending = true })[1] end)
  eq(ok(s.host:cancel { run = 3, by = "ann" }).state, "cancelled") -- waits for people
  eq(#s.host.journal:approvals { pending = true }, 0)
  s.settle()
  eq(s.last(), 3)
end)

test("a policy that swallows the end of its run does not live on", function()
  local s = stage { production = "return policy { watch = function() return nil, 'no' end, run = function() end }",
    staging = [[return policy { watch = function(place) return place:head() end,
      run = function(run)
        for _ = 1, 100 do pcall(run.sleep, run, 3600) end
        run:step("more", {}, function() return 1 end)
      end }]] }
  s.world:push("main", "a")
  ok(s.host:poll())
  check.eventually(function() return s.host.journal:row("SELECT 1 AS x FROM steps") end)
  eq(ok(s.host:cancel { run = 1, by = "ann" }).state, "cancelled")
  eq(s.host.journal:row("SELECT count(*) AS n FROM steps WHERE name = 'step more'").n, 0)
end)

test("what a cancelled run was putting out is taken back, and is not called bad", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local slow = s.slow_rollout "b"
  s.world:push("main", "b")
  ok(s.host:poll())
  slow.begun()
  eq(s.world:running("staging").commit, C "b")
  eq(ok(s.host:cancel { run = s.last(), by = "ann" }).state, "cancelled")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  eq(s.host.journal:row("SELECT count(*) AS n FROM releases WHERE state = 'bad'").n, 0)
end)

-- ---- retry ----

test("retry tries the newest that failed again, and no older one when it fails once more", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  for i, name in ipairs { "b", "c" } do
    s.world:trouble(name, "check")
    s.world:push("main", name)
    s.world:tag(("v1.%d.0"):format(i), name)
    s.settle()
  end
  eq(s.world:running("production").version, "v1.0.0")
  local production = { environment = "production" }
  local run = ok(s.host:retry(s.order(production)))
  s.settle()
  eq({ s.state(run.id), run.title:sub(1, 6), s.world:running("production").version }, { "failed", "v1.2.0", "v1.0.0" })
  s.world:trouble("c", nil)
  run = ok(s.host:retry(s.order(production)))
  s.settle()
  eq({ s.state(run.id), s.world:running("production").version }, { "done", "v1.2.0" })
  local before = s.last()
  s.settle()
  eq(s.last(), before)
  has(fails("conflict", s.host:retry(s.order(production))).message, "nothing to try again")
end)

test("retry of what goes well says so; what waits for its time need not wait", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  has(fails("conflict", s.host:retry(s.order())).message, "run 1 did it")
  local down, real = true, s.host.world.ensure_image
  s.host.world.ensure_image = function(request)
    if down then return errors.fail("refused", "nobody listens") end
    return real(request)
  end
  s.world:push("main", "b")
  s.settle()
  eq(s.environment("staging").state, "waiting")
  down = false
  local run = ok(s.host:retry(s.order()))
  s.settle()
  eq({ s.state(run.id), s.world:running("staging").commit }, { "done", C "b" })
  fails("invalid", s.host:retry(s.order { environment = "staging", versions = { api = "1.0.0" } }))
end)

-- ---- what waits gives its lane away ----

local NOTHING <const> = "return policy { watch = function() return nil, 'not in this test' end, run = function() end }"
local HEAD <const> = "watch = function(place) return place:head() end,"
local ROLLBACK <const> = assert(fs.read "scripts/rollback.lua")

-- Staging of our own beside a production that does nothing.
local function staging(run, more)
  return {
    production = NOTHING, rollback = ROLLBACK,
    staging = ("return policy { %s %s run = function(run, head) %s end }"):format(more or "", HEAD, run),
  }
end

-- Two releases, so that there is something to go back to; the first two commits wait for nothing.
local function two_releases(s)
  for _, name in ipairs { "a", "b" } do
    s.world:push("main", name)
    s.settle()
  end
  eq(s.world:running("staging").commit, C "b")
end

-- A push whose run waits, after which this returns its number.
local function waiting_run(s, name, is_waiting)
  s.world:push("main", name)
  ok(s.host:poll())
  local id = s.last()
  check.eventually(function() return is_waiting(id) end)
  return id
end

local function passed_and_superseded(s, id, words)
  check.eventually(function() return s.state(id) == "superseded" end)
  has(s.run(id).error.message, words)
  local log = s.host:run_log(id, 0)
  has(log.entries[#log.entries].text, words)
end

local WAITS <const> = {
  ["for people"] = [[run:approval { id = "x", votes = 1 }]],
  ["for time"] = [[run:sleep(86400)]],
  ["in branches"] = [[run:all {
    function() run:sleep(86400) end, function() run:approval { id = "x", votes = 1 } end,
  }]],
}

for what, word in pairs(WAITS) do
  test("a person's rollback and release pass a run that waits " .. what .. "; it ends as superseded", function()
    local s = stage(staging([[
      local image = run:image(head.commit)
      if head.commit == "]] .. C "c" .. [[" then ]] .. word .. [[ end
      run:release(image)]]))
    two_releases(s)
    local function waits() return s.host.journal:row("SELECT 1 AS x FROM steps WHERE name IN ('sleep', 'approval')") end
    local id = waiting_run(s, "c", waits)
    ok(s.host:rollback(s.order()))
    check.eventually(function() return s.world:running("staging").commit == C "a" end)
    passed_and_superseded(s, id, "took its place meanwhile: rollback from " .. C("b"):sub(1, 7))
    s.settle()
    eq({ s.world:running("staging").commit, #s.host.journal:approvals { pending = true } }, { C "a", 0 })
  end)
end

test("a person's rollback passes a build that takes its time, and the build's run does not go over it", function()
  local s = stage()
  two_releases(s)
  local slow = s.slow_build "c"
  local id = waiting_run(s, "c", function() return slow.under_way end)
  local back = ok(s.host:rollback(s.order()))
  check.eventually(function() return s.state(back.id) == "done" end)
  passed_and_superseded(s, id, "ordered by ann")
  slow.let_go()
  s.settle()
  eq(s.world:running("staging").commit, C "a")
end)

for what, slowly in pairs { ["rolling out"] = "slow_rollout", ["being checked"] = "slow_checks" } do
  test("a person's rollback takes back at once what is still " .. what, function()
    local s = stage()
    two_releases(s)
    local slow = s[slowly] "c"
    local id = waiting_run(s, "c", function() return slow.under_way end)
    local back = ok(s.host:rollback(s.order { reason = "wrong colour" }))
    eq(back.title, ("rollback from %s to %s"):format(C("c"):sub(1, 7), C("b"):sub(1, 7)))
    check.eventually(function() return s.state(back.id) == "done" end)
    passed_and_superseded(s, id, "rolled back by ann: wrong colour")
    s.settle()
    ok(s.host:poll())
    s.settle()
    eq({ s.world:running("staging").commit, s.last() }, { C "b", back.id })
    eq(s.host.journal:known_bad("web", "staging", s.host.journal:row("SELECT digest FROM releases WHERE run = ?", id)
      .digest), "rolled back by ann: wrong colour")
  end)
end

test("a person's rollback of a first release that is on its way says how to end that", function()
  local s = stage()
  local slow = s.slow_rollout "a"
  local id = waiting_run(s, "a", function() return slow.under_way end)
  has(fails("conflict", s.host:rollback(s.order())).message, ("'moontide cancel %d'"):format(id))
end)

test("an automatic rollback passes a build; what is built goes out afterwards", function()
  local s = stage()
  two_releases(s)
  local slow = s.slow_build "c"
  local id = waiting_run(s, "c", function() return slow.under_way end)
  s.world:trouble("b", "later")
  ok(s.host:poll())
  check.eventually(function() return s.world:running("staging").commit == C "a" end)
  eq(s.state(id), "running")
  slow.let_go()
  s.settle()
  eq({ s.state(id), s.world:running("staging").commit }, { "done", C "c" })
end)

test("a run that watches its own release ends when that is taken back", function()
  local s = stage(staging([[
    run:release(run:image(head.commit))
    if head.commit == "]] .. C "c" .. [[" then run:sleep(86400) end
    run:step("announce", {}, function() return 1 end)]]))
  two_releases(s)
  local id = waiting_run(s, "c", s.sleeps)
  s.world:trouble("c", "later")
  ok(s.host:poll())
  passed_and_superseded(s, id, "its release was taken back meanwhile: ")
  s.settle()
  eq(s.world:running("staging").commit, C "b")
end)

test("changes stay in their order behind a run that waits", function()
  local s = stage(staging([[
    if head.commit == "]] .. C "a" .. [[" then run:sleep(1) end
    run:release(run:image(head.commit))]], 'queue = "all",'))
  waiting_run(s, "a", s.sleeps)
  s.world:push("main", "b")
  s.settle()
  local rolled = {}
  for _, line in ipairs(s.world:effects()) do rolled[#rolled + 1] = line:match("^roll out web/staging (%S+)") end
  eq(rolled, { "a", "b" })
end)

test("nobody passes while one branch sleeps and another is in the middle of an effect", function()
  local s = stage(staging([[
    if head.commit == "]] .. C "c" .. [[" then
      run:all { function() run:sleep(86400) end, function() run:release(run:image(head.commit)) end }
    else run:release(run:image(head.commit)) end]]))
  two_releases(s)
  local gate, open, waiting, real = task.signal(), false, false, s.host.world.target
  s.host.world.target = function(...)
    local target = real(...)
    target.wait = function(_, request)
      waiting = waiting or request.commit == C "c"
      while request.commit == C "c" and not open do gate:wait() end
      return true
    end
    return target
  end
  local id = waiting_run(s, "c", function() return waiting end)
  local back = ok(s.host:release(s.order { what = C "a" }))
  for _ = 1, 20 do time.sleep(0.005) end
  eq({ s.state(back.id), s.world:running("staging").commit }, { "queued", C "c" })
  open = true
  gate:notify()
  check.eventually(function() return s.state(back.id) == "done" end)
  check.eventually(function() return s.state(id) ~= "running" end)
  eq({ s.state(id), s.world:running("staging").commit }, { "superseded", C "a" })
end)

test("a host that dies while an order passes goes on with the order first", function()
  local s = stage(staging([[
    local image = run:image(head.commit)
    if head.commit == "]] .. C "c" .. [[" then run:sleep(0.3) end
    run:release(image)]]))
  two_releases(s)
  local real, stuck = s.host.world.target, false
  s.host.world.target = function(...)
    local target = real(...)
    target.wait = function(_, request)
      if request.restored then
        stuck = true
        time.sleep(3600)
      end
      return true
    end
    return target
  end
  local id = waiting_run(s, "c", s.sleeps)
  local running = task.spawn(function() return s.host:run() end)
  local back = ok(s.host:rollback(s.order()))
  check.eventually(function() return stuck end)
  check.eventually(function() -- its sleep is over, and it waits for its turn
    for _, attempt in pairs(s.host.lanes["web/staging"].runs) do
      if attempt.row.id == id then return attempt.wanting > 0 end
    end
  end)
  s.host:stop(0)
  running:join()
  s.open()
  eq({ s.state(id), s.state(back.id) }, { "running", "running" })
  local again = task.spawn(function() return s.host:run() end)
  check.eventually(function() return s.state(back.id) == "done" end)
  passed_and_superseded(s, id, "ordered by ann")
  eq(s.world:running("staging").commit, C "a")
  s.host:stop(1)
  again:join()
end)

test("a host that dies after an order passed, before it ended what that overtook, does not go on with it", function()
  local s = stage(staging([[
    local image = run:image(head.commit)
    if head.commit == "]] .. C "c" .. [[" then run:sleep(0.2) end
    run:release(image)]]))
  two_releases(s)
  local id = waiting_run(s, "c", s.sleeps)
  local running = task.spawn(function() return s.host:run() end)
  s.host:stop(0)
  running:join()
  s.open()
  eq(s.state(id), "running")
  local order = s.host.journal:enqueue {
    app = "web", environment = "staging", policy = "rollback", kind = "rollback", key = "x", title = "rollback",
    by = "ann",
  }
  s.host.journal:write("UPDATE runs SET state = 'done' WHERE id = ?", order)
  s.host:lane(s.host:place("web", "staging")):kick()
  s.settle()
  eq({ s.state(id), s.world:running("staging").commit }, { "superseded", C "b" })
  has(s.run(id).error.message, "ordered by ann")
end)

-- ---- hold ----

test("hold stops a run before its next effect on the target, and unhold lets it go on", function()
  for _, word in ipairs { "run:release(image)", "run:step('own', {}, function() return 1 end) run:release(image)" } do
    local s = stage(staging("local image = run:image(head.commit) " .. word))
    two_releases(s)
    local slow = s.slow_build "c"
    local id = waiting_run(s, "c", function() return slow.under_way end)
    ok(s.host:hold(s.order { reason = "sale" }))
    slow.let_go()
    check.eventually(function() return s.environment("staging").state == "held" end)
    s.settle() -- it rests, as if it waited for people
    eq({ s.state(id), s.run(id).attempts, s.world:running("staging").commit }, { "running", 0, C "b" })
    eq(s.host.journal:row("SELECT count(*) AS n FROM steps WHERE run = ? AND name = 'step own'", id).n, 0)
    local env = s.environment "staging"
    eq({ env.state, env.run.state }, { "held", "waiting" })
    has(env.reason, "held by ann: sale")
    ok(s.host:unhold(s.order()))
    s.settle()
    eq({ s.state(id), s.run(id).attempts, s.world:running("staging").commit }, { "done", 1, C "c" })
  end
end)

test("a run that a hold stopped does not go on over what a person put out meanwhile", function()
  local s = stage()
  two_releases(s)
  local slow = s.slow_build "c"
  local id = waiting_run(s, "c", function() return slow.under_way end)
  ok(s.host:hold(s.order()))
  slow.let_go()
  check.eventually(function() return s.environment("staging").state == "held" end)
  ok(s.host:rollback(s.order()))
  passed_and_superseded(s, id, "ordered by ann")
  ok(s.host:unhold(s.order()))
  s.settle()
  eq(s.world:running("staging").commit, C "a")
end)

test("a run that is held survives its host; a policy that holds does not stop itself", function()
  local s = stage(staging([[
    local image = run:image(head.commit)
    if head.commit == "]] .. C "c" .. [[" then run:hold("mine") end
    run:release(image)]]))
  two_releases(s)
  s.world:push("main", "c")
  s.settle()
  eq(s.world:running("staging").commit, C "c")
  ok(s.host:unhold(s.order()))
  local slow = s.slow_build "d"
  local id = waiting_run(s, "d", function() return slow.under_way end)
  ok(s.host:hold(s.order()))
  slow.let_go()
  check.eventually(function() return s.environment("staging").state == "held" end)
  for _ = 1, 4 do -- more hosts than crashes are forgiven
    local running = task.spawn(function() return s.host:run() end)
    check.eventually(function() return s.environment("staging").run.state == "waiting" end)
    s.host:stop(0)
    running:join()
    s.open()
    eq({ s.state(id), s.run(id).attempts }, { "running", 0 })
  end
  ok(s.host:unhold(s.order()))
  s.settle()
  eq({ s.state(id), s.world:running("staging").commit }, { "done", C "d" })
end)

test("a lane that was told of something is busy until it has looked: what just ended may have queued a run", function()
  local s = stage(staging([[run:approval { id = "x", votes = 1 }]]))
  waiting_run(s, "a", function() return s.host.journal:approvals({ pending = true })[1] end)
  local lane = s.host.lanes["web/staging"]
  check.eventually(function() return not lane:busy() end)
  lane:kick()
  eq(lane:busy(), true)
  check.eventually(function() return not lane:busy() end)
end)
