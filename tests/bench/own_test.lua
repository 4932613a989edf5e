-- Our own sides of the benchmarks still do what they measure: a bench that nobody runs for a week must not rot.
local check = require "check"
local lab = require "lab"
local json, serve, sys = require "json", require "serve", require "base.sys"
local test, eq, ok = check.test, check.eq, check.ok

local function own(name, ...)
  local argv = { sys.exe(), "exec", "tests/bench/own_" .. name .. ".lua" }
  for _, v in ipairs { ... } do argv[#argv + 1] = tostring(v) end
  return lab.run(argv)
end

test("polls go through a policy, each with its ETag", function()
  local seen = {}
  local server <close> = ok(serve.listen {
    port = 0,
    handler = function(request)
      seen[#seen + 1] = request.headers["if-none-match"]
      return { status = 304, headers = { ETag = '"bench"' } }
    end,
  })
  ok(tonumber(own("poll", ("http://127.0.0.1:%d/"):format(server.port), 20, 4)))
  eq(#seen, 20)
  eq(seen[20], '"bench"')
end)

test("children are spawned and timed", function()
  local out = ok(json.decode(own("spawn", 5, 1)))
  ok(out.each > 0 and out.p99 >= 0 and out.stall >= out.p99)
end)

test("transitions are written in both modes", function()
  for _, mode in ipairs { "normal", "full" } do
    local out = ok(json.decode(own("store", lab.dir() .. "/x.db", 20, mode)))
    ok(out.rate > 0 and out.p99 >= out.p50)
  end
end)

test("releases run their steps, and polls without news start nothing", function()
  local list = ok(json.decode(own("release", lab.dir() .. "/r", 2, 3, "/bin/true")))
  eq(#list, 2)
  ok(list[1] > 0)
end)

test("JSON texts are read and timed", function()
  local list = ok(json.decode(own("json", lab.write(lab.dir() .. "/1.json", '{"a":[1,2.5,"x"]}'))))
  ok(#list == 1 and list[1] > 0)
end)

test("reloads of many apps are timed", function()
  for _, form in ipairs { "lua", "yaml" } do
    local parts = ok(json.decode(own("reload", 20, form)))
    eq({ #parts, parts[1].name, parts[#parts].name }, { 7, "nothing changed", "swaps" })
    ok(parts[1].seconds > 0 and parts[#parts].seconds > 0)
  end
end)
