-- proc: what a child gets, what comes back, and that nothing of it outlives its task, its handle or its host.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, json, proc, sys = require "fs", require "json", require "proc", require "base.sys"
local task, time = require "task", require "time"
local test, eq, ok, fails, raises, has = check.test, check.eq, check.ok, check.fails, check.raises, check.has

-- What it does when asked is told in tests/fixture/child.c.
local CHILD = sys.exe():gsub("[^/]+$", "fixture/child")

local function unhex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

-- What the child says it was given.
local function report(spec)
  table.insert(spec, 1, CHILD)
  table.insert(spec, 2, "report")
  local said = ok(json.decode(ok(proc.check(proc.run(spec))).stdout))
  for _, list in ipairs { said.argv, said.env } do
    for i, text in ipairs(list) do list[i] = unhex(text) end
  end
  said.cwd = unhex(said.cwd)
  return said
end

local function alive(pid)
  local stat = fs.read(("/proc/%d/stat"):format(pid))
  return stat and not stat:match("%) ([ZX]) ") and true or false
end

local function ends(pid, seconds)
  check.eventually(function() return not alive(pid) end, seconds or 3, ("process %s ends"):format(pid))
end

local function fd_count()
  return #ok(fs.list "/proc/self/fd")
end

local function children()
  return ok(fs.read(("/proc/%d/task/%d/children"):format(sys.pid(), sys.pid())))
end

test("gives every argument byte for byte", function()
  local hostile = { "", " ", "-x", "--", "a;id", "`id`", "$(id)", "${IFS}", "'\"\\", "*?[", "a\nb", "\r\t\27[31m",
    "\1\127", "\xff\xfe\x80", "--upload-pack=touch x", "<svg/onload=alert(1)>", "\u{202e}x", ("y"):rep(100000) }
  local argv = report { table.unpack(hostile) }.argv
  eq(#argv, #hostile + 2)
  for i, text in ipairs(hostile) do ok(argv[i + 2] == text, ("argument %d differs"):format(i)) end
end)

test("gives the allow-list as the environment and nothing else", function()
  local base = { "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }
  eq(report({}).env, base)
  eq(report({ env = { B = "2 = \n\xff", A = "" } }).env, { "A=", "B=2 = \n\xff", base[1], base[2] })
  eq(report({ env = { LANG = false, PATH = "/bin" } }).env, { "PATH=/bin" })
  local home = sys.env "HOME"
  eq(report({ inherit = { "HOME", "SURELY_NOT_SET" } }).env, { home and "HOME=" .. home, table.unpack(base) })
end)

test("gives three descriptors, a session of its own and plain signals", function()
  local held <close> = ok(fs.lock(CHILD .. ".lock"))
  local said = report { cwd = "/usr" }
  eq(said.fds, { 0, 1, 2 })
  eq(said.signals, {})
  eq(said.sid, said.pid)
  eq(said.pgid, said.pid)
  eq(said.cwd, "/usr")
  ok(held)
end)

test("gives three descriptors also while others are open", function()
  local waiting <close> = ok(proc.spawn { CHILD, "echo" })
  local watch <close> = ok(fs.watch "/tmp")
  eq(report({}).fds, { 0, 1, 2 })
  ok(watch)
  waiting:close_stdin()
end)

test("an exit status and a signal are results", function()
  local result = ok(proc.run { CHILD, "exit", "7" })
  eq(result.code, 7)
  eq(result.ok, false)
  eq(result.signal, nil)
  eq(result.truncated, false)
  ok(result.elapsed > 0 and result.elapsed < 5)
  result = ok(proc.run { CHILD, "signal", "9" })
  eq(result.code, nil)
  eq(result.signal, "SIGKILL")
  result = ok(proc.run { CHILD, "exit", "0" })
  eq(result.ok, true)
end)

test("check turns bad results into errors and passes others on", function()
  local err = fails("exit", proc.check(proc.run { CHILD, "nonsense" }))
  has(err.message, "exit status 64: child: unknown: nonsense")
  eq(err.result.code, 64)
  eq(err.target, CHILD)
  fails("signal", proc.check(proc.run { CHILD, "signal", "15" }))
  fails("not_found", proc.check(proc.run { "no-such-program" }))
  eq(ok(proc.check(proc.run { CHILD, "exit", "0" })).code, 0)
end)

test("a program that cannot be started is an error with its reason", function()
  local err = fails("not_found", proc.run { "no-such-program" })
  eq(err.target, "no-such-program")
  fails("not_found", proc.run { "./no-such-program" })
  fails("denied", proc.run { "/etc/passwd" })
  fails("not_found", proc.run { "true", cwd = "/proc/nonexistent" })
  fails("not_found", proc.run { "true", env = { PATH = "" } })
  fails("not_found", proc.run { "true", stdin = { file = "/proc/nonexistent" } })
  fails("too_large", proc.run { "true", ("x"):rep(3 << 20) })
  local text = ok(fs.temp_dir())
  ok(fs.write(text.path .. "/script", "echo no interpreter line\n", { mode = 493 }))
  fails("unsupported", proc.run { text.path .. "/script" }) -- never handed to a shell
  text:close()
end)

test("mistakes raise", function()
  raises("the program is missing", proc.run, {})
  raises("the program is missing", proc.run, { "" })
  raises("argument 2 holds a NUL byte", proc.run, { "true", "a\0b" })
  raises("argument 2 must be a string, not a number", proc.run, { "true", 1 })
  raises("argument 2 is nil", proc.run, { "true", nil, "x" })
  raises("unknown option 'timout'", proc.run, { "true", timout = 1 })
  raises("'timeout' must be a number", proc.run, { "true", timeout = "1" })
  raises("'timeout' must be above zero", proc.run, { "true", timeout = 0 })
  raises("cwd", proc.run, { "true", cwd = "/\0" })
  raises("impossible name", proc.run, { "true", env = { ["A=B"] = "" } })
  raises("env.A", proc.run, { "true", env = { A = "\0" } })
  raises("env.A", proc.run, { "true", env = { A = 1 } })
  raises("stdout", proc.run, { "true", stdout = "merged" })
  raises("unknown field", proc.run, { "true", stdout = { file = "/dev/null", apend = true } })
  raises("on_line is for proc.run", proc.spawn, { "true", on_line = print })
  raises("one table", proc.run, "true")
end)

test("standard input: none, a text, a file", function()
  eq(ok(proc.run { CHILD, "echo" }).stdout, "")
  eq(ok(proc.run { CHILD, "echo", stdin = "a\0b\n" }).stdout, "a\0b\n")
  local big = ("0123456789abcdef"):rep(1 << 16)
  ok(ok(proc.run { CHILD, "echo", stdin = big, max_output = #big }).stdout == big)
  eq(ok(proc.run { CHILD, "echo", stdin = { file = "/etc/hostname" } }).stdout, ok(fs.read "/etc/hostname"))
end)

test("output goes where it should", function()
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/out"
  local result = ok(proc.run { CHILD, "both" })
  eq(result.stdout, "out 1\nout 2\nout 3\n")
  eq(result.stderr, "err 1\nerr 2\nerr 3\n")
  result = ok(proc.run { CHILD, "both", stderr = "stdout" })
  eq(result.stdout, "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n")
  eq(result.stderr, "")
  result = ok(proc.run { CHILD, "both", stdout = "null", stderr = "null" })
  eq(result.stdout .. result.stderr, "")
  ok(fs.write(path, "old"))
  ok(proc.run { CHILD, "both", stdout = { file = path }, stderr = "stdout" })
  eq(ok(fs.read(path)), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n")
  ok(proc.run { CHILD, "both", stdout = { file = path, append = true } })
  eq(#ok(fs.read(path)), 36 + 18)
end)

test("ten megabytes of output: kept when asked, else cut and said so", function()
  local result = ok(proc.run { CHILD, "flood", "10000000", max_output = 10000000 })
  eq(#result.stdout, 10000000)
  eq(result.truncated, false)
  result = ok(proc.run { CHILD, "flood", "10000000" })
  eq(#result.stdout, 1 << 20)
  eq(result.truncated, true)
  eq(result.code, 0)
  result = ok(proc.run { CHILD, "flood", "10000000", max_output = 0 })
  eq(result.stdout, "")
  eq(result.truncated, true)
end)

test("on_line gets each line as it comes, long ones in parts", function()
  local lines = {}
  local function take(line, stream) lines[#lines + 1] = stream .. ":" .. line end
  local result = ok(proc.run { CHILD, "both", on_line = take })
  table.sort(lines)
  eq(lines, { "stderr:err 1", "stderr:err 2", "stderr:err 3", "stdout:out 1", "stdout:out 2", "stdout:out 3" })
  eq(result.stdout, "out 1\nout 2\nout 3\n")
  local sizes = {}
  result = ok(proc.run { CHILD, "line", "200000", max_output = 10, on_line = function(line)
    sizes[#sizes + 1] = #line
  end })
  eq(sizes, { 65536, 65536, 65536, 200000 - 3 * 65536 })
  eq(result.stdout, "xxxxxxxxxx")
  eq(result.truncated, true)
  lines = {}
  ok(proc.run { "printf", "a\\r\\n\\nlast", on_line = take })
  eq(lines, { "stdout:a", "stdout:", "stdout:last" })
end)

test("on_line may wait, and the child waits with it", function()
  local count = 0
  local result = ok(proc.run { CHILD, "flood", "1000000", on_line = function()
    count = count + 1
    if count % 5000 == 0 then time.sleep(0.02) end
  end })
  eq(count, 1000000 // 64)
  eq(#result.stdout, 1000000)
end)

test("an error in on_line ends the child", function()
  local pid
  raises("enough", proc.run, { CHILD, "stubborn", on_line = function(line)
    pid = tonumber(line)
    error("enough")
  end })
  ends(pid, 4)
end)

test("a timeout ends the whole group: TERM first, KILL after the grace", function()
  local dir <close> = ok(fs.temp_dir())
  local err = fails("timeout", proc.run { CHILD, "polite", dir.path .. "/bye", timeout = 0.2 })
  eq(ok(fs.read(dir.path .. "/bye")), "bye")
  eq(err.result.code, 0)
  ends(tonumber(err.result.stdout))
  err = fails("timeout", proc.run { CHILD, "nest", "3", timeout = 0.2, grace = 0.2 })
  eq(err.result.signal, "SIGTERM")
  local count = 0
  for pid in err.result.stdout:gmatch "%d+" do
    ends(tonumber(pid))
    count = count + 1
  end
  eq(count, 4)
  err = fails("timeout", proc.run { CHILD, "stubborn", timeout = 0.2, grace = 0.2 })
  eq(err.result.signal, "SIGKILL")
  err = fails("timeout", proc.run { CHILD, "stubborn", timeout = 0.2, grace = 0.2, on_line = function() end })
  eq(err.result.signal, "SIGKILL")
end)

test("a process left behind with the pipe neither delays the result nor stays", function()
  local result = ok(proc.run { CHILD, "litter" }) -- what it leaves would stay for ten minutes
  eq(result.code, 0)
  eq(result.truncated, true) -- it might have said more
  ends(tonumber(result.stdout))
end)

test("cancelling the waiting task ends the whole group", function()
  for _, start in ipairs {
    function(spec) return proc.run(spec) end,
    function(spec) return ok(proc.spawn(spec)):wait() end,
    function(spec) for _ in ok(proc.spawn(spec)):lines() do end end,
  } do
    local dir <close> = ok(fs.temp_dir())
    local out = dir.path .. "/pids"
    local running = task.spawn(start, { CHILD, "nest", "2", stdout = { file = out } })
    check.eventually(function() return select(2, (fs.read(out) or ""):gsub("\n", "")) == 3 end)
    running:cancel()
    local _, err = running:join()
    eq(err.code, "cancelled")
    for pid in ok(fs.read(out)):gmatch "%d+" do ends(tonumber(pid), 4) end
  end
end)

test("a deadline reaches the child", function()
  local done, err = pcall(task.deadline, 0.2, proc.run, { CHILD, "nest", "1" })
  eq(done, false)
  eq(err.code, "deadline")
end)

test("talking to a child while it runs", function()
  local cat <close> = ok(proc.spawn { CHILD, "echo" })
  ok(cat.pid > 1)
  ok(cat:write "one\n")
  eq({ cat:read() }, { "one\n", "stdout" })
  ok(cat:write "two\nthr")
  ok(cat:write "ee\nfour")
  cat:close_stdin()
  local lines = {}
  for line in cat:lines "stdout" do lines[#lines + 1] = line end
  eq(lines, { "two", "three", "four" })
  local result = ok(cat:wait())
  eq(result.code, 0)
  eq(ok(cat:wait()).code, 0) -- as often as one likes
  fails("closed", cat:write "more")
  eq(cat:kill(), false)
end)

test("wait collects what nobody reads, also after a loop was left early", function()
  local handle <close> = ok(proc.spawn { CHILD, "flood", "3000000", max_output = 1000 })
  local count = 0
  for line in handle:lines() do
    eq(#line, 63)
    count = count + 1
    if count == 2 then break end
  end
  local result = ok(handle:wait())
  eq(result.code, 0)
  eq(result.truncated, true)
  ok(#result.stdout <= 1000)
end)

test("one task at a time waits for the same of a child, and the second takes nothing from the first", function()
  local cat <close> = ok(proc.spawn { CHILD, "echo" })
  local reading = false
  local reader = task.spawn(function()
    reading = true -- and then it waits in the same slice
    return cat:read()
  end)
  check.eventually(function() return reading end)
  raises("another task already waits", cat.read, cat)
  ok(cat:write "one\n")
  eq({ reader:join() }, { "one\n", "stdout" })
  ok(cat:write "two\n")
  eq({ cat:read() }, { "two\n", "stdout" })
end)

test("wait gives up after its own timeout and the child goes on", function()
  local handle <close> = ok(proc.spawn { CHILD, "stubborn" })
  fails("timeout", handle:wait(0.05))
  ok(alive(handle.pid))
  ok(handle:kill "TERM") -- ignored
  fails("timeout", handle:wait(0.05))
  ok(handle:kill "SIGKILL")
  eq(ok(handle:wait()).signal, "SIGKILL")
  raises("no such signal", handle.kill, handle, "NONE")
  raises("no such signal", handle.kill, handle, 0)
end)

test("writing to a child that does not read: an error, not an end", function()
  local handle <close> = ok(proc.spawn { CHILD, "exit", "0" })
  fails("closed", handle:write(("x"):rep(1 << 20)))
end)

test("a closed handle ends its child and says that it is closed", function()
  local handle = ok(proc.spawn { CHILD, "nest", "1" })
  local reader = task.spawn(function() return handle:wait() end)
  time.sleep(0.05)
  handle:close()
  handle:close()
  local _, err = reader:join()
  has(tostring(err), "closed")
  raises("closed", handle.wait, handle)
  ends(handle.pid, 4)
end)

test("a forgotten handle ends its child", function()
  local pid = ok(proc.spawn { CHILD, "echo" }).pid
  check.eventually(function()
    local garbage = {}
    for i = 1, 20000 do garbage[i] = { i } end -- until the collector comes round
    return #garbage > 0 and not alive(pid)
  end, 20)
end)

test("a thousand children leave neither descriptors nor zombies", function()
  for _ = 1, 20 do ok(proc.run { "/bin/true" }) end
  time.sleep(0.05)
  local fds, family = fd_count(), children()
  for i = 1, 1000 do
    if i % 100 == 0 then
      fails("not_found", proc.run { "no-such-program" })
    else
      ok(ok(proc.run { "/bin/true" }).ok)
    end
  end
  time.sleep(0.05)
  eq(fd_count(), fds)
  eq(children(), family)
end, 120)

test("many at once", function()
  local jobs = {}
  for i = 1, 50 do
    jobs[i] = function() return ok(proc.run { CHILD, "echo", stdin = ("%d"):format(i) }).stdout end
  end
  for i, said in ipairs(task.all(jobs)) do eq(said, tostring(i)) end
end)

-- Hosts of our own, to be killed.
local function nested(script)
  local dir <close> = ok(fs.temp_dir())
  local path = dir.path .. "/script.lua"
  ok(fs.write(path, script))
  local host = ok(proc.spawn { sys.exe(), "exec", path, CHILD })
  local pids = {}
  for line in host:lines "stdout" do
    if line == "ready" then break end
    pids[#pids + 1] = ok(tonumber(line), line)
  end
  return host, pids
end

local NEST = [[
  local proc = require "proc"
  local child = ...
  local a = assert(proc.spawn { child, "nest", "2" })
  local b = assert(proc.spawn { child, "stubborn" })
  for _, c in ipairs { { a, 3 }, { b, 1 } } do
    for line in c[1]:lines() do
      print(line)
      c[2] = c[2] - 1
      if c[2] == 0 then break end
    end
  end
  print("ready")
]]

test("a host killed by SIGKILL leaves no grandchild", function()
  local host, pids = nested(NEST .. "\na:wait()")
  eq(#pids, 4)
  for _, pid in ipairs(pids) do ok(alive(pid)) end
  -- The host alone, not its group: its children sit in groups of their own anyway.
  ok(proc.run { "kill", "-KILL", tostring(host.pid) })
  for _, pid in ipairs(pids) do ends(pid, 5) end
  eq(ok(host:wait()).signal, "SIGKILL")
end)

test("a host that ends leaves no child either, nor its guard", function()
  local host, pids = nested(NEST .. "\nreturn 0")
  eq(#pids, 4)
  local result = ok(host:wait(100))
  eq(result.code, 0)
  for _, pid in ipairs(pids) do ok(not alive(pid), pid) end
end)
