-- B3: from exec to the first byte of the first request, with 1, 100 and 10,000 apps to look after.
local sys = require "base.sys"
local apps = require "bench.apps"
local kit = require "bench.kit"
local lab = require "lab"

return function()
  local port = lab.port()
  local url = ("http://127.0.0.1:%d/"):format(port)
  local function starter(argv)
    return function() return { first = kit.measure(argv, { first = port }).first } end
  end

  local bench = kit.begin("B3", "from exec to the first request, warm cache")
  local peers = {
    { name = "curl", run = starter { "curl", "-s", "-o", "/dev/null", url } },
    { name = "node", run = starter(kit.script("node", "peer_first.mjs", url)) },
  }
  for _, n in ipairs { 1, 100, 10000 } do
    peers[#peers + 1] = {
      name = ("moontide, %d apps"):format(n), run = starter { sys.exe(), "run", "--config", apps.config(n, port) },
    }
  end
  bench:rounds(kit.size(9, 3), peers)

  bench:show("first", "ms to the first request")
  local function first(name) return bench:median(name, "first") end
  bench:judge("1 app, moontide over curl", first "moontide, 1 apps" / first "curl", "<=", 2)
  bench:judge("1 app, Node over moontide", first "node" / first "moontide, 1 apps")
  bench:judge("100 apps", first "moontide, 100 apps", "<=", 50, " ms")
  bench:judge("10,000 apps", first "moontide, 10000 apps", "<=", 500, " ms")
  bench:close()
end
