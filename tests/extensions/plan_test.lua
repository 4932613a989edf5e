-- moontide plan with extensions that would change something wherever they are asked: the mode refuses, not their care.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local check, base, hosts = require "check", require "lab.base", require "lab.host"
local fs, json, serve = require "fs", require "json", require "serve"
local test, eq, ok, has = check.test, check.eq, check.ok, check.has

local CONFIG <const> = [[
return {
  extensions = "extensions", scripts = "scripts", poll = "1h",
  apps = { web = { feed = "x", environments = {
    live = { policy = "tries", rollback = false, target = { kind = "mine", path = "@DIR@/current" } },
  } } },
}
]]

local EXTENSION <const> = [[
local extension = require "extension"
local errors, fs, http, proc, store, serve =
  require "errors", require "fs", require "http", require "proc", require "store", require "serve"
local URL, DIR = "@URL@", "@DIR@"

-- Everything that could have an effect, each told with what came of it.
local function all(world, program)
  local said = {}
  local function try(name, fn, ...)
    local fine, value, err = pcall(fn, ...)
    if not fine then err = value end
    said[#said + 1] = name .. ": " .. (fine and value and "done" or errors.is(err) and err.code or tostring(err))
  end
  try("write", fs.write, DIR .. "/was-here", "x")
  try("mkdir", fs.mkdir, DIR .. "/was-here")
  try("post", http.post, URL, "x")
  try("request", http.request, { url = URL, method = "DELETE" })
  try("sink", http.get, URL, { sink = DIR .. "/was-here" })
  try("run", proc.run, program or { "touch", DIR .. "/was-here" })
  try("spawn", proc.spawn, { "touch", DIR .. "/was-here" })
  try("store", store.open, DIR .. "/was-here")
  try("serve", serve.listen, { address = "127.0.0.1", port = 0, handler = print })
  local target = world.target { app = "web", name = "live", target = { kind = "mine", path = DIR .. "/current" } }
  try("apply", target.apply, target, { digest = "sha256:x" })
  try("notify", world.notify, {}, {})
  local registry = world.registry "127.0.0.1:1/x"
  try("tag", registry.tag, registry, "sha256:x", "y")
  return table.concat(said, ", ")
end

return extension {
  source = { feed = { key = extension.text "Whatever.", poll = function(app, world)
    return { said = all(world, { "true" }) } -- a program may run for what reads
  end } },
  word = {
    tries = { place = function(place) return all(place.world) end, run = function(run) return all(run.world) end },
    -- Its effect is a step with a plan.
    deploys = {
      run = function(run, what)
        return run.steps:perform("deploys", { what = what }, function() return fs.write(DIR .. "/was-here", what) end)
      end,
      plan = function(run, args)
        return { action = "change", text = "deploys " .. args.what .. " of " .. run.app, what = args.what }, "deployed"
      end,
    },
    unplanned = { run = function(run)
      return run.steps:perform("unplanned", {}, function() return fs.write(DIR .. "/was-here", "x") end)
    end },
  },
  target = { mine = {
    keys = { path = extension.text "Where." },
    open = function(environment, world)
      return {
        current = function()
          local found, err = proc.run { "readlink", environment.target.path } -- a program that reads
          if not found then return nil, err end
          return found.stdout ~= "" and { digest = found.stdout:match "%S+", state = "running", healthy = true } or nil
        end,
        plan = function() return { { action = "do", text = "tells the fleet" } } end,
        apply = function() return fs.write(environment.target.path, "x") end,
        wait = function() return true end,
      }
    end,
  } },
}
]]

local POLICY <const> = [[
return policy {
  watch = function(place)
    return { key = "k", title = "k", found = place:found().said, said = place:tries() }
  end,
  run = function(run, change)
    run:notify("%s", change.found)
    run:notify("%s", change.said)
    run:notify("%s", run:tries())
    run:notify("it is %s", run:deploys "red")
    run:release { digest = "sha256:" .. ("a"):rep(64), image = "x" }
    run:unplanned()
    run:notify "never said"
  end,
}
]]

local REFUSED <const> = "write: denied, mkdir: denied, post: denied, request: denied, sink: denied, run: denied, "
  .. "spawn: denied, store: denied, serve: denied, apply: denied, notify: denied, tag: denied"

test("every effect that an extension tries is refused by the mode, and steps have plans of their own", function()
  local asked = {}
  local listener = ok(serve.listen { address = "127.0.0.1", port = base.port(), handler = function(request)
    asked[#asked + 1] = request.method .. " " .. request.path
    return { status = 204 }
  end })
  check.defer(function() listener:close() end)
  local host = hosts.new(CONFIG, { env = { PATH = "/usr/bin:/bin" } })
  local text = EXTENSION:gsub("@(%u+)@", { URL = "http://127.0.0.1:" .. listener.port .. "/", DIR = host.dir })
  base.write(host.dir .. "/extensions/tries.lua", text, 420) -- 0644
  base.write(host.dir .. "/scripts/tries.lua", POLICY)
  assert(require("proc").run { "ln", "-s", "sha256:bbbbbbbbbbbbbbbb", host.dir .. "/current" })
  local result = host:command("plan", "-o", "json")
  eq(result.code, 2, result.stdout)
  local run = assert(json.decode(result.stdout)).places[1].runs[1]
  local said = {}
  for i, step in ipairs(run.steps) do said[i] = step.text end
  has(said[1], (REFUSED:gsub("run: denied", "run: done", 1)))
  has(said[2], REFUSED)
  has(said[3], REFUSED)
  has(said[4], "deploys red of web")
  has(said[5], "it is deployed")
  has(said[6], "web live (mine): sha256:bbbbbbbbbbbb -> sha256:aaaaaaaaaaaa")
  eq(said[7], "tells the fleet")
  has(run.ends, "plan cannot see past this: unplanned decides what comes next")
  ok(not said[#said]:find "never said")
  eq({ fs.exists(host.dir .. "/was-here"), asked }, { false, {} })
  eq(fs.exists(host.state), false)
end)
