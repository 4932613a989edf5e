-- A real BuildKit daemon: TLS both ways on loopback, its own store, in the lab's cage. buildkitd and buildctl come from
-- the cluster's tools (tests/cluster/buildkit/go.mod).
---@diagnostic disable: missing-fields -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local cage = require "lab.cage"
local fs, sys = require "fs", require "base.sys"

local M = {}

local function tool(name)
  local home = sys.env("XDG_CACHE_HOME") or (sys.env("HOME") or "/root") .. "/.cache"
  return home .. "/moontide/cluster/bin/" .. name
end

---Why there can be none here, nil when there can.
---@return string?
function M.unavailable()
  for _, name in ipairs { "buildkitd", "buildctl" } do
    if not fs.exists(tool(name)) then return name .. " is not built: run 'make cluster-build'" end
  end
  if not base.exists("runc") then return "runc is not installed" end
  return cage.unavailable()
end

---@class LabBuildkit
---@field builder table as the configuration has it

local opened

---The daemon, started at the first call.
---@async
---@return LabBuildkit
function M.open()
  if opened then return opened end
  local why = M.unavailable()
  if why then error(why, 2) end
  local c, pki = cage.open(), require("lab.pki")
  local dir = c.dir .. "/buildkit"
  local address = "tcp://127.0.0.1:" .. base.port()
  assert(fs.mkdir(dir .. "/pki", { parents = true }))
  local own = pki.issue(dir .. "/pki", "lab buildkit", { usage = "serverAuth,clientAuth" })
  local builder = {
    kind = "buildkit", address = address, ca = own.ca, cert = own.cert, key = own.key, command = { tool "buildctl" },
    network = "host", env = {},
  }
  base.write(dir .. "/buildkitd.toml", "")
  local service = base.start {
    name = "buildkitd", dir = dir,
    argv = cage.enter(c, {
      tool "buildkitd", "--config", dir .. "/buildkitd.toml", "--root", dir .. "/data", "--addr", address,
      "--tlscacert", own.ca, "--tlscert", own.cert, "--tlskey", own.key, "--oci-worker-net", "host",
      "--oci-worker-snapshotter", "native", "--containerd-worker=false", "--allow-insecure-entitlement", "network.host",
      "--otel-socket-path", dir .. "/otel.sock", "--cdi-disabled",
    }),
    ready = function() return require("images.builder.buildkit").available { builder = builder } end,
    within = 60,
  }
  base.on_close(function()
    opened = nil
    service.handle:kill("KILL")
    service:stop()
  end)
  opened = { builder = builder, service = service }
  return opened
end

return M
