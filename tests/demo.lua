-- The demo: from a git push to a running release, with real parts on loopback, told step by step.
--
--   moontide exec tests/demo.lua [--keep]
--
-- A git server, an OCI registry, a container engine and Moontide itself start in a scratch folder; real commits become
-- real containers. --keep leaves everything running, to push to. Everything goes when it ends, also on Ctrl-C.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local task, term, time = require "task", require "people.terminal", require "time"
local base, lab = require "lab.base", require "lab"

local keep = false
for _, arg in ipairs { ... } do keep = keep or arg == "--keep" end

local colour = sys.env("NO_COLOR") == nil and term.isatty and term.isatty(1)
local function paint(code, text) return colour and ("\27[%sm%s\27[0m"):format(code, text) or text end

local steps, current = {}, nil

-- One line of the story.
local function tell(text, ...) print(paint("36", "    " .. (select("#", ...) > 0 and text:format(...) or text))) end

local function step(title, fn)
  current = { title = title }
  steps[#steps + 1] = current
  print(("%s %s"):format(paint("1;33", ("%2d."):format(#steps)), paint("1", title)))
  local started = time.monotonic()
  fn()
  current.took = current.took or time.monotonic() - started
  print(paint("32", ("    done in %s"):format(time.words(current.took))))
end

local function expect(condition, text, ...)
  if not condition then error(("the demo expected that " .. text):format(...), 0) end
  current.result = text:format(...)
  print("    " .. paint("32", "✓ ") .. current.result)
end

-- ---- the parts ----

local P = {} -- git, registry, docker, repo, host, dir, ports

local CONFIG <const> = [[
-- Written by the demo. An own one needs no more than this.
return {
  poll = "@POLL@",
  listen = "127.0.0.1:@LISTEN@",
  builder = { kind = "docker", socket = "@SOCKET@", network = "host" },
  apps = {
    web = {
      source = "@SOURCE@",
      image = "@IMAGE@",
      environments = {
        staging = {
          target = {
            kind = "docker", socket = "@SOCKET@", network = "host", env = { PORT = "@STAGING@" }, stop_timeout = "2s",
          },
          verify = { { http = "http://127.0.0.1:@STAGING@/", within = "4s", every = "0.1s" } },
        },
        production = {
          target = {
            kind = "docker", socket = "@SOCKET@", network = "host", env = { PORT = "@PRODUCTION@" },
            stop_timeout = "2s",
          },
          verify = { { http = "http://127.0.0.1:@PRODUCTION@/", within = "4s", every = "0.1s" } },
        },
      },
    },
  },
}
]]

-- No HEALTHCHECK: the engine would look only once a second, and the checks of the configuration are quicker.
local DOCKERFILE <const> = "FROM scratch\nCOPY app version mode /\nENTRYPOINT [\"/app\"]\n"

local function exe() return sys.exe() end

local function start_host()
  local started = time.monotonic()
  P.host = assert(proc.spawn {
    exe(), "run", "--config", P.dir .. "/moontide.lua", "--state", P.dir .. "/state", "-o", "json",
    stdout = { file = P.dir .. "/host.log", append = true }, stderr = "stdout", stdin = false,
  })
  P.client = require("people.client").open(P.dir .. "/state")
  base.eventually("moontide answers", 10, function() return P.client:status() end)
  return time.monotonic() - started
end

-- Runs a moontide command as a user would, and shows what it prints.
local function moontide(...)
  local argv = { exe(), ... }
  argv.stderr = "stdout"
  argv[#argv + 1], argv[#argv + 2] = "--config", P.dir .. "/moontide.lua"
  argv[#argv + 1], argv[#argv + 2] = "--state", P.dir .. "/state"
  print("    $ moontide " .. table.concat({ ... }, " "))
  local result = assert(proc.run(argv))
  for line in result.stdout:gmatch("[^\n]+") do print("      " .. line) end
  return result
end

local function environment(name)
  local status = P.client:status()
  for _, e in ipairs(status and status.apps[1].environments or {}) do
    if e.name == name then return e end
  end
end

local function ask(name)
  local answer = require("http").get(("http://127.0.0.1:%d/"):format(P.ports[name]), { timeout = 1 })
  return answer and answer.status == 200 and answer.body:match("^hello ([^\n]*)") or nil
end

local BUSY <const> = { queued = true, running = true, waiting = true }

-- Waits until an environment is at rest and serves what it should. Gives how long its last run worked.
local function arrives(name, answer, seconds)
  local e
  base.eventually(("%s serves '%s'"):format(name, answer), seconds or 30, function()
    e = environment(name)
    P.seen = ("%s %s, serves %s"):format(name, e and e.state or "?", tostring(ask(name)))
    return e and not BUSY[e.state] and e.last and ask(name) == answer
  end)
  return e, e.last.ended_at - e.last.started_at
end

local function commit(version, mode)
  local files = lab.app { version = version, mode = mode, dockerfile = DOCKERFILE }
  return P.repo:commit(files, { message = "Say " .. version })
end

local function commands()
  print(paint("1", "\n  It keeps running. In another terminal:"))
  print(("    git clone %s web && cd web"):format(P.repo.push_url or P.repo.url))
  print("    echo 'hello from me' > version && git commit -am 'Say hello' && git push        # staging follows")
  print("    git tag v2.0.0 && git push origin v2.0.0                                        # production follows")
  print("    git reset --hard HEAD~1 && git push --force                                     # staging goes back")
  print(("    curl http://127.0.0.1:%d/    # staging"):format(P.ports.staging))
  print(("    curl http://127.0.0.1:%d/    # production"):format(P.ports.production))
  print(("    %s status --state %s/state"):format(exe(), P.dir))
  print(("    %s repl --state %s/state"):format(exe(), P.dir))
  print("  Ctrl-C ends it and removes everything.")
end

local function story()
  local commits = {}

  step("Start the parts: a git server, an OCI registry, a container engine", function()
    P.dir = base.dir("demo")
    local parts = task.all {
      function() return lab.git {} end, function() return lab.registry {} end, function() return lab.docker() end,
    }
    P.git, P.registry, P.docker = parts[1], parts[2], parts[3]
    P.repo = P.git:repo "web"
    P.ports = { staging = base.port(), production = base.port(), listen = base.port() }
    base.write(P.dir .. "/moontide.lua", (CONFIG:gsub("@(%u+)@", {
      SOURCE = P.repo.url, IMAGE = P.registry.host .. "/team/web", SOCKET = P.docker.socket, POLL = "0.5s",
      STAGING = tostring(P.ports.staging), PRODUCTION = tostring(P.ports.production), LISTEN = tostring(P.ports.listen),
    })))
    tell("git %s, registry %s, engine %s", P.repo.url, P.registry.host, P.docker.socket)
  end)

  step("Check the configuration and start Moontide (it polls every half second)", function()
    commits.one = commit("one")
    expect(moontide("check").code == 0, "the configuration has no fault")
    current.took = start_host()
  end)

  step("A push goes to staging: build, push to the registry, roll out, verify", function()
    local _, work = arrives("staging", "one", 60)
    tell("commit %s, %s of work", commits.one:sub(1, 7), time.words(work))
    expect(true, "staging serves 'one'")
    expect(ask("production") == nil, "production is untouched: there is no tag yet")
  end)

  step("A tag goes to production: the same image, promoted by digest", function()
    P.repo:tag("v1.0.0", { message = "first" })
    local e, work = arrives("production", "one")
    current.took = work
    expect(e.current.version == "v1.0.0" and e.current.digest == environment("staging").current.digest,
      "production serves 'one' as v1.0.0, the very digest that staging proved")
  end)

  step("The next push and tag", function()
    commits.two = commit("two")
    arrives("staging", "two")
    P.repo:tag("v1.1.0")
    arrives("production", "two")
    expect(true, "both serve 'two'")
  end)

  step("A bad release takes itself back", function()
    commits.bad = commit("three", "sick")
    base.eventually("staging takes it back", 40, function()
      local e = environment("staging")
      return e and e.last and e.last.kind == "rollback" and e.last.state == "done"
    end)
    local e, work = arrives("staging", "two")
    tell("%s", e.last.title)
    current.took = work
    expect(e.current.commit == commits.two, "staging serves 'two' again, after %s of rollback work", time.words(work))
  end)

  step("A branch reset rolls staging back: the older commit's image is found, not built", function()
    P.repo:reset(commits.one)
    local e, work = arrives("staging", "one")
    current.took = work
    expect(e.current.commit == commits.one, "staging serves 'one' after %s of work", time.words(work))
  end)

  step("A newer tag on an older commit rolls production back", function()
    P.repo:tag("v1.2.0", { commit = commits.one })
    local e, work = arrives("production", "one")
    current.took = work
    expect(e.current.version == "v1.2.0", "production serves 'one' as v1.2.0 after %s of work",
      time.words(work))
  end)

  step("A SIGKILL in the middle of a release loses nothing", function()
    commits.four = commit("four")
    base.eventually("a run begins", 20, function()
      local e = environment("staging")
      return e and e.state == "running"
    end)
    P.host:kill("KILL")
    P.host:wait()
    tell("killed while it worked; starting it again")
    local up = start_host()
    local e = arrives("staging", "four", 60)
    expect(e.last.attempts >= 2, "the run went on at attempt %d and staging serves 'four' (restart took %s)",
      e.last.attempts, time.words(up))
  end)

  step("What happened, and why", function()
    moontide("status")
    moontide("history")
    moontide("why", "web", "production")
  end)
end

local function summary()
  print(paint("1", "\n  What happened"))
  for i, s in ipairs(steps) do
    print(("  %2d. %-86s %8s"):format(i, s.title, s.took and time.words(s.took) or "-"))
  end
end

-- ---- beginning and end ----

local function clean()
  if P.host then
    P.host:kill("TERM")
    if not P.host:wait(20) then P.host:kill("KILL") end
    P.host = nil
  end
  base.close()
end

local function show_log()
  local text = P.dir and fs.read(P.dir .. "/host.log", { max = 64 << 20 })
  if not text then return end
  print("\n  The host's last words:")
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  for i = math.max(1, #lines - 30), #lines do print("    " .. lines[i]) end
end

sys.catch("INT", "TERM")
local began = time.monotonic()
local telling = task.spawn(function()
  story()
  summary()
  if keep then
    commands()
    while true do time.sleep(3600) end
  end
  return true
end)
local interrupted = false
task.spawn(function()
  sys.next_signal()
  interrupted = true
  telling:cancel()
end)
local ok, err = telling:join()
if not ok and not interrupted then
  print(paint("1;31", "\n  The demo failed: " .. tostring(err) .. "; last seen: " .. tostring(P.seen)))
  show_log()
end
print(interrupted and "\n  Stopping; everything that the demo started goes away." or "")
local cleaned, trouble = pcall(clean)
if not cleaned then print("  cleaning up failed: " .. tostring(trouble)) end
local told = ok and "The whole story" or interrupted and "Stopped" or "Failed"
print(("  %s in %s"):format(told, time.words(time.monotonic() - began)))
return ok and cleaned and 0 or interrupted and 130 or 1
