-- B4: from the poll that sees a release to the end of its run, over the four commands that it runs; FULL sync.
--
-- A release waits for the disk seven times (B6 counts that). What one such wait takes belongs to the machine: it is
-- measured in the same rounds by SQLite alone and taken off before the verdict; the sum is printed as well.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local json = require "json"
local kit = require "bench.kit"
local lab = require "lab"

local SYNCS = 7

return function()
  local dir, rounds = lab.dir("b4"), 0
  local count = kit.size(50, 20)

  -- Milliseconds for each release, of a program that prints them as a JSON list.
  local function releaser(argv_of)
    return function()
      rounds = rounds + 1
      local list = json.decode(kit.measure(argv_of(("%s/%d"):format(dir, rounds))).out)
      table.sort(list)
      return { median = list[(#list + 1) // 2], p99 = list[math.max(1, #list * 99 // 100)] }
    end
  end
  local function ours(n, ...)
    local command = { ... }
    return releaser(function(where) return kit.moontide("own_release", where, n, 0, table.unpack(command)) end)
  end

  local function commits()
    rounds = rounds + 1
    local out = json.decode(kit.measure(kit.peer("peer_sqlite", ("%s/%d.db"):format(dir, rounds), 200, "full")).out)
    return { median = out.p50 / 1e3 }
  end

  local bench = kit.begin("B4", ("%d releases of four children that do nothing"):format(count))
  bench:rounds(kit.size(7, 3), {
    { name = "shell", run = releaser(function() return kit.script("bash", "peer_four.sh", count, "/bin/true") end) },
    { name = "node", run = releaser(function() return kit.script("node", "peer_four.mjs", count, "/bin/true") end) },
    { name = "moontide", run = ours(count, "/bin/true") },
    { name = "one commit, SQLite alone", run = commits },
    { name = "shell, 1 s steps",
      run = releaser(function() return kit.script("bash", "peer_four.sh", 1, "/bin/sleep", 1) end) },
    { name = "moontide, 1 s steps", run = ours(1, "/bin/sleep", "1") },
  })

  bench:show("median", "ms, median release")
  bench:show("p99", "ms, 99th percentile")
  local disk = SYNCS * bench:median("one commit, SQLite alone", "median")
  local function over(metric) return bench:median("moontide", metric) - bench:median("shell", metric) end
  bench:judge("a release over its raw commands, the disk's waits included", over "median", nil, nil, " ms")
  bench:judge("a release over its raw commands, median", over "median" - disk, "<=", 10, " ms")
  bench:judge("a release over its raw commands, 99th percentile", over "p99" - disk, "<=", 25, " ms")
  bench:judge("a release of 1 s steps, moontide over shell",
    bench:median("moontide, 1 s steps", "median") / bench:median("shell, 1 s steps", "median"), "<=", 1.02)
  bench:close()
end
