-- The lab's cluster as a service: moontide exec tests/cluster.lua build|serve|wait|down|status|logs [DIR].
--
-- `serve` runs it until SIGTERM, or until its folder is gone, and holds everything in its hand: however that process
-- ends, nothing of the cluster outlives it. `make cluster-up` starts it in the background and follows with `wait`.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: discard-returns -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: inject-field, need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local fs, json, proc, sys, task, time =
  require "fs", require "json", require "proc", require "base.sys", require "task", require "time"

local word, dir = ...
local started = time.monotonic()

local function tell(text, ...)
  print(("%6.1f s  %s"):format(time.monotonic() - started, select("#", ...) > 0 and text:format(...) or text))
end

-- The folder's lock is held for as long as its cluster runs. Those who only look share it.
local function locked()
  local lock = fs.exists(dir .. "/lock") and fs.lock(dir .. "/lock", { shared = true })
  if lock then lock:close() end
  return fs.exists(dir .. "/lock") and not lock
end

-- A description that a killed one left counts for nothing: its process is gone.
local function is_up()
  local text = locked() and fs.read(dir .. "/cluster.json")
  return text ~= nil and text ~= false and fs.exists(("/proc/%d"):format(assert(json.decode(text)).pid))
end

local function serve()
  assert(fs.mkdir(dir, { parents = true }))
  local lock
  for _ = 1, 20 do -- busy may also be somebody who looks
    lock = fs.lock(dir .. "/lock")
    if lock then break end
    time.sleep(0.1)
  end
  if not lock then return 0 end
  for _, name in ipairs(assert(fs.list(dir))) do
    if name ~= "lock" and name ~= "up.log" then assert(fs.remove(dir .. "/" .. name, { recursive = true })) end
  end
  sys.catch("TERM", "INT", "HUP")
  assert(fs.write(dir .. "/pid", tostring(sys.pid())))
  local cluster = require("cluster.site").open(dir, tell)
  cluster.pid = sys.pid()
  assert(fs.write(dir .. "/cluster.json", json.encode(cluster, { pretty = true }) .. "\n"))
  tell "ready"
  task.start({ name = "folder", detached = true }, function()
    while fs.exists(dir .. "/cluster.json") do time.sleep(2) end
    proc.run { "kill", "-TERM", tostring(sys.pid()) }
  end)
  tell("ends on %s", sys.next_signal())
  fs.remove(dir .. "/cluster.json")
  base.close()
  return 0
end

-- Repeats what `serve` says until it is ready or has ended.
local function wait()
  local shown = 0
  local function show()
    local text = fs.read(dir .. "/up.log", { max = 1 << 20 }) or ""
    local last = text:find("\n[^\n]*$") or 0
    if last > shown then sys.write(1, text:sub(shown + 1, last)) end
    shown = math.max(shown, last)
  end
  local limit = time.monotonic() + 300
  pcall(base.eventually, "the cluster's process starts", 10, locked)
  while not is_up() do
    show()
    if not locked() or time.monotonic() > limit then
      time.sleep(0.2)
      show()
      print("the cluster did not come up; its logs are in " .. dir .. "/log")
      return 1
    end
    time.sleep(0.1)
  end
  show()
  print("up: export KUBECONFIG=" .. dir .. "/kubeconfig")
  print("kubectl and helm of its version: " .. require("cluster.tools").cache() .. "/bin")
  return 0
end

local function down()
  if not locked() then
    print "no cluster runs"
  else
    local pid = assert(fs.read(dir .. "/pid"))
    assert(proc.check(proc.run { "kill", "-TERM", pid }))
    base.eventually("the cluster ends", 60, function() return not locked() end)
    print "down"
  end
  if fs.exists(dir) and not fs.exists(dir .. "/lock") then error(dir .. " is no cluster's folder", 0) end
  assert(not fs.exists(dir) or fs.remove(dir, { recursive = true }))
  return 0
end

local function status()
  print(is_up() and "up: " .. dir or "down")
  return is_up() and 0 or 3
end

-- The last lines of each part's log.
local function logs()
  for _, name in ipairs((fs.list(dir .. "/log")) or {}) do
    local path = ("%s/log/%s"):format(dir, name)
    local text = fs.read(path, { offset = math.max(0, assert(fs.stat(path)).size - 2000), length = 2000 })
    print("-- " .. name)
    for line in (text or ""):gmatch("[^\n]+") do print(line:sub(1, 300)) end
  end
  return 0
end

local WORDS <const> = { serve = serve, wait = wait, down = down, status = status, logs = logs, build = function()
  require("cluster.tools").build(tell)
  return 0
end }

local fn = WORDS[word]
if not fn or word ~= "build" and not dir then
  error("usage: moontide exec tests/cluster.lua build|serve DIR|wait DIR|down DIR|status DIR|logs DIR", 0)
end
if dir and dir:sub(1, 1) ~= "/" then dir = sys.cwd() .. "/" .. dir end
return fn()
