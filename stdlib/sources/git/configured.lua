-- The git repositories of a configuration: an app's, with the credentials that the configuration has for its host.
local git, url = require "sources.git", require "sources.git.url"

local M = {}

---The repository of an app.
---@param app AppConfig
---@param cfg Config
---@return table repository
function M.repository(app, cfg)
  local address = url.parse(app.source.url)
  local host = address and address.host
  local known = address and host and (address.port and cfg.credentials[host .. ":" .. address.port]
    or cfg.credentials[host]) or {}
  local username, password = known.username, known.password and assert(known.password:reveal())
  if not password and app.source.github and cfg.github.token and host == "github.com" then
    username, password = "x-access-token", assert(cfg.github.token:reveal())
  end
  -- Most apps need no more than this, and there may be very many of them.
  local opts = { url = app.source.url, mirrors = cfg.state .. "/mirrors", interval = app.poll }
  if cfg.planned_from then opts.borrows = cfg.planned_from .. "/mirrors" end
  if known.ca then opts.ca = known.ca end
  if username or password then opts.username, opts.password = username, password end
  if app.submodules then opts.submodules = true end
  if app.lfs then opts.lfs, opts.lfs_url = true, type(app.lfs) == "string" and app.lfs or nil end
  return git.repository(opts)
end

return M
