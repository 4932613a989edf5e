-- B2: what a host holds in memory while nothing happens, with 0, 100 and 1,000 apps polled each minute.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local fs, proc, sys, time = require "fs", require "proc", require "base.sys", require "time"
local apps = require "bench.apps"
local kit = require "bench.kit"
local lab = require "lab"

-- MiB from the kernel's own count. Several copies run at once, so shares of common pages (PSS) would say little:
-- what is private to the process stands beside what is resident.
local function memory(pid)
  local text = assert(fs.read(("/proc/%d/smaps_rollup"):format(pid)))
  local function kib(name) return tonumber(text:match("\n" .. name .. ":%s*(%d+)")) end
  return { resident = kib "Rss" / 1024, private = (kib "Private_Clean" + kib "Private_Dirty") / 1024 }
end

return function()
  local copies, settle = kit.size(7, 2), kit.size(65, 15)
  local port, stop = kit.server()
  local bench = kit.begin("B2", ("idle memory after %d s, %d copies of each at once"):format(settle, copies))

  local running = {}
  local function start(name, argv)
    argv.env, argv.stdout, argv.stderr = lab.env(), "null", "null"
    running[#running + 1] = { name = name, handle = assert(proc.spawn(argv)) }
  end
  for _ = 1, copies do
    start("the libraries alone", kit.peer("peer_idle"))
    for _, n in ipairs { 0, 100, 1000 } do
      start(("moontide, %d apps"):format(n), { sys.exe(), "run", "--config", apps.config(n, port) })
      start(("node, %d timers"):format(n), kit.script("node", "peer_idle.mjs", n))
    end
  end
  time.sleep(settle)
  for _, one in ipairs(running) do
    for metric, value in pairs(memory(one.handle.pid)) do bench:add(one.name, metric, value) end
  end
  for _, one in ipairs(running) do one.handle:close() end
  stop()

  bench:show("resident", "resident MiB")
  bench:show("private", "private MiB")
  local function resident(name) return bench:median(name, "resident") end
  local none, many = resident "moontide, 0 apps", resident "moontide, 1000 apps"
  bench:judge("resident without apps, over the libraries alone", none / resident "the libraries alone", "<=", 1.3)
  bench:judge("resident without apps", none, "<=", 16, " MiB")
  bench:judge("resident with 1,000 apps", many, "<=", 20, " MiB")
  bench:judge("resident with 1,000 apps, over Node with 1,000 timers", many / resident "node, 1000 timers", "<=", 0.333)
  bench:judge("growth for each app", (many - none) * 1024 / 1000, nil, nil, " KiB")
  bench:close()
end
