-- B1: conditional GETs that answer 304, 64 in flight, each through a policy coroutine of its own.
local kit = require "bench.kit"
local lab = require "lab"

local INFLIGHT = 64

-- Start-up is not the subject: the cost of a run with next to nothing to do is taken off.
local function poller(argv_of, count)
  local base
  return function()
    if not base then base = kit.measure(argv_of(INFLIGHT)).cpu end
    local cost = kit.measure(argv_of(count))
    local seconds = assert(tonumber(cost.out:match("[%d.]+")), "the poller says no time")
    return { rate = count / seconds, cpu = (cost.cpu - base) * 1e6 / (count - INFLIGHT), peak = cost.peak / 1024 }
  end
end

local function ls_remote(url, count)
  return function()
    local began = require("time").monotonic()
    local cpu = 0
    for _ = 1, count do
      cpu = cpu + kit.measure({ "git", "ls-remote", url }, { env = { HOME = "/nonexistent" } }).cpu
    end
    return { rate = count / (require("time").monotonic() - began), cpu = cpu * 1e6 / count }
  end
end

return function()
  local count = kit.size(40000, 8000)
  local pki = lab.pki()
  local port, stop = kit.server()
  local tls_port, stop_tls = kit.server(pki.cert, pki.key)
  local url, tls_url = ("http://127.0.0.1:%d/"):format(port), ("https://127.0.0.1:%d/"):format(tls_port)
  local git = lab.git {}
  local repo = git:repo("bench")
  repo:commit { f = "1" }

  local bench = kit.begin("B1", ("%d conditional GETs answering 304, %d in flight"):format(count, INFLIGHT))
  bench:rounds(kit.size(7, 3), {
    { name = "bare C", run = poller(function(n) return kit.peer("peer_curl", url, n, INFLIGHT) end, count) },
    { name = "moontide", run = poller(function(n) return kit.moontide("own_poll", url, n, INFLIGHT) end, count) },
    { name = "node http", run = poller(function(n)
      return kit.script("node", "peer_http.mjs", "http", url, n, INFLIGHT)
    end, count) },
    { name = "node fetch", run = poller(function(n)
      return kit.script("node", "peer_http.mjs", "fetch", url, n, INFLIGHT)
    end, count // 4) },
    { name = "git ls-remote", run = ls_remote(repo.url, kit.size(20, 5)) },
    { name = "bare C, TLS", run = poller(function(n)
      return kit.peer("peer_curl", tls_url, n, INFLIGHT, pki.ca, "null")
    end, count) },
    { name = "moontide, TLS", run = poller(function(n)
      return kit.moontide("own_poll", tls_url, n, INFLIGHT, pki.ca)
    end, count) },
    { name = "node http, TLS", run = poller(function(n)
      return kit.script("node", "peer_http.mjs", "http", tls_url, n, INFLIGHT, pki.ca)
    end, count // 2) },
  })
  stop()
  stop_tls()
  git:stop()

  bench:show("rate", "polls/s")
  bench:show("cpu", "CPU us/poll")
  bench:show("peak", "peak MiB")
  local function ratio(metric, a, b) return bench:median(a, metric) / bench:median(b, metric) end
  bench:judge("polls/s, moontide over bare C", ratio("rate", "moontide", "bare C"), ">=", 0.70)
  bench:judge("CPU a poll, moontide over bare C", ratio("cpu", "moontide", "bare C"), "<=", 1.3)
  bench:judge("polls/s, moontide over Node http", ratio("rate", "moontide", "node http"), ">=", 2)
  bench:judge("polls/s, moontide over Node fetch", ratio("rate", "moontide", "node fetch"), ">=", 4)
  bench:judge("CPU a poll, git ls-remote over moontide", ratio("cpu", "git ls-remote", "moontide"), ">=", 50)
  bench:judge("TLS keep-alive: CPU a poll, moontide over bare C", ratio("cpu", "moontide, TLS", "bare C, TLS"), "<=",
    1.3)
  bench:judge("TLS keep-alive: polls/s, moontide over Node http", ratio("rate", "moontide, TLS", "node http, TLS"),
    ">=", 2)
  bench:close()
end
