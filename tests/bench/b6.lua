-- B6: transitions of the journal's shape, one durable transaction each, against SQLite alone.
local fs, json = require "fs", require "json"
local kit = require "bench.kit"
local lab = require "lab"

return function()
  local bench = kit.begin("B6", "journal transitions: one update and one insert in a transaction")
  local dir = lab.dir("b6")
  local files = 0

  local function writer(argv_of)
    return function()
      files = files + 1
      local out = json.decode(kit.measure(argv_of(("%s/%d.db"):format(dir, files))).out)
      return { rate = out.rate, p50 = out.p50, p99 = out.p99 }
    end
  end

  -- How often a whole engine makes the disk wait, counted by strace.
  local function syncs(releases, polls)
    files = files + 1
    local log = ("%s/%d.strace"):format(dir, files)
    local argv = { "strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", log }
    local own = kit.moontide("own_release", ("%s/%d.state"):format(dir, files), releases, polls, "/bin/true")
    lab.run(table.move(own, 1, #own, #argv + 1, argv))
    local _, count = assert(fs.read(log)):gsub("sync%(", "")
    return count
  end

  local peers = {}
  for _, mode in ipairs { "normal", "full" } do
    local count = mode == "normal" and kit.size(20000, 4000) or kit.size(3000, 600)
    peers[#peers + 1] = { name = "SQLite alone, " .. mode,
      run = writer(function(file) return kit.peer("peer_sqlite", file, count, mode) end) }
    peers[#peers + 1] = { name = "moontide, " .. mode,
      run = writer(function(file) return kit.moontide("own_store", file, count, mode) end) }
  end
  bench:rounds(kit.size(7, 3), peers)

  bench:show("rate", "commits/s")
  bench:show("p50", "us, median commit")
  bench:show("p99", "us, 99th percentile")
  local syncs_idle, syncs_deploy = syncs(0, 200) - syncs(0, 0), (syncs(10, 0) - syncs(0, 0)) / 10
  bench:judge("fsyncs of 200 polls that find nothing new", syncs_idle, "<=", 0)
  bench:judge("fsyncs of a deploy of four steps", syncs_deploy, "<=", 8)
  for _, mode in ipairs { "normal", "full" } do
    bench:judge(("commits/s, moontide over SQLite alone, %s"):format(mode:upper()),
      bench:median("moontide, " .. mode, "rate") / bench:median("SQLite alone, " .. mode, "rate"), ">=", 0.75)
  end
  bench:close()
end
