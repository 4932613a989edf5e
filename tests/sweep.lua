-- The crash sweep: SIGKILL at every pass of every kill point of a whole story, restart, compare with a run undisturbed.
--
--   moontide exec tests/sweep.lua [quick] [syscalls]
--
-- Kill points stand before and after every journal write and after every effect. `syscalls` kills at state-changing
-- system calls instead, chosen by strace. The judge reads the world's own files, not Moontide's words. Invariants:
-- the world ends as if nothing had happened; each rollout and build happened once; nothing is unfinished or needs a
-- person; the database is sound; every effect has an earlier intent.
---@diagnostic disable: call-non-callable -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local fs, json, proc, sim = require "fs", require "json", require "proc", require "sim"
local store, sys, time = require "store", require "base.sys", require "time"

local options = {}
for _, word in ipairs { ... } do options[word] = true end
local stride = options.quick and 7 or 1

local scratch <close> = assert(fs.temp_dir())
local exe = sys.exe()

-- The story: what happens outside, one act after the other.
local ACTS <const> = {
  { "first push", function(w) w:push("main", "a") end },
  { "first tag", function(w) w:tag("v1.0.0", "a") end },
  { "second push, two tags at once", function(w)
    w:push("main", "b")
    w:tag("v1.1.0", "b")
    w:tag("v1.0.5", "a")
  end },
  { "a release that fails its checks", function(w)
    w:push("main", "bad")
    w:trouble("bad", "check")
  end },
  { "a branch reset and a newer tag on an older commit", function(w)
    w:push("main", "a")
    w:tag("v1.2.0", "a")
  end },
}

local function copy(from, to)
  fs.remove(to, { recursive = true })
  assert(proc.check(proc.run { "cp", "-a", from, to }))
end

local function host(dir, env, wrapper)
  local argv = { env = env or {}, timeout = 60, stderr = "stdout" }
  for _, word in ipairs(wrapper or {}) do argv[#argv + 1] = word end
  for _, word in ipairs { exe, "exec", "tests/sweep_host.lua", dir } do argv[#argv + 1] = word end
  return assert(proc.run(argv))
end

-- What counts of a world: where things point, and what was done how often.
local function outcome(dir)
  local w, once = sim.open(dir .. "/world"), {}
  for _, line in ipairs(w:effects()) do
    local kind = line:match("^(%a+)")
    once[line] = (once[line] or 0) + 1
    once[kind] = (once[kind] or 0) + 1
  end
  local strip = function(t)
    if t then t.release, t.generation, t.host = nil, nil, nil end
    return t or "nothing"
  end
  return json.encode {
    staging = strip(w:running "staging"), production = strip(w:running "production"), tags = w:image_tags(),
    effects = once,
  }
end

-- Where things point only: a killed system call may tear the world's own book-keeping.
local function pointers(text)
  local o = json.decode(text)
  return json.encode { staging = o.staging, production = o.production, tags = o.tags }
end

local function journal_faults(dir)
  local db <close> = assert(store.open(dir .. "/state/journal.db"))
  local sound, err = db:check()
  if not sound then return "the database is broken: " .. tostring(err) end
  local open = db:row("SELECT count(*) AS n FROM runs WHERE state NOT IN ('done', 'failed', 'superseded')").n
  if open > 0 then return open .. " runs are unfinished, diverged or set aside" end
  local started = db:row("SELECT count(*) AS n FROM steps WHERE state = 'started'").n
  if started > 0 then return started .. " steps have an intent and no outcome" end
  local live = db:row([[SELECT count(*) AS n FROM (SELECT 1 FROM releases WHERE state = 'live'
    GROUP BY app, environment HAVING count(*) > 1)]]).n
  if live > 0 then return "an environment has two live releases" end
  local orphan = db:row([[SELECT count(*) AS n FROM releases r WHERE run IS NOT NULL AND state <> 'pending'
    AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.run = r.run AND s.name = 'apply')]]).n
  if orphan > 0 then return "a release has no recorded intent" end
end

-- ---- the undisturbed story ----

local reference = scratch.path .. "/reference"
assert(fs.mkdir(reference))
local snapshots, outcomes, passes = {}, {}, {}
for i, act in ipairs(ACTS) do
  snapshots[i] = ("%s/before-%d"):format(scratch.path, i)
  copy(reference, snapshots[i])
  act[2](sim.open(reference .. "/world"))
  local log = ("%s/passes-%d"):format(scratch.path, i)
  local result = host(reference, { MOONTIDE_KILLPOINT_LOG = log })
  assert(result.ok, "the undisturbed story failed: " .. result.stdout)
  local _, n = (fs.read(log) or ""):gsub("\n", "")
  passes[i], outcomes[i] = n, outcome(reference)
end
if passes[1] == 0 then
  print("this build has no kill points: use V=debug or V=asan")
  return 1
end

-- ---- the disturbed ones ----

local tried, failures = 0, {}
local work = scratch.path .. "/work"

local function complain(act, where, what)
  failures[#failures + 1] = ("%s, killed at %s: %s"):format(act[1], where, what)
  print("not ok " .. failures[#failures])
end

-- The parts that differ, each as what it is and what it should be.
local function difference(got, want, path)
  got, want = type(got) == "string" and json.decode(got) or got, type(want) == "string" and json.decode(want) or want
  local keys, lines = {}, {}
  for k in pairs(got) do keys[k] = true end
  for k in pairs(want) do keys[k] = true end
  for k in pairs(keys) do
    local a, b = got[k], want[k]
    if type(a) == "table" and type(b) == "table" then
      lines[#lines + 1] = difference(a, b, (path or "") .. k .. ".")
    elseif a ~= b then
      lines[#lines + 1] = ("%s%s is %s, should be %s"):format(path or "", k, tostring(a), tostring(b))
    end
  end
  return #lines > 0 and table.concat(lines, "; ") or nil
end

-- One life: the act, a host that is killed by `how`, perhaps a second one that is killed too, and one that is not.
local function life(i, where, how, second, exact)
  local act = ACTS[i]
  copy(snapshots[i], work)
  act[2](sim.open(work .. "/world"))
  local killed = how(work)
  if not killed then return false end
  tried = tried + 1
  if second then second(work) end
  local result = host(work)
  if not result.ok then
    complain(act, where, "the restarted host failed: " .. result.stdout:sub(-400))
    return true
  end
  local got, want = outcome(work), outcomes[i]
  if not exact then got, want = pointers(got), pointers(want) end
  if got ~= want then
    complain(act, where, difference(got, want))
  end
  local fault = journal_faults(work)
  if fault then complain(act, where, fault) end
  return true
end

local function at_pass(k)
  return function(dir) return host(dir, { MOONTIDE_KILLPOINT = "*:" .. k }).signal == "SIGKILL" end
end

local started = time.monotonic()
if options.syscalls then
  local CALLS <const> = "pwrite64,fdatasync,fsync,ftruncate,unlink,unlinkat,rename,renameat2,openat"
  for i = 1, #ACTS do
    local n, step = 1, options.quick and 61 or 13
    while true do
      local alive = not life(i, "system call " .. n, function(dir)
        local result = host(dir, {}, { "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" .. CALLS, "-e",
          ("inject=%s:signal=KILL:when=%d"):format(CALLS, n) })
        return result.signal == "SIGKILL" or result.code == 137
      end, nil, false)
      if alive then break end
      n = n + step
    end
  end
else
  for i = 1, #ACTS do
    for k = 1, passes[i], stride do life(i, "pass " .. k, at_pass(k), nil, true) end
    for k = 1, passes[i], stride * 5 do -- killed again while it recovers
      life(i, ("pass %d, and again at pass %d"):format(k, k % 9 + 1), at_pass(k), at_pass(k % 9 + 1), true)
    end
  end
end
local passed = passes[1] + passes[2] + passes[3] + passes[4] + passes[5]
local at = options.syscalls and "system calls" or ("%d kill points passed"):format(passed)
print(("%d lives of %d acts (%s) in %s"):format(tried, #ACTS, at, time.words(time.monotonic() - started)))
print(("%d passed, %d failed"):format(tried - #failures, #failures))
return #failures == 0 and tried > 0 and 0 or 1
