-- The command line from the outside: the program itself, against hosts and engines of the test's own.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-return-value -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has
local control = require "people.control"
local fs, json, proc, sys, task = require "fs", require "json", require "proc", require "base.sys", require "task"
local fake = require "stdlib.fake_engine"

local exe = sys.exe()

-- Runs the program; the result's code, stdout and stderr.
local function moontide(...)
  local argv = { exe, ... }
  local options = type(argv[#argv]) == "table" and table.remove(argv) or {}
  for key, value in pairs(options) do argv[key] = value end
  argv.timeout = argv.timeout or 30
  argv.env = argv.env or { PATH = "/usr/bin:/bin", USER = "ann", HOME = "/nonexistent" }
  return ok(proc.run(argv))
end

local function folder()
  local dir = ok(fs.temp_dir())
  check.defer(function() dir:close() end)
  return dir.path
end

-- A host that answers from a fake engine.
local function host()
  local state, engine = folder(), fake.new()
  local server = ok(control.open(engine, { state = state }))
  check.defer(function() server:close() end)
  return state, engine
end

local function write(path, text)
  ok(fs.write(path, text))
  return path
end

local COMMANDS = {
  "init", "run", "once", "check", "plan", "test", "reload", "status", "history", "why", "logs", "rollback", "release",
  "retry", "cancel", "hold", "unhold", "freeze", "thaw", "approve", "reject", "exec", "repl", "version", "help",
}

-- ---- words, flags, exit codes ----

test("without a command it says what there is, and that this was not it", function()
  local r = moontide()
  eq(r.code, 2)
  for _, name in ipairs(COMMANDS) do has(r.stderr, "  " .. name) end
  eq(r.stdout, "")
end)

test("help for every command shows an example", function()
  for _, name in ipairs(COMMANDS) do
    local r = moontide(name, "--help")
    eq(r.code, 0, name)
    if name ~= "help" then
      has(r.stdout, "usage:    moontide " .. name)
      has(r.stdout, "example:  moontide " .. name)
      has(moontide("help", name).stdout, r.stdout) -- and the page of that name, if there is one
    end
    eq(r.stderr, "")
  end
  eq(moontide("-h").code, 0)
  eq(moontide("help", "nonsense").code, 2)
end)

test("help config is the reference, for people, machines and the README", function()
  has(moontide("help", "config").stdout, "apps.APP.branch")
  has(moontide("help", "config", "--markdown").stdout, "| `apps.APP.image` |")
  ok(#ok(json.decode(moontide("help", "config", "-o", "json").stdout)).keys > 50)
end)

test("a mistyped command or flag gets a suggestion and exit code 2", function()
  for _, case in ipairs {
    { { "statsu" }, "did you mean status?" }, { { "status", "--jsno" }, "unknown flag" },
    { { "status", "--ouput", "json" }, "did you mean --output?" }, { { "status", "-o", "jsn" }, "did you mean json?" },
    { { "status", "-o" }, "needs a value" }, { { "status", "a", "b" }, "one word too many" },
    { { "why" }, "APP is missing" }, { { "history", "--limit", "0" }, "between 1 and 1000" },
    { { "history", "--limit", "x" }, "whole number" }, { { "history", "--limit=99999999999999999999" }, "whole" },
    { { "logs", "x" }, "a run is a number" }, { { "logs", "0" }, "a run is a number" },
    { { "version", "--help=yes" }, "takes no value" }, { { "--state", "" }, "must not be empty" },
    { { "release", "web", "production" }, "VERSION|COMMIT is missing" }, { { "-x" }, "unknown flag" },
  } do
    local r = moontide(table.unpack(case[1]))
    eq(r.code, 2, table.concat(case[1], " "))
    has(r.stderr, case[2])
    eq(r.stdout, "")
  end
end)

test("flags go before or after the command, with a space or an equals sign", function()
  local state = host()
  local want = moontide("status", "--state", state, "-o", "json").stdout
  eq(moontide("--state", state, "-o", "json", "status").stdout, want)
  eq(moontide("--state=" .. state, "--output=json", "status").stdout, want)
  eq(moontide("status", "--state=" .. state, "-o=json").stdout, want)
end)

test("errors are JSON for machines", function()
  local r = moontide("status", "--state", folder(), "-o", "json", "--nope")
  eq(r.code, 2)
  r = moontide("hold", "web", "--state", folder(), "-o", "json", { env = { PATH = "/bin" } })
  eq(ok(json.decode(r.stderr)).error.code, "refused")
end)

test("hostile words come back printable", function()
  local r = moontide("\27]0;x\7\r\nstatus")
  eq(r.code, 2)
  ok(not r.stderr:gsub("\n", ""):find("%c"), r.stderr)
end)

test("version", function()
  has(moontide("version").stdout, "moontide ")
  eq(moontide("--version").stdout, moontide("version").stdout)
  eq(ok(json.decode(moontide("version", "-o", "json").stdout)).version, sys.version)
end)

-- ---- reading from a host ----

test("status shows every environment in aligned columns, without colour into a pipe", function()
  local state = host()
  local r = moontide("status", "--state", state)
  eq(r.code, 0)
  has(r.stdout, "web/staging     idle   3f2a9c13f")
  has(r.stdout, "web/production  held   v1.3.9 (ababababa)")
  has(r.stdout, "held by ann@box")
  has(r.stdout, "sale until Monday")
  ok(not r.stdout:find("\27", 1, true))
  eq(moontide("status", "web", "--state", state).code, 0)
  r = moontide("status", "wbe", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "did you mean web?")
  local data = ok(json.decode(moontide("status", "--state", state, "-o", "json").stdout))
  eq(data.apps[1].environments[2].hold.by, "ann@box")
end)

test("history and why", function()
  local state, engine = host()
  local r = moontide("history", "web", "--limit", "5", "--state", state)
  eq(r.code, 0)
  has(r.stdout, "43  web/production  failed")
  has(r.stdout, "it answers 500")
  eq(engine.calls[1], { "history", { app = "web", limit = 5 } })
  r = moontide("why", "web", "production", "--state", state)
  has(r.stdout, "refused")
  has(r.stdout, "a pre-release may not follow v1.3.9")
  has(r.stdout, "[scripts/production.lua:17]")
  r = moontide("why", "nope", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "there is no app 'nope'; there are: web")
  r = moontide("status", "nope", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "there is no app 'nope'; there are: web")
  r = moontide("logs", "7", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "there is no run 7; 'moontide history' lists them")
  engine.runs = {}
  has(moontide("history", "--state", state).stdout, "nothing has run yet")
end)

test("logs prints what there is; --follow goes on to the end and tells how it ended", function()
  local state, engine = host()
  for i = 1, 3 do engine:add("line " .. i .. " \27[31m") end
  local r = moontide("logs", "42", "--state", state)
  eq(r.code, 0)
  has(r.stdout, "line 3 \\x1b[31m")
  local follower = task.spawn(function() return moontide("logs", "42", "-f", "--state", state) end)
  require("time").sleep(0.4)
  engine:add("late")
  engine:finish "failed"
  r = follower:join(100)
  eq(r.code, 1)
  has(r.stdout, "late")
  has(r.stdout, "run 42 failed")
  eq(moontide("logs", "42", "--state", state).code, 0)
  r = moontide("logs", "42", "--state", state, "-o", "json")
  eq(ok(json.decode(r.stdout:match("^[^\n]+"))).kind, "output")
  eq(moontide("logs", "7", "--state", state).code, 1)
end)

-- ---- orders ----

test("orders go to the host with who gave them, and are watched to their end", function()
  local state, engine = host()
  engine:add("putting it back")
  engine:finish "done"
  local r = moontide("rollback", "web", "production", "--state", state)
  eq(r.code, 0)
  has(r.stdout, "run 42: rollback to v1.3.8 in web/production")
  has(r.stdout, "putting it back")
  has(r.stdout, "run 42 done")
  has(engine.calls[1][2].by, "ann@")
  engine:finish "failed"
  eq(moontide("release", "web", "production", "v9.9.9", "--state", state).code, 1)
  eq(engine.calls[2][2].what, "v9.9.9")
  eq(moontide("release", "web", "production", "v9.9.9", "--no-wait", "--state", state).code, 0)
end)

test("retry is watched like any order; cancel names the run and how it ended", function()
  local state, engine = host()
  engine:finish "done"
  local r = moontide("retry", "web", "--state", state)
  eq({ r.code, engine.calls[1][1], engine.calls[1][2].app }, { 0, "retry", "web" })
  has(r.stdout, "run 42 done")
  r = moontide("cancel", "42", "--reason", "wrong one", "--state", state)
  eq({ r.code, r.stdout }, { 0, "run 42 is cancelled\n" })
  local call = engine.calls[#engine.calls]
  eq({ call[1], call[2].run, call[2].reason }, { "cancel", 42, "wrong one" })
  has(call[2].by, "ann@")
  eq(ok(json.decode(moontide("cancel", "42", "--state", state, "-o", "json").stdout)).state, "cancelled")
  for _, wrong in ipairs { "web", "-1", "1.5", "99999999999999999999" } do
    r = moontide("cancel", "--state", state, "--", wrong)
    eq(r.code, 2, wrong)
    has(r.stderr, "is no number of a run")
  end
  engine.fails = require("errors").new("conflict", "run 42 has ended: it is done")
  r = moontide("cancel", "42", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "run 42 has ended")
end)

test("hold and unhold", function()
  local state, engine = host()
  local r = moontide("hold", "web", "--reason", "later", "--state", state)
  eq(r.code, 0)
  has(r.stdout, "web/production is held")
  eq(engine.calls[1][2].reason, "later")
  r = moontide("unhold", "web", "production", "--state", state, "-o", "json")
  eq(ok(json.decode(r.stdout)).environments[1].name, "production")
  engine.fails = require("errors").new("conflict", "web/production is not held")
  r = moontide("unhold", "web", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "is not held")
end)

test("approve and reject, of an app whose name holds a slash", function()
  local state, engine = host()
  local r = moontide("approve", "shop/web", "--state", state, "--id", "1.2.4", "--by", "ben")
  eq(r.code, 0)
  has(r.stdout, "deployment/shop/web:1.2.4 has 1 of 2 votes")
  local act = engine.calls[1][2]
  eq({ engine.calls[1][1], act.app, act.what, act.by }, { "approve", "shop/web", "1.2.4", "ben" })
  r = moontide("reject", "shop/web", "deployment", "--reason", "not today", "--state", state, "-o", "json")
  eq(ok(json.decode(r.stdout)).state, "rejected")
  eq({ engine.calls[2][2].reason, engine.calls[2][2].environment }, { "not today", "deployment" })
  has(engine.calls[2][2].by, "ann@")
  engine.fails = require("errors").new("conflict", "nothing of shop/web waits for approval")
  r = moontide("approve", "shop/web", "--state", state)
  eq(r.code, 1)
  has(r.stderr, "nothing of shop/web waits for approval")
end)

test("without a running host, orders end with 3", function()
  local state = folder()
  for _, words in ipairs {
    { "rollback", "web" }, { "release", "web", "production", "v1" }, { "hold", "web" }, { "unhold", "web" },
    { "approve", "web" }, { "reject", "web" }, { "retry", "web" }, { "cancel", "7" }, { "repl" },
  } do
    words[#words + 1], words[#words + 2] = "--state", state
    local r = moontide(table.unpack(words))
    eq(r.code, 3, words[1])
    has(r.stderr, "no host runs on " .. state)
  end
end)

-- ---- exec ----

test("exec passes arguments, finds modules beside the file, and returns its integer", function()
  local dir = folder()
  write(dir .. "/beside.lua", "return { answer = 42 }")
  local file = write(dir .. "/script.lua", [[#!/usr/bin/env moontide
    local a, b = ...
    print(a, b, require("beside").answer, select("#", ...))
    require("time").sleep(0.01)
    return 7]])
  local r = moontide("exec", file, "x", "--config")
  eq(r.code, 7)
  eq(r.stdout, "x\t--config\t42\t2\n")
  eq(moontide("exec", write(dir .. "/ok.lua", "")).code, 0)
  eq(moontide("exec", write(dir .. "/no.lua", "return false")).code, 1)
  eq(moontide("exec", file, "--help").stdout, "--help\tnil\t42\t1\n")
end)

test("a file beside a script never takes the place of a module of the program", function()
  local dir = folder()
  write(dir .. "/json.lua", "error 'the wrong json'")
  local r = moontide("exec", write(dir .. "/script.lua", [[print(require("json").encode { 1 })]]))
  eq(r.stdout, "[1]\n", r.stderr)
end)

test("exec says what is wrong with a script", function()
  local dir = folder()
  local r = moontide("exec", dir .. "/none.lua")
  eq(r.code, 2)
  r = moontide("exec", write(dir .. "/syntax.lua", "local = 1"))
  eq(r.code, 2)
  has(r.stderr, "syntax.lua:1:")
  r = moontide("exec", write(dir .. "/raise.lua", "#!x\nlocal function f() error 'boom' end\nf()"))
  eq(r.code, 1)
  has(r.stderr, "raise.lua:2: boom")
  has(r.stderr, "raise.lua:3: in main chunk")
  ok(not r.stderr:find("stdlib/", 1, true), r.stderr)
  r = moontide("exec", write(dir .. "/weather.lua", "assert(require('fs').read('/nonexistent/x'))"))
  eq(r.code, 1)
  ok(not r.stderr:find("traceback", 1, true))
  eq(moontide("exec", write(dir .. "/binary.lua", "\27Lua")).code, 2)
  eq(moontide("exec", write(dir .. "/core.lua", "require 'core.sys'")).code, 1)
end)

-- ---- the host's own commands, with an engine of the test's ----

local ENGINE = [[
local M = {}
local fs = require "fs"
function M.check() return { { file = "scripts/staging.lua", line = 3, message = "every is missing" } } end
function M.open(options)
  local engine = require "fake"
  engine = setmetatable(engine.new(), { __index = engine })
  local stopped = require("task").signal()
  function engine:run()
    options.on_event { at = 1763900000, event = "host", level = "info", text = "watching 1 apps" }
    options.on_event { at = 1763900000, event = "run", level = "info", text = "v1.4.0 released", app = "web",
      environment = "production", run = 42, phase = "end", state = "done", elapsed = 2.5 }
    options.on_event { at = 1763900000, event = "progress", level = "info", text = "x", run = 42,
      progress = { text = "x" } }
    stopped:wait()
    return true
  end
  function engine:close() end
  function engine:stop(grace) stopped:notify() end
  function engine:once()
    options.on_event { at = 1763900000, event = "poll", level = "info", text = "nothing new", app = "web" }
    return { ok = options.config.poll == 30, runs = {} }
  end
  engine.config = options.config
  function engine.tried() end
  function engine:reload()
    local config, faults = options.load()
    if config then return { apps = 1, policies = 3, changed = {} } end
    require("engine.reload").tell(options.on_event, faults)
    return nil, require("errors").new("invalid", "the configuration has faults", { faults = faults })
  end
  return engine
end
return M
]]

local CONFIG = [[
return {
  %s
  apps = { web = { source = "/srv/web.git", image = "team/web", environments = {
    staging = { policy = "staging", rollback = false, target = { kind = "docker" } },
  } } },
}
]]

local function project(more)
  local dir = folder()
  ok(fs.mkdir(dir .. "/stdlib/engine", { parents = true }))
  ok(fs.mkdir(dir .. "/scripts"))
  ok(fs.mkdir(dir .. "/state", { mode = 448 }))
  write(dir .. "/scripts/staging.lua", "return {}")
  write(dir .. "/stdlib/engine/init.lua", ENGINE)
  write(dir .. "/stdlib/fake.lua", ok(fs.read "tests/stdlib/fake_engine.lua"))
  write(dir .. "/moontide.lua", CONFIG:format(more or ""))
  return dir, function(...)
    return moontide("--stdlib", dir .. "/stdlib", "--config", dir .. "/moontide.lua", "--scripts",
      dir .. "/scripts", "--state", dir .. "/state", ...)
  end
end

test("check prints every fault of configuration and policies, and touches nothing", function()
  local dir, run = project 'pol = "30s",'
  local r = run("check")
  eq(r.code, 2)
  has(r.stderr, dir .. '/moontide.lua:2: pol: unknown key "pol" (did you mean poll?)')
  write(dir .. "/moontide.lua", CONFIG:format(""))
  r = run("check")
  eq(r.code, 2)
  has(r.stderr, "scripts/staging.lua:3: every is missing")
  write(dir .. "/stdlib/engine/init.lua", "return { check = function() return {} end }")
  r = run("check")
  eq(r.code, 0)
  has(r.stdout, "1 app, 1 environment")
  eq(ok(fs.list(dir .. "/state")), {})
end)

test("once exits 0 or 1 as things went", function()
  local dir, run = project()
  local r = run("once")
  eq(r.code, 0)
  eq(ok(json.decode(r.stdout)).text, "nothing new")
  r = run("once", "-o", "text")
  has(r.stdout, "web                 nothing new")
  write(dir .. "/moontide.lua", CONFIG:format 'poll = "31s",')
  eq(run("once").code, 1)
  write(dir .. "/moontide.lua", CONFIG:format 'pol = "31s",')
  eq(run("once").code, 2)
end)

-- Starts a host with the project's own engine, or the real one.
local function start_host(dir, real)
  local lines = {}
  local argv = { exe, "run", "--config", dir .. "/moontide.lua", env = { PATH = "/usr/bin:/bin" }, stderr = "null" }
  for _, word in ipairs(real and {} or {
    "--stdlib", dir .. "/stdlib", "--scripts", dir .. "/scripts", "--state", dir .. "/state",
  }) do argv[#argv + 1] = word end
  local child = ok(proc.spawn(argv))
  check.defer(function() child:kill() end)
  task.spawn(function()
    for line in child:lines() do lines[#lines + 1] = line end
  end)
  return child, lines
end

local function wait_for(lines, part)
  return check.eventually(function()
    for _, line in ipairs(lines) do
      if line:find(part, 1, true) then return line end
    end
  end, 10, part)
end

test("run writes one line of JSON per event, reloads on HUP, stops cleanly on TERM", function()
  local dir = project()
  local child, lines = start_host(dir)
  local event = ok(json.decode(wait_for(lines, "v1.4.0 released")))
  eq(event.environment, "production")
  eq(event.time, "2025-11-23T12:13:20Z")
  for _, line in ipairs(lines) do ok(not line:find('"progress"', 1, true), line) end
  check.eventually(function() return fs.exists(dir .. "/state/control.sock") end)
  eq(moontide("status", "--state", dir .. "/state").code, 0)
  child:kill("HUP")
  wait_for(lines, "were loaded again")
  write(dir .. "/moontide.lua", CONFIG:format 'pol = "1s",')
  child:kill("HUP")
  wait_for(lines, "the reload was refused")
  wait_for(lines, "did you mean poll?")
  eq(moontide("status", "--state", dir .. "/state").code, 0)
  child:kill("TERM")
  eq(ok(child:wait()).code, 0)
  eq(moontide("hold", "web", "--state", dir .. "/state").code, 3)
end)

test("a second host on the same state is refused", function()
  local dir, run = project()
  local first, lines = start_host(dir)
  wait_for(lines, "watching 1 app")
  eq(run("run").code, 1)
  first:kill("TERM")
  eq(ok(first:wait()).code, 0)
end)

test("status, history, why and logs read the state of a host that is down", function()
  local dir, run = project()
  ok(fs.mkdir(dir .. "/stdlib/journal"))
  write(dir .. "/stdlib/journal/init.lua", [[
    return { open = function(state, options)
      assert(options.readonly)
      if not require("fs").exists(state .. "/journal.db") then
        return require("errors").fail("not_found", "no journal")
      end
      local journal = require("fake").new()
      function journal.restore_places(_, config) assert(config.apps.web) end
      return journal
    end }]])
  write(dir .. "/stdlib/journal/view.lua", [[
    local M = {}
    function M.status(engine, config)
      assert(config.apps.web)
      local status = engine:status()
      status.host = nil
      return status
    end
    function M.history(engine, query) return engine:history(query) end
    function M.why(engine, app, policy, config) return engine:why(app, policy) end
    function M.run_log(engine, id, offset)
      engine:add "it was long ago"
      if offset > 0 then engine.log = { engine.log[1] } end
      return engine:run_log(id, offset)
    end
    return M]])
  local r = run("status")
  eq(r.code, 3)
  has(r.stderr, "no host runs")
  write(dir .. "/state/journal.db", "x")
  r = run("status")
  eq(r.code, 0, r.stderr)
  has(r.stdout, "no host runs")
  has(r.stdout, "web/production  held")
  has(run("history").stdout, "it answers 500")
  has(run("why", "web").stdout, "pre-release")
  has(run("logs", "42").stdout, "it was long ago")
  eq(run("why", "nope").code, 1)
  r = run("logs", "42", "--follow")
  eq(r.code, 3)
  has(r.stderr, "unfinished")
end)

test("with the real engine: a hold survives the host, and is seen while it is down", function()
  local dir = folder()
  write(dir .. "/moontide.lua", ([[
    return { state = "state", poll = "1s", apps = { web = { source = "%s/none.git", image = "team/web", environments = {
      staging = {
        rollback = false, host = "staging.example.com", target = { kind = "command", apply = { "/bin/true" } },
      },
    } } } }]]):format(dir))
  local function run(...) return moontide("--config", dir .. "/moontide.lua", ...) end
  eq(run("check").code, 0)
  eq(run("status").code, 3)
  local child, lines = start_host(dir, true)
  wait_for(lines, "watching 1 app")
  check.eventually(function() return run("status").code == 0 end)
  local r = run("hold", "web", "--reason", "sale")
  eq(r.code, 0, r.stderr)
  r = run("unhold", "nope")
  eq(r.code, 1)
  eq(run("rollback", "web").code, 1)
  eq(run("release", "web", "staging", "v1").code, 1)
  has(run("why", "web", "staging").stdout, "web/staging  held")
  r = run("freeze", "the audit", "--for", "2h")
  eq(r.code, 0, r.stderr)
  has(r.stdout, "frozen by ")
  eq(run("freeze", "--for", "soon").code, 2)
  has(run("status").stdout, ": the audit (since ")
  eq(run("logs", "1").code, 1)
  has(run("run").stderr, "another")
  child:kill("TERM")
  eq(ok(child:wait()).code, 0)
  r = run("status")
  eq(r.code, 0)
  has(r.stdout, "no host runs")
  has(r.stdout, "sale")
  has(r.stdout, "staging.example.com")
  eq(run("history").code, 0)
  eq(run("why", "web").code, 0)
  eq(run("why", "nope").code, 1)
  eq(run("unhold", "web").code, 3)
  child, lines = start_host(dir, true)
  wait_for(lines, "watching 1 app")
  check.eventually(function() return run("unhold", "web").code == 0 end)
  has(run("why", "web", "staging").stdout, "frozen by ")
  r = run("thaw", "-o", "json")
  eq({ r.code, ok(json.decode(r.stdout)).reason }, { 0, "the audit" })
  eq(run("thaw").code, 1)
  child:kill("TERM")
  eq(ok(child:wait()).code, 0)
end)

test("the state folder comes from a configuration, however broken the rest is", function()
  local dir = project()
  local engine = fake.new()
  local server = ok(control.open(engine, { state = dir .. "/state" }))
  check.defer(function() server:close() end)
  write(dir .. "/moontide.lua", 'return { state = "state", apps = 1 }')
  eq(moontide("status", "--config", dir .. "/moontide.lua").code, 0)
end)

-- ---- the prompt ----

test("the prompt reads commands from a pipe", function()
  local r = moontide("repl", "--standalone", { stdin = "x = 20\nx + 1\nfor i = 1, 2 do\nprint(i)\nend\n_\n" })
  eq(r.code, 0)
  eq(r.stdout, "21\n1\n2\n21\n")
  r = moontide("repl", "--standalone", { stdin = "error 'boom'\nprint 'never'" })
  eq(r.code, 1)
  has(r.stderr, "boom")
  eq(r.stdout, "")
  r = moontide("repl", "--standalone", { stdin = "f(" })
  eq(r.code, 1)
  has(r.stderr, "incomplete")
end)

test("the prompt attaches to the running host", function()
  local state, engine = host()
  engine.repl_env = { apps = { "web" } }
  local r = moontide("repl", "--state", state, {
    stdin = "apps\nmine = 1\nmine + 1\nprint 'hi'\nengine:health().ready",
  })
  eq(r.code, 0)
  eq(r.stdout, '{ "web" }\n2\nhi\ntrue\n')
end)

test("tools talk to the prompt in frames", function()
  local function frames(text)
    local out, at = {}, 1
    while at <= #text do
      local length, start = text:match("^(%d+)\n()", at)
      out[#out + 1] = ok(json.decode(text:sub(start, start + length - 1)))
      at = start + length + 1
    end
    return out
  end
  local code = "print 'a\\nb'\nreturn 1, 'x'"
  local r = moontide("repl", "--standalone", "-o", "json", { stdin = ("%d\n%s\n3\n1 +7\nerror 1"):format(#code, code) })
  eq(r.code, 0)
  local answers = frames(r.stdout)
  eq(answers[1].values, { "1", '"x"' })
  eq(answers[1].output, "a\nb\n")
  eq(answers[2].state, "incomplete")
  eq(answers[3].state, "error")
  for _, bad in ipairs { "x\n", "-1\n", "99999999\n", "5\nab", ("9"):rep(40) .. "\n" } do
    eq(moontide("repl", "--standalone", "-o", "json", { stdin = bad }).code, 2, bad)
  end
end)

-- ---- what people meet first ----

local APPS <const> = [[
  apps = { web = { source = "/nonexistent/web.git", image = "127.0.0.1:5000/web",
    environments = { staging = {
      target = { kind = "command", apply = { "/bin/true" }, current = { "/bin/true" } } } } } },
]]

test("marks that editors put in front of a file are no part of it", function()
  local dir, mark = folder(), "\xEF\xBB\xBF"
  write(dir .. "/a.lua", mark .. "return {\n" .. APPS .. "}\n")
  write(dir .. "/a.yaml", mark .. "state: /tmp/x\napps: {}\n")
  write(dir .. "/a.json", mark .. '{ "apps": {} }')
  ok(fs.mkdir(dir .. "/scripts"))
  write(dir .. "/scripts/staging.lua", mark .. ok(fs.read "scripts/staging.lua"))
  for _, name in ipairs { "a.lua", "a.yaml", "a.json" } do
    local r = moontide("check", "--config", dir .. "/" .. name)
    eq({ r.code, r.stderr }, { 0, "" }, name)
  end
  eq(moontide("check", "--config", dir .. "/a.lua", "--scripts", dir .. "/scripts").code, 0)
  write(dir .. "/wide.lua", "\xFF\xFEr\0e\0t\0u\0r\0n\0")
  local r = moontide("check", "--config", dir .. "/wide.lua")
  eq(r.code, 2)
  has(r.stderr, "wide.lua: the file is UTF-16: save it as UTF-8")
end)

test("a folder of scripts comes first and replaces nothing else; what its files misspell is found", function()
  local dir = folder()
  write(dir .. "/a.lua", "return {\n" .. APPS .. "}\n")
  ok(fs.mkdir(dir .. "/scripts"))
  write(dir .. "/scripts/staging.lua", "return policy {\n  watch = function(place)\n    return plcae:head()\n  end,\n"
    .. "  run = function(run, head)\n    run:relase(head)\n  end,\n}\n")
  local r = moontide("check", "--config", dir .. "/a.lua", "--scripts", dir .. "/scripts")
  eq(r.code, 2)
  has(r.stderr, "scripts/staging.lua:3: there is nothing called 'plcae' (did you mean place?)")
  has(r.stderr, "scripts/staging.lua:6: a run has no 'relase' (did you mean release?)")
  has(r.stderr, "2 faults")
end)

test("a state folder that cannot be used is named, with the way out", function()
  local dir = folder()
  write(dir .. "/a.lua", "return {\n" .. APPS .. "}\n")
  write(dir .. "/file", "")
  for _, command in ipairs { "run", "once" } do
    local r = moontide(command, "--config", dir .. "/a.lua", "--state", dir .. "/file")
    eq(r.code, 1)
    has(r.stderr, "the state folder " .. dir .. "/file cannot be used: ")
    has(r.stderr, "--state DIR")
  end
end)

test("history says when it is asked for what is not there", function()
  local dir = folder()
  write(dir .. "/a.lua", "return {\n  state = '" .. dir .. "/state',\n" .. APPS .. "}\n")
  moontide("once", "--config", dir .. "/a.lua")
  local r = moontide("history", "web", "nope", "--config", dir .. "/a.lua")
  eq(r.code, 1)
  has(r.stderr, "web has no environment 'nope'; it has: staging")
  r = moontide("history", "wbe", "--config", dir .. "/a.lua")
  eq(r.code, 1)
  has(r.stderr, "there is no app 'wbe'; there are: web")
  eq(moontide("history", "web", "--config", dir .. "/a.lua").stdout, "nothing has run yet\n")
end)
