-- The cluster as a service: up once, used by many, down or killed without a trace.
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local check = require "check"
local base, lab = require "lab.base", require "lab"
local cluster = require "cluster.lab"
local fs, proc, sys = require "fs", require "proc", require "base.sys"
local test, eq, has = check.test, check.eq, check.has

local function command(word, dir) return { sys.exe(), "exec", "tests/cluster.lua", word, dir } end

local function say(word, dir)
  local argv = command(word, dir)
  argv.stderr, argv.timeout, argv.inherit = "stdout", 120, { "HOME", "XDG_CACHE_HOME", "PATH" }
  return assert(proc.run(argv))
end

-- Starts a cluster's process, and waits until it is up.
local function serve(dir)
  local argv = command("serve", dir)
  assert(fs.mkdir(dir, { parents = true }))
  argv.stdout, argv.stderr, argv.stdin = { file = dir .. "/up.log", append = true }, "stdout", false
  argv.inherit = { "HOME", "XDG_CACHE_HOME", "PATH" }
  local handle = assert(proc.spawn(argv))
  check.defer(function() handle:kill("KILL") end)
  local result = say("wait", dir)
  if result.code ~= 0 then error(result.stdout) end
  return handle, result.stdout
end

local function processes_of(dir)
  local list = {}
  for _, pid in ipairs((fs.list("/proc"))) do
    local argv = pid:match("^%d+$") and tonumber(pid) ~= sys.pid() and fs.read(("/proc/%s/cmdline"):format(pid))
    if argv and argv:find(dir, 1, true) then list[#list + 1] = pid .. " " .. argv:gsub("%z", " "):sub(1, 200) end
  end
  return list
end



test("up says what it does, status and a second up know it, down removes it", function()
  local dir = base.dir("service") .. "/one"
  local handle, said = serve(dir)
  has(said, "kube-apiserver on port")
  has(said, "kubeconfig")
  eq(say("status", dir).code, 0)
  eq(say("serve", dir).code, 0) -- somebody has it: nothing to do
  eq(cluster.at(dir):request("GET", "/readyz").status, 200)
  eq(say("down", dir).stdout, "down\n")
  eq(handle:wait(10).code, 0)
  eq(fs.exists(dir), false)
  eq(processes_of(dir), {})
  eq(say("status", dir).code, 3)
  eq(say("down", dir).stdout, "no cluster runs\n")
end, 120)

test("a folder that is no cluster's is not removed", function()
  local dir = base.dir("service")
  base.write(dir .. "/precious", "text")
  local result = say("down", dir)
  eq(result.code ~= 0, true)
  has(result.stdout, "is no cluster's folder")
  eq(fs.read(dir .. "/precious"), "text")
end)

test("a cluster that is killed leaves no process, address or route behind, and its folder can be used again", function()
  local dir = base.dir("service") .. "/two"
  local handle = serve(dir)
  local c = cluster.at(dir)
  local address
  if c.real then
    local ns, registry = "default", lab.registry {}
    c:create("/apis/apps/v1/namespaces/default/deployments",
      cluster.app_deployment("web", lab.image(registry, { version = "one" }).image))
    c:rolled_out(ns, "web")
    address = c:addresses(ns, "app=web")[1]
    has(base.run { "ip", "-4", "route" }, address)
  end
  local service = c:get("/api/v1/namespaces/default/services/kubernetes").spec.clusterIP
  handle:kill("KILL")
  base.eventually("all its processes end", 15, function() return #processes_of(dir) == 0 end)
  base.eventually("its addresses go", 15, function()
    local text = base.run { "ip", "-4", "address" } .. base.run { "ip", "-4", "route" }
    return not text:find(service, 1, true) and not (address and text:find(address, 1, true))
  end)
  serve(dir)
  eq(cluster.at(dir):get("/apis/apps/v1/namespaces/default/deployments/web"), nil)
  eq(say("down", dir).stdout, "down\n")
end, 180)

