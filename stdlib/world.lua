-- Everything outside that a run touches, in one table: the real modules here, a simulated world in policy tests.
local M = {}

---@class World
---@field repository fun(app: AppConfig, cfg: Config): table A git repository object.
---@field ensure_image fun(request: table): table?, Err?
---@field registry fun(name: string, cfg: Config): table
---@field target fun(environment: EnvironmentConfig, cfg: Config): table
---@field verify fun(list: VerifyConfig[], request: table): true?, Err?
---@field notify fun(cfg: Config, names: string[], message: table): true?, Err?
---@field report fun(app: AppConfig, cfg: Config, report: table): true?, Err?
---@field waker fun(app: AppConfig, cfg: Config, wake: fun(events: table[])): fun()? Starts what tells early that the source moved.

---@return World
function M.real()
  return {
    repository = function(app, cfg) return require("git").for_app(app, cfg) end,
    ensure_image = function(request) return require("image").ensure(request) end,
    registry = function(name, cfg) return require("registry").repository(name, cfg) end,
    target = function(environment, cfg) return require("target").open(environment, cfg) end,
    verify = function(list, request) return require("verify").run(list, request) end,
    notify = function(cfg, names, message) return require("notify").send(cfg, names, message) end,
    report = function(app, cfg, report) return require("github").report_run(app, cfg, report) end,
    waker = function(app, cfg, wake) return require("github").follow(app, cfg, wake) end,
  }
end

return M
