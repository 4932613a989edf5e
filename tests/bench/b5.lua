-- B5: children with pipes and exit status, from a small host and from one that has grown.
local json = require "json"
local kit = require "bench.kit"

return function()
  local count = kit.size(2000, 300)
  local bench = kit.begin("B5", ("%d children with pipes, one after the other"):format(count))

  local function spawner(argv)
    return function()
      local out = json.decode(kit.measure(argv).out)
      return { each = out.each, stall = out.stall, p99 = out.p99 }
    end
  end
  local function shell()
    local cost = kit.measure { "tests/bench/peer_spawn.sh", tostring(count) }
    return { each = cost.wall * 1e6 / count }
  end

  local peers = { { name = "shell", run = shell } }
  for _, mb in ipairs { 20, 200 } do
    local at = (" at %d MB"):format(mb)
    peers[#peers + 1] = { name = "posix_spawn" .. at, run = spawner(kit.peer("peer_spawn", "posix", count, mb)) }
    peers[#peers + 1] = { name = "uv_spawn" .. at, run = spawner(kit.peer("peer_spawn", "uv", count, mb)) }
    peers[#peers + 1] = { name = "node spawn" .. at,
      run = spawner(kit.script("node", "peer_spawn.mjs", count, mb)) }
    peers[#peers + 1] = { name = "moontide" .. at, run = spawner(kit.moontide("own_spawn", count, mb)) }
  end
  bench:rounds(kit.size(7, 3), peers)

  bench:show("each", "us/child")
  bench:show("p99", "ms late, 99 of 100 ticks")
  bench:show("stall", "ms late, the worst tick")
  local function each(name) return bench:median(name, "each") end
  bench:judge("a spawn, moontide over posix_spawn, 20 MB", each "moontide at 20 MB" / each "posix_spawn at 20 MB", "<=",
    1.2)
  bench:judge("a spawn, moontide over posix_spawn, 200 MB", each "moontide at 200 MB" / each "posix_spawn at 200 MB",
    "<=", 1.2)
  bench:judge("a spawn, uv_spawn over moontide, 200 MB", each "uv_spawn at 200 MB" / each "moontide at 200 MB", ">=", 5)
  -- The worst tick of a run belongs to the kernel's scheduler and to whoever else uses the machine.
  bench:judge("lateness of a 1 ms timer, 99 of 100, 200 MB", bench:median("moontide at 200 MB", "p99"), "<=", 2, " ms")
  bench:judge("worst lateness of a 1 ms timer, 200 MB", bench:median("moontide at 200 MB", "stall"), nil, nil, " ms")
  bench:close()
end
