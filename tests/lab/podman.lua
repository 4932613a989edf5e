-- Podman and buildah with a store of their own, inside the cage.
--
-- `bin` is a folder with the commands podman and buildah: they enter the cage by themselves, so that a program under
-- test may simply run them. They need `env`, which also names the configuration.
---@diagnostic disable: param-type-mismatch -- parts of things and wrong ones on purpose; a nil fails the test
local base = require "lab.base"
local cage = require "lab.cage"

local M = {}

---@class LabPodman
---@field bin string
---@field podman string path of the command
---@field buildah string path of the command
---@field env table<string, string>
local Podman = {}
Podman.__index = Podman

local opened

---Why there can be no podman here, nil when there can.
---@return string?
function M.unavailable()
  for _, program in ipairs { "podman", "buildah", "runc", "conmon" } do
    if not base.exists(program) then return program .. " is not installed" end
  end
  return cage.unavailable()
end

-- runc, because crun refuses hybrid control groups; fixed ulimits, because raising them needs a capability that
-- containers and small machines lack; cgroupfs and file events, because there may be no systemd.
local CONTAINERS_CONF = [[
[containers]
netns = "host"
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "@/tmp"
[network]
network_config_dir = "@/net"
]]

local STORAGE_CONF = [[
[storage]
driver = "overlay"
runroot = "@/storerun"
graphroot = "@/store"
]]

---Podman, set up at the first call. Raises when there can be none.
---@async
---@return LabPodman
function M.open()
  if opened then return opened end
  local why = M.unavailable()
  if why then error(why, 2) end
  local c = cage.open()
  local dir = c.dir
  local self = setmetatable({ cage = c, bin = dir .. "/bin" }, Podman)
  base.write(dir .. "/containers.conf", (CONTAINERS_CONF:gsub("@", dir)))
  base.write(dir .. "/storage.conf", (STORAGE_CONF:gsub("@", dir)))
  for _, name in ipairs { "podman", "buildah" } do
    self[name] = self.bin .. "/" .. name
    base.write(self[name], ('#!/bin/sh\nexec nsenter -t %d -m -p --wd="$PWD" -- %s "$@"\n'):format(c.pid,
      base.exists(name)), 493) -- 0755
  end
  base.write(dir .. "/auth.json", "{}\n")
  self.env = base.env {
    HOME = dir, CONTAINERS_CONF = dir .. "/containers.conf", CONTAINERS_STORAGE_CONF = dir .. "/storage.conf",
    CONTAINERS_REGISTRIES_CONF = dir .. "/registries.conf", BUILDAH_ISOLATION = "chroot",
    REGISTRY_AUTH_FILE = dir .. "/auth.json",
  }
  self.env.PATH = self.bin .. ":" .. self.env.PATH
  base.on_close(function() opened = nil end)
  opened = self
  return self
end

---Runs podman or buildah (argv[1]); raises with its output when it fails.
---@async
---@param argv string[]
---@return string stdout
function Podman:run(argv)
  local options = {}
  for k, v in pairs(argv) do options[k] = v end
  options[1] = self.bin .. "/" .. argv[1]
  options.env = self.env
  return base.run(options)
end

---Removes all pods and containers, so that the next test starts with none.
---@async
function Podman:clear()
  self:run { "podman", "pod", "rm", "-fa", "-t", "0" }
  self:run { "podman", "rm", "-fa", "-t", "0" }
end

return M
