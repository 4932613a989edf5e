-- A decision in its three parts, each by itself: asking and judging change nothing, accepting does what was judged.
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
  local s = { world = world, host = host, dir = dir.path, place = host:place("web", "staging"), events = {} }
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

test("asking and judging write nothing, however often; accepting begins the run and remembers the key", function()
  local s = stage()
  s.world:push("main", "a")
  assert(s.host:repository(s.place.app):refs())
  local before, judgement = s.changes(), nil
  for _ = 1, 3 do
    judgement = s.judge(s.ask())
    eq({ judgement.change.key, judgement.change.data.commit, judgement.seen }, { C "a", C "a" })
    eq(judgement.decisions, { { subject = "", verdict = "accepted", reason = "main at " .. C("a"):sub(1, 7) } })
  end
  eq({ s.changes(), #s.events, next(s.host.said) }, { before, 0 })
  local run = accept.accept(s.host, s.place, s.policy, judgement)
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

test("an order asks a policy without a decision of it being recorded", function()
  local s = stage "place:refuse('v1', 'not now') return place:head()"
  s.world:push("main", "a")
  local applied = assert(s.host:apply { app = "web", environment = "staging", by = "ann" })
  eq(applied.title, "main at " .. C("a"):sub(1, 7))
  eq(s.rows "decisions", 0)
  ok(next(s.host.said) == nil)
  has(s.ask().refusals[1].reason, "not now")
end)
