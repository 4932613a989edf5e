-- Reload: what is saved becomes live as a whole, or not at all and people hear why; what stays the same goes on.
---@diagnostic disable: inject-field -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local errors, fs, json, lab, sim, task = require "errors", require "fs", require "json", require "lab", require "sim",
  require "task"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local POLICY <const> = [[return policy { watch = function(place) return place:head() end, run = function(run)
  run:log("%s") end }]]
local NOTHING <const> = "return policy { watch = function() return nil, 'nothing' end, run = function() end }"

local function stage(scripts)
  local dir = lab.dir()
  local s = { dir = dir, scripts = dir .. "/scripts", world = sim.open(dir .. "/world"), events = {} }
  ok(fs.mkdir(s.scripts .. "/shared", { parents = true }))
  function s.save(name, text) lab.write(s.scripts .. "/" .. name .. ".lua", text) end
  for name, text in pairs(scripts or { staging = POLICY:format "one", production = NOTHING }) do s.save(name, text) end
  s.options = {
    scripts = s.scripts, rollback = false, on_event = function(event) s.events[#s.events + 1] = event.text end,
  }
  function s.open()
    s.host = sim.host(s.world, dir .. "/state", s.options)
    check.defer(function() pcall(s.host.close, s.host) end)
    return s.host
  end
  function s.said(part)
    local count = 0
    for _, text in ipairs(s.events) do
      if text:find(part, 1, true) then count = count + 1 end
    end
    return count
  end
  s.open()
  return s
end

local function refused(s, options)
  local done, err = s.host:reload(options)
  eq(done, nil)
  ok(errors.is(err, "invalid"))
  return err.faults
end

test("a fault keeps what was loaded; status, why, the log, metrics and notifiers say what and where, once", function()
  local s = stage()
  s.save("staging", "return policy {\n  watch = function(place) return plce:head() end,\n  run = function() end }")
  local faults = refused(s)
  has(faults[1].file, "staging.lua")
  eq(faults[1].line, 2)
  refused(s, { saved = true })
  eq(s.said "staging.lua:2:", 1) -- a second look at the same fault is no news
  local status = s.host:status().host
  has(status.reload_error, "what was loaded before stays")
  eq(status.reload_faults, faults)
  eq(ok(s.host:why("web")).reload_faults, faults)
  local metrics = json.encode(s.host:metrics())
  has(metrics, '"moontide_reload_refused"')
  eq({ s.host.reloads.refused, s.host.reloads.loaded }, { 2, 0 })
  s.host.outages:tell()
  s.host.outages:tell()
  eq(#s.world:messages(), 1)
  has(s.world:messages()[1], "staging.lua:2:")
  s.save("staging", "return policy {")
  refused(s)
  s.host.outages:tell()
  eq(#s.world:messages(), 2) -- another fault, and the end of the one before
  s.save("staging", POLICY:format "two")
  eq(ok(s.host:reload()).changed, { "policy staging changed" })
  s.host.outages:tell()
  eq(#s.world:messages(), 3)
  has(s.world:messages()[3], "is over")
  eq(s.host:status().host.reload_error, nil)
  eq(s.host:why("web").reload_faults, nil)
end)

test("a fault is told once although the host starts again", function()
  local s = stage()
  s.save("staging", "return policy {")
  refused(s)
  s.host.outages:tell()
  s.host:close()
  s.save("staging", POLICY:format "two")
  s.open()
  s.host.outages:tell()
  eq(#s.world:messages(), 2)
  has(s.world:messages()[2], "is over")
end)

test("what changed is said in words, and what stays the same keeps what is remembered of it", function()
  local s = stage()
  s.world:push("main", "a")
  sim.settle(s.host)
  local before, snapshot = s.host.config, s.host.app_states.web.snapshot
  ok(snapshot)
  eq(ok(s.host:reload()).changed, {})
  eq(s.host.config, before)
  s.host.load = function()
    local config = sim.config(s.dir .. "/state", s.options)
    config.retention.runs = 400
    return config
  end
  eq(ok(s.host:reload()).changed, { "`retention` changed" })
  local old = s.host.config.apps.web
  s.host.load = function()
    local config = sim.config(s.dir .. "/state", s.options)
    config.retention.runs = 400
    local other = sim.config(s.dir .. "/state", s.options).apps.web
    other.name = "api"
    config.apps.api, config.app_list[2] = other, other
    return config
  end
  s.host:poll()
  snapshot = s.host.app_states.web.snapshot
  eq(ok(s.host:reload()).changed, { "new app api" })
  ok(rawequal(s.host.config.apps.web, old))
  ok(rawequal(s.host.app_states.web.snapshot, snapshot) and snapshot ~= nil)
  local load = s.host.load
  s.host.load = function()
    local config = load()
    local web = config.apps.web
    web.branch = "next"
    web.environments.canary, web.environments.production = web.environments.production, nil
    web.environments.canary.name, web.environments.staging.accept = "canary", "minor"
    return config
  end
  eq(ok(s.host:reload()).changed, {
    "app web changed: branch", "app web staging changed: accept", "app web: environment production is gone",
    "app web: new environment canary",
  })
  eq(s.host.app_states.web.snapshot, nil)
end)

test("the folder of the state cannot change while the host runs, and that is said", function()
  local s = stage()
  s.host.load = function() return sim.config(s.dir .. "/elsewhere", s.options) end
  local done, err = s.host:reload()
  eq(done, nil)
  ok(errors.is(err, "conflict"))
  eq(err.faults[1].path, "state")
  has(err.message, "cannot change while the host runs")
end)

local TEST <const> = [[
test("the sum is right", function()
  equal(1 + 1, 2)
end)
]]

test("the tests of a policy, or of a module of it, pass before it becomes live", function()
  local s = stage { production = NOTHING, ["shared/names"] = "return { hello = 'hello' }",
    staging = 'local n = require "shared.names" ' .. POLICY:format "one" }
  for _, name in ipairs { "staging", "shared/names" } do
    s.save(name .. "_test", TEST)
    s.save(name, ok(fs.read(s.scripts .. "/" .. name .. ".lua")) .. "\n")
    eq(ok(s.host:reload()).changed, { "policy staging changed" })
    local live = s.host.policies.staging.hash
    s.save(name .. "_test", (TEST:gsub("2%)", "3)")))
    local faults = refused(s) -- a test that is wrong by itself is said, too
    has(faults[1].file, s.scripts .. "/" .. name .. "_test.lua")
    eq(faults[1].line, 2)
    has(faults[1].message, "the sum is right")
    s.save(name, ok(fs.read(s.scripts .. "/" .. name .. ".lua")) .. "\n")
    refused(s)
    eq(s.host.policies.staging.hash, live)
    eq(s.host:why("web").reload_faults, faults)
    s.save(name .. "_test", TEST)
    eq(ok(s.host:reload()).changed, { "policy staging changed" })
    eq(ok(s.host:reload()).changed, {})
  end
  for name in fs.walk(s.dir .. "/state") do ok(not name:find "^tests%-", name) end
end)

test("two reloads at the same time come one after the other", function()
  local s = stage()
  local inside, most, load = 0, 0, s.host.load
  s.host.load = function()
    inside = inside + 1
    most = math.max(most, inside)
    require("time").sleep(0)
    local config = load()
    inside = inside - 1
    return config
  end
  local function again() return s.host:reload() end
  for _, done in ipairs(task.all { again, again, again }) do ok(done.changed) end
  eq(most, 1)
end)

test("a run under way finishes with the text, the modules and the settings that it began with", function()
  local s = stage { production = NOTHING, ["shared/names"] = "return { who = 'old module' }", staging = [[
    local names = require "shared.names"
    return policy { watch = function(place) return place:head() end, run = function(run)
      run:sleep(0.3)
      run:log("old text, " .. names.who .. ", " .. run.settings.who)
    end }]] }
  local who = "old settings"
  s.host.load = function()
    local config = sim.config(s.dir .. "/state", s.options)
    config.apps.web.settings = { who = who }
    return config
  end
  ok(s.host:reload())
  s.world:push("main", "a")
  ok(s.host:poll("web"))
  check.eventually(function() return s.host.journal:row "SELECT 1 AS x FROM steps" end)
  who = "new settings"
  s.save("shared/names", "return { who = 'new module' }")
  s.save("staging", (ok(fs.read(s.scripts .. "/staging.lua")):gsub("old text", "new text")))
  eq(ok(s.host:reload()).changed, { "app web changed: settings", "policy staging changed" })
  sim.settle(s.host)
  local function log(run) return json.encode(ok(s.host:run_log(run, 0))) end
  has(log(1), "old text, old module, old settings")
  s.world:push("main", "b")
  sim.settle(s.host)
  has(log(2), "new text, new module, new settings")
end)

test("the forge's events of apps that stay the same are followed on", function()
  local s, opened, names, runs = stage(), {}, { "web", "api" }, 500
  s.host.world.forge = function(app)
    opened[#opened + 1] = app.name
    return { follow = function() task.signal():wait() end }
  end
  s.host.load = function()
    local config = sim.config(s.dir .. "/state", s.options)
    config.retention.runs, config.apps, config.app_list = runs, {}, {}
    for i, name in ipairs(names) do
      local app = sim.config(s.dir .. "/state", s.options).apps.web
      app.name, app.source.github = name, "team/" .. name
      config.apps[name], config.app_list[i] = app, app
    end
    return config
  end
  ok(s.host:reload())
  local following = task.spawn(require("engine.forge").follow, s.host)
  check.defer(function() following:cancel() end)
  check.eventually(function() return #opened == 2 end)
  names[3] = "new"
  ok(s.host:reload())
  check.eventually(function() return #opened == 3 end)
  eq(opened[3], "new")
  runs = 400
  ok(s.host:reload())
  check.eventually(function() return #opened == 6 end)
end)

test("a policy is tested in the simulated world, as it was read; a test that hangs keeps what was loaded", function()
  local releases = [[
local names = require "shared.names"
return policy { watch = function(place) return place:head() end, run = function(run, head)
  %s run:log(names.hello) run:release(run:image(head.commit)) end }]]
  local s = stage { production = NOTHING, staging = releases:format "", ["shared/names"] = "return { hello = 'hello' }",
    staging_test = [[
test("staging follows the branch", function(world)
  local web = world:app("web", { environments = { staging = {} } })
  web:push "a"
  world:settle()
  equal((web:running "staging" or {}).commit, commit "a")
end)
]] }
  s.save("staging", releases:format "local first = 1")
  eq(ok(s.host:reload()).changed, { "policy staging changed" })
  local live = s.host.policies.staging.hash
  s.save("staging", releases:format "if head then return end")
  local faults = refused(s)
  eq({ faults[1].file, faults[1].line }, { s.scripts .. "/staging_test.lua", 5 })
  local own_tests = require "engine.own_tests"
  local before = own_tests.HANGS
  own_tests.HANGS = 1
  check.defer(function() own_tests.HANGS = before end)
  s.save("staging", releases:format "local second = 2")
  s.save("staging_test", [[test("hangs", function() while true do pcall(string.rep, "x", 1 << 20) end end)]])
  has(refused(s)[1].message, "hangs")
  eq(s.host.policies.staging.hash, live)
end)

test("a module that changed is held back by the tests of the policies that it changes", function()
  local s = stage { production = NOTHING, ["shared/names"] = "return { hello = 'hello' }",
    staging = 'local names = require "shared.names" ' .. POLICY:format "one",
    staging_test = 'test("the name", function() equal(require "shared.names".hello, "hello") end)' }
  s.save("shared/names", "return { hello = 'goodbye' }")
  local faults = refused(s)
  eq({ faults[1].file, faults[1].line }, { s.scripts .. "/staging_test.lua", 1 })
  s.save("shared/names", "return { hello = 'hello', more = 1 }")
  eq(ok(s.host:reload()).changed, { "policy staging changed" })
end)

test("tests that cannot be read hold back what they are of", function()
  local s = stage()
  local file = s.scripts .. "/staging_test.lua"
  for n, case in ipairs {
    { { "truncate", "-s", "2M", file }, "cannot be read" }, { { "mkfifo", file }, "not a regular file" },
    { { "ln", "-s", "/etc/passwd", file }, "cannot be read" }, { { "mkdir", file }, "directory" },
  } do
    fs.remove(file, { recursive = true })
    lab.run(case[1])
    s.save("staging", POLICY:format("text " .. n))
    has(refused(s)[1].message, case[2])
  end
  fs.remove(file)
  eq(ok(s.host:reload()).changed, { "policy staging changed" })
end)

test("files that are no policies are faults, and nothing waits for them", function()
  local s = stage()
  local file = s.scripts .. "/staging.lua"
  for _, case in ipairs {
    { { "truncate", "-s", "100M", file }, "more than 1048576 bytes" }, { { "mkfifo", file }, "not a regular file" },
    { { "mkdir", file }, "directory" }, { { "ln", "-s", "nowhere", file }, "cannot be read" },
    { { "ln", "-s", "/dev/zero", file }, "not a regular file" },
    { { "ln", "-s", "staging.lua", file }, "cannot be read" },
  } do
    fs.remove(file, { recursive = true })
    lab.run(case[1])
    has(refused(s)[1].message, case[2])
  end
  fs.remove(file)
  eq(ok(s.host:reload()).changed, { "policy staging changed, it is now scripts/staging.lua" })
end)
