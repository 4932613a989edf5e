-- Runs that wait for people: through restarts, to their votes, to a no, to the end of their time.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, hash, json, sim, task, time = require "fs", require "hash", require "json", require "sim", require "task",
  require "time"
local control = require "people.control"
local test, eq, ok, fails = check.test, check.eq, check.ok, check.fails

local SCRIPT <const> = [[
return policy {
  watch = function(place) return place:head() end,
  run = function(run, head)
    run:log("asking")
    run:approval { id = "staging of " .. head.commit, votes = 2, deadline = %s, digest = "sha256:x", to = "v9" }
    run:step("the work", {}, function() return "done" end)
  end,
}]]

local function stage(deadline, script)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.mkdir(dir.path .. "/scripts"))
  for _, name in ipairs { "production", "rollback" } do
    assert(fs.write(("%s/scripts/%s.lua"):format(dir.path, name), assert(fs.read(("scripts/%s.lua"):format(name)))))
  end
  assert(fs.write(dir.path .. "/scripts/staging.lua", script or SCRIPT:format(deadline or 3600)))
  local world = sim.open(dir.path .. "/world")
  world:push("main", "a")
  local s = { dir = dir.path, world = world }
  function s.open()
    local host = sim.host(world, dir.path .. "/state", { scripts = dir.path .. "/scripts" })
    check.defer(function() pcall(host.close, host) end)
    return host
  end
  return s
end

local function staging(host) return host:status().apps[1].environments[1] end

local function state_of(host, id) return host.journal:run_by_id(id).state end

test("a run waits, says so, and goes on when the votes are there", function()
  local host = stage().open()
  sim.settle(host)
  local env = staging(host)
  eq({ env.state, env.run.state, env.approval.votes, #env.approval.voters }, { "waiting", "waiting", 2, 0 })
  ok(env.reason:find("0 of 2 votes", 1, true))
  ok(host:approve { app = "web", environment = "staging", by = "ann" })
  ok(staging(host).reason:find("1 of 2 votes", 1, true))
  ok(host:approve { app = "web", by = "ben" })
  sim.settle(host)
  eq({ staging(host).state, state_of(host, 1) }, { "idle", "done" })
  fails("conflict", host:approve { app = "web", by = "cat" })
  fails("not_found", host:approve { app = "nothing", by = "cat" })
  fails("not_found", host:approve { app = "web", environment = "nowhere", by = "cat" })
end)

test("an approval needs its votes only: what is approved is the change, its time is written with a unit", function()
  local host = stage(nil, [[return policy {
    watch = function(place) return place:head() end,
    run = function(run)
      for _, wrong in ipairs { { votes = "2" }, { votes = 1, deadline = "soon" }, { votes = 1, id = 7 }, 3 } do
        local fine, why = pcall(run.approval, run, wrong)
        assert(not fine and why:find("staging.lua:5: usage: run:approval { votes = 2", 1, true), why)
      end
      run:approval { votes = 1, deadline = "2h" }
    end,
  }]]).open()
  sim.settle(host)
  local approval = staging(host).approval
  eq({ approval.name, approval.votes }, { sim.commit "a", 1 })
  ok(math.abs(approval.deadline - approval.at - 7200) < 60)
  ok(host:approve { app = "web", by = "ann" })
  sim.settle(host)
  eq(state_of(host, 1), "done")
end)

test("a restart does not begin the wait again, and votes of before count", function()
  local s = stage()
  local host = s.open()
  sim.settle(host)
  local deadline = staging(host).approval.deadline
  ok(host:approve { app = "web", by = "ann" })
  local ended = task.spawn(function() return host:run() end)
  time.sleep(0.05)
  host:stop(600)
  ended:join() -- a run that waits for people does not hold up the end
  host = s.open()
  eq({ staging(host).state, staging(host).approval.deadline }, { "waiting", deadline })
  local again = task.spawn(function() return host:run() end)
  time.sleep(0.05)
  ok(host:approve { app = "web", by = "ben" })
  local last = time.monotonic() + 50
  while state_of(host, 1) ~= "done" and time.monotonic() < last do time.sleep(0.01) end
  eq(state_of(host, 1), "done")
  eq(host.journal:run_by_id(1).attempts, 1) -- parked, not crashed
  host:stop(0)
  again:join()
end)

test("hosts that die while a run waits for people say nothing about the run", function()
  local s = stage()
  local host = s.open()
  sim.settle(host)
  for _ = 1, 5 do -- as many attempts as would be set aside
    eq(host.journal:run_by_id(1).attempts, 0)
    for _, lane in pairs(host.lanes) do
      for _, attempt in pairs(lane.runs) do attempt.task:cancel() end
    end
    host.journal:write("UPDATE runs SET state = 'running', ended_at = NULL, error = NULL WHERE id = 1")
    pcall(host.close, host)
    host = s.open()
    host:place("web", "staging")
    host:lane(host:place("web", "staging")):kick()
    sim.settle(host)
  end
  ok(host:approve { app = "web", by = "ann" })
  ok(host:approve { app = "web", by = "ben" })
  sim.settle(host)
  eq({ state_of(host, 1), host.journal:run_by_id(1).attempts }, { "done", 1 })
end)

test("one pass leaves what waits for people to the next", function()
  local s = stage()
  local result = assert(s.open():once())
  eq({ result.ok, #result.runs, result.runs[1].state }, { true, 1, "waiting" })
  local host = s.open()
  local begun = 0
  for _, entry in ipairs(host:run_log(1, 0).entries) do
    begun = begun + (entry.kind == "run" and entry.phase == "begin" and 1 or 0)
  end
  eq(begun, 1) -- what is parked at the end is not begun again
  ok(host:reject { app = "web", by = "ann", reason = "no" })
  eq(assert(host:once()).ok, false)
  host = s.open()
  local run = host.journal:run_by_id(1)
  eq({ run.state, run.error.code, run.error.message }, { "failed", "denied", "rejected by ann: no" })
end)

test("a deadline that passes ends it", function()
  local host = stage(0.05).open()
  sim.settle(host)
  local last = time.monotonic() + 50
  while state_of(host, 1) == "running" and time.monotonic() < last do time.sleep(0.02) end
  local run = host.journal:run_by_id(1)
  eq({ run.state, run.error.code }, { "failed", "deadline" })
  eq(host.journal:approvals({})[1].state, "expired")
  fails("conflict", host:approve { app = "web", by = "ann" })
end)

test("something newer takes the place of what waits", function()
  local s = stage()
  local host = s.open()
  sim.settle(host)
  s.world:push("main", "b")
  sim.settle(host)
  eq({ state_of(host, 1), state_of(host, 2) }, { "superseded", "running" })
  eq(#host.journal:approvals { pending = true }, 1)
end)

test("a rejection outlives the policy's name: nobody is asked again for what was rejected", function()
  local s = stage()
  assert(fs.write(s.dir .. "/scripts/renamed.lua", SCRIPT:format(3600)))
  local host = s.open()
  sim.settle(host)
  ok(host:reject { app = "web", environment = "staging", by = "ann", reason = "no" })
  sim.settle(host)
  host.load = function()
    local config = sim.config(s.dir .. "/state", { scripts = s.dir .. "/scripts" })
    config.app_list[1].environment_list[1].policy = "renamed"
    return config
  end
  ok(host:reload())
  sim.settle(host)
  eq({ state_of(host, 1), #host.journal:approvals {}, host.journal:run_by_id(2) }, { "failed", 1 })
  ok(host:apply { app = "web", environment = "staging", by = "ben" }) -- it is final for people, too
  sim.settle(host)
  eq({ state_of(host, 2), #host.journal:approvals {} }, { "failed", 1 })
end)

test("the orders of the command line travel over the control socket", function()
  local host = stage().open()
  sim.settle(host)
  local handle = control.handler(host)
  local function post(path, body)
    local reply = handle { method = "POST", path = path, query = {}, body = json.encode(body) }
    return reply.status, json.decode(reply.body)
  end
  local status, approval = post("/v1/apps/web/approve", { by = "ann", what = "v9" })
  eq({ status, approval.state, approval.voters }, { 200, "pending", { "ann" } })
  eq((post("/v1/apps/web/approve", { by = "ann", what = "v8" })), 409)
  status, approval = post("/v1/apps/web/reject", { by = "ben", reason = "later" })
  eq({ status, approval.state, approval.by }, { 200, "rejected", "ben" })
end)

-- ---- the API that keel's clients know ----

local WORD <const> = "a-word-of-sixteen"

local function api(token)
  local host = stage().open()
  sim.settle(host)
  host.config.api = token and { token = { reveal = function() return token end } } or nil
  local gate, handle = control.public_gate(host), control.public_handler(host)
  return function(method, body, authorization)
    local request = { method = method, path = "/v1/approvals", query = {}, peer = {},
      headers = { authorization = authorization }, body = body and json.encode(body) or "" }
    local reply = gate(request) or handle(request)
    return reply.status, json.decode(reply.body), reply
  end, host
end

test("approvals are listed, voted for and rejected by who has the token", function()
  local call, host = api(WORD)
  local bearer, basic = "Bearer " .. WORD, "Basic " .. hash.base64("ann:" .. WORD)
  local status, list = call("GET", nil, bearer)
  eq(status, 200)
  local a = list[1]
  eq({ a.identifier:match("^staging of "), a.votesRequired, a.votesReceived, a.rejected, a.archived, a.newVersion },
    { "staging of ", 2, 0, false, false, "v9" })
  ok(a.deadline:find("^20%d%d%-"))
  local one
  status, one = call("POST", { identifier = a.identifier }, basic)
  eq({ status, one.votesReceived, one.voters.ann ~= nil }, { 200, 1, true })
  status, one = call("POST", { identifier = a.identifier, voter = "ben", action = "approve" }, basic)
  eq({ status, one.votesReceived, one.state }, { 200, 2, "approved" })
  eq((call("POST", { identifier = a.identifier, voter = "cat", action = "reject" }, basic)), 409)
  sim.settle(host)
  eq(state_of(host, 1), "done")
  eq((call("POST", { identifier = "nothing" }, bearer)), 404)
  eq((call("POST", { identifier = a.identifier, action = "bribe" }, bearer)), 400)
  eq((call("DELETE", nil, bearer)), 405)
  status = call("POST", { identifier = a.identifier, action = "delete" }, bearer)
  eq(status, 200)
  eq(select(2, call("GET", nil, bearer)), {})
end)

test("a rejection over the API ends the run; an approval that is deleted is withdrawn", function()
  local call, host = api(WORD)
  local _, list = call("GET", nil, "Bearer " .. WORD)
  eq((call("POST", { id = list[1].id, voter = "ann", action = "reject" }, "Bearer " .. WORD)), 200)
  sim.settle(host)
  eq(state_of(host, 1), "failed")
  call, host = api(WORD)
  _, list = call("GET", nil, "Bearer " .. WORD)
  eq((call("POST", { id = list[1].id, action = "delete" }, "Bearer " .. WORD)), 200)
  sim.settle(host)
  eq(state_of(host, 1), "superseded")
end)

test("a voter's name is text, whoever sent it, and the list stays readable", function()
  local call = api(WORD)
  local _, list = call("GET", nil, "Bearer " .. WORD)
  local function vote(voter, user)
    local authorization = user and "Basic " .. hash.base64(user .. ":" .. WORD) or "Bearer " .. WORD
    local status, one = call("POST", { id = list[1].id, voter = voter }, authorization)
    eq(status, 200)
    return one.voters
  end
  ok(vote(nil, "ann\xff\27[2J")["ann [2J"])
  ok(vote("b" .. ("\u{e9}"):rep(150))["b" .. ("\u{e9}"):rep(98) .. "..."])
  eq(#select(2, call("GET", nil, "Bearer " .. WORD)), 1)
end)

test("without the token nobody sees or says anything", function()
  local call = api(WORD)
  eq((call("GET")), 401)
  eq((call("GET", nil, "Bearer wrong")), 401)
  eq((call("GET", nil, "Basic " .. hash.base64("ann:wrong"))), 401)
  eq((call("POST", { identifier = "x" }, "Basic !!")), 401)
  eq(select(3, call("GET")).headers["WWW-Authenticate"], 'Basic realm="moontide"')
  call = api(nil)
  eq((call("GET", nil, "Bearer " .. WORD)), 404)
end)

test("what a client sends is judged", function()
  local call = api(WORD)
  local function put(provider, votes)
    return (call("PUT", { identifier = "deployment/shop/web", provider = provider, votesRequired = votes },
      "Bearer " .. WORD))
  end
  eq({ put("kubernetes", 1000), put("helm", 1), put("kubernetes", 1) }, { 400, 400, 404 })
  eq((call("POST", "text", "Bearer " .. WORD)), 400)
end)
