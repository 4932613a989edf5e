-- The world: everything outside of the host (repositories, registries, clusters, engines, forges), opened only here.
-- Who needs it is given the world when made; tests give a simulated one.
local extensions = require "extensions"

local M = {}

---How each part of the world is opened. An opener gets the world, too: for the configuration, and for other parts.
---@class WorldOpeners
---@field repository fun(app: AppConfig, world: World): table A git repository object.
---@field forge? fun(app: AppConfig, world: World): GitHubRepository?
---@field ensure_image fun(request: table, world: World): table?, Err?
---@field registry fun(name: string, world: World): ImageRegistry
---@field target fun(environment: EnvironmentConfig, world: World): Target?, Err?
---@field containers? fun(socket: string, world: World): DockerEngine
---@field [string] fun(what: any, world: World): any What extensions open besides.
---@field verify fun(list: VerifyConfig[], request: VerifyRequest, world: World): true?, Err?
---@field cluster fun(name: string, world: World): KubernetesClient?, Err?
---@field remove_images? fun(journal: Journal, world: World): boolean
---@field notify fun(world: World, names: string[], message: table): true?, Err?
---@field module? fun(name: string, world: World): table

---@class (partial) World
---@field config Config The present one: a reload changes it.
---@field repository fun(app: AppConfig): table The app's git repository, opened once.
---@field forge fun(app: AppConfig): GitHubRepository? nil: the app has none, or there is no token for it.
---@field ensure_image fun(request: table): table?, Err?
---@field registry fun(name: string): ImageRegistry
---@field target fun(environment: EnvironmentConfig): Target?, Err?
---@field containers fun(socket: string): DockerEngine
---@field verify fun(list: VerifyConfig[], request: VerifyRequest): true?, Err?
---@field cluster fun(name: string): KubernetesClient?, Err?
---@field remove_images? fun(journal: Journal): boolean
---@field notify fun(names: string[], message: table): true?, Err?
---@field module fun(name: string): any The module (fs, hash, http, proc, time) that policies' effects call.
---@field [string] fun(what: any): any What extensions open besides.
---@field configure fun(config: Config, keep?: boolean) From now on it is opened by this configuration; what is open for
--- an app that is still the same table is kept, if wanted.
---@field under fun(config: Config): World The same openers with another configuration.

---The openers of the real world.
---@return WorldOpeners
function M.real()
  local openers = {
    repository = function(app, world) return require("sources.git.configured").repository(app, world.config) end,
    forge = function(app, world) return require("sources.github").configured(app, world.config) end,
    ensure_image = function(request, world) return require("images.image").ensure(request, world) end,
    registry = function(name, world) return require("images.registry").repository(name, world.config) end,
    target = function(environment, world) return require("targets").open(environment, world) end,
    containers = function(socket) return require("containers.engine").open(socket) end,
    verify = function(list, request, world) return require("checks.verify").run(list, request, world) end,
    remove_images = function(journal, world) return require("images.removal.all").run(journal, world) end,
    cluster = function(name, world) return require("kubernetes").open(name, world.config) end,
    notify = function(world, names, message) return require("tell.notify").send(world.config, names, message) end,
  }
  for _, opener in ipairs(extensions.all "opener") do
    openers[opener.name] = extensions.live("opener", assert(opener.name), "open")
  end
  return openers
end

---The world as a configuration shows it. Opens nothing yet.
---@param config Config
---@param openers? WorldOpeners The real ones unless given.
---@return World
function M.of(config, openers)
  local open, repositories = openers or M.real(), {}
  local world = { config = config } --[[@as any]]
  function world.repository(app)
    repositories[app] = repositories[app] or open.repository(app, world)
    return repositories[app]
  end
  function world.forge(app) return open.forge and open.forge(app, world) end
  function world.ensure_image(request) return open.ensure_image(request, world) end
  function world.registry(name) return open.registry(name, world) end
  function world.target(environment) return open.target(environment, world) end
  function world.containers(socket) return assert(open.containers)(socket, world) end
  for _, opener in ipairs(extensions.all "opener") do
    world[opener.name] = function(what) return open[opener.name](what, world) end
  end
  function world.verify(list, request) return open.verify(list, request, world) end
  function world.cluster(name) return open.cluster(name, world) end
  function world.notify(names, message) return open.notify(world, names, message) end
  function world.module(name)
    if open.module then return open.module(name, world) end
    return require(name)
  end
  world.remove_images = open.remove_images and function(journal) return open.remove_images(journal, world) end
  function world.configure(new, keep)
    local before = keep and repositories or {}
    world.config, repositories = new, {}
    for app, repository in pairs(before) do
      if new.apps[app.name] == app then repositories[app] = repository end
    end
  end
  function world.under(other) return M.of(other, open) end
  return world
end

return M
