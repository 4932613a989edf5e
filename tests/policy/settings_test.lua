-- Settings: free tables of apps and environments, merged; what policies declare of them; what a run keeps of them.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, load, policy, sim = require "fs", require "config.load", require "policy.load", require "sim"
local engine, settings = require "engine", require "policy.settings"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local NOTHING <const> = "return policy { watch = function() return nil, 'nothing here' end, run = function() end }"

local SOAK <const> = [[
return policy {
  settings = {
    soak = { type = "duration", default = "2d", doc = "How long staging has run it." },
    votes = { type = "integer", min = 1, max = 9 },
    days = { type = "list", of = { type = "choice", words = { "Mon", "Tue" } }, default = { "Mon" } },
    limits = { type = "record", keys = { cpu = { type = "number", required = true }, note = { type = "text" } } },
    labels = { type = "map" }, strict = { type = "boolean" },
  },
  watch = function(place) return { key = "x", seen = place.settings } end,
  run = function(run) run:step("see", run.settings, function() return true end) end,
}]]

-- A configuration in a file, with its scripts.
local function stage(text, scripts)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local s = { path = dir.path .. "/moontide.lua", scripts = dir.path .. "/scripts" }
  assert(fs.mkdir(s.scripts))
  for name, body in pairs(scripts) do assert(fs.write(("%s/%s.lua"):format(s.scripts, name), body)) end
  assert(fs.write(s.path, text))
  s.config, s.wrong = load.load(s.path, { scripts = s.scripts, state = dir.path .. "/state" })
  function s.faults()
    local list = {}
    for i, f in ipairs(s.wrong or engine.check(s.config)) do
      list[i] = ("%s:%s %s%s"):format(f.line or "-", f.path or "", f.message,
        f.suggestion and " (" .. f.suggestion .. ")" or "")
    end
    return list
  end
  return s
end

local APP <const> = [[return { apps = { web = { source = "https://example.com/web.git", image = "example.com/web",
  settings = %s,
  environments = {
    staging = { policy = "soak", settings = %s, target = { kind = "docker" } },
    production = { policy = "%s", target = { kind = "docker" } },
  },
} } }]]

local function app(of_app, of_staging, production)
  return stage(APP:format(of_app, of_staging, production or "soak"), { soak = SOAK, free = NOTHING })
end

local function seen(s, environment, name)
  local config = s.config.apps.web
  local compiled = ok(policy.load({ name or "soak" }, s.scripts))[name or "soak"]
  return ok(settings.of(config, config.environments[environment], compiled.settings))
end

test("the environment's settings are over the app's: tables are merged, lists replaced, defaults fill in", function()
  local s = app([[{ soak = "1h", days = { "Mon", "Tue" }, limits = { cpu = 1, note = "app" },
    labels = { a = "1" } }]], '{ days = { "Tue" }, limits = { cpu = 2.5 }, labels = { b = "2" }, strict = false }')
  eq(s.faults(), {})
  eq(seen(s, "staging"), { soak = 3600, days = { "Tue" }, limits = { cpu = 2.5, note = "app" },
    labels = { a = "1", b = "2" }, strict = false })
  eq(seen(s, "production"), { soak = 3600, days = { "Mon", "Tue" }, limits = { cpu = 1, note = "app" },
    labels = { a = "1" } })
  s = app("{}", "{}")
  eq(seen(s, "staging"), { soak = 172800, days = { "Mon" } })
end)

test("a policy that declares nothing gets what is there", function()
  local s = app('{ anything = { 1, "x" }, soak = "1h" }', "nil", "free")
  eq(s.faults(), {}) -- production may read it
  eq(seen(s, "production", "free"), { anything = { 1, "x" }, soak = "1h" })
end)

test("check judges what is declared, at the line of the file where it stands", function()
  local s = app('{ votes = 12, days = { "Mno" }, limits = {}, sokk = 1 }', '{ soka = "2d", limits = { note = 1 } }')
  eq(s.faults(), {
    '2:apps.web.settings.days[1] must be one of Mon, Tue, not "Mno" (did you mean Mon?)',
    "2:apps.web.settings.limits.cpu is missing",
    '2:apps.web.settings.sokk unknown setting "sokk" (did you mean soak?)',
    "2:apps.web.settings.votes must be between 1 and 9",
    "4:apps.web.environments.staging.settings.limits.cpu is missing",
    "4:apps.web.environments.staging.settings.limits.note must be text, not a number",
    '4:apps.web.environments.staging.settings.soka unknown setting "soka" (did you mean soak?)',
  })
end)

test("what no policy could read is refused as such", function()
  for text, words in pairs {
    ["{ x = function() end }"] = "x is a function: settings are text, numbers, true, false and tables of them",
    ["{ 1, 2 }"] = "settings must be a table with names", ["7"] = "settings must be a table with names",
    ["{ x = { 1, a = 2 } }"] = "x is neither a list nor a table with names",
    ["{ x = {{{{{{{{{ 1 }}}}}}}}} }"] = "is deeper than 8 tables",
    ["(function() local t = {} for i = 1, 1001 do t['k' .. i] = i end return t end)()"] = "more than 1000 values",
  } do
    local faults = app(text, "{}").faults()
    eq(#faults, 1, text)
    has(faults[1], words)
  end
end)

test("a wrong declaration is a fault of the policy, with its line", function()
  for text, words in pairs {
    ['{ soak = "2d" }'] = "settings.soak is declared as a table with a type",
    ['{ soak = { type = "time" } }'] = "settings.soak has an unknown type 'time'; there are boolean, choice, duration,",
    ['{ soak = { type = "duration", defualt = 1 } }'] = "settings.soak has no option 'defualt'; did you mean default?",
    ['{ soak = { type = "duration", default = "soon" } }'] = 'the default of settings.soak is not a duration: "soon"',
    ['{ a = { type = "choice" } }'] = "settings.a needs words",
    ['{ a = { type = "record" } }'] = "settings.a needs keys", ["{}"] = "settings needs keys",
    ['{ a = { type = "list", of = { type = "x" } } }'] = "settings.a[] has an unknown type 'x'",
  } do
    local compiled, fault = policy.compile("probe",
      "\nreturn policy { settings = " .. text .. ", watch = print, run = print }", "scripts/probe.lua")
    eq(compiled, nil, text)
    eq({ fault.file, fault.line }, { "scripts/probe.lua", 2 })
    has(fault.message, words)
  end
end)

local WATCHER <const> = [[
return policy {
  settings = { name = { type = "text", default = "nobody" } },
  watch = function(place)
    place.settings.name = "somebody else" -- of a copy
    return { key = place:head().key .. place.settings.name .. "!", commit = place:head().commit }
  end,
  run = function(run)
    run:step("hello " .. run.settings.name, nil, function() return true end)
    run:step("bye", nil, function() return true end)
  end,
}]]

test("a run keeps the settings that it began with, whatever becomes of the configuration", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local world = sim.open(dir.path .. "/world")
  world:push("main", "a")
  assert(fs.mkdir(dir.path .. "/scripts"))
  assert(fs.write(dir.path .. "/scripts/staging.lua", WATCHER))
  assert(fs.write(dir.path .. "/scripts/production.lua", NOTHING))
  local host
  local function open(name)
    local options = { scripts = dir.path .. "/scripts", settings = { name = name } }
    host = sim.host(world, dir.path .. "/state", options)
    check.defer(function() pcall(host.close, host) end)
  end
  local function steps()
    local names = {}
    for i, step in ipairs(host.journal:steps(1)) do names[i] = step.name end
    return names
  end
  open "ann"
  sim.settle(host)
  eq(steps(), { "step hello ann", "step bye" })
  -- As after a crash before the last step.
  host.journal:write("UPDATE runs SET state = 'running', ended_at = NULL WHERE id = 1")
  host.journal:write("DELETE FROM steps WHERE run = 1 AND name = 'step bye'")
  host:close()
  open "bob"
  host:lane(host:place("web", "staging")):kick()
  sim.settle(host)
  eq({ host.journal:run_by_id(1).state, steps() }, { "done", { "step hello ann", "step bye" } })
  has(host.journal:run_by_id(2).key, "bob!") -- what it is asked now
end)

test("the settings of what a finder finds are judged where they stand, and defaults apply there, too", function()
  local s = stage([[return { keel = {
    policy = "soak",
    settings = { votes = 0 },
  } }]], { soak = SOAK })
  eq(s.faults(), { "3:keel.settings.votes must be between 1 and 9" })
  local compiled = ok(policy.load({ "soak" }, s.scripts)).soak
  eq(ok(settings.of({ name = "shop/web" }, { name = "deployment" }, compiled.settings)).soak, 172800)
end)
