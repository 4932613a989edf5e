-- A decision in its three parts, each by itself: asking and judging change nothing, accepting does what was judged.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local accept, ask, fs, judge, sim = require "engine.accept", require "engine.ask", require "fs", require "engine.judge",
  require "sim"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local C = sim.commit
local QUIET <const> = "return policy { watch = function() return nil, 'quiet' end, run = function() end }"

-- A world and a host whose staging has a watch of our own.
local function stage(body)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local options = { scripts = dir.path .. "/scripts" }
  assert(fs.mkdir(options.scripts))
  assert(fs.write(options.scripts .. "/production.lua", QUIET))
  local function watch(text)
    assert(fs.write(options.scripts .. "/staging.lua",
      "return policy { run = function() end, watch = function(place)\n" .. text .. "\nend }"))
  end
  watch(body or "return place:head()")
  local world = sim.open(dir.path .. "/world")
  local host = sim.host(world, dir.path .. "/state", options)
  check.defer(function() host:close() end)
  local s = {
    watch = watch, world = world, host = host, dir = dir.path, place = host:place("web", "staging"), events = {},
  }
  host.on_event = function(event) table.insert(s.events, event) end
  s.policy = host.policies.staging
  function s.ask() return ask.ask(s.place, s.policy) end
  function s.judge(answer) return judge.judge(answer, judge.memory(host.journal, s.place, s.policy, answer)) end
  function s.changes() return host.journal:row("SELECT total_changes() AS n").n end
  function s.rows(table) return host.journal:row("SELECT count(*) AS n FROM " .. table).n end
  function s.why(subject)
    for _, d in ipairs(assert(host:why("web", "staging")).decisions) do
      if d.subject == subject and d.policy == "staging" then return d end
    end
  end
  return s
end

-- What a watch raises.
local function fails_with(s, text)
  s.watch(text)
  ok(s.host:reload())
  s.policy = s.host.policies.staging
  return tostring(s.ask().err)
end

test("a refusal names the rule's line, by a tail call, from a helper and through pcall, too", function()
  local s = stage [[
    local function rule(name)
      return place:refuse(name, "by a helper's tail call")
    end
    rule "v1"
    pcall(place.refuse, place, "v2", "through pcall")
    for _, name in ipairs { "v3" } do
      rule(name)
    end
    return place:alarm("v4",
      "the watch's own tail call")]]
  local found = {}
  for _, d in ipairs(s.ask().refusals) do found[d.subject] = { d.file, d.line } end
  local file = s.dir .. "/scripts/staging.lua"
  eq(found, { v1 = { file, 3 }, v2 = { file, 6 }, v3 = { file, 3 }, v4 = { file, 10 } })
  has(fails_with(s, "return place:refuse('', 'no')"), "staging.lua:2:")
  has(fails_with(s, "local words = { place.refuse } return words[1]({}, 'v1', 'no')"), "staging.lua:2:")
end)

test("asking and judging write nothing, however often; accepting begins the run and remembers the key", function()
  local s = stage()
  s.world:push("main", "a")
  assert(s.host.world.repository(s.place.app_config):refs())
  local before, judgement = s.changes(), nil
  for _ = 1, 3 do
    judgement = s.judge(s.ask())
    eq({ judgement.change.key, judgement.change.data.commit, judgement.seen }, { C "a", C "a" })
    eq(judgement.decisions, { { subject = "", verdict = "accepted", reason = "main at " .. C("a"):sub(1, 7) } })
  end
  eq({ s.changes(), #s.events, next(s.host.said) }, { before, 0 })
  local run = accept.accept(s.host.journal, judgement)
  eq(s.host.journal:run_by_id(run).key, C "a")
  eq(s.judge(s.ask()).decisions[1].verdict, "unchanged")
end)

test("what an answer means follows from the answer and the memory alone", function()
  local change = { key = "k2", title = "two", commit = "c2" }
  local function memory(fields)
    local m = { app = "web", environment = "staging", policy = { name = "staging", kind = "change" } }
    for name, value in pairs(fields) do m[name] = value end
    return m
  end
  for _, case in ipairs {
    { { change = change }, {}, "accepted", "k2" },
    { { change = change }, { watch = { key = "k1", run = 1 } }, "accepted", "k2" },
    { { change = change }, { watch = { key = "k1" }, held = { by = "ann" } }, "held", "k2" },
    { { change = change }, { watch = { key = "k2", run = 7 } }, "unchanged" },
    { { change = change }, { taken_back = "it was sick" }, "refused", nil, "k2" },
    { { change = change }, { watch = { key = "k2" }, taken_back = "it was sick" }, "refused" },
    { { change = change }, { watch = { key = "k1" }, taken_back = "it was sick" }, "accepted", "k2" },
    { { change = change }, { adopted = { healthy = true, commit = "c2" } }, "unchanged", nil, "k2" },
    { { change = change }, { adopted = { healthy = false, commit = "c2" } }, "accepted", "k2" },
    { { reason = "no news" }, { watch = { key = "k2" } }, "nothing" },
    { ask.failed(require("errors").new("timeout", "too slow")), {}, "error" },
  } do
    local answer = case[1]
    answer.refusals = { { subject = "v1", verdict = "refused", reason = "old" } }
    local judgement = judge.judge(answer, memory(case[2]))
    eq({ #judgement.decisions, judgement.decisions[1].subject, judgement.decisions[2].verdict }, { 2, "v1", case[3] })
    eq(judgement.change and judgement.change.key, case[4], case[3])
    eq(judgement.seen and judgement.seen.key, case[5], case[3])
    eq(answer.refusals[2], nil, "the answer stays as it was")
  end
  eq(judge.judge({ reason = "no news", refusals = {} }, memory {}).seen, {}, "first sight is remembered")
end)

test("accepting needs a journal and nothing else: the run, what it supersedes, what is new of the decisions", function()
  local dir = assert(fs.temp_dir())
  local journal = assert(require("journal").open(dir.path))
  check.defer(function() journal:close() dir:close() end)
  local function judged(key, reason, latest)
    local policy = { name = "staging", kind = "change", latest = latest }
    local refused = { subject = "v1", verdict = "refused", reason = reason, alarm = true }
    return judge.judge({ change = { key = key }, refusals = { refused } },
      { app = "web", environment = "staging", policy = policy, watch = { key = "k0" } })
  end
  local units = {}
  local function subjects(list)
    for i, d in ipairs(list) do list[i] = d.subject .. ": " .. d.reason end
    return list
  end
  local judgement = judged("k1", "old", false)
  local first, superseded = accept.accept(journal, judgement)
  eq({ journal:run_by_id(first).key, superseded, journal:watch("web", "staging").key }, { "k1", 0, "k1" })
  local fresh, alarms = accept.record(journal, judgement, units)
  eq({ subjects(fresh), subjects(alarms) }, { { "v1: old", ": k1" }, { "v1: old" } })
  judgement = judged("k2", "old", true)
  local second
  second, superseded = accept.accept(journal, judgement)
  eq({ journal:run_by_id(first).state, journal:run_by_id(second).state, superseded }, { "superseded", "queued", 1 })
  eq(subjects((accept.record(journal, judgement, units))), { ": k2" }, "only what differs")
  accept.record(journal, judged("k2", "odd", true), units)
  fresh, alarms = accept.record(journal, judged("k2", "old", true), units)
  eq({ #fresh, #alarms }, { 1, 0 }, "an alarm that was heard before")
  accept.accept(journal, judge.judge({ reason = "no news", refusals = {} },
    { app = "web", environment = "production", policy = { name = "production", kind = "change" } }))
  ok(journal:watch("web", "production"))
end)

test("an order asks a policy without a decision of it being recorded", function()
  local s = stage "place:refuse('v1', 'not now') return place:head()"
  s.world:push("main", "a")
  local applied = assert(s.host:apply { app = "web", environment = "staging", by = "ann" })
  eq(applied.title, "main at " .. C("a"):sub(1, 7))
  eq(s.rows "decisions", 0)
  ok(next(s.host.said) == nil)
  has(s.ask().refusals[1].reason, "not now")
end)

test("what is no plain data is an error with the watch's line, and the others are asked all the same", function()
  local cycle = "local t = { key = 'x' } t.t = t return t"
  local deep = "local t = { key = 'x' } local at = t for i = 1, 300 do at.t = {} at = at.t end return t"
  for body, part in pairs {
    ["return { key = 'x', a = { 0/0 } }"] = "a[1] is NaN",
    ["return { key = 'x', a = { b = print } }"] = "a.b is a function",
    ["return { key = 'x', a = { 1, nil, 3 } }"] = "a is a list with holes", [cycle] = "a cycle", [deep] = "nested",
    ["return { key = 'x', a = { 1, x = 2 } }"] = "named fields", ["return { key = 'x\\xff' }"] = "UTF-8",
    ["return { key = 'x', at = place }"] = "an object at at",
    ["return { key = 'x', a = ('y'):rep(30 << 20) }"] = "larger than",
    ["local a = {} for i = 1, 1e5 do a[i] = i end return { key = 'x', a = a }"] = "20000 values",
    ["return { key = 'x', title = ('y'):rep(3000) }"] = "`title`", ["return { key = 'x', by = {} }"] = "`by`",
    ["return 1"] = "a table with a text `key`", ["return { [1.5] = 1, key = 'x' }"] = "neither a string nor an index",
    ["return { key = 'x', a = setmetatable({}, { __index = error }) }"] = "an object at a",
    ["\nerror 'no'"] = "no", ["error(('x'):rep(30 << 20))"] = "xxx", ["return nil, ('x'):rep(30 << 20)"] = "xxx",
  } do
    local s = stage(body)
    s.world:push("main", "a")
    assert(s.host:poll())
    assert(s.host:poll())
    local d = s.why(nil)
    has(d.reason, part)
    ok(#d.reason <= 2000, body)
    if not body:find "return nil" then
      local line = body:find "^\n" and 3 or body:find "^error" and 2 or 1 -- what raises has a line of its own
      eq({ d.verdict, d.file, d.line }, { "error", s.dir .. "/scripts/staging.lua", line }, body)
    end
    eq({ s.rows "runs", s.why "none" }, { 0 })
    local asked = {}
    for _, e in ipairs(assert(s.host:why "web").decisions) do asked[e.environment .. " " .. e.policy] = true end
    for _, other in ipairs { "staging rollback", "production production", "production rollback" } do
      ok(asked[other], other)
    end
  end
end)

test("a policy whose decision cannot be kept does not keep the next from being asked", function()
  local s = stage()
  s.world:push("main", "a")
  local real = s.host.journal.accept
  s.host.journal.accept = function() error(require("errors").new("full", "the disk is full"), 0) end
  check.raises("the disk is full", function() s.host:poll() end)
  ok(s.host.said["web/production/production"], "production was asked")
  s.host.journal.accept = real
  eq(#assert(s.host:poll()).changes, 1)
end)

test("two refusals of one subject are one decision, which does not flap; an alarm is told once", function()
  local s = stage [[
    place:refuse("v1", "too old")
    place:alarm("v1", "it moved")
    place:refuse("v1", "too old")
    place:refuse("v2", "no") place:refuse("v2", "not that either")
    return nil, "nothing"]]
  s.world:push("main", "a")
  for _ = 1, 10 do assert(s.host:poll()) end
  eq({ s.why("v1").reason, s.why("v2").reason, s.why("v1").count }, { "too old; it moved", "no; not that either", 10 })
  eq(s.host.journal:row("SELECT count(*) AS n FROM decisions WHERE policy = 'staging'").n, 3)
  check.eventually(function() return #s.world:messages() > 0 end)
  eq(s.world:messages(), { "too old; it moved" })
  eq(s.why("v1").line, 3)
end)

test("an alarm that takes turns with another one is told once, also over a restart", function()
  local s = stage [[
    local head = place:head()
    place:alarm("v1", head.commit:sub(1, 1) == "c" and "it moved to c" or "it moved")
    return nil, "nothing"]]
  for i = 1, 6 do
    s.world:push("main", i % 2 == 0 and "a" or "b")
    assert(s.host:poll())
    if i == 4 then s.host.said = {} end
  end
  check.eventually(function() return #s.world:messages() >= 2 end)
  local seen = s.world:messages()
  table.sort(seen)
  eq(seen, { "it moved", "it moved to c" })
end)

test("however many subjects a policy names, what is kept, written and told is bounded; the rest is counted", function()
  local s = stage [[
    local n = require("time").now()
    for i = 1, 20000 do place:refuse(("v%.6f.%d"):format(n, i), "no") end
    place:alarm("moved", "it moved")
    return nil, "nothing"]]
  s.world:push("main", "a")
  for _ = 1, 10 do assert(s.host:poll()) end
  eq(s.why("(others)").reason, "19000 more were refused; the first 1001 are kept")
  eq(s.why("moved").reason, "it moved")
  local current = 0
  for _ in pairs(s.host.said["web/staging/staging"].said) do current = current + 1 end
  ok(current <= 2100, current)
  ok(s.rows "decisions" <= 4500, s.rows "decisions")
  ok(#s.events <= 300, #s.events)
  local size = require("fs").stat(s.dir .. "/state/journal.db").size
  ok(size < 4 << 20, size)
end)

test("a refusal needs a subject, and a question that it answers", function()
  local s = stage "place:refuse('', 'no') return nil, 'x'"
  has(s.ask().err.message, "the subject is empty")
  check.raises("inside of watch", function() s.place:refuse("v1", "no") end)
end)

test("asking, judging and accepting need no engine: a policy, a place in a world, and a journal", function()
  local dir = assert(fs.temp_dir())
  local journal = assert(require("journal").open(dir.path))
  check.defer(function() journal:close() dir:close() end)
  local source = sim.open(dir.path .. "/world")
  source:push("main", "a")
  local config = sim.config(dir.path)
  local outside = require("engine.world").of(config, source:world())
  local app = config.app_list[1]
  local place = require("policy.place").maker {
    journal = journal, world = outside, suspensions = {}, state = dir.path,
  }(app, app.environments.staging, {})
  local compiled = assert(require("policy.load").compile("staging", [[
    return policy { watch = function(place) return place:head() end, run = function() end }]], "staging.lua"))
  local function judgement()
    local answer = ask.ask(place, compiled)
    return judge.judge(answer, judge.memory(journal, place, compiled, answer))
  end
  local first = judgement()
  eq({ first.change.key, #source:effects(), journal:watch("web", "staging") }, { C "a", 0, nil })
  local run = accept.accept(journal, first)
  eq({ journal:run_by_id(run).key, #source:effects() }, { C "a", 0 })
  eq(judgement().decisions[1].verdict, "unchanged")
end)
