-- B1t: the same with a new TLS connection for each poll. The price is the CA bundle: libcurl parses it each time
-- unless its store can be cached, which the distribution's default CA path forbids.
local fs = require "fs"
local kit = require "bench.kit"
local lab = require "lab"

local BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
local INFLIGHT = 8

return function()
  local pki = lab.pki()
  -- The system's authorities and ours, as a company's machine has them.
  local bundle = lab.write(lab.dir("bundle") .. "/ca.crt", assert(fs.read(BUNDLE, { max = 16 << 20 })) ..
    assert(fs.read(pki.ca)))
  local port, stop = kit.server("--close", pki.cert, pki.key)
  local url = ("https://127.0.0.1:%d/"):format(port)
  local many, few = kit.size(1000, 300), kit.size(60, 24)

  local function connector(argv_of, count)
    return function()
      local cost = kit.measure(argv_of(count))
      return { cpu = cost.cpu * 1e3 / count }
    end
  end

  local bench = kit.begin("B1t", ("a new TLS connection for each poll, %d in flight"):format(INFLIGHT))
  bench:rounds(kit.size(7, 3), {
    { name = "bare C, CA path default", run = connector(function(n)
      return kit.peer("peer_curl", url, n, INFLIGHT, bundle, "default")
    end, few) },
    { name = "bare C, CA path off", run = connector(function(n)
      return kit.peer("peer_curl", url, n, INFLIGHT, bundle, "null")
    end, many) },
    { name = "moontide", run = connector(function(n) return kit.moontide("poll", url, n, INFLIGHT, bundle) end, many) },
  })
  stop()

  bench:show("cpu", "CPU ms/poll")
  bench:judge("CPU a poll, moontide over bare C with the CA path off",
    bench:median("moontide", "cpu") / bench:median("bare C, CA path off", "cpu"), "<=", 1.15)
  bench:judge("CPU a poll, bare C with the default CA path over moontide",
    bench:median("bare C, CA path default", "cpu") / bench:median("moontide", "cpu"))
  bench:close()
end
