-- A whole host, as `moontide run` starts it: what is saved becomes live, `moontide reload` says what came of it.
local check = require "check"
local fs, json, lab, proc, sys, task = require "fs", require "json", require "lab", require "proc", require "base.sys",
  require "task"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local CONFIG <const> = [[
return {
  state = "state", scripts = "scripts", poll = "1h", %s
  apps = { web = { source = "/nowhere/web.git", image = "team/web", environments = {
    staging = { policy = "mine", rollback = false, target = { kind = "docker" } },
  } } },
}
]]
local POLICY <const> = "return policy { watch = function() return nil, '%s' end, run = function() end }"

local function start(more)
  local dir = lab.dir()
  ok(fs.mkdir(dir .. "/scripts", { parents = true }))
  local h = { dir = dir, lines = {} }
  function h.save(name, text) lab.write(dir .. "/" .. name, text) end
  h.save("moontide.lua", CONFIG:format(more or ""))
  h.save("scripts/mine.lua", POLICY:format "one")
  local function argv(...)
    local words = { sys.exe(), ... } ---@type any
    table.move({ "--config", dir .. "/moontide.lua" }, 1, 2, #words + 1, words)
    words.env = lab.env()
    return words
  end
  local spec = argv "run"
  spec.stderr = "null"
  local child = ok(proc.spawn(spec))
  h.process = child
  check.defer(function() child:kill() end)
  task.spawn(function()
    for line in child:lines() do h.lines[#h.lines + 1] = line end
  end)
  function h.command(...) return ok(proc.run(argv(...))) end
  function h.said(part)
    check.eventually(function()
      for _, line in ipairs(h.lines) do
        if line:find(part, 1, true) then return true end
      end
    end, 20, part)
  end
  h.said "watching 1 app"
  return h
end

test("a save is live by itself; a broken one is told with its line until it is mended", function()
  local h = start()
  h.save("scripts/mine.lua", POLICY:format "two")
  h.said "policy mine changed"
  h.save("scripts/mine.lua", "return policy {\n  watch = function( end }")
  h.said "scripts/mine.lua:2:"
  has(h.command("status").stdout, "scripts/mine.lua:2:")
  has(h.command("why", "web").stdout, "scripts/mine.lua:2:")
  h.save("scripts/mine.lua", POLICY:format "three")
  check.eventually(function() return not h.command("status").stdout:find("is not live", 1, true) end, 20)
  h.save("moontide.lua", CONFIG:format 'retention = { runs = 40 },')
  h.said "`retention` changed"
  -- A deleted policy has no other of its name; one of the program's own takes a deleted one's place.
  ok(fs.remove(h.dir .. "/scripts/mine.lua"))
  h.said "there is no policy"
  h.process:kill "TERM"
  eq(ok(h.process:wait()).code, 0)
end)

test("by hand where the configuration says so: in words, with faults and their lines, as JSON", function()
  local h = start "watch = false,"
  h.save("scripts/mine.lua", POLICY:format "two")
  local r = h.command "reload"
  eq(r.code, 0)
  has(r.stdout, "policy mine changed\nloaded: 1 app, ")
  has(h.command("reload").stdout, "; nothing changed\n")
  h.save("scripts/mine.lua", "oops")
  r = h.command "reload"
  eq(r.code, 2)
  has(r.stderr, "scripts/mine.lua:1:")
  r = h.command("reload", "-o", "json")
  eq(r.code, 2)
  eq(ok(json.decode(r.stderr)).faults[1].line, 1)
  h.save("scripts/mine.lua", POLICY:format "three")
  eq(ok(json.decode(h.command("reload", "-o", "json").stdout)).changed, { "policy mine changed" })
  h.save("moontide.lua", (CONFIG:format('watch = false,'):gsub('"state"', '"elsewhere"')))
  r = h.command("reload", "--state", h.dir .. "/state")
  eq(r.code, 2)
  has(r.stderr, "cannot change while the host runs")
  h.process:kill "HUP"
  h.said "the reload was refused"
end)
