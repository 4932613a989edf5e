-- The policy of the page about canaries, in the simulated world: its story, and the same with the host killed anywhere.
local check = require "check"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local test, eq, ok = check.test, check.eq, check.ok

local TESTS <const> = [[
local function shop(world)
  local web = world:app("web", { environments = { production = { targets = {
    { name = "canary", kind = "command", apply = { "simulated" } },
    { name = "eu", kind = "command", apply = { "simulated" } },
  } } } })
  world:answer("http://prometheus:9090", { status = "success", data = { resultType = "vector", result = {
    { metric = {}, value = { 1, "0.001" } } } } })
  web:push("a")
  world:settle()
  world:pass("15m")
  return web
end

local function has_both(web, name)
  equal(web:running("production", "canary").commit, commit(name))
  equal(web:running("production", "eu").commit, commit(name))
end

local function errors_rise(world, value)
  world:answer("http://prometheus:9090", { status = "success", data = { resultType = "vector", result = {
    { metric = {}, value = { 1, value } } } } })
end

test("the canary is first, and the rest follows when its errors stayed rare", function(world)
  local web = shop(world)
  web:push("b")
  world:pass("5m")
  equal(web:running("production", "canary").commit, commit "b")
  equal(web:running("production", "eu").commit, commit "a")
  world:pass("15m")
  has_both(web, "b")
end)

test("errors call the canary back, and the rest never has it", function(world)
  local web = shop(world)
  errors_rise(world, "0.2")
  web:push("b")
  world:pass("1h")
  has_both(web, "a")
  for _, line in ipairs(world:effects()) do assert(line ~= "roll out web/production:eu b", line) end
end)

test("a server that does not answer proves nothing: the canary goes back", function(world)
  local web = shop(world)
  world:down("http://prometheus:9090")
  web:push("b")
  world:pass("1h")
  has_both(web, "a")
end)

everywhere("the host dies anywhere on the way of a canary", function(world)
  local web = shop(world)
  web:push("b")
  world:pass("1h")
  has_both(web, "b")
end)

everywhere("the host dies anywhere on the way back of a canary", function(world)
  local web = shop(world)
  errors_rise(world, "0.2")
  web:push("b")
  world:pass("1h")
  has_both(web, "a")
end)
]]

test("the manual's canary does what the page says, also when the host is killed anywhere", function()
  local dir = assert(fs.temp_dir())
  check.defer(function() dir:close() end)
  local page, policy = assert(fs.read "config/manual/canary.md"), "" ---@type string, string
  for code in page:gmatch "```lua\n(.-)```" do
    if code:find("return policy", 1, true) then policy = code end
  end
  ok(fs.mkdir(dir.path .. "/scripts"))
  ok(fs.write(dir.path .. "/scripts/production.lua", policy))
  ok(fs.write(dir.path .. "/scripts/production_test.lua", TESTS))
  local run = ok(proc.run { sys.exe(), "test", "--scripts", dir.path .. "/scripts", timeout = 300, stderr = "stdout" })
  eq({ run.code, run.code ~= 0 and run.stdout or "" }, { 0, "" })
end, 300)
