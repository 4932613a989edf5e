-- The test lab: real servers and engines on loopback, brought up in a moment and gone without a trace.
--
--   local lab = require "lab"
--   local registry = lab.registry { auth = "token" }       -- registry.host, .url, .user, .password
--   local git = lab.git { auth = true }                     -- git:repo("app"):commit { ["f"] = "text" }
--   local docker = lab.docker()                             -- docker.socket
--
-- What is opened lives until lab.close() or the end of the process. Processes are ended by their handles; after a
-- SIGKILL the host's guard ends them, container engines with all their containers because they live in a process
-- namespace of their own (lab/cage.lua). Scratch folders that a killed process left are swept by the next one.
local base = require "lab.base"

local M = {
  dir = base.dir, port = base.port, run = base.run, start = base.start, env = base.env, close = base.close,
  eventually = base.eventually, exists = base.exists, write = base.write, root = base.is_root,
}

---Starts the OCI registry. See lab/registry.lua.
function M.registry(options) return require("lab.registry").open(options or {}) end

---Starts a git server over HTTP. See lab/git.lua.
function M.git(options) return require("lab.git").open(options or {}) end

---The docker engine of this process, started at the first call. See lab/docker.lua.
function M.docker() return require("lab.docker").open() end

---Podman with a store of its own. See lab/podman.lua.
function M.podman() return require("lab.podman").open() end

---Buildah on the same store as podman.
function M.buildah() return require("lab.podman").open() end

---A certificate authority and a certificate for 127.0.0.1 and localhost. See lab/pki.lua.
function M.pki() return require("lab.pki").open() end

---Builds the sample app's files. See lab/app.lua.
function M.app(options) return require("lab.app").files(options or {}) end

---Pushes an image of the sample app to a registry of the lab, without any engine. See lab/image.lua.
function M.image(registry, options) return require("lab.image").push(registry, options or {}) end

return M
