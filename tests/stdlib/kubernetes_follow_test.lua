-- Watches, followed lists and logs against a fake server: streams that break wherever they can break.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-parameter -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local apiserver = require "fixture.apiserver"
local kubernetes, task, time = require "kubernetes", require "task", require "time"
local follow = require "cluster.follow"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has
local status, object, event, stream = apiserver.status, apiserver.object, apiserver.event, apiserver.stream
local config_map = apiserver.config_map

follow.first_pause = 0.02

local MAPS <const> = "/api/v1/namespaces/ns/configmaps"

local function open(handle)
  local api = apiserver.open(handle)
  check.defer(function() api:close() end)
  return api, api:client("token: tok-0123456789")
end

local function bookmark(version, initial)
  return event("BOOKMARK", { kind = "ConfigMap", apiVersion = "v1", metadata = {
    resourceVersion = version, annotations = initial and { ["k8s.io/initial-events-end"] = "true" } or nil,
  } })
end

local function gone(message)
  message = message or "too old resource version"
  return event("ERROR", { kind = "Status", code = 410, reason = "Expired", message = message })
end

-- A server that lists `maps` at `version` and answers the n-th watch by watches[n](query) or hangs.
local function lists(maps, watches, more)
  more = more or {}
  local state = { lists = 0, watches = 0, maps = maps, queries = {}, version = "10" }
  local api, client = open(function(request)
    if request.path == "/version" then return object { major = "1", minor = more.minor or "30+" } end
    if request.path ~= MAPS then return status(404, "NotFound", "no") end
    if request.query.watch then
      state.watches = state.watches + 1
      state.queries[state.watches] = request.query
      local answer = watches[state.watches]
      return answer and answer(request.query) or stream { "hang" }
    end
    state.lists = state.lists + 1
    if state.refuse then return state.refuse end
    return object { metadata = { resourceVersion = state.version }, items = state.maps }
  end)
  return state, client, api
end

local function sorted(items)
  local list = {}
  for key, value in pairs(items) do list[#list + 1] = key .. "=" .. tostring(value.data and value.data.v or value) end
  table.sort(list)
  return table.concat(list, " ")
end

local function map(name, version, v) return config_map(name, version, { v = v or version }) end

-- ---- one stream ----

test("a watch gives each event as it comes and ends with its stream", function()
  local api, client = open(function()
    return stream { event("ADDED", map("a", "1")), 0.02, event("MODIFIED", map("a", "2")) .. bookmark "5", 0.02, "\n",
      event("DELETED", map("a", "6")) }
  end)
  local seen = {}
  ok(client:watch(MAPS, { resourceVersion = "0" }, function(kind, o)
    seen[#seen + 1] = kind .. o.metadata.resourceVersion
  end))
  eq(seen, { "ADDED1", "MODIFIED2", "BOOKMARK5", "DELETED6" })
  local query = api.requests[1].query
  eq({ query.watch, query.allowWatchBookmarks, query.resourceVersion }, { "1", "true", "0" })
  eq(tonumber(query.timeoutSeconds) >= 300 and tonumber(query.timeoutSeconds) <= 600, true)
  eq(client:watch(MAPS, nil, function() return true end), true)
  ok(client:watch(MAPS .. "/one", { fieldSelector = "x=y" }, function() end))
  eq({ api.requests[3].path, api.requests[3].query.fieldSelector }, { MAPS, "x=y,metadata.name=one" })
end)

test("a watch that is cut at any byte gives whole events only, and says that it was cut", function()
  local first, second = event("ADDED", map("a", "1", "é")), event("MODIFIED", map("a", "2", "\\\"}"))
  local at, how
  local _, client = open(function() return stream { first .. second:sub(1, at), how } end)
  local patient <const> = client:with { attempts = 1 }
  for k = 0, #second do
    at = k
    for _, ending in ipairs { "cut", "" } do
      how = ending
      local seen = 0
      local fine, err = patient:watch(MAPS, nil, function(_, o)
        seen = seen + 1
        eq(o.metadata.resourceVersion, tostring(seen))
      end)
      local where = ("%d %s"):format(k, ending)
      local whole = k >= #second - 1 and (ending == "" or k == #second)
      eq(seen, whole and 2 or 1, where)
      if ending == "cut" or not whole and k > 0 then
        eq(fine, nil, where)
        eq(err.code, "reset", where)
      else
        eq(fine, true, where)
      end
    end
  end
end, 120)

test("what is no watch is an error with its kind", function()
  local answer
  local _, client = open(function() return answer end)
  local patient <const> = client:with { attempts = 1 }
  local function watch() return patient:watch(MAPS, nil, function() end) end
  answer = stream({ event("ADDED", map("a", "1")) }, "text/html")
  fails("protocol", watch())
  for _, line in ipairs {
    "{\n", "[]\n", "null\n", '"x"\n', '{"type":"ADDED"}\n', '{"type":7,"object":{}}\n', "\xff\xfe\n",
    ("["):rep(1000) .. "\n",
  } do
    answer = stream { line, event("ADDED", map("a", "1")) }
    fails("protocol", watch())
  end
  answer = stream { gone() }
  eq(fails("conflict", watch()).reason, "Expired")
  answer = stream { event("ERROR", { kind = "Status", code = 500, message = "etcd is away" }) }
  has(fails("status", watch()).message, "etcd is away")
  answer = stream { event("ERROR", { oops = true }) }
  fails("status", watch())
  answer = status(403, "Forbidden", 'configmaps is forbidden: User "u" cannot watch resource "configmaps" in API '
    .. 'group "" in the namespace "ns"')
  has(fails("denied", watch()).message, "may not watch configmaps in namespace ns as u")
  answer = stream { event("MODIFIED", {}) }
  eq(watch(), true)
end)

test("a refusal that never ends is one all the same", function()
  local _, client = open(function()
    local answer = stream { '{"kind":"Status","message":"no', "hang" }
    answer.status = 403
    return answer
  end)
  fails("denied", client:watch(MAPS, nil, function() end))
end)

test("a line without an end does not fill the memory", function()
  local wrote = 0
  local _, client = open(function()
    return { status = 200, headers = { ["Content-Type"] = "application/json" }, body = function(write)
      while wrote < 64 << 20 do
        write(("x"):rep(1 << 20))
        wrote = wrote + (1 << 20)
      end
    end }
  end)
  fails("too_large", client:watch(MAPS, nil, function() end))
  eq(wrote < 24 << 20, true)
end)

test("an object of megabytes comes through a watch", function()
  local big = ("x"):rep(1500000)
  local _, client = open(function() return stream { event("ADDED", map("a", "1", big)) } end)
  local size
  ok(client:watch(MAPS, nil, function(_, o) size = #o.data.v end))
  eq(size, #big)
end)

-- ---- followed lists ----

test("a followed list is listed once and kept up by watches", function()
  local state, client = lists({ map("a", "1"), map("b", "2") }, {
    function() return stream { event("MODIFIED", map("a", "11")), event("ADDED", map("c", "12")), bookmark "15" } end,
    function() return stream { event("DELETED", map("b", "16")), "hang" } end,
  })
  local changes = {}
  local maps <close> = ok(client:follow(MAPS, { labelSelector = "x" }, {
    on_change = function(change, key, value, old)
      changes[#changes + 1] = ("%s %s %s %s"):format(change, key, value and value.data.v, old and old.data.v)
    end,
  }))
  ok(maps:wait(function(r) return r:items()["ns/b"] == nil end, 5))
  eq(sorted(maps:items()), "ns/a=11 ns/c=12")
  eq(maps.count, 2)
  eq(changes, {
    "ADDED ns/a 1 nil", "ADDED ns/b 2 nil", "MODIFIED ns/a 11 1", "ADDED ns/c 12 nil", "DELETED ns/b nil 2",
  })
  eq({ state.lists, state.watches }, { 1, 2 })
  eq({ state.queries[1].resourceVersion, state.queries[2].resourceVersion }, { "10", "15" })
  eq(state.queries[2].labelSelector, "x")
  eq(client.counters.relists, 1)
end)

test("a followed list survives a stream that is cut at any byte", function()
  local second = event("MODIFIED", map("a", "12"))
  for k = 1, #second, 7 do
    local state, client, api = lists({ map("a", "1") }, {
      function()
        return stream { event("MODIFIED", map("a", "11")) .. second:sub(1, k), k % 2 == 0 and "cut" or "" }
      end,
      function() return stream { second, "hang" } end,
    })
    local maps <close> = ok(client:follow(MAPS))
    ok(maps:wait(function(r) return r:items()["ns/a"].data.v == "12" end, 5))
    eq({ state.lists, state.queries[2].resourceVersion }, { 1, "11" })
    api:close()
    check.deferred[#check.deferred] = nil
  end
end, 120)

test("a version that is too old means listing again, and the difference is told", function()
  for _, answer in ipairs {
    function() return stream { gone() } end,
    function() return status(410, "Gone", "too old") end,
    function() return status(504, "Timeout", "Too large resource version: 10, current: 5", { details = {
      causes = { { reason = "ResourceVersionTooLarge", message = "Too large resource version" } },
      retryAfterSeconds = 1 }, headers = { ["Retry-After"] = "1" } })
    end,
    function()
      return stream { event("ERROR", { kind = "Status", code = 504, message = "Too large resource version: 9" }) }
    end,
  } do
    local state, client
    state, client = lists({ map("a", "1"), map("b", "2"), map("c", "3") }, {
      function(query)
        state.maps, state.version = { map("a", "1"), map("b", "22"), map("d", "4") }, "30"
        return answer(query)
      end,
    })
    local changes = {}
    local maps <close> = ok(client:follow(MAPS, nil, { on_change = function(change, key)
      if state.lists > 1 then changes[#changes + 1] = change .. " " .. key end
    end }))
    ok(maps:wait(function(r) return r:items()["ns/d"] end, 5))
    eq(sorted(maps:items()), "ns/a=1 ns/b=22 ns/d=4")
    table.sort(changes)
    eq(changes, { "ADDED ns/d", "DELETED ns/c", "MODIFIED ns/b" })
    check.eventually(function() return state.watches == 2 end)
    eq(state.queries[2].resourceVersion, "30")
  end
end)

test("what cannot be followed at the moment is said, and followed again later", function()
  local state, client = lists({ map("a", "1") }, {
    function() return status(500, "InternalError", "oops") end,
    function() return status(429, "TooManyRequests", "slow") end,
    function() return stream({ "nonsense" }, "text/plain") end,
    function() return stream { "{]\n" } end,
    function() return stream { event("MODIFIED", map("a", "11")), "hang" } end,
  })
  local maps <close> = ok(client:follow(MAPS))
  ok(maps:wait(function(r) return r:items()["ns/a"].data.v == "11" end, 5))
  eq({ state.lists, state.watches, maps.err }, { 1, 5, nil })
end)

test("a server that ends each stream at once is not hammered", function()
  local answers = setmetatable({}, { __index = function() return function() return stream {} end end })
  local state, client = lists({ map("a", "1") }, answers)
  local maps <close> = ok(client:follow(MAPS))
  time.sleep(1)
  eq(state.watches <= 8, true, tostring(state.watches))
  eq(maps:items()["ns/a"].data.v, "1")
  answers = setmetatable({}, { __index = function() return function() return stream { gone() } end end })
  state, client = lists({ map("a", "1") }, answers)
  local again <close> = ok(client:follow(MAPS))
  time.sleep(1)
  eq(state.lists <= 9, true, tostring(state.lists))
  again:close()
end)

test("a list that may not be read is an error at once; later denials end a wait", function()
  local forbidden = status(403, "Forbidden", 'configmaps is forbidden: User "u" cannot list resource "configmaps" '
    .. 'in API group "" in the namespace "ns"')
  local all = setmetatable({}, { __index = function() return function() return forbidden end end })
  local state, client = lists({ map("a", "1") }, all)
  state.refuse = forbidden
  has(fails("denied", client:follow(MAPS)).message, "may not list configmaps in namespace ns as u")
  eq(state.lists, 1)
  state.refuse = nil
  local maps <close> = ok(client:follow(MAPS))
  fails("denied", maps:wait(function() return false end, 600))
  eq(sorted(maps:items()), "ns/a=1")
end)

test("a patient one starts although the server is away", function()
  local state, client = lists({ map("a", "1") }, {})
  state.refuse = status(403, "Forbidden", "not yet")
  local maps <close> = ok(client:follow(MAPS, nil, { patient = true }))
  eq(maps.synced, false)
  check.eventually(function() return maps.err end)
  state.refuse = nil
  check.eventually(function() return maps.synced end)
  eq(sorted(maps:items()), "ns/a=1")
end)

test("waiting ends in its time, with the followed list, and with the task", function()
  local _, client = lists({ map("a", "1") }, {})
  local maps = ok(client:follow(MAPS))
  has(fails("timeout", maps:wait(function() return false end, 0.1)).target, MAPS)
  local waiting = task.spawn(function() return maps:wait(function() return false end) end)
  local other = task.spawn(function() return maps:wait(function() return false end, 20) end)
  time.sleep(0.05)
  maps:close()
  local fine, err = waiting:join()
  eq({ fine, err.code }, { nil, "closed" })
  fine, err = other:join()
  eq({ fine, err.code }, { nil, "closed" })
  fails("closed", maps:wait(function() return true end))
  maps:close()
  -- it ends with the task that began it, unless it is detached
  local inner, outer
  task.spawn(function()
    inner = ok(client:follow(MAPS))
    outer = ok(client:follow(MAPS, nil, { detached = true }))
    return true
  end):join()
  check.eventually(function() return inner.task:done() end)
  eq(outer.task:done(), false)
  outer:close()
  check.eventually(function() return outer.task:done() end)
end)

test("only what is kept of each object stays", function()
  local state, client = lists({ map("a", "1"), map("skip", "2") }, {
    function() return stream { event("MODIFIED", map("skip", "11")), event("MODIFIED", map("a", "12")),
      event("ADDED", map("z", "13")), event("DELETED", map("z", "14")), "hang" } end,
  })
  local told = {}
  local maps <close> = ok(client:follow(MAPS, nil, {
    keep = function(o) return o.metadata.name ~= "skip" and o.data.v or nil end,
    on_change = function(change, key, value) told[#told + 1] = change .. " " .. key .. " " .. tostring(value) end,
  }))
  ok(maps:wait(function() return #told == 4 end, 5))
  eq(told, { "ADDED ns/a 1", "MODIFIED ns/a 12", "ADDED ns/z 13", "DELETED ns/z nil" })
  eq(maps:items(), { ["ns/a"] = "12" })
  eq(state.lists, 1)
end)

test("a mistake in keep ends it with the reason; one in a listener does not", function()
  local _, client = lists({ map("a", "1") }, {
    function() return stream { event("MODIFIED", map("a", "11")), "hang" } end,
  })
  local err = fails("closed", client:follow(MAPS, nil, { keep = function() error "my mistake" end }))
  has(tostring(err.cause), "my mistake")
  local maps <close> = ok(client:follow(MAPS, nil, { on_change = function() error "my other mistake" end }))
  eq(maps:items()["ns/a"] ~= nil, true)
end)

-- ---- lists that are streamed ----

test("a new server streams the list itself, through the same watch", function()
  local state, client = lists({}, {
    function() return stream { event("ADDED", map("a", "3")), event("ADDED", map("b", "4")), bookmark("9", true),
      event("MODIFIED", map("a", "11")) } end,
    function() return stream { gone() } end,
    function() return stream { event("ADDED", map("c", "20")), bookmark("21", true), "hang" } end,
  }, { minor = "34" })
  local changes = {}
  local maps <close> = ok(client:follow(MAPS, nil, {
    on_change = function(change, key) changes[#changes + 1] = change .. key end,
  }))
  ok(maps:wait(function(r) return r:items()["ns/c"] end, 5))
  eq({ state.lists, sorted(maps:items()) }, { 0, "ns/c=20" })
  local first, second = state.queries[1], state.queries[2]
  eq({ first.sendInitialEvents, first.resourceVersionMatch, first.resourceVersion }, { "true", "NotOlderThan", nil })
  eq({ second.sendInitialEvents, second.resourceVersion }, { nil, "11" })
  eq({ changes[1], changes[2], changes[3], #changes }, { "ADDEDns/a", "ADDEDns/b", "MODIFIEDns/a", 6 })
end)

test("a streamed list that does not reach its end changes nothing, and pages come instead", function()
  local state, client = lists({ map("a", "1") }, {
    function() return stream { event("ADDED", map("half", "3")), "cut" } end,
    function() return stream { event("ADDED", map("half", "3")) } end,
  }, { minor = "34" })
  local maps <close> = ok(client:follow(MAPS))
  eq({ sorted(maps:items()), state.lists }, { "ns/a=1", 1 })
  for _, code in ipairs { 400, 422, 500 } do
    local other, fresh = lists({ map("a", "1") }, {
      function() return status(code, "Invalid", "sendInitialEvents is forbidden") end,
    }, { minor = "34" })
    local paged <close> = ok(fresh:follow(MAPS))
    eq({ sorted(paged:items()), other.lists }, { "ns/a=1", 1 })
    local next_one <close> = ok(fresh:follow(MAPS))
    eq({ sorted(next_one:items()), other.lists, fresh.counters.requests <= 7 }, { "ns/a=1", 2, true })
  end
end)

-- ---- logs ----

local POD <const> = "/api/v1/namespaces/ns/pods/web-1"
local LOG <const> = POD .. "/log"

local function stamp(second, nano) return ("2026-11-23T10:00:%02d.%09dZ"):format(second, nano or 0) end

test("a log is text, as much of it as was asked for", function()
  local api, client = open(function() return { status = 200, body = "one\ntwo\n" } end)
  eq(ok(client:logs("ns", "web-1", { container = "app", tail = 5, previous = true })), "one\ntwo\n")
  eq({ api.requests[1].path, api.requests[1].query }, { LOG, {
    container = "app", tailLines = "5", previous = "true", limitBytes = "1048576" } })
  eq(client:log_tail("ns", "web-1", { container = "app" }), { "one", "two" })
  eq(api.requests[2].query.tailLines, "20")
  local lines = {}
  eq(ok(client:logs("ns", "web-1", { since = 90.2, on_line = function(line) lines[#lines + 1] = line end })), true)
  eq({ lines, api.requests[3].query.sinceSeconds }, { { "one", "two" }, "91" })
  api.handle = function() return status(404, "NotFound", 'pods "web-1" not found') end
  fails("not_found", client:logs("ns", "web-1"))
  eq(client:log_tail("ns", "web-1"), {})
  check.raises("usage: client:logs", client.logs, client, "ns", "web-1", { follow = true })
end)

test("a followed log goes on where its stream was cut, without a line twice or missing", function()
  local all = {}
  for i = 1, 12 do all[i] = ("%s line %d\n"):format(stamp(i // 4, 100), i) end -- lines that share their time
  local text = table.concat(all)
  for cut = 1, #text, 29 do
    local n, running = 0, true
    local api, client = open(function(request)
      if request.path == POD then
        return object { status = { phase = "Running", containerStatuses = {
          { name = "app", state = running and { running = {} } or { terminated = {} } } } } }
      end
      n = n + 1
      if n == 1 then return stream({ text:sub(1, cut), "cut" }, "text/plain") end
      running = false
      local since = request.query.sinceTime
      local rest = {}
      for _, line in ipairs(all) do
        if not since or line:sub(1, 19) >= since:sub(1, 19) then rest[#rest + 1] = line end -- whole seconds
      end
      return stream({ table.concat(rest) }, "text/plain")
    end)
    local lines = {}
    ok(client:logs("ns", "web-1", {
      follow = true, container = "app", on_line = function(line) lines[#lines + 1] = line end,
    }))
    local want = {}
    for i = 1, 12 do want[i] = "line " .. i end
    eq(lines, want, "cut at " .. cut)
    eq(api.requests[1].query, { container = "app", follow = "true", timestamps = "true" })
    api:close()
    check.deferred[#check.deferred] = nil
  end
end, 120)

test("a followed log whose stream ends within a line, as if it were whole, loses none of it", function()
  local all = {}
  for i = 1, 4 do all[i] = ("%s line %d\n"):format(stamp(i // 3, 100), i) end
  local text = table.concat(all) .. stamp(2) .. " no end" -- what a program writes last may have none
  for cut = 1, #text - 1, 7 do
    local n = 0
    local api, client = open(function(request)
      if request.path == POD then
        return object { status = { phase = "Running", containerStatuses = {
          { name = "app", state = n < 3 and { running = {} } or { terminated = {} } } } } }
      end
      n = n + 1
      local since, from = request.query.sinceTime, 1
      while since and text:sub(from, from + 18) < since:sub(1, 19) do from = text:find("\n", from, true) + 1 end
      return stream({ text:sub(from, n == 1 and cut or #text) }, "text/plain")
    end)
    local lines = {}
    ok(client:logs("ns", "web-1", {
      follow = true, container = "app", on_line = function(line) lines[#lines + 1] = line end,
    }))
    eq(lines, { "line 1", "line 2", "line 3", "line 4", "no end" }, "ended at " .. cut)
    api:close()
    check.deferred[#check.deferred] = nil
  end
end, 120)

test("a followed log waits for its container, and gives up on what does not come", function()
  local n = 0
  local api, client = open(function(request)
    if request.path == POD then
      local state = n <= 2 and { waiting = { reason = "ContainerCreating" } } or { terminated = {} }
      local container = { name = "app", restartCount = 0, lastState = {}, state = state }
      return object { status = { phase = n <= 2 and "Pending" or "Succeeded", containerStatuses = { container } } }
    end
    n = n + 1
    if n <= 2 then
      return status(400, "BadRequest", 'container "app" in pod "web-1" is waiting to start: ContainerCreating')
    end
    return stream({ stamp(1) .. " hello\n" .. stamp(2) .. " " .. ("x"):rep(200000) .. "\nno time\n" }, "text/plain")
  end)
  local lines = {}
  ok(client:logs("ns", "web-1", { follow = true, on_line = function(line) lines[#lines + 1] = line end }))
  eq({ lines[1], lines[#lines] }, { "hello", "no time" })
  local long = table.concat(lines, "", 2, #lines - 1)
  eq({ #long, long:find("[^x]") }, { 200000 })
  -- a pod without a node has an empty log; this one ran and ended before we looked again
  n = 2
  local looks, reads = 0, 0
  api.handle = function(request)
    if request.path == POD then
      looks = looks + 1
      return object { status = { phase = looks < 3 and "Pending" or "Succeeded" } }
    end
    reads = reads + 1
    return stream({ reads > 3 and stamp(1) .. " at last\n" or "" }, "text/plain")
  end
  lines = {}
  ok(client:logs("ns", "web-1", { follow = true, on_line = function(line) lines[#lines + 1] = line end }))
  eq({ lines, reads }, { { "at last" }, 4 })
  api.handle = function(request)
    if request.path == POD then return object { status = { phase = "Pending" } } end
    return stream({ "" }, "text/plain")
  end
  local never = fails("invalid", client:logs("ns", "web-1", { follow = true, within = 0.3, on_line = print }))
  has(never.message, "waiting to start")
  api.handle = function(request)
    if request.path == POD then return object { status = { phase = "Pending" } } end
    return status(400, "BadRequest", 'container "app" in pod "web-1" is waiting to start: ContainerCreating')
  end
  local err = fails("invalid", client:logs("ns", "web-1", { follow = true, within = 0.3, on_line = print }))
  has(err.message, "waiting to start")
  api.handle = function() return status(403, "Forbidden", "no") end
  fails("denied", client:logs("ns", "web-1", { follow = true, on_line = print }))
end)

kubernetes.forget()
