-- A host of leader_test.lua: `moontide run` with `leader`, in a simulated world whose targets are real programs.
-- Started, stopped and killed by that test; what it is comes from a file.
---@diagnostic disable: assign-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: redundant-parameter -- parts of things and wrong ones on purpose; a nil fails the test
local fs, json, sim, sys = require "fs", require "json", require "sim", require "base.sys"
local file = ...
local o = assert(json.decode(fs.read(file)))

local function configuration()
  local config = sim.config(o.state, { poll = 0.3, watch_for = 0.5 })
  config.clusters = { default = { name = "default", kubeconfig = o.kubeconfig, namespace = o.namespace } }
  config.leader = {
    cluster = "default", lease = "moontide", identity = o.name, duration = o.duration, renew = o.renew, retry = o.retry,
  }
  if o.port then config.listen = { address = "127.0.0.1", port = o.port } end
  for _, e in ipairs(config.app_list[1].environment_list) do
    e.target = {
      kind = "command", apply = { o.program, "apply" }, current = { o.program, "current" }, timeout = 60,
      env = { HOST = o.name, LOG = o.log, WORK = o.work, RUNS = o.runs },
    }
  end
  if o.deployment then
    config.app_list[1].environment_list[1].target = {
      kind = "kubernetes", cluster = "default", workload = "deployment/" .. o.deployment, containers = {},
      init_containers = {}, patience = 5, timeout = 60, server_side = false,
    }
  end
  return config
end

local world = sim.open(o.world):world()
world.target = function(environment, outside) return require("targets").open(environment, outside) end
sys.catch("TERM", "INT", "HUP")
local status, err = require("hosts.failover").run {
  config = configuration(), load = configuration, world = world,
  on_event = function(event) print(json.encode { at = event.at, event = event.event, text = event.text, run = event.run,
    state = event.state }) end,
}
if not status then print(tostring(err)) end
return status or 1
