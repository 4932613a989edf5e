-- run:retry: what is tried again, with which pauses, and what a crash leaves of it. In virtual time.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local fs, sim, sys, time = require "fs", require "sim", require "base.sys", require "time"
local eq, ok = check.eq, check.ok

sys.virtual_time(1800000000)

local function test(name, fn) check.test(name, fn, 1e9) end

local HEAD <const> = [[
local errors = require "errors"
local function fails(code) error(errors.new(code, "no"), 0) end
return policy {
  watch = function(place) return place:head() end,
  run = function(run)
]]

local function stage(body)
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  assert(fs.mkdir(dir.path .. "/scripts"))
  for _, name in ipairs { "production", "rollback" } do
    assert(fs.write(("%s/scripts/%s.lua"):format(dir.path, name), assert(fs.read(("scripts/%s.lua"):format(name)))))
  end
  assert(fs.write(dir.path .. "/scripts/staging.lua", HEAD .. body .. "\nend }"))
  local s = { world = sim.open(dir.path .. "/world") }
  s.world:push("main", "a")
  function s.open()
    local host = sim.host(s.world, dir.path .. "/state", { scripts = dir.path .. "/scripts" })
    check.defer(function() pcall(host.close, host) end)
    assert(host:poll())
    return host
  end
  return s
end

local function ended(host)
  local last = time.monotonic() + 30 * 86400
  while host.journal:run_by_id(1).state == "running" and time.monotonic() < last do time.sleep(60) end
  return host.journal:run_by_id(1)
end

local function lines(host, text)
  local n = 0
  for _, entry in ipairs(host:run_log(1, 0).entries) do
    if entry.text:find(text, 1, true) then n = n + 1 end
  end
  return n
end

test("a transient error is tried again after a pause, which grows when it is told to", function()
  local host = stage([[
    local at = {}
    local got, more = run:retry(4, function(try)
      at[try] = run:now()
      if try < 4 then fails "timeout" end
      return try, "more"
    end, { pause = "10m", growing = true })
    assert(got == 4 and more == "more")
    for i, minutes in ipairs { 10, 20, 40 } do
      assert(math.floor((at[i + 1] - at[i]) / 60 + 0.5) == minutes, at[i + 1] - at[i])
    end]]).open()
  local run = ended(host)
  eq({ run.state, run.error }, { "done" }, run.error and run.error.message)
  eq(lines(host, "try 1 of 4 failed, the next one begins in 10 m: timeout: no"), 1)
end)

test("what does not pass is raised at once, unless any error counts; the last error is raised", function()
  local run = ended(stage([[
    local tried = 0
    local function try(code, options)
      tried = 0
      return select(2, pcall(run.retry, run, 3, function()
        tried = tried + 1
        if code then fails(code) end
        error("a mistake", 0)
      end, options))
    end
    assert(try("denied").code == "denied" and tried == 1)
    assert(try("denied", { any = true }).code == "denied" and tried == 3)
    assert(try("timeout").code == "timeout" and tried == 3)
    assert(try(nil) == "a mistake" and tried == 1)
    assert(try(nil, { any = true, pause = 0 }) == "a mistake" and tried == 3)
    for _, code in ipairs { "cancelled", "diverged" } do
      assert(try(code, { any = true }).code == code and tried == 1)
    end
    for _, wrong in ipairs { { 0, print }, { 1.5, print }, { 1 }, { 1, print, 7 }, { 1, print, { pauses = "1s" } },
      { 1, print, { pause = "soon" } }, { 1, print, { growing = 1 } } } do
      local fine, why = pcall(run.retry, run, table.unpack(wrong))
      assert(not fine and why:find("staging.lua:%d+: usage: run:retry"), why)
    end]]).open())
  eq({ run.state, run.error }, { "done" }, run.error and run.error.message)
end)

test("after a crash no try is repeated that had ended", function()
  local s = stage([[
    run:all {
      function()
        run:retry(3, function(try)
          run:step("try", { try = try }, function() run:log("effect %d", try) fails "timeout" end)
        end, { pause = "1h" })
      end,
      function() pcall(run.retry, run, 2, function() run:sleep("30m") fails "reset" end) end,
    }]])
  local host = s.open()
  for _ = 1, 4 do
    time.sleep(1500)
    host.draining = true -- its lanes try nothing more
    for _, lane in pairs(host.lanes) do
      for _, attempt in pairs(lane.runs) do attempt.task:cancel() end
    end
    host.journal:write("UPDATE runs SET state = 'running', ended_at = NULL, error = NULL, attempts = 0 WHERE id = 1")
    pcall(host.close, host)
    host = s.open()
    host:lane(host:place("web", "staging")):kick()
  end
  local run = ended(host)
  eq({ run.state, run.error.code }, { "failed", "timeout" }, run.error.message)
  for try = 1, 3 do eq(lines(host, "effect " .. try), 1, "try " .. try) end
end)

test("an operator's cancel ends it at once", function()
  local host = stage([[run:retry(1000, function() run:sleep("1h") fails "timeout" end, { any = true })]]).open()
  time.sleep(3 * 3600)
  ok(host:cancel { run = 1, by = "ann" })
  check.eventually(function() return host.journal:run_by_id(1).state == "cancelled" end)
end)
