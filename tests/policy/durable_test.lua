-- What a run sees is the same after a crash: each body here is run to its end, then once more from the journal, where
-- every step has its answer. A value that differs makes the step that was asked with it diverge.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, httpd, json, sim = require "fs", require "fixture.httpd", require "json", require "sim"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local NOTHING <const> = "return policy { watch = function() return nil, 'not in this test' end, run = function() end }"

local HEAD <const> = [[
local errors, fs, hash, http, json, proc, task, time = require "errors", require "fs", require "hash", require "http",
  require "json", require "proc", require "task", require "time"
local at_file_level = ("%s"):format({})
return policy {
  watch = function(place) return place:head() end,
  run = function(run, change)
    local function see(...) run:step("see", { ... }, function() return true end) end
]]

local function stage(body)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local folder = dir.path .. "/scripts"
  assert(fs.mkdir(folder))
  local s = { dir = dir.path, world = sim.open(dir.path .. "/world"), options = { scripts = folder } }
  assert(fs.write(folder .. "/staging.lua", HEAD .. body .. "\nend }"))
  assert(fs.write(folder .. "/production.lua", NOTHING))
  s.world:push("main", "a")
  function s.open(engine)
    s.options.engine = engine
    s.host = sim.host(s.world, s.dir .. "/state", s.options)
    return s.host
  end
  function s.close() s.host:close() s.host = nil end
  function s.run() return s.host.journal:run_by_id(1) end
  function s.names()
    local names = {}
    for i, step in ipairs(s.host.journal:steps(1)) do names[i] = step.name end
    return names
  end
  -- From the first line again, as after a crash at the very end.
  function s.again()
    s.host.journal:write("UPDATE runs SET state = 'running', ended_at = NULL, error = NULL WHERE id = 1")
    s.close()
    s.open()
    s.host:lane(s.host:place("web", "staging")):kick()
    sim.settle(s.host)
  end
  check.defer(function() if s.host then pcall(s.host.close, s.host) end end)
  return s
end

local function message(run) return run.error and run.error.message end

-- Runs a body and replays it: done both times, and the replay performed nothing.
local function twice(body, replays)
  local s = stage(body)
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  local names = s.names()
  for _ = 1, replays or 1 do
    s.again()
    eq(s.run().state, "done", message(s.run()))
    eq(s.names(), names)
  end
  return s
end

test("http in a run is a step, and its answer is an answer again after a crash", function()
  local server = httpd.start()
  local url = server.url
  twice(([[
    local answer = assert(http.get("%s/headers?x=1", { headers = { Accept = "text/plain" } }))
    see(answer.status, answer.body, answer.headers["Content-Type"], answer.http_version, answer.etag, answer.url)
    local names = {}
    for name, value in pairs(answer.headers) do names[#names + 1] = name .. value end
    see(names)
    local expected, err = http.expect(http.get "%s/status/404")
    see(expected == nil, err.code, err.status)
    local posted = assert(http.post("%s/catch", "bytes \255\0", { auth = { bearer = "MOONCANARY" } }))
    see(posted.status, #posted.body)
    local refused, why = http.request { method = "PUT", url = "http://127.0.0.1:1/", body = "x" }
    see(refused, why.code)
  ]]):format(url, url, url))
  has(server:caught(), "POST ")
end)

test("what is asked over HTTP is known again, and no credential of it is kept", function()
  local server = httpd.start()
  local s = twice(([[
    http.put("%s/catch", "secret body", { headers = { ["X-Api-Key"] = "MOONCANARY-key" } })
    http.get("%s/catch", { auth = { user = "u", password = "MOONCANARY-password" } })
  ]]):format(server.url:gsub("//", "//u:MOONCANARY-user@"), server.url))
  local steps = s.host.journal:steps(1)
  has(steps[1].args, server.url .. "/catch")
  has(steps[1].args, "x-api-key")
  for _, step in ipairs(steps) do
    for key, value in pairs(step) do ok(not tostring(value):find "MOONCANARY", key) end
  end
end)

test("a stream cannot be recorded, and says so before it is asked", function()
  local server = httpd.start()
  local s = stage(('local ok, err = pcall(http.get, "%s/catch", { stream = true }) run:log("%%s", err)'):format(
    server.url))
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  eq(s.names(), {})
  eq(server:caught(), nil)
end)

test("bytes, holes, odd keys and odd numbers are recorded as what they are", function()
  twice [[
    local bytes = hash.random(16)
    see(#bytes, hash.hex(bytes), bytes)
    fs.write("key", bytes)
    see(fs.read "key" == bytes, fs.read "key")
    local got = run:step("odd", { "\255", [3] = "x", y = 1 }, function()
      return { bytes = "\0\255", [2] = "hole", [2.5] = "half", [true] = "yes", inf = math.huge, nan = 0 / 0,
        ["$bytes"] = "mine", ["$$x"] = "mine", ["\254"] = "a key", list = { 1, nil, 3 }, deep = { { {} } },
        code = "a code of mine", wrong = errors.new("denied", "no") }, nil, "\253"
    end)
    see(got.bytes == "\0\255", got[2], got[2.5], got[true], got.inf == math.huge, got.nan ~= got.nan, got["$bytes"],
      got["$$x"], got["\254"], got.list[3], #got.deep[1][1], got.code, got.wrong.code)
    local said = assert(proc.run { "printf", "\\377\\000x" })
    see(said.stdout == "\255\0x", said.stdout)
  ]]
end)

test("an error is an error again after a crash: its text, its fields, its cause", function()
  local s = twice [[
    local nothing, err = run:step("fails", nil, function()
      local cause = errors.new("denied", "deep", { op = "look" })
      return nil, errors.new("status", "no", { op = "ask", status = 404, cause = cause, live = print })
    end)
    see(nothing, err, tostring(err), err.status, tostring(err.cause), errors.is(err, "status"), err.live)
    assert(tostring(err) == "ask: status: no" and tostring(err.cause) == "look: denied: deep", tostring(err))
    assert(err.status == 404 and err.live == nil)
    local list = run:step("lists", nil, function() return { errors.new("denied", "in a list") } end)
    assert(tostring(list[1]) == "denied: in a list", tostring(list[1]))
    local _, refused = http.get "http://127.0.0.1:1/"
    assert(tostring(refused):find("refused", 1, true), tostring(refused))
    see { code = "mine", message = "no error of the program's", cause = {} }
  ]]
  for _, step in ipairs(s.host.journal:steps(1)) do
    ok(not step.args:find "0x", step.args)
  end
end)

test("a script's own mistake is called so inside of a step, too, with its traceback in the log", function()
  local s = stage [[
    local function helper(nothing) return nothing.x end
    local ok, err = pcall(run.step, run, "mine", nil, function() local x = helper(nil) return x end)
    see(ok, err.code, err.message)
    assert(err.code == "script" and err.message:find("staging.lua:8:", 1, true), tostring(err))
    for word, call in pairs {
      ["staging.lua:13: run:log(\"%d\"): bad argument"] = function() run:log("%d", "x") end,
      ["staging.lua:14: usage: run:log(text, ...); the text is a nil"] = function() run:log() end,
      ["staging.lua:15: run:notify(\"%d\"): bad argument"] = function() run:notify("%d", "x") end,
      ["not_found: web staging has no release 7"] = function() run:mark_bad(7, "why") end,
    } do
      local fine, why = pcall(call)
      assert(not fine and tostring(why):find(word, 1, true), tostring(why))
    end
  ]]
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  local log = fs.read(require("engine.runlog").path(s.dir .. "/state", 1))
  has(log, "stack traceback")
  has(log, "in upvalue 'helper'")
  s.again()
  eq(s.run().state, "done", message(s.run()))
end)

test("what cannot be recorded fails its step once and for all", function()
  local s = stage [[
    local n = 0
    local ok, err = pcall(run.step, run, "live", nil, function() n = n + 1 return function() end end)
    local big, why = pcall(run.step, run, "big", nil, function() return ("x"):rep(300 * 1024) end)
    local cycle, how = pcall(run.step, run, "cycle", nil, function() local t = {} t.t = t return t end)
    see(ok, err.code, err.message, big, why.code, cycle, how.code)
    assert(n <= 1)
  ]]
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  has(s.host.journal:steps(1)[1].error, "holds a function")
  s.again()
  eq(s.run().state, "done", message(s.run()))
end)

test("words take what people write: a step without arguments, a time with its unit", function()
  local s = twice [[
    see(run:step("bare", nil, function() return "r" end))
    run:sleep("1ms")
    run:sleep(-1)
    require("time").sleep("2ms")
    local ok, err = pcall(run.sleep, run, "soon")
    assert(not ok and err:find("1m30s", 1, true), err)
  ]]
  eq(s.names(), { "step bare", "step see", "sleep", "sleep", "sleep" })
end)

test("a sleep that people may wonder about is in the run's log, with its end", function()
  local s = stage [[ run:sleep(0.01) run:sleep(1) ]]
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  local texts = {}
  for line in fs.read(require("engine.runlog").path(s.dir .. "/state", 1)):gmatch("[^\n]+") do
    local entry = json.decode(line)
    if entry.step == "sleep" then texts[#texts + 1] = entry.phase .. " " .. entry.text end
  end
  eq(#texts, 2)
  has(texts[1], "begin sleep until 20")
  eq(texts[2], "end sleep")
end)

test("a run is given the whole change that watch returned", function()
  local s = stage [[
    assert(change.key == change.commit and change.title:find("main at", 1, true), change.title)
    run:step("see", change, function() return true end)
  ]]
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  local asked = json.decode(s.host.journal:steps(1)[1].args)
  eq({ asked.key, asked.title }, { sim.commit "a", "main at " .. sim.commit("a"):sub(1, 7) })
end)

test("next gives false as what it is, pairs asks who has a way of its own", function()
  twice [[
    local k, v = next { a = false }
    assert(k == "a" and v == false)
    local t, seen = { a = false, b = true, c = false }, {}
    local key, value = next(t)
    while key ~= nil do
      seen[#seen + 1] = key .. tostring(value)
      key, value = next(t, key)
    end
    assert(table.concat(seen, " ") == "afalse btrue cfalse")
    assert(next(t, "aa") == "b" and not pcall(next, t, {})) -- a loop may have cleared the key that it is at
    local own = setmetatable({}, { __pairs = function() return next, { x = 1 } end })
    for name, one in pairs(own) do see(name, one) end
  ]]
end)

test("channels that the configuration gained or lost meanwhile do not stop a run", function()
  for _, before in ipairs { true, false } do
    local s = stage [[ run:notify("one") run:notify("two %s", "x") see(1) ]]
    local config = sim.config
    check.defer(function() sim.config = config end)
    local function channels(there)
      sim.config = function(...)
        local made = config(...)
        for _, e in ipairs(made.app_list[1].environment_list) do e.notify = there and { "ops" } or {} end
        return made
      end
    end
    channels(before)
    s.open()
    sim.settle(s.host)
    channels(not before)
    s.again()
    sim.config = config
    eq(s.run().state, "done", message(s.run()))
    eq(s.names(), { "notify", "notify", "step see" })
  end
end)

test("no text holds an address, whoever makes it and wherever", function()
  local s = twice [[
    local mine = setmetatable({}, { __name = "mine" })
    local told = setmetatable({}, { __tostring = function() return "told" end })
    local values = { {}, print, mine, told, run, require, json.null, http, setmetatable({}, { __index = {} }) }
    for _, value in pairs(values) do
      local texts = { ("%s"):format(value), string.format("%10s|%s", value, 1), tostring(value), "" .. tostring(value) }
      see(texts)
      for _, text in pairs(texts) do assert(not text:find "0x", text) end
    end
    see(("%s %d %q %5.1f"):format("x", 3, "q", 1.5), at_file_level)
    local ok, err = pcall(string.format, "%p", {})
    assert(not ok and err:find("another one after a restart", 1, true), err)
    assert(("%%p %d"):format(1) == "%p 1")
  ]]
  has(s.host.journal:steps(1)[1].args, "table")
end)

test("a command of a run gets the variables that the app names, a folder of its own, and nothing else", function()
  local config = sim.config
  check.defer(function() sim.config = config end)
  sim.config = function(...)
    local made = config(...)
    made.app_list[1].env = { "HOME", "MOONTIDE_NOT_THERE" }
    return made
  end
  local s = twice [==[
    local lines = {}
    local result = assert(proc.run { "env", env = { MINE = "x" }, on_line = function(line, stream)
      lines[#lines + 1] = stream .. " " .. line
    end })
    table.sort(lines)
    see(lines)
    local said = table.concat(lines, "\n")
    for _, name in ipairs { "HOME", "MINE", "PATH", "LANG" } do
      assert(said:find("stdout " .. name .. "=", 1, true), name)
    end
    assert(#lines == 4, said)
    fs.mkdir "sub"
    assert(proc.run { "cat", stdin = "to be copied", stdout = { file = "sub/copy" } }.ok)
    see(fs.read "sub/copy", proc.run({ "cat", "copy", cwd = "sub" }).stdout, proc.run({ "pwd" }).stdout)
    run:step("inside", nil, function() return proc.run({ "cat", stdin = { file = "sub/copy" } }).stdout end)
    for word, spec in pairs {
      ["the app's `env`"] = { "env", inherit = { "HOME" } }, ["own output"] = { "env", stdout = "inherit" },
      ["option 'cwd'"] = { "pwd", cwd = "/" }, ["option 'stdin'"] = { "cat", stdin = { file = "../../journal.db" } },
      ["option 'stderr'"] = { "ls", stderr = { file = "/tmp/x", append = true } },
    } do
      local function within(it) return run:step("s", nil, function() return proc.run(it) end) end
      for _, call in pairs { proc.run, within } do
        local ok, err = pcall(call, spec)
        assert(not ok and tostring(err):find(word, 1, true), tostring(err))
      end
    end
  ]==]
  has(s.host.journal:steps(1)[1].args, '"command":["env"]')
end)

test("a request of a run reads and writes files of its app only, and no UNIX socket", function()
  local server = httpd.start()
  twice(([[
    fs.write("body", "from a file")
    local sent = assert(http.put("%s/catch", nil, { body_file = "body" }))
    local got = assert(http.get("%s/caught", { sink = "answer" }))
    see(sent.status, got.status, got.body, fs.read "answer")
    assert(fs.read("answer"):find("from a file", 1, true))
    for word, options in pairs {
      ["option 'sink'"] = { sink = "/tmp/x" }, ["option 'body_file'"] = { body_file = "../../journal.db" },
      ["option 'ca'"] = { ca = "/etc/x" }, ["goes over the network"] = { unix = "/run/docker.sock" },
    } do
      for _, inside in pairs { false, true } do
        local function call() return http.get("%s/catch", options) end
        local ok, err = pcall(function() return inside and run:step("s", nil, call) or call() end)
        assert(not ok and tostring(err):find(word, 1, true), tostring(err))
      end
    end
  ]]):format(server.url, server.url, server.url))
end)

test("a step that fails because something in it was cancelled is a failed step", function()
  twice [[
    local ok, err = pcall(run.step, run, "mine", nil, function()
      local t = task.spawn(function() time.sleep(60) end)
      t:cancel()
      return assert(t:join())
    end)
    see(ok, err.code)
    see(run:now())
  ]]
end)

-- ---- branches ----

test("branches end in the order in which they ended, and draw random numbers of their own", function()
  twice [[
    local order, numbers = {}, {}
    local fns = {}
    for i = 1, 5 do
      fns[i] = function()
        run:sleep((6 - i) * 0.01)
        numbers[#numbers + 1] = math.random(1 << 30)
        run:step("work " .. i, { numbers }, function() return i end)
        order[#order + 1] = i
        return math.random()
      end
    end
    local got = run:all(fns)
    see(order, got)
    assert(order[1] == 5 and order[5] == 1, table.concat(order, " "))
    see(math.random())
  ]]
end)

test("the first failure ends the others where they are", function()
  twice [[
    local seen = {}
    local ok, err = pcall(run.all, run, {
      function() run:sleep(0.02) seen[#seen + 1] = "a" error(errors.new("denied", "no"), 0) end,
      function() run:sleep(0.01) seen[#seen + 1] = "b" run:sleep(60) seen[#seen + 1] = "never" end,
      function()
        local guard <close> = setmetatable({}, { __close = function() seen[#seen + 1] = "closed" end })
        run:step("long", nil, function() time.sleep(60) end)
      end,
    })
    see(ok, err.code, seen)
    assert(#seen == 3)
  ]]
end)

test("a deadline cuts in the same place again: a sleep, a step, branches, within another", function()
  twice [[
    local seen = {}
    local function cut(seconds, fn)
      local ok, err = pcall(task.deadline, seconds, fn)
      see(ok, ok and err or not ok and err.code, seen)
    end
    cut("20ms", function() run:sleep(60) seen[#seen + 1] = "never" end)
    cut(5, function() run:sleep(0.005) seen[#seen + 1] = "in time" return "done" end)
    cut(0.02, function() run:step("long", nil, function() time.sleep(60) end) end)
    cut(0.03, function()
      run:all {
        function() run:sleep(0.005) seen[#seen + 1] = "one" run:sleep(60) end,
        function() run:step("long", nil, function() time.sleep(60) end) end,
      }
    end)
    cut(60, function() cut(0.01, function() run:sleep(60) end) run:sleep(0.001) seen[#seen + 1] = "outer" end)
    cut(0.02, function() cut(60, function() run:sleep(60) end) end)
    cut(0.02, function() -- swallowed, and raised by the next wait
      pcall(run.sleep, run, 60)
      seen[#seen + 1] = "on"
      run:sleep(0)
      seen[#seen + 1] = "never"
    end)
    assert(not table.concat(seen, " "):find "never")
  ]]
end)

test("tasks and signals of a run: joined, cancelled, too late, woken", function()
  twice [[
    local seen = {}
    local signal = task.signal()
    local one = task.spawn(function(x) run:sleep(0.01) seen[#seen + 1] = "one" signal:notify() return x, "two" end, 7)
    local two = task.spawn(function() signal:wait() seen[#seen + 1] = "woken" return run:now() end)
    local three = task.spawn(function() run:sleep(60) end)
    local four = task.spawn(function() seen[#seen + 1] = "never" end)
    four:cancel()
    see(three:done(), one:id(), two:id(), three:id())
    local late, err = three:join("5ms")
    see(late, err.code)
    three:cancel()
    local ended, why = three:join()
    see(ended, why.code, three:done())
    local a, b = one:join()
    see(a, b, two:join(60), seen)
    local t = task.signal()
    see(t:wait(0.005))
    t:notify()
    see(t:wait(0.005), t:wait("5ms"), seen)
    local failed = task.spawn(function() error(errors.new("denied", "no"), 0) end)
    see(select(2, failed:join()).code)
    assert(#seen == 2, table.concat(seen, " "))
  ]]
end)

test("a run that goes another way than its journal stops, also where a branch is missing", function()
  local s = stage [[
    local left = tonumber(fs.read "branches" or 2)
    local fns = {}
    for i = 1, left do fns[i] = function() run:sleep(0.001 * i) end end
    run:all(fns)
    fs.write("branches", "1")
  ]]
  s.open()
  sim.settle(s.host)
  eq(s.run().state, "done", message(s.run()))
  s.host.journal:write("UPDATE steps SET result = ? WHERE name = 'fs.read'",
    [[{"list":[{"t":"v","v":"1"}],"n":1}]])
  s.again()
  eq(s.run().state, "diverged")
  has(message(s.run()), "step 3.1, sleep, ended")
end)

test("a branch that catches its cancellation ends soon, and the run with it, also in a closer and nested", function()
  local loop = "while true do pcall(run.sleep, run, 0.001) end"
  for _, branch in ipairs {
    loop, "local x <close> = setmetatable({}, { __close = function() " .. loop .. " end }) run:sleep(100)",
    "local s = task.signal() run:all { function() " .. loop
      .. " end, function() while true do pcall(s.wait, s) end end }",
    "while true do pcall(run.all, run, { function() run:sleep(1) end }) end",
  } do
    local s = stage(("pcall(run.all, run, { function() %s end, function() run:sleep(0.01) error 'x' end })"):format(
      branch))
    s.open()
    sim.settle(s.host)
    eq(s.run().state, "failed")
    has(message(s.run()), "a branch that was cancelled caught that and went on, at ")
    has(message(s.run()), "staging.lua:8")
    s.again()
    has(message(s.run()), "a branch that was cancelled caught that and went on, at ")
  end
end)

test("data with a code is data: what a step is asked, and what it gives", function()
  local s = twice [[
    local got, list, wrong = run:step("plain", { code = "x", n = 1 }, function()
      return { code = "x", message = "m", n = 1 }, { { code = "y" } }, errors.new("denied", "no")
    end)
    assert(got.n == 1 and not tostring(got):find("x: m", 1, true) and list[1].message == nil)
    assert(tostring(wrong) == "denied: no")
    see(got, list, wrong)
  ]]
  has(s.host.journal:steps(1)[1].args, '"n":1')
end)

test("what took too long says so in words that can be read", function()
  for seconds, words in pairs { [0.01] = "10 ms", [0.00001] = "0.01 ms", [1.5] = "1.5 s", [1e18] = " d " } do
    has(require("time").words(seconds), words)
  end
  twice [[
    local _, err = pcall(task.deadline, 0.01, function() run:sleep(5) end)
    assert(err.message == "not done within 10 ms", err.message)
    assert(not task.signal():wait(0.02))
  ]]
  local s = stage "task.signal():wait(0.01)"
  s.open()
  sim.settle(s.host)
  has(s.host.journal:steps(1)[1].error, "not done within 10 ms")
end)

test("a metatable that gets __mode later ends what uses it, with the line, wherever it was set", function()
  for _, body in ipairs {
    "local m = {} local t = setmetatable({}, m) m.__mode = 'v' t[1] = {} see(#t)",
    "run:step('in', nil, function() M = setmetatable({}, {}) rawset(getmetatable(M), '__mode', 'k') end)",
    "local m = {} local t = setmetatable({}, m) run:all { function() m.__mode = 'k' pcall(run.sleep, run, 0.001) end }",
    "local m = {} local t = setmetatable({}, m) m.__mode = 'k' see(t ~= nil)",
  } do
    local s = stage("local M " .. body .. " run:log 'the end'")
    s.open()
    sim.settle(s.host)
    eq({ s.run().state, s.run().error and s.run().error.code }, { "failed", "script" }, body)
    has(message(s.run()), "staging.lua:8")
  end
end)

test("next goes on where a loop has cleared what it saw", function()
  twice [[
    local t, seen = { 1, 2, 3, x = 1, [true] = 2 }, {}
    for k in next, t do
      seen[#seen + 1] = tostring(k)
      t[k] = nil
    end
    see(seen, next(t))
    assert(table.concat(seen, " ") == "1 2 3 x true", table.concat(seen, " "))
  ]]
end)

test("a float comes back as a float", function()
  twice [[
    local floats = { 3.0, -0.0, 3, 2.0 ^ 53, -1e17, 1e18, 2.0 ^ 63, -2.0 ^ 63, 1e19, 1e22, 1e300, 0.5, 1 / 3 }
    local list = run:step("floats", nil, function() return floats end)
    for i, float in ipairs(floats) do
      assert(list[i] == float and math.type(list[i]) == math.type(float), tostring(list[i]))
    end
    assert(1 / list[2] < 0)
    see(tostring(list[1]))
  ]]
end)
