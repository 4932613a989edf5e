-- Checks of a release, against a server of our own and real programs.
local check = require "check"
local lab = require "lab"
local log, serve, task, time = require "log", require "serve", require "task", require "time"
local verify = require "checks.verify"
local test, eq, ok, fails, has = check.test, check.eq, check.ok, check.fails, check.has

-- A server that answers with answer(count) and its address.
local function server(answer)
  local count = 0
  local s = ok(serve.listen { address = "127.0.0.1", port = 0, handler = function(request)
    count = count + 1
    return answer(count, request)
  end })
  check.defer(function() s:close(0) end)
  return ("http://127.0.0.1:%d/"):format(s.port), function() return count end
end

local function run(list, more)
  for _, c in ipairs(list) do
    c.status, c.within, c.every = c.status or (c.http and 200 or nil), c.within or 2, c.every or 0.05
  end
  local request = {
    app = "web", environment = "staging", version = "v1.2.3", commit = ("c"):rep(40), digest = "sha256:d",
  }
  for k, v in pairs(more or {}) do request[k] = v end
  return verify.run(list, request)
end

local function script(body)
  local path = lab.dir("check") .. "/check"
  return lab.write(path, "#!/usr/bin/perl\n" .. body .. "\n", 493) -- 0755
end

test("no checks, nothing to prove", function() ok(run {}) end)

test("a probe is tried until the release answers as it should", function()
  local said = {}
  local url, count = server(function(n) return { status = n < 4 and 503 or 200, body = "warming up" } end)
  local hooks = { progress = function(text) said[#said + 1] = text end, output = function() end }
  ok(run({ { http = url } }, { hooks = hooks }))
  eq(count(), 4)
  eq(#said, 3)
  has(said[1], "answered 503 instead of 200: warming up")
end)

test("a probe that never succeeds says what it saw last, and stays within its time", function()
  local url, count = server(function() return { status = 500, body = "no database\nstack trace" } end)
  local err = fails("unhealthy", run { { http = url, within = 0.4, every = 0.1 } })
  has(err.message, url .. " answered 500 instead of 200: no database (")
  has(err.message, " attempts in 400 ms")
  eq(err.target, url)
  eq(count() > 1, true)
end)

test("the status may be another one, and a redirect is an answer", function()
  local url = server(function() return { status = 302, headers = { Location = "http://127.0.0.1:1/" } } end)
  ok(run { { http = url, status = 302 } })
  has(fails("unhealthy", run { { http = url, within = 0.1 } }).message, "answered 302 instead of 200")
end)

test("the body must hold the text", function()
  local url = server(function(n) return { body = n < 3 and "version one\n" or "version two\n" } end)
  ok(run { { http = url, contains = "version two" } })
  local err = fails("unhealthy", run { { http = url, contains = "version %d+", within = 0.1 } }) -- no pattern
  has(err.message, "does not say 'version %d+' but: version two")
end)

test("nobody there, somebody who hangs, somebody who never ends", function()
  local nobody = ("http://127.0.0.1:%d/"):format(lab.port())
  has(fails("unhealthy", run { { http = nobody, within = 0.2 } }).message, nobody .. ": ")
  local hanging = server(function() time.sleep(600) end)
  task.deadline(25, function() -- an attempt gets no more time than is left: alone it would have 30 s
    fails("unhealthy", run { { http = hanging, within = 0.5 } })
  end)
  local endless = server(function()
    return { body = function(write)
      for _ = 1, 64 do
        if not write(("x"):rep(65536)) then return end
      end
    end }
  end)
  fails("unhealthy", run { { http = endless, within = 0.1 } })
end)

test("a command must exit with 0; it sees the release and its lines go to the log", function()
  local lines = {}
  local function output(stream, line) lines[#lines + 1] = stream .. ": " .. line end
  local hooks = { output = output, progress = function() end }
  local good = script [[
    print "$ENV{APP} $ENV{ENVIRONMENT} $ENV{VERSION} $ENV{DIGEST} ", length $ENV{COMMIT}, " @ARGV\n"]]
  ok(run({ { command = { good, "a b" } } }, { hooks = hooks }))
  eq(lines[1], "stdout: web staging v1.2.3 sha256:d 40 a b")
  local bad = script [[print "checking\n"; print STDERR "first\nthe cart is empty\n"; exit 3]]
  has(fails("unhealthy", run { { command = { bad }, within = 20, every = 60 } }).message,
    "ended with exit status 3: the cart is empty (1 attempt in 20 s")
  local killed = { command = { script "kill 'KILL', $$" }, within = 20, every = 60 }
  has(fails("unhealthy", run { killed }).message, "SIGKILL")
  local missing = { command = { "/nowhere/check" }, within = 20, every = 60 }
  has(fails("unhealthy", run { missing }).message, "/nowhere/check")
end)

test("a command that hangs is ended, with its time", function()
  has(fails("unhealthy", run { { command = { script "sleep 600" }, within = 0.3 } }).message, "still running")
end)

test("checks come in order, and the first that fails ends them", function()
  local url, count = server(function() return {} end)
  local bad = script "exit 1"
  fails("unhealthy", run { { http = url }, { command = { bad }, within = 0.1 }, { http = url } })
  eq(count(), 1)
end)

test("a look from outside may be shorter than the checks", function()
  local url = server(function() return { status = 500 } end)
  fails("unhealthy", run({ { http = url, within = 600 } }, { within = 0.2 }))
end)

test("a secret that a release shows is in no error and no progress", function()
  log.secret "canary-of-verify"
  local said = ""
  local url = server(function() return { status = 500, body = "token canary-of-verify refused" } end)
  local err = fails("unhealthy", run({ { http = url, within = 0.2 } },
    { hooks = { progress = function(text) said = said .. text end, output = function() end } }))
  local telling = script [[print STDERR "no: canary-of-verify\n"; exit 1]]
  local failed = fails("unhealthy", run { { command = { telling }, within = 0.1 } })
  eq((said .. tostring(err) .. tostring(failed)):find("canary", 1, true), nil)
  has(tostring(failed), "no: ")
end)
