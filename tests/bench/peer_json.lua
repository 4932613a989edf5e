-- B9's peer: lua5.4 tests/bench/peer_json.lua FILE... See own_json.lua.
---@diagnostic disable-next-line: unresolved-require -- it is of another interpreter
local cjson = require "cjson"

local took = {}
for i, path in ipairs(arg) do
  local file <close> = assert(io.open(path))
  local text, best = file:read "a", math.huge
  local times = math.max(1, 400000 // #text)
  for _ = 1, 15 do
    local start = os.clock()
    for _ = 1, times do assert(cjson.decode(text)) end
    best = math.min(best, (os.clock() - start) / times)
  end
  took[i] = best * 1e6
end
print(cjson.encode(took))
