-- Lanes: what people do to runs that wait, build or failed: they end them, pass them, try them again.
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
  local real, waiting = s.host.world.target, false
  s.host.world.target = function(...)
    local target = real(...)
    local wait = target.wait
    target.wait = function(self, request)
      if request.commit == C "b" then
        waiting = true
        time.sleep(3600)
      end
      return wait(self, request)
    end
    return target
  end
  s.world:push("main", "b")
  ok(s.host:poll())
  check.eventually(function() return waiting end)
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
    s.world:trouble(name, "sick")
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
