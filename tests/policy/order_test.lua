-- Order: what waits, fails, is tried again, held and taken back at awkward moments never puts an older thing over a
-- newer one.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local decide, errors, fs, sim, task, time = require "engine.decide", require "errors", require "fs", require "sim",
  require "task", require "time"
local test, eq, ok = check.test, check.eq, check.ok

local C = sim.commit

local function stage(options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { world = sim.open(dir.path .. "/world"), dir = dir.path }
  s.host = sim.host(s.world, dir.path .. "/state", options)
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  function s.settle() sim.settle(s.host) end
  function s.last() return s.host.journal:row("SELECT max(id) AS id FROM runs").id end
  function s.runs(environment)
    local list = {}
    local history = s.host:history { app = "web", environment = environment, limit = 100 }
    for i, run in ipairs(history.runs) do list[i] = run.state .. " " .. run.title end
    return list
  end
  -- A commit that waits behind the run under way. (The poll that started the run may still be looking around.)
  function s.push_meanwhile(name)
    s.world:push("main", name)
    check.eventually(function() return #s.host:poll("web").changes > 0 end)
  end
  -- Calls before(commit) ahead of each image; what it returns is the answer when it is not nil.
  function s.at_image(before)
    local real = s.host.world.ensure_image
    s.host.world.ensure_image = function(request)
      local answer, err = before(request.commit)
      if answer ~= nil or err ~= nil then return answer, err end
      return real(request)
    end
  end
  return s
end

-- What waits to be tried again is due now.
local function due(s)
  s.host.journal:write("UPDATE runs SET not_before = 0 WHERE state = 'queued'")
  for _, lane in pairs(s.host.lanes) do lane:kick() end
end

test("a change that a transient error stopped is not tried again after a newer one", function()
  local s = stage()
  local unreachable = true
  s.world:push("main", "a")
  s.at_image(function(commit)
    if commit == C "a" and unreachable then
      unreachable = false
      s.push_meanwhile("b")
      return errors.fail("refused", "nobody listens")
    end
  end)
  s.settle()
  due(s)
  s.settle()
  eq(s.world:running("staging").commit, C "b")
  eq(s.runs("staging"), { "done main at " .. C "b":sub(1, 7), "failed main at " .. C "a":sub(1, 7) })
end)

test("a person's order goes before what waits to be tried again, and is not undone by it", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  local unreachable = true
  s.at_image(function(commit)
    if commit == C "c" and unreachable then return errors.fail("refused", "nobody listens") end
  end)
  s.world:push("main", "c")
  s.settle()
  eq(s.host:status().apps[1].environments[1].state, "waiting")
  ok(s.host:rollback { app = "web", environment = "staging", by = "tess" })
  unreachable = false
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  due(s)
  s.settle()
  eq(s.world:running("staging").commit, C "a")
end)

test("a change that is held does not hold up a person's order or a rollback", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  ok(s.host:hold { app = "web", environment = "staging", by = "tess" })
  s.world:push("main", "c")
  s.settle()
  ok(s.host:rollback { app = "web", environment = "staging", by = "tess" })
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  ok(s.host:unhold { app = "web", environment = "staging", by = "tess" })
  s.settle()
  eq(s.world:running("staging").commit, C "c")
end)

test("the rollback of a failed release comes before the newer change, not over it", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:trouble("b", "check")
  s.world:push("main", "b")
  s.at_image(function(commit)
    if commit == C "b" then
      s.push_meanwhile("c")
    end
  end)
  s.settle()
  eq(s.world:running("staging").commit, C "c")
end)

test("a release that turns unhealthy while its successor is built is not taken back over the successor", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  s.world:push("main", "c")
  s.at_image(function(commit)
    if commit == C "c" then
      s.world:trouble("b", "later")
      local at = s.host:place("web", "staging")
      assert(decide.decide(s.host, at, s.host.policies.rollback), "the rollback is asked for")
    end
  end)
  s.settle()
  eq(s.world:running("staging").commit, C "c")
end)

-- What production last said of a version.
local function why(s, subject)
  for _, d in ipairs(ok(s.host:why("web", "production")).decisions) do
    if d.subject == subject then return d.reason end
  end
end

test("a version that was taken back is not released again when the one after it fails", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "b")
  s.world:tag("v1.1.0", "b")
  s.settle()
  ok(s.host:rollback { app = "web", environment = "production", by = "tess", reason = "it loses orders" })
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  check.has(why(s, "v1.1.0"), "tried it and was taken back: rolled back by tess: it loses orders")
  s.world:trouble("c", "check")
  s.world:push("main", "c")
  s.world:tag("v1.2.0", "c")
  s.settle()
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
end)

test("what runs at first sight is adopted once, however often the source is asked in vain", function()
  local s = stage()
  s.world:source_down(true)
  s.world:put("production", { digest = "sha256:old", commit = C "a", version = "v1.0.0" })
  for _ = 1, 5 do s.settle() end
  eq(s.host.journal:row("SELECT count(*) AS n FROM releases").n, 1)
end)

test("two who ask a policy at the same moment find one change", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  s.world:trouble("b", "later")
  local real = s.host.world.verify
  s.host.world.verify = function(...)
    time.sleep(0.05) -- both are on their way
    return real(...)
  end
  local at, policy = s.host:place("web", "staging"), s.host.policies.rollback
  task.all { function() decide.decide(s.host, at, policy) end, function() decide.decide(s.host, at, policy) end }
  s.settle()
  eq(s.host.journal:row("SELECT count(*) AS n FROM runs WHERE kind = 'rollback'").n, 1)
end)

test("a version that no registry takes as a tag is refused, and holds up no other", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.1.0+linux", "a")
  s.world:tag("v1.1.1-" .. ("x"):rep(150), "a")
  s.world:tag("v1.2.0", "a")
  local real = s.host.world.registry
  s.host.world.registry = function(...)
    local repository = real(...)
    return { tag = function(self, digest, tag)
      if not tag:find("^[%w_][%w._-]*$") or #tag > 128 then return errors.fail("invalid", "no tag: " .. tag) end
      return repository.tag(self, digest, tag)
    end }
  end
  s.settle()
  eq(s.world:running("production").version, "v1.2.0")
end)

-- ---- what a person went back to holds until the source moves ----

-- Production at v1.0.0 of one commit; then two versions of another one, the newer of which runs.
local function two_versions_of_one_commit(options)
  local s = stage(options)
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "b")
  s.world:tag("v1.1.0", "b")
  s.world:tag("v1.2.0", "b")
  s.settle()
  eq(s.world:running("production").version, "v1.2.0")
  return s
end

test("after going back, no tag that was there goes out, whatever else moves; the next one does", function()
  for _, how in ipairs { "a person", "a release", "the checks" } do
    local s = two_versions_of_one_commit()
    local by_person = how ~= "the checks"
    if how == "a person" then
      ok(s.host:rollback { app = "web", environment = "production", by = "tess" })
    elseif how == "a release" then
      ok(s.host:release { app = "web", environment = "production", what = "v1.0.0", by = "tess" })
    else
      s.world:trouble("b", "later")
    end
    s.settle()
    eq(s.world:running("production").version, "v1.0.0", how)
    s.world:trouble("b", nil)
    s.world:push("main", "c") -- production follows tags
    s.world:tag("v0.9.0", "c")
    s.settle()
    s.settle()
    eq(s.world:running("production").version, "v1.0.0", how)
    check.has(why(s, "v1.1.0"), by_person and "it was there when tess put v1.0.0 here by run " or "went back to v1.0.0")
    s.world:tag("v1.3.0", "b")
    s.settle()
    eq(s.world:running("production").version, "v1.3.0", how)
  end
end)

test("retry tries what was gone back from", function()
  local s = two_versions_of_one_commit()
  ok(s.host:rollback { app = "web", environment = "production", by = "tess" })
  s.settle()
  ok(s.host:retry { app = "web", environment = "production", by = "tess" })
  s.settle()
  eq(s.world:running("production").version, "v1.2.0")
end)

test("a person's own release that proves itself lifts the bad mark of its digest; a policy's does not", function()
  local s = stage()
  for _, name in ipairs { "a", "b" } do
    s.world:push("main", name)
    s.settle()
  end
  s.world:trouble("b", "later")
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  local function bad() return s.host.journal:row("SELECT count(*) AS n FROM releases WHERE state = 'bad'").n end
  eq(bad(), 1)
  s.world:trouble("b", "check") -- it does not prove itself
  ok(s.host:release { app = "web", environment = "staging", what = C "b", by = "tess" })
  s.settle()
  ok(bad() > 0)
  s.world:trouble("b", nil)
  s.world:push("main", "c")
  s.settle()
  s.world:push("main", "b")
  s.settle()
  eq({ s.world:running("staging").commit, bad() > 0 }, { C "b", true })
  ok(s.host:release { app = "web", environment = "staging", what = C "b", by = "tess" })
  s.settle()
  eq(bad(), 0)
  s.world:trouble("d", "check")
  s.world:push("main", "d")
  s.settle()
  eq(s.world:running("staging").commit, C "b") -- good enough to go back to
end)

test("a change that waited when a person gave an order does not go out over what was ordered", function()
  local s = stage()
  for _, name in ipairs { "a", "b" } do
    s.world:push("main", name)
    s.settle()
  end
  local gate, building = task.signal(), false
  s.at_image(function(commit)
    if commit == C "c" then
      building = true
      gate:wait()
    end
  end)
  s.world:push("main", "c")
  ok(s.host:poll())
  check.eventually(function() return building end)
  s.push_meanwhile("d")
  ok(s.host:rollback { app = "web", environment = "staging", by = "tess" })
  s.settle()
  eq(s.world:running("staging").commit, C "a")
  check.has(s.host:history({ app = "web", environment = "staging" }).runs[2].error.message, "ordered by tess")
end)

-- ---- a policy by another name ----

test("failures, bad marks and what was handled belong to the place, not to the name of its policy", function()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  for _, name in ipairs { "staging", "production", "rollback" } do
    local text = ok(fs.read(("scripts/%s.lua"):format(name)))
    for _, as in ipairs { name, "my-" .. name } do ok(fs.write(("%s/%s.lua"):format(dir.path, as), text)) end
  end
  local s = stage { scripts = dir.path }
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:trouble("b", "build")
  s.world:push("main", "b")
  s.world:tag("v1.1.0", "b")
  s.settle()
  s.world:trouble("c", "check")
  s.world:tag("v1.2.0", "c")
  s.settle()
  local before, effects = s.last(), #s.world:effects()
  local function renamed(name)
    local config = sim.config(s.dir .. "/state", { scripts = dir.path })
    for _, environment in ipairs(config.app_list[1].environment_list) do
      environment.policy = name(environment.policy)
      environment.rollback = name(environment.rollback)
    end
    return config
  end
  for _, name in ipairs { function(was) return "my-" .. was end, function(was) return was end } do
    s.host.load = function() return renamed(name) end
    ok(s.host:reload())
    s.world:trouble("b", nil)
    s.world:trouble("c", nil)
    s.settle()
    s.settle()
    eq({ s.last(), #s.world:effects() }, { before, effects })
  end
  check.has(why(s, "v1.1.0"), "tried it and failed")
  s.host:hold { app = "web", environment = "staging", by = "tess" }
  s.world:push("main", "d")
  s.settle()
  s.host.load = function() return renamed(function(was) return "my-" .. was end) end
  ok(s.host:reload())
  s.settle()
  eq(s.world:running("staging").commit, C "a") -- it is held by whatever name
  s.host:unhold { app = "web", environment = "staging", by = "tess" }
  s.settle()
  eq(s.world:running("staging").commit, C "d")
end)

test("a policy that does not ask what was there is not let past either", function()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  for _, name in ipairs { "staging", "rollback" } do
    ok(fs.write(("%s/%s.lua"):format(dir.path, name), ok(fs.read(("scripts/%s.lua"):format(name)))))
  end
  ok(fs.write(dir.path .. "/production.lua", [[
    return policy {
      watch = function(place)
        for _, name in ipairs { "v1.3.0", "v1.2.0", "v1.1.0", "v1.0.0" } do
          for _, tag in ipairs(place:tags()) do
            local key = name .. "@" .. tag.commit
            if tag.name == name and place:allows(name) and not place:failed(key) then
              return { key = key, version = name, commit = tag.commit }
            end
          end
        end
        return nil, "no new version"
      end,
      run = function(run, change) run:release(run:image(change.commit), { version = change.version }) end,
    }]]))
  local s = two_versions_of_one_commit { scripts = dir.path }
  ok(s.host:rollback { app = "web", environment = "production", by = "tess" })
  s.settle()
  s.settle()
  eq(s.world:running("production").version, "v1.0.0")
  check.has(why(s, nil), "it was there when tess put v1.0.0 here")
  s.world:tag("v1.3.0", "a")
  s.settle()
  eq(s.world:running("production").version, "v1.3.0")
end)
