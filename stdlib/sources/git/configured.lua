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
  local known = host and (address.port and cfg.credentials[host .. ":" .. address.port] or cfg.credentials[host]) or {}
  local username, password = known.username, known.password and assert(known.password:reveal())
  if not password and app.source.github and cfg.github.token and host == "github.com" then
    username, password = "x-access-token", assert(cfg.github.token:reveal())
  end
  return git.repository {
    url = app.source.url, username = username, password = password, ca = known.ca, mirrors = cfg.state .. "/mirrors",
    interval = app.poll, lfs = app.lfs ~= nil and app.lfs ~= false, submodules = app.submodules,
    lfs_url = type(app.lfs) == "string" and app.lfs or nil,
  }
end

return M
