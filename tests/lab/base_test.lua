-- The lab's ground floor: what it gives is fresh, what it starts ends, what it leaves is swept.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local lab = require "lab"
local victims = require "lab.victims"
local fs, http = require "fs", require "http"
local test, eq, ok, raises, has = check.test, check.eq, check.ok, check.raises, check.has

test("ports are free, and never given twice", function()
  local seen = {}
  for _ = 1, 20 do
    local port = lab.port()
    ok(not seen[port], "given twice")
    seen[port] = true
    check.fails("refused", http.get(("http://127.0.0.1:%d/"):format(port), { timeout = 2 }))
  end
end)

test("scratch folders are new, empty and private", function()
  local a, b = lab.dir("x"), lab.dir("x")
  ok(a ~= b)
  eq(assert(fs.list(a)), {})
  eq(assert(fs.stat(a:match("^(.*)/"))).mode & 63, 0) -- nobody else's business
end)

test("a program that fails raises with what it said", function()
  local e = raises("ended with status 2", lab.run, { "ls", "/nonexistent/file" })
  has(tostring(e), "/nonexistent/file")
end)

test("programs see none of the caller's environment", function()
  local text = lab.run { "env" }
  for name in text:gmatch("([%w_]+)=") do
    ok(({ PATH = 1, HOME = 1, LANG = 1, TMPDIR = 1 })[name], name .. " got through")
  end
end)

test("a server that dies early is reported with its output", function()
  local dir = lab.dir()
  local e = raises("ended early", lab.start, {
    name = "doomed", dir = dir, argv = { "ls", "/nonexistent/file" }, ready = function() return false end,
  })
  has(tostring(e), "/nonexistent/file")
end)

test("a server that is never ready is ended", function()
  local dir = lab.dir()
  raises("becomes ready", lab.start, {
    name = "idle", dir = dir, argv = { "sleep", "1000" }, ready = function() return false end, within = 0.2,
  })
end)

test("a server that will not end is killed", function()
  local dir = lab.dir()
  lab.write(dir .. "/stubborn", "#!/bin/sh\ntrap '' TERM\necho up\nwhile :; do sleep 1; done\n", 493)
  local service
  service = lab.start {
    name = "stubborn", dir = dir, argv = { dir .. "/stubborn" },
    ready = function() return (fs.read(dir .. "/stubborn.log") or ""):find("up") end,
  }
  ok(service:alive())
  service:stop(0.2)
  ok(not service:alive())
  ok(not fs.exists("/proc/" .. service.pid), "still there")
end)

-- Another process opens a lab, says what it has, and waits; it gets killed without a chance to tidy up.
test("after SIGKILL nothing of a lab survives", function()
  local victim, said = victims.start "plain"
  ok(fs.exists(said.dir) and fs.exists("/proc/" .. said.pid))
  victim:kill("KILL")
  check.eventually(function() return not fs.exists("/proc/" .. said.pid) end, 5, "the server ends")
  victims.sweep()
  ok(not fs.exists(said.dir), "the next lab sweeps the folder")
end)
