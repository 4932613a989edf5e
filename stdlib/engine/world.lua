-- Everything outside that a run touches, in one table: the real modules here, a simulated world in policy tests.
local M = {}

---@class World
---@field repository fun(app: AppConfig, cfg: Config): table A git repository object.
---@field ensure_image fun(request: table): table?, Err?
---@field registry fun(name: string, cfg: Config): table
---@field target fun(environment: EnvironmentConfig, cfg: Config): table
---@field charts fun(repository: ChartRepositoryConfig, cfg: Config): ChartRepository
---@field verify fun(list: VerifyConfig[], request: table): true?, Err?
---@field cluster fun(name: string, cfg: Config): KubernetesClient?, Err?
---@field remove_images? fun(journal: Journal, cfg: Config): boolean
---@field notify fun(cfg: Config, names: string[], message: table): true?, Err?

---@return World
function M.real()
  return {
    repository = function(app, cfg) return require("sources.git.configured").repository(app, cfg) end,
    ensure_image = function(request) return require("images.image").ensure(request) end,
    registry = function(name, cfg) return require("images.registry").repository(name, cfg) end,
    target = function(environment, cfg) return require("targets").open(environment, cfg) end,
    charts = function(name, cfg) return require("extensions.charts.repository").repository(name, cfg) end,
    verify = function(list, request) return require("checks.verify").run(list, request) end,
    remove_images = function(journal, cfg) return require("images.removal.all").run(journal, cfg) end,
    cluster = function(name, cfg) return require("kubernetes").open(name, cfg) end,
    notify = function(cfg, names, message) return require("tell.notify").send(cfg, names, message) end,
  }
end

return M
