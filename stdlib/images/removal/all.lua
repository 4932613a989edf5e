-- Removes the images of releases that are no longer kept, everywhere where this host puts some: engines that build and
-- run them, the store of podman and buildah, and registries whose configuration says so.
local choice, errors, json, log = require "images.builder.choice", require "errors", require "json", require "log"
local builds, docker = require "images.removal.builds", require "images.removal.docker"
local keep, targets = require "images.removal.keep", require "targets"
local registry, store = require "images.removal.registry", require "images.removal.store"

local M = {}

local told = {} ---@type table<string, string> The last trouble of each place.

-- What did not work does not stop the rest: it is logged once, and tried again the next time.
local function try(name, counts, fn, ...)
  local ok, count, err = pcall(fn, ...)
  if not ok then count, err = nil, count end
  if errors.is(err, "cancelled") or errors.is(err, "deadline") then error(err, 0) end
  if count then
    told[name] = nil
    if count > 0 then counts[#counts + 1] = ("%s: %d"):format(name, count) end
  elseif told[name] ~= tostring(err) then
    told[name] = tostring(err)
    log.warn("images of older releases could not be removed", { place = name, error = told[name] })
  end
end

-- The engines and stores of a configuration.
local function places(config)
  local sockets, stores, seen = {}, {}, {}
  local function add_store(kind, program, env)
    local key = json.encode { program, env or {} }
    if not seen[key] then
      seen[key] = true
      stores[#stores + 1] = { kind = kind, program = program, env = env }
    end
  end
  for _, app in ipairs(config.app_list) do
    for _, environment in pairs(app.image and app.environments or {}) do
      for _, part in ipairs(targets.parts(environment)) do
        local target = part.target
        if target.kind == "docker" then sockets[target.socket] = true end
        if target.kind == "podman" then add_store("podman", { "podman" }, target.env) end
      end
    end
  end
  local kind, builder = choice.known(config), config.builder
  local building_socket
  if kind == "docker" then
    building_socket = builder.socket or require("containers.api").SOCKET
    sockets[building_socket] = true
  elseif kind == "podman" or kind == "buildah" then
    add_store(kind, builder.command and { table.unpack(builder.command) } or { kind }, builder.env)
  end
  return sockets, stores, building_socket
end

---Removes what may go.
---@async
---@param journal Journal
---@param world World
---@return boolean done false: a build is under way, and what is on this machine waits for the next call.
function M.run(journal, world)
  local config = world.config
  local kept, counts = keep.of(journal, config), {}
  local sockets, stores, building_socket = places(config)
  local done = builds.removing(function()
    for socket in pairs(sockets) do try("docker " .. socket, counts, docker.images, world.containers(socket), kept) end
    for _, one in ipairs(stores) do try(table.concat(one.program, " "), counts, store.images, one, kept) end
    if building_socket then try("build cache", {}, docker.cache, world.containers(building_socket), config.state) end
  end)
  for repository in pairs(kept.repositories) do
    try(repository, counts, registry.images, repository, kept, journal, world)
  end
  if #counts > 0 then
    table.sort(counts)
    log.info("images of older releases removed", { places = table.concat(counts, "; ") })
  end
  return done
end

return M
