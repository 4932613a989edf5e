-- B9: JSON texts read by json.decode, which checks them and has lua-cjson decode them, over lua-cjson alone.
local json = require "json"
local kit = require "bench.kit"
local lab = require "lab"

local POD <const> = '{"metadata":{"name":"pod-%d","uid":"a1b2c3d4-%08d","resourceVersion":"%d","labels":{"app":"web",'
  .. '"tier":"front"},"annotations":{"note":"a \\"quoted\\" text\\nof two lines"}},"spec":{"containers":[{"name":"web",'
  .. '"image":"registry.example/team/web:v1.2.%d","ports":[{"containerPort":8080}],"ready":true,"extra":null}]}}'

local function pods(count)
  local list = {}
  for i = 1, count do list[i] = POD:format(i, i, i * 1000, i) end
  return '{"kind":"List","items":[' .. table.concat(list, ",") .. "]}"
end

local TEXTS <const> = {
  { "a list of 2,000 pods", pods(2000) },
  { "80,000 whole numbers", "[" .. ("1,22,333,4444,"):rep(20000) .. "1]" },
  { "60,000 fractions", "[" .. ("1.5,22.25,-3.125e2,"):rep(20000) .. "1]" },
  { "strings", "[" .. ('"short","a somewhat longer string that is kept by itself each time",'):rep(10000) .. '"x"]' },
  { "strings beyond ASCII", "[" .. ('"Grüße aus Köln, 東京, 😀","é",'):rep(10000) .. '""]' },
  { "small lists in lists", "[" .. ("[1,[2]],[],"):rep(10000) .. "1]" },
  { "one small object", '{"id":7,"ok":true,"name":"web","tags":["a","b"]}' },
}

return function()
  local paths = {}
  for i, text in ipairs(TEXTS) do paths[i] = lab.write(lab.dir("b9") .. "/" .. i, text[2]) end

  -- Microseconds for each text, of a program that prints them as a JSON list.
  local function reader(argv)
    return function()
      local figures, took = {}, assert(json.decode(kit.measure(argv).out))
      for i, text in ipairs(TEXTS) do figures[text[1]] = took[i] end
      return figures
    end
  end

  local bench = kit.begin("B9", "reading JSON, over lua-cjson alone")
  bench:rounds(kit.size(7, 3), {
    { name = "lua-cjson", run = reader(kit.script("lua5.4", "peer_json.lua", table.unpack(paths))) },
    { name = "moontide", run = reader(kit.moontide("own_json", table.unpack(paths))) },
  })
  for _, text in ipairs(TEXTS) do bench:show(text[1], "us, " .. text[1]) end
  for _, text in ipairs(TEXTS) do
    bench:judge("reading " .. text[1] .. ", over lua-cjson alone",
      bench:median("moontide", text[1]) / bench:median("lua-cjson", text[1]), "<=", 1.15)
  end
  bench:close()
end
