-- B9's own side: moontide exec tests/bench/own_json.lua FILE... Prints the microseconds of processor time in which each
-- text is read, the best of several times, as a list. peer_json.lua does the same.
local fs, json, sys = require "fs", require "json", require "base.sys"

local took = {}
for i, path in ipairs { ... } do
  local text, best = assert(fs.read(path, { max = 8 << 20 })), math.huge
  local times = math.max(1, 400000 // #text)
  for _ = 1, 15 do
    local start = sys.cpu()
    for _ = 1, times do assert(json.decode(text)) end
    best = math.min(best, (sys.cpu() - start) / times)
  end
  took[i] = best * 1e6
end
print(json.encode(took))
