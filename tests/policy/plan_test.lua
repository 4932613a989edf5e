-- Plans in a simulated world: what the next poll would do, and that nothing of it happens.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: assign-type-mismatch -- the simulated world has no more parts than these tests need
local check = require "check"
local fs, plan, sim, time = require "fs", require "engine.plan", require "sim", require "time"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

-- A world, a host on it, and a way to plan on the same state folder.
local function stage(options)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local world = sim.open(dir.path .. "/world")
  local s = { world = world, dir = dir.path, state = dir.path .. "/state" }
  s.host = sim.host(world, s.state, options)
  check.defer(function() if s.host then s.host:close() end end)
  function s.settle() sim.settle(s.host) end
  ---@return any
  function s.plan(more)
    local how = { config = sim.config(s.state, options), world = world:world() }
    how.config.builder.kind = "docker"
    for name, value in pairs(more or {}) do how[name] = value end
    return (assert(plan.make(how)))
  end
  return s
end

local C = sim.commit

local function texts(run)
  local list = {}
  for i, step in ipairs(run.steps) do list[i] = step.action .. " " .. step.text end
  return list
end

local function place(made, environment)
  for _, told in ipairs(made.places) do
    if told.environment == environment then return told end
  end
end

test("a plan of a place that was never looked at says every step, and does none", function()
  local s = stage()
  s.world:push("main", "a")
  local before = s.world:look()
  local made = s.plan()
  local told = place(made, "staging")
  eq({ told.outcome, #told.runs, told.runs[1].state, told.runs[1].title }, {
    "change", 1, "new", "main at " .. C("a"):sub(1, 7),
  })
  local short = C("a"):sub(1, 7)
  eq(texts(told.runs[1]), {
    ("create image of %s would be built by docker and pushed to registry.invalid/team/web"):format(short),
    "create tag staging is set to the new image",
    ("create web staging (command): nothing runs there; would run %s (new image)"):format(short),
    "do waits until command reports that it runs",
    "do checks http http://127.0.0.1/, within 1 s",
  })
  eq(made.summary, { changes = 1, unchanged = 1, refused = 0, errors = 0 })
  eq(s.world:look(), before)
  eq(s.host:history { app = "web", limit = 10 }.runs, {})
  s.settle()
  eq(s.world:running("staging").commit, C "a")
end)

test("where everything runs as it should, there is nothing to do", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local made = s.plan()
  eq(made.summary, { changes = 0, unchanged = 2, refused = 0, errors = 0 })
  local d = place(made, "staging").decisions[1]
  eq({ d.verdict, d.policy }, { "unchanged", "staging" })
  has(d.reason, "was handled by run 1")
end)

test("a tag moves from one image to the next, and the target from one release to the next", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "b")
  s.world:tag("v1.1.0", "a")
  s.world:tag("x", "a")
  local made = s.plan()
  local digest = s.world:running("staging").digest
  has(table.concat(texts(place(made, "staging").runs[1]), "\n"),
    ("change tag staging moves from %s to the new image"):format(digest:sub(1, 19)))
  local production = place(made, "production")
  eq(texts(production.runs[1])[1], ("none image of %s is in the registry: %s"):format(C("a"):sub(1, 7), digest))
  has(texts(production.runs[1])[2], "create tag v1.1.0 is set to " .. digest:sub(1, 19))
  local refused
  for _, d in ipairs(production.decisions) do refused = d.subject == "x" and d or refused end
  eq({ refused.verdict, refused.subject, refused.file }, { "refused", "x", "scripts/shared/versions.lua" })
  ok(math.type(refused.line) == "integer")
end)

test("a rollback that is due is planned: what it marks as bad, and what it puts back", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:trouble("b", "later")
  s.host.health_checks.observe_again = function() end
  s.host.health_checks.every = 100
  s.world:push("main", "b")
  s.settle()
  eq(s.world:running("staging").commit, C "b")
  local told = place(s.plan(), "staging")
  has(told.decisions[#told.decisions].reason, "in 1 of 3 observations")
end)

test("an image that does not build ends nowhere else than in life: only the build tells", function()
  local s = stage()
  s.world:push("main", "a")
  s.world:source_down(true)
  local made = s.plan()
  eq(made.summary, { changes = 0, unchanged = 0, refused = 0, errors = 2 })
  local d = place(made, "staging").decisions[1]
  eq(d.verdict, "error")
  has(d.reason, "nobody listens there")
end)

-- A policy of one's own, from text.
local function policy(text) return { staging = { file = "edited/staging.lua", text = text } } end

local function tries(body)
  return policy([[
    local http, fs, proc = require "http", require "fs", require "proc"
    return policy {
      watch = function() return { key = "k" } end,
      run = function(run) ]] .. body .. [[ end,
    }]])
end

test("what a policy does by itself is not done: the plan ends there and says why", function()
  local s = stage()
  s.world:push("main", "a")
  for body, why in pairs {
    ["run:step('migrate', nil, function() error 'performed' end)"] = 'run:step "migrate" decides what comes next',
    ["http.post('http://127.0.0.1:1/x', 'body')"] = "http.post to http://127.0.0.1:1/x would be sent",
    ["http.request { url = 'http://127.0.0.1:1/', method = 'DELETE' }"] = "http.request to http://127.0.0.1:1/ would",
    ["http.get('http://127.0.0.1:1/', { sink = 'f' })"] = "http.get to http://127.0.0.1:1/ would",
    ["proc.run { 'touch', '/tmp/moontide-plan-was-here' }"] = 'the command "touch /tmp/moontide-plan-was-here" would',
    ["fs.write('a', 'b')"] = "fs.write decides what comes next",
    ["fs.remove('a')"] = "fs.remove decides what comes next",
    ["pcall(fs.write, 'a', 'b') run:notify 'passed'"] = "fs.write decides what comes next",
  } do
    local told = place(s.plan { policies = tries(body) }, "staging")
    has(told.runs[1].ends or told.runs[1].error.message, why)
    eq({ told.outcome, #told.runs[1].steps }, { "change", 0 })
  end
  ok(not fs.exists "/tmp/moontide-plan-was-here")
  eq({ s.world:effects(), s.world:messages() }, { {}, {} })
  eq(fs.exists(s.state .. "/files/web/a"), false)
end)

test("a planned run reads its settings", function()
  local s = stage()
  s.world:push("main", "a")
  local edited = policy [[return policy {
    settings = { over = { type = "duration", default = "7s" } },
    watch = function() return { key = "k" } end,
    run = function(run) run:sleep(run.settings.over) run:notify("waited %d", run.settings.over) end,
  }]]
  local told = place(s.plan { policies = edited }, "staging")
  eq(told.runs[1].error, nil)
  eq(texts(told.runs[1]), { "do waits 7 s", "do tells ops: waited 7" })
end)

test("an option that a word does not have is refused where it stands, before anything happens", function()
  local s = stage()
  s.world:push("main", "a")
  for body, why in pairs {
    ["run:release(run:image(%q), { prat = 'eu' })"] = "run:release has no option 'prat' (did you mean part?)",
    ["run:publish(%q, { verson = '1.0.0' })"] = "run:publish has no option 'verson' (did you mean version?)",
    ["run:chart('web', { commit = %q, version = '1.0.0', app_versoin = '1' })"] =
      "run:chart has no option 'app_versoin' (did you mean app_version?)",
    ["run:image(%q, { verson = '1.0.0' })"] = "run:image has no option 'verson' (did you mean version?)",
    ["run:approval { votes = 1, within = '1d', id = %q }"] = "run:approval has no option 'within' (there are: votes,",
    ["run:image(%q, 'v1')"] = "the options of run:image are a table",
  } do
    local told = place(s.plan { policies = tries(body:format(C "a")) }, "staging")
    has(told.runs[1].error.message, "edited/staging.lua:4: ")
    has(told.runs[1].error.message, why)
  end
end)

test("an edited policy takes the place of the one of its name, and its faults have lines", function()
  local s = stage()
  s.world:push("main", "a")
  local made = s.plan { policies = policy [[return policy {
    watch = function(place)
      place:refuse("main", "it is %s", "Sunday")
      return nil, "closed"
    end,
    run = function() end }]] }
  local told = place(made, "staging")
  eq({ told.outcome, told.decisions[1].reason, told.decisions[1].file, told.decisions[1].line },
    { "refused", "it is Sunday", "edited/staging.lua", 3 })
  local config = sim.config(s.state)
  local faulty = policy "return policy {\n  wach = 1 }"
  local nothing, err = plan.make { config = config, world = s.world:world(), policies = faulty }
  eq(nothing, nil)
  eq({ err.faults[1].file, #err.faults }, { "edited/staging.lua", 1 })
  nothing, err = plan.make { config = config, world = s.world:world(), policies = { stagin = faulty.staging } }
  eq({ nothing, err.code }, { nil, "not_found" })
  has(err.message, "did you mean staging?")
end)

test("what is held and what waits is shown with its steps", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  assert(s.host:hold { app = "web", environment = "staging", by = "ann", reason = "freeze" })
  s.world:push("main", "b")
  s.settle()
  local told = place(s.plan(), "staging")
  eq({ told.hold.by, told.runs[1].state, told.runs[1].id }, { "ann", "held", 2 })
  ok(#told.runs[1].steps > 3)
  s.world:push("main", "c")
  told = place(s.plan(), "staging")
  eq({ #told.runs, told.runs[1].state, told.runs[1].superseded }, { 1, "held", { 2 } })
end)

test("a run that waits for people: its votes so far, and what comes after them", function()
  local s = stage()
  s.world:push("main", "a")
  local edited = tries "run:approval { votes = 2, id = 'web:1' } run:hold 'done'"
  local told = place(s.plan { policies = edited }, "staging")
  local said = texts(told.runs[1])
  has(said[1], "do tells ops: ")
  has(said[2], "do waits for approval of web:1: 0 of 2 votes, until ")
  eq(said[3], "change holds web staging: done")
end)

test("a run that waits for its window: when it opens, and what comes after", function()
  local s = stage()
  s.world:push("main", "a")
  local other = ({ "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" })[(time.clock("UTC").weekday + 2) % 7 + 1]
  local edited = tries(([[run:window { "%s", zone = "UTC", deadline = "9d" } run:window { "always" }
    run:retry(2, function() run:hold "done" end)]]):format(other))
  local said = texts(place(s.plan { policies = edited }, "staging").runs[1])
  has(said[1], ("do waits for its window: %s UTC opens at 2"):format(other))
  eq({ said[2], said[3] }, { "none its window is open: always never closes", "change holds web staging: done" })
end)

-- A plan as it is printed.
local function printed(made)
  local parts = {}
  local out = require("people.terminal").open(1, { color = false, write = function(text) parts[#parts + 1] = text end })
  require("people.cli.plan_text").print(out, made, 0)
  return table.concat(parts)
end

test("the page of the manual shows what a plan prints", function()
  local s = stage { accept = "minor" }
  s.world:push("main", "a")
  s.settle()
  s.world:tag("v1.0.0", "a")
  s.settle()
  s.world:push("main", "b")
  s.world:tag("v2.0.0", "a")
  local page = assert(fs.read "config/manual/plan.md")
  local sample = page:match "%$ moontide plan web\n(.-)\n\nEach"
  -- Ids, digests, times and names of places are those of the page's story.
  local function shape(text)
    return (text:gsub("sha256:%x+", "DIGEST"):gsub("%x%x%x%x%x%x%x%f[%X]", "COMMIT")
      :gsub("%d+%-%d+%-%d+T[%d:]+Z", "TIME"):gsub("registry%S+", "IMAGE"):gsub("%(docker%)", "(command)")
      :gsub("until docker", "until command"):gsub("http http%S+ within %d+ s", "CHECK"):gsub(":%d+%)", ":LINE)"))
  end
  eq(shape(printed(s.plan())), shape(sample:gsub("^    ", ""):gsub("\n    ", "\n") .. "\n"))
end)

test("a run that was interrupted is planned from its record on, its branches too", function()
  local s = stage()
  s.world:push("main", "a")
  local dir = s.dir .. "/scripts"
  assert(fs.mkdir(dir))
  assert(fs.write(dir .. "/staging.lua", [[return policy {
    watch = function(place) return place:head() end,
    run = function(run, head)
      local image = run:image(head.commit)
      run:all {
        function() image:tag "one" run:approval { votes = 2, id = "it" } image:tag "three" end,
        function() image:tag "two" end,
      }
      run:release(image)
    end }]]))
  s.host:close()
  s.host = sim.host(s.world, s.state, { scripts = dir })
  check.eventually(function()
    s.host:poll()
    local ended = "SELECT count(*) AS n FROM steps WHERE name IN ('image', 'tag', 'notify') AND state = 'ok'"
    return #s.host:approvals { pending = true } == 1 and s.host.journal:count(ended) == 4
  end, 20)
  s.host:vote(s.host:approvals({ pending = true })[1], "ann")
  local effects = s.world:effects()
  local config = sim.config(s.state, { scripts = dir })
  local told = place(assert(plan.make { config = config, world = s.world:world() }), "staging")
  eq({ #told.runs, told.runs[1].id, told.runs[1].state, told.runs[1].ends, told.runs[1].error },
    { 1, 1, "running" })
  local lines, done = {}, {}
  for _, step in ipairs(told.runs[1].steps) do
    table.insert(step.recorded and done or lines, step.text)
  end
  table.sort(done)
  eq(done, { "image: done already", "notify: done already", "tag: done already", "tag: done already" })
  has(lines[1], "waits for approval of it: 1 of 2 votes (ann), until ")
  has(lines[2], "tag three is set to sha256:")
  has(lines[3], "nothing runs there; would run")
  eq(s.world:effects(), effects)
end)

test("a release that failed is taken back: what is bad, and what comes again", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  s.world:trouble("b", "check")
  s.host.ask_rollback = function() end -- the host dies before it asks
  s.world:push("main", "b")
  s.host:poll()
  check.eventually(function() return s.host:history({ app = "web", limit = 9 }).runs[1].state == "failed" end, 20)
  local told = place(s.plan(), "staging")
  local run = told.runs[1]
  eq({ run.kind, run.policy, run.title }, { "rollback", "rollback", "take back " .. C("b"):sub(1, 7) })
  local said = table.concat(texts(run), "\n")
  has(said, ("change marks %s ("):format(C("b"):sub(1, 7)))
  has(said, ("change web staging (command): %s ("):format(C("b"):sub(1, 7)))
  has(said, (" -> %s ("):format(C("a"):sub(1, 7)))
  has(said, "do tells ops: took back")
end)

test("a workload that follows its image: from, to, the container, and who must agree", function()
  local herds = require "fixture.herd"
  local herd, dir = herds.new(), assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local repository = "registry.invalid/team/web"
  herd:put("deployment", "shop", "web", {
    ["keel.sh/policy"] = "minor", ["keel.sh/trigger"] = "poll", ["keel.sh/approvals"] = "2",
  }, { { "web", repository .. ":1.2.0" } })
  for _, tag in ipairs { "1.2.0", "1.3.0", "2.0.0" } do herd:push(repository, tag, tag) end
  local host = herd:host(dir.path)
  check.defer(function() pcall(host.close, host) end)
  local made = assert(plan.make { config = host.config, world = herd:world() })
  local told = made.places[1]
  eq({ told.app, told.outcome, told.runs[1].title }, { "shop/web", "change", "1.2.0 -> 1.3.0" })
  local said = table.concat(texts(told.runs[1]), "\n")
  has(said, "waits for approval of ")
  has(said, "0 of 2 votes")
  has(said, ("1.3.0 (%s)"):format(herds.digest("1.3.0"):sub(1, 19)))
  eq({ herd:image("deployment", "shop/web"), #herd.applied }, { repository .. ":1.2.0", 0 })
end)

test("each part of several is planned in turn, and a metric with what it is now", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.write(dir.path .. "/production.lua", "return policy { watch = function() end, run = function() end }"))
  assert(fs.write(dir.path .. "/staging.lua", [[return policy {
    watch = function(place) return place:head() end,
    run = function(run, head)
      local image = run:image(head.commit)
      run:release(image, { part = "eu" })
      run:metric { name = "errors", url = "http://numbers.invalid/", json = "rate", below = 0.1, over = "10m" }
      run:release(image)
    end }]]))
  local s = stage { parts = { "eu", "us" }, scripts = dir.path }
  s.world:push("main", "a")
  local world = s.world:world()
  local http = { get = function() return { status = 200, body = '{"rate":0.05}' } end }
  function world.module(name) return name == "http" and http or require(name) end
  local told = texts(place(s.plan { world = world }, "staging").runs[1])
  local short = C("a"):sub(1, 7)
  eq({ table.unpack(told, 2) }, {
    ("create web staging eu (command): nothing runs there; would run %s (new image)"):format(short),
    "do waits until command reports that it runs", "do checks http http://127.0.0.1/, within 1 s",
    "do samples errors for 10 m: must be below 0.1 (now it is 0.05)",
    ("create web staging us (command): nothing runs there; would run %s (new image)"):format(short),
    "do waits until command reports that it runs", "do checks http http://127.0.0.1/, within 1 s",
  })
  function http.get() return { status = 200, body = '{"rate":0.5}' } end
  has(texts(place(s.plan { world = world }, "staging").runs[1])[5], "(now it is 0.5, out of bounds)")
end)

test("every step of the program's own words has a planner", function()
  local names = 0
  for _, path in ipairs(require("base.sys").embedded_list()) do
    local text = path:find "^stdlib/.*%.lua$" and require("base.sys").embedded(path) or ""
    for word, name in text:gmatch 'steps:(%a+)%("([^"]+)"' do
      if word == "perform" or word == "await" then
        names = names + 1
        local planner = name == "step " or require("policy.plan").planner(name)
        ok(planner, ("%s: no planner for the step %q"):format(path, name))
      end
    end
  end
  ok(names > 12)
end)

test("an image that must be one that was proved is found by its digest, and never built", function()
  local s = stage()
  s.world:push("main", "a")
  s.settle()
  local digest = s.world:running("staging").digest
  local function plan_of(wanted)
    return place(s.plan { policies = tries(("run:release(run:image(%q, { digest = %q }))"):format(C "a", wanted)) },
      "staging").runs[1]
  end
  eq(texts(plan_of(digest))[1], ("none image of %s is in the registry: %s"):format(C("a"):sub(1, 7), digest))
  local run = plan_of("sha256:" .. ("0"):rep(64))
  eq({ run.steps[1].action, run.error.code }, { "fail", "not_found" })
end)

test("where apps could not be looked for, a plan is an error and not nothing", function()
  local herds = require "fixture.herd"
  local herd, dir = herds.new(), assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local host = herd:host(dir.path)
  check.defer(function() pcall(host.close, host) end)
  local world = herd:world()
  world.cluster = function() return require("errors").fail("refused", "nobody listens there") end
  local made = assert(plan.make { config = host.config, world = world })
  eq({ made.summary.errors, #made.troubles }, { 1, 1 })
  has(made.troubles[1].text, "looking for apps (keel) failed: ")
  has(printed(made), "! looking for apps (keel) failed: ")
end)

test("a watch that tries to change something is refused in a plan as it is at a poll", function()
  local s = stage()
  s.world:push("main", "a")
  local told = place(s.plan { policies = policy [[
    local http, fs, proc = require "http", require "fs", require "proc"
    return policy {
      watch = function()
        local said = {}
        local function try(fn, ...) said[#said + 1] = pcall(fn, ...) and "done" or "refused" end
        try(http.post, "http://127.0.0.1:1/", "x")
        try(http.request, { url = "http://127.0.0.1:1/", method = "PUT" })
        try(http.get, "http://127.0.0.1:1/", { sink = "f" })
        try(http.get, "http://127.0.0.1:1/", { unix = "/run/docker.sock" })
        try(proc.run, { "touch", "/tmp/moontide-plan-was-here" })
        try(proc.spawn, { "touch", "/tmp/moontide-plan-was-here" })
        try(fs.write, "a", "b")
        try(fs.append, "a", "b")
        try(fs.mkdir, "a")
        try(fs.remove, "a")
        try(fs.rename, "a", "b")
        return nil, table.concat(said, " ")
      end,
      run = function() end }]] }, "staging")
  eq(told.decisions[1].reason, ("refused "):rep(11):sub(1, -2))
  eq({ s.world:effects(), fs.exists "/tmp/moontide-plan-was-here", fs.exists(s.state .. "/files/web") },
    { {}, false, false })
end)

test("a run that waits in turns for ever has a plan that ends", function()
  local s = stage()
  s.world:push("main", "a")
  local run = place(s.plan { policies = policy [[return policy {
    watch = function(place) return place:head() end,
    run = function(run) while true do run:sleep("1h") end end }]] }, "staging").runs[1]
  eq({ #run.steps, run.ends, run.error }, { 1000, "a plan shows no more than 1000 steps", nil })
end)
