-- Charts in an OCI registry: their versions are tags, their digests those of the manifests.
--
-- A tag cannot hold the `+` of build metadata: it is written `_` there. Rules: Helm's pkg/registry.
local errors, json, semver = require "errors", require "json", require "semver"

local M = {}

---@param version string
---@return string tag
function M.tag(version) return (version:gsub("%+", "_")) end

---The version that a tag stands for; nil when it is none (`latest`, `sha-...`).
---@param tag string
---@return string? version
function M.version(tag)
  local version = tag:gsub("_", "+")
  return semver.tag(version) and version or nil
end

---The image repository of one chart, with the credentials of the chart repository, or else those that the configuration
---has for the registry.
---@param repo ChartRepository
---@param name string
---@return ImageRegistry
function M.registry(repo, name)
  local where = repo.world.registry(repo.url:gsub("^oci://", "") .. "/" .. name)
  local own = repo.config
  if own.username or own.ca or own.plain_http then
    where.config = {
      host = where.host, username = own.username, password = own.password, ca = own.ca or where.config.ca,
      plain_http = own.plain_http or where.config.plain_http,
    }
    if own.plain_http or own.ca then
      where.plain = own.plain_http or false
      where.base = (where.plain and "http://" or "https://") .. where.host
    end
  end
  return where
end

---Asks for the versions of a chart. Their digests are asked for one by one, when needed.
---@async
---@param repo ChartRepository
---@param name string
---@return {list: ChartVersion[], notes: string[]}?
---@return Err? err
---@return_overload nil, Err
function M.versions(repo, name)
  local tags, err = M.registry(repo, name):tags()
  if not tags then
    if errors.is(err, "not_found") then
      return errors.fail("not_found", "the registry has no chart " .. name,
        { op = "charts.versions", target = repo.url })
    end
    return nil, err
  end
  local list = {}
  for _, tag in ipairs(tags) do
    local version = M.version(tag)
    if version then
      list[#list + 1] = { version = version, tag = tag, url = ("%s/%s:%s"):format(repo.url, name, tag) }
    end
  end
  return { list = list, notes = {} } -- other tags are no fault
end

---The version of the app that a chart names: it stands in the manifest's configuration.
---@async
---@param repo ChartRepository
---@param name string
---@param entry ChartVersion
---@return string? app_version
---@return Err? err
---@return_overload nil, Err
function M.app_version(repo, name, entry)
  local where = M.registry(repo, name)
  local manifest, err = where:manifest(entry.tag or M.tag(entry.version))
  if not manifest then return nil, err end
  if not manifest.config then return nil end
  local bytes
  bytes, err = where:blob(manifest.config.digest)
  if not bytes then return nil, err end
  local about = json.decode(bytes)
  local found = type(about) == "table" and about.appVersion
  return type(found) == "string" and found or nil
end

---Asks for the digest of one version.
---@async
---@param repo ChartRepository
---@param name string
---@param entry ChartVersion
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.digest(repo, name, entry) return M.registry(repo, name):digest(entry.tag or M.tag(entry.version)) end

return M
