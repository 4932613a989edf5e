-- The election's rules: one holder at a time, whatever clocks, answers and processes do. No cluster: a store in memory.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, raises = check.test, check.eq, check.ok, check.raises
local election = require "hosts.election"
local errors, task, time = require "errors", require "task", require "time"

-- A store as the API server is one: an update works only on the version that was read. `fault(word)` may spoil a call:
-- "refuse" (nothing happens), "lose" (it happens, the answer does not come).
local function memory(fault)
  local store = { version = 0, record = nil, writes = 0, wait = nil }
  local function copy(r)
    local c = {}
    for k, v in pairs(r) do c[k] = v end
    return c
  end
  local function put(r)
    store.version, store.writes = store.version + 1, store.writes + 1
    store.record = copy(r)
    store.record.version = store.version
    return copy(store.record)
  end
  local function call(word, fn)
    local what = fault and fault(word)
    if store.wait then store.wait(word) end
    if what == "refuse" then return errors.fail("refused", "nobody listens", { op = "lease." .. word }) end
    local answer, err = fn()
    if what == "lose" then return errors.fail("timeout", "no answer", { op = "lease." .. word }) end
    return answer, err
  end
  function store.get()
    return call("get", function()
      if not store.record then return errors.fail("not_found", "no lease") end
      return copy(store.record)
    end)
  end
  function store.create(_, r)
    return call("create", function()
      if store.record then return errors.fail("exists", "there is one") end
      return put(r)
    end)
  end
  function store.update(_, r)
    return call("update", function()
      if not store.record then return errors.fail("not_found", "no lease") end
      if store.record.version ~= r.version then return errors.fail("conflict", "it changed") end
      return put(r)
    end)
  end
  return store
end

local function candidate(store, name, now, options)
  options = options or {}
  return election.new {
    store = store, identity = name, duration = options.duration or 15, renew = options.renew or 10,
    retry = options.retry or 2, clock = now, wall = options.wall or function() return 1763900000 + now() end,
    random = options.random or function() return 0.5 end, on_change = options.on_change,
  }
end

-- ---- the rules, one by one ----

test("the first takes a lease that nobody has made, and its generation is 1", function()
  local t, store = 100, memory()
  local a = candidate(store, "a", function() return t end)
  eq(a:try(), true)
  eq(a.generation, 1)
  eq(store.record.holder, "a")
  eq(store.record.transitions, 0)
  eq(store.record.duration, 15)
  ok(store.record.renewed:find("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%dZ$"), store.record.renewed)
  ok(a:acting())
  eq(a:left(), 15)
end)

test("a candidate waits until the record was unchanged for its duration, by its own clock", function()
  local ta, tb, store = 0, 5000, memory()
  local a, b = candidate(store, "a", function() return ta end), candidate(store, "b", function() return tb end)
  ok(a:try())
  eq({ b:try() }, { false })
  eq(b:holder(), "a")
  tb = tb + 14.9
  eq(b:try(), false)
  tb = tb + 0.2
  eq(b:try(), true)
  eq(b.generation, 2)
  eq(store.record.transitions, 1)
  -- The old one learns it at its next renewal, whatever its clock says.
  local leading, err = a:try()
  eq(leading, false)
  eq(err.code, "conflict")
  ok(err.message:find("b holds the lease now"), err.message)
  ok(not a:acting())
end)

test("a renewal starts the candidate's wait again", function()
  local t, store = 0, memory()
  local a, b = candidate(store, "a", function() return t end), candidate(store, "b", function() return t end)
  ok(a:try())
  b:try()
  for _ = 1, 20 do
    t = t + 8
    eq(a:try(), true)
    eq(b:try(), false)
  end
  eq(a.generation, 1)
  eq(store.record.transitions, 0)
end)

test("the holder stops acting at the renew deadline, counted from before it asked", function()
  local t, down = 0, false
  local store = memory(function() return down and "refuse" or nil end)
  store.wait = function() t = t + 1 end -- each answer takes a second
  local a = candidate(store, "a", function() return t end)
  ok(a:try())
  eq(a.renewed_at, 0) -- asked at 0 (get, then create), though it is 2 by now
  down, store.wait = true, nil
  t = 9.5
  ok(a:acting())
  t = 10
  ok(not a:acting())
  eq(a:try(), false)
  ok(not a.leading)
  eq(a:left(), 5)
end)

test("a renewal that comes too late does not count, although the store took it", function()
  local t, slow, store = 0, 0, memory()
  store.wait = function() t = t + slow end
  local a = candidate(store, "a", function() return t end)
  ok(a:try())
  t, slow = 9, 2
  local leading, err = a:try()
  eq(leading, false)
  eq(err.code, "timeout")
  eq(store.record.holder, "a")
  slow = 0
  eq(a:try(), true) -- it may begin anew, with a new generation
  eq(a.generation, 2)
end)

test("an acquisition whose answer got lost is found, and counts anew", function()
  local t, spoil = 0, nil
  local store = memory(function(word) return word == spoil and "lose" or nil end)
  local a = candidate(store, "a", function() return t end)
  spoil = "create"
  eq(a:try(), false)
  eq(store.record.holder, "a")
  spoil, t = nil, 3
  eq(a:try(), true)
  eq(a.renewed_at, 3)
  eq(a.generation, 2)
end)

test("a renewal whose answer got lost is made again from a fresh record", function()
  local t, spoil = 0, nil
  local a
  local store = memory(function(word)
    if word == spoil then spoil = nil return "lose" end
  end)
  a = candidate(store, "a", function() return t end)
  ok(a:try())
  t, spoil = 2, "update"
  eq(a:try(), true)
  eq(a.renewed_at, 2)
  eq(a.generation, 1)
end)

test("wall clocks do not matter, however far apart", function()
  local t, store = 0, memory()
  local a = candidate(store, "a", function() return t end, { wall = function() return 4102444800 end }) -- 2100
  local b = candidate(store, "b", function() return t end, { wall = function() return 86400 end })      -- 1970
  ok(a:try())
  eq(b:try(), false)
  t = 8
  ok(a:try())
  t = 14
  eq(b:try(), false)
  t = 22
  eq(b:try(), false) -- it saw the renewal of 8 only at 14
  t = 29.1
  eq(b:try(), true)
  eq(store.record.renewed:sub(1, 4), "1970")
  eq(a:try(), false)
end)

test("a released lease is free at once, and the generation goes on", function()
  local t, store = 0, memory()
  local a, b = candidate(store, "a", function() return t end), candidate(store, "b", function() return t end)
  ok(a:try())
  b:try()
  ok(a:release(1))
  ok(not a:acting())
  eq(store.record.holder, nil)
  eq(store.record.duration, 1)
  eq(b:try(), true)
  eq(b.generation, 2)
  eq(a:release(1), false) -- it is not ours to give
  eq(store.record.holder, "b")
end)

test("a release after a lost answer still finds its own record", function()
  local t, spoil = 0, nil
  local store = memory(function(word)
    if word == spoil then spoil = nil return "lose" end
  end)
  local a = candidate(store, "a", function() return t end)
  ok(a:try())
  store.record.version = store.record.version + 1 -- our own renewal, whose answer did not come
  store.version = store.record.version
  ok(a:release(1))
  eq(store.record.holder, nil)
end)

test("a removed lease starts no second holder and no lower generation", function()
  local t, store = 0, memory()
  local a, b = candidate(store, "a", function() return t end), candidate(store, "b", function() return t end)
  store.record = { holder = "z", duration = 15, renewed = "x", transitions = 6, version = 1 }
  store.version = 1
  eq(a:try(), false)
  t = 16
  ok(a:try())
  eq(a.generation, 8)
  b:try()
  store.record = nil
  t = 18
  eq(b:try(), false) -- a may still act
  eq(store.record, nil)
  eq(a:try(), true)  -- and makes it again
  eq(a.generation, 8)
  t = 20
  b:try()
  store.record = nil
  t = 40
  eq(b:try(), false) -- it looked away for long: a may have renewed meanwhile
  t = 55.1
  eq(b:try(), true)
  eq(b.generation, 9)
  eq(a:try(), false)
end)

test("raise lifts the generation above what somebody found outside, only while the lease is ours", function()
  local t, store = 0, memory()
  local a, b = candidate(store, "a", function() return t end), candidate(store, "b", function() return t end)
  ok(a:try())
  ok(a:raise(41))
  eq(a.generation, 41)
  eq(store.record.transitions, 40)
  t = 3
  b:try()
  t = 20
  ok(b:try())
  eq(b.generation, 42)
  eq(a:raise(50), false)
  eq(store.record.holder, "b")
end)

test("a record that says nonsense neither blocks for good nor lets anybody in early", function()
  local t, store = 0, memory()
  local a = candidate(store, "a", function() return t end)
  store.record = { holder = "z", duration = 1e12, renewed = "x", transitions = 0, version = 1 }
  eq(a:try(), false)
  t = 3599
  eq(a:try(), false)
  t = 3601
  eq(a:try(), true)
  for _, odd in ipairs { 0, -5, 0 / 0, "x", false } do
    local b = candidate(store, "b", function() return t end)
    store.record = { holder = "z", duration = odd or nil, renewed = tostring(odd), transitions = 0, version = 9 }
    eq(b:try(), false)
    t = t + 14
    eq(b:try(), false)
    t = t + 2
    eq(b:try(), true)
  end
end)

test("an attempt that hangs ends in half of the renew deadline", function()
  local store = memory()
  local a = candidate(store, "a", time.monotonic, { duration = 0.6, renew = 0.4, retry = 0.1 })
  store.wait = function() time.sleep(60) end
  local began = time.monotonic()
  local leading, err = a:try()
  eq(leading, false)
  eq(err.code, "timeout")
  local took = time.monotonic() - began
  ok(took > 0.15 and took < 30, tostring(took)) -- the store would hang for 60 s
end)

test("the three times must fit together", function()
  raises("duration > renew", function() candidate(memory(), "a", time.monotonic, { duration = 10, renew = 10 }) end)
  raises("duration > renew", function()
    candidate(memory(), "a", time.monotonic, { duration = 15, renew = 2.4, retry = 2 })
  end)
end)

test("a candidate looks again when what it saw runs out, not later", function()
  local t, store = 0, memory()
  local a, b = candidate(store, "a", function() return t end), candidate(store, "b", function() return t end)
  ok(a:try())
  eq(b:pause(), 2.2)
  b:try()
  t = 14
  local pause = b:pause()
  ok(pause > 1 and pause < 1.1, tostring(pause))
end)

-- ---- many of them ----

-- One run of a small world: candidates with clocks of their own (offset and a rate that is a little off), stores that
-- refuse and lose answers, processes that stand still, die and come back. Time is simulated; at every moment at most
-- one may act.
local function world(seed, steps)
  local state = seed * 2862933555777941757 + 3037000493
  local function random()
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 11) * 2.0 ^ -53
  end
  local now, trouble = 0, 0
  local store = memory(function()
    if random() < trouble then return random() < 0.5 and "refuse" or "lose" end
  end)
  local all, holds, last_generation, quiet_until = {}, {}, 0, 0
  local function enter(i, incarnation)
    local c = { offset = random() * 1e6, rate = 1 + (random() - 0.5) * 0.02, at = now + random() * 2 }
    c.clock = function() return c.offset + now * c.rate end
    c.election = candidate(store, ("host%d.%d"):format(i, incarnation), c.clock,
      { random = random, wall = function() return 1763900000 + (random() - 0.5) * 1e8 end })
    c.incarnation = incarnation
    all[i] = c
  end
  for i = 1, 5 do enter(i, 1) end
  local function watch()
    local acting
    for i, c in ipairs(all) do
      if c.election:acting() then
        if acting then return ("hosts %d and %d act at %.3f"):format(acting, i, now) end
        acting = i
        local generation = c.election.generation
        if generation < last_generation then return ("generation %d after %d"):format(generation, last_generation) end
        if generation > last_generation then holds[#holds + 1] = c.election.identity end
        last_generation = generation
      end
    end
  end
  for _ = 1, steps do
    local soonest = all[1]
    for _, c in ipairs(all) do
      if c.at < soonest.at then soonest = c end
    end
    local fault
    while now < soonest.at do -- look between the events, too
      now = math.min(soonest.at, now + 0.5)
      fault = fault or watch()
    end
    local e = soonest.election
    if random() < 0.02 then trouble = random() < 0.5 and 0 or random() end
    local dice = random()
    if dice < 0.01 and now > quiet_until then
      for i, c in ipairs(all) do
        if c == soonest then enter(i, c.incarnation + 1) end -- killed, and started again
      end
    elseif dice < 0.03 then
      soonest.at = now + random() * 40 -- stopped for a while
    elseif dice < 0.035 and e.leading then
      e:release(1)
      soonest.at = now + 1
    elseif dice < 0.037 then
      -- Somebody removed it. Only who comes new after that cannot know what was.
      local known = trouble == 0 and now > quiet_until
      for _, c in ipairs(all) do known = known and c.election.observed ~= nil end
      if known then store.record, quiet_until = nil, now + 60 end
    else
      local was = e.leading
      e:try()
      if was and not e.leading then soonest.at = now + 0.1
      else soonest.at = now + (e.leading and 2 or e:pause()) end
    end
    fault = fault or watch()
    if fault then return fault end
  end
  return nil, #holds
end

test("five hosts in a thousand bad worlds: never two at a time, never a lower generation", function()
  local turns = 0
  for seed = 1, 1000 do
    local fault, holds = world(seed, 300)
    if fault then error(("seed %d: %s"):format(seed, fault)) end
    turns = turns + holds
    if seed % 20 == 0 then time.sleep(0) end
  end
  ok(turns > 3000, "too few changes of the holder to prove anything: " .. turns)
end)

test("ten candidates at once: one wins each turn, and the others' writes are refused", function()
  local store = memory()
  store.wait = function() time.sleep(math.random() * 0.004) end
  local holds, acting, most, over = {}, 0, 0, false
  local tasks = {}
  for i = 1, 10 do
    local e = candidate(store, "host" .. i, time.monotonic, { duration = 0.5, renew = 0.35, retry = 0.1,
      random = math.random })
    tasks[i] = task.spawn(function()
      while e:acquire(function() return over end) do
        acting = acting + 1
        most = math.max(most, acting)
        holds[#holds + 1] = { host = i, generation = e.generation }
        time.sleep(0.05)
        acting = acting - 1
        if math.random() < 0.5 then e:release(0.2) else e.leading = false end -- an end in order, or without a word
      end
    end)
  end
  check.eventually(function() return #holds >= 20 end, 100, "they take turns")
  over = true
  for _, t in ipairs(tasks) do t:join(100) end
  eq(most, 1)
  for i = 2, #holds do ok(holds[i].generation > holds[i - 1].generation, "a generation came twice") end
end)

test("keep renews until it cannot, and says why", function()
  local down = false
  local store = memory(function() return down and "refuse" or nil end)
  local a = candidate(store, "a", time.monotonic, { duration = 15, renew = 5, retry = 0.1 })
  ok(a:try())
  local renewed, lost_at = 0, nil
  local keeping = task.spawn(function()
    local err = a:keep(function() renewed = renewed + 1 end)
    lost_at = time.monotonic()
    return err
  end)
  check.eventually(function() return renewed >= 5 end, 30, "it renews")
  ok(a:acting())
  down = true
  local err = keeping:join(40)
  eq(errors.is(err), true)
  local age = lost_at - a.renewed_at
  ok(age >= 5, tostring(age))
  ok(not a.leading)
  ok(a:left() > 0.1, tostring(a:left()))
end)

test("a standby tells strangers who acts, and only the operator what the API server said", function()
  local problem = errors.new("denied", "may not get leases in namespace ops as system:serviceaccount:ops:moontide")
  local store = { namespace = "ops", name = "moontide" }
  function store.get() return nil, problem end
  local a = candidate(store, "a", time.monotonic)
  a:try()
  local s = require("hosts.standby").new({ state = "/var/lib/moontide" }, a)
  s.trouble = "the state could not be opened: /var/lib/moontide is locked"
  local told = s:health().reason
  eq(told, "standby; nobody acts; the last look at the Lease failed; the state could not be opened")
  eq(s:status().host.reason, s.trouble)
  eq(s:status().host.leader.error.message, problem.message)
  s.trouble = nil
  eq(s:health().standby, "standby; nobody acts; the last look at the Lease failed")
end)
