-- B1t: the same with a new TLS connection for each poll. The price is the CA bundle: libcurl parses it each time
-- unless its store can be cached, which the distribution's default CA path forbids.
--
-- The system's bundle with the lab's authority added stands in for the system's own, in a mount namespace (root).
-- A second comparison names the lab's authority alone, as one does for a company's own registry.
local fs = require "fs"
local cage = require "lab.cage"
local kit = require "bench.kit"
local lab = require "lab"
local sys = require "base.sys"

local BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
local INFLIGHT = 8

return function()
  if cage.unavailable() then
    print("\nB1t: left out: " .. cage.unavailable())
    return
  end
  local pki = lab.pki()
  local bundle = lab.write(lab.dir("bundle") .. "/ca.crt",
    assert(fs.read(BUNDLE)) .. assert(fs.read(pki.ca)))
  local inside = cage.open()
  local here = assert(sys.cwd())
  lab.run(cage.enter(inside, { "mount", "--bind", bundle, BUNDLE }))
  local function wrap(argv) return cage.enter(inside, argv, here) end

  local port, stop = kit.server("--close", pki.cert, pki.key)
  local url = ("https://127.0.0.1:%d/"):format(port)
  local many, few = kit.size(1000, 300), kit.size(60, 24)
  local function connector(count, argv)
    return function() return { cpu = kit.measure(argv, { wrap = wrap }).cpu * 1e3 / count } end
  end

  local bench = kit.begin("B1t", ("a new TLS connection for each poll, %d in flight"):format(INFLIGHT))
  bench:rounds(kit.size(7, 3), {
    { name = "bare C, CA path default",
      run = connector(few, kit.peer("peer_curl", url, few, INFLIGHT, BUNDLE, "default")) },
    { name = "bare C, CA path off",
      run = connector(many, kit.peer("peer_curl", url, many, INFLIGHT, BUNDLE, "null")) },
    { name = "moontide", run = connector(many, kit.moontide("own_poll", url, many, INFLIGHT)) },
    { name = "bare C, own CA", run = connector(many, kit.peer("peer_curl", url, many, INFLIGHT, pki.ca, "null")) },
    { name = "moontide, own CA", run = connector(many, kit.moontide("own_poll", url, many, INFLIGHT, pki.ca)) },
  })
  stop()

  bench:show("cpu", "CPU ms/poll")
  local function ratio(a, b) return bench:median(a, "cpu") / bench:median(b, "cpu") end
  bench:judge("CPU a poll, moontide over bare C, CA path off", ratio("moontide", "bare C, CA path off"), "<=", 1.15)
  bench:judge("CPU a poll, moontide over bare C, own CA", ratio("moontide, own CA", "bare C, own CA"))
  bench:judge("CPU a poll, bare C with the default CA path over moontide",
    ratio("bare C, CA path default", "moontide"))
  bench:close()
end
