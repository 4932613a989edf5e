-- A chart packaged out of an app's repository at a commit, by the helm program.
--
-- The archive that Helm makes is written anew with the commit's time on everything, so that packaging the same commit
-- twice gives the same bytes. Helm runs in a folder of its own, with nothing of this machine's Helm configuration;
-- passwords for dependencies are in files for this user alone, gone before the call returns.
local errors, fs, hash, json, log, proc, time, yaml = require "errors", require "fs", require "hash", require "json",
  require "log", require "proc", require "time", require "yaml"
local archive, target, text, version = require "extensions.charts.archive", require "targets", require "base.text",
  require "extensions.charts.version"

local M = {}

local INHERITED <const> = {
  "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
}
local KEPT_OUTPUT <const> = 64 << 10
local PRIVATE <const> = 384 -- 0600

---@class PackagedChart
---@field name string
---@field version string
---@field app_version? string
---@field entries ArchiveEntry[]
---@field bytes string
---@field created integer The commit's time.
---@field metadata table What Chart.yaml says.

---@class PackageRequest
---@field repo GitRepository
---@field commit string
---@field path string The chart's folder in the checkout.
---@field version string
---@field app_version? string
---@field app AppConfig
---@field cfg Config
---@field work string
---@field hooks BuildHooks

local function fail(code, message, request, cause)
  return errors.fail(code, message, { op = "charts.package", target = request.path, cause = cause })
end

local function clean(path) return (path:gsub("^%./", ""):gsub("/+$", "")) end

-- What the chart says of itself at the commit.
local function metadata(request)
  local file, err = request.repo:read(request.commit, clean(request.path) .. "/Chart.yaml")
  if not file then return nil, err end
  local chart
  chart, err = yaml.decode(file, { max = 1 << 20, nodes = 20000 })
  if type(chart) ~= "table" then return fail("invalid", "Chart.yaml cannot be read", request, err) end
  if not version.is_name(chart.name) then return fail("invalid", "Chart.yaml names no chart", request) end
  return chart
end

-- Whether a chart needs folders of the checkout beside its own.
local function needs_neighbours(chart)
  for _, dependency in ipairs(type(chart.dependencies) == "table" and chart.dependencies or {}) do
    local where = type(dependency) == "table" and dependency.repository
    if type(where) == "string" and where:find("^file://") then return true end
  end
  return false
end

-- How Helm signs in where dependencies come from: repositories.yaml, and the file of registries' logins.
local function logins(request, home)
  local repositories, auths = json.array {}, {}
  for name, known in pairs(request.cfg.chart_repositories or {}) do
    local password, err = nil, nil
    if known.password then password, err = known.password:reveal() end
    if err then return nil, err end
    if not known.url:find("^oci://") then
      table.insert(repositories, { name = name, url = known.url, username = known.username, password = password,
        caFile = known.ca })
    elseif password then
      auths[known.url:match("^oci://([^/]+)")] = { auth = hash.base64(known.username .. ":" .. password) }
    end
  end
  for host, known in pairs(request.cfg.registries) do
    if known.username then
      local password, err = assert(known.password):reveal()
      if not password then return nil, err end
      auths[host] = { auth = hash.base64(known.username .. ":" .. password) }
    end
  end
  for _, entry in pairs(auths) do log.secret(entry.auth) end
  local all = { apiVersion = "", generated = "0001-01-01T00:00:00Z", repositories = repositories }
  local ok, err = fs.write(home .. "/repositories.yaml", assert(json.encode(all)), { mode = PRIVATE, sync = false })
  if not ok then return nil, err end
  return fs.write(home .. "/registry.json", assert(json.encode { auths = auths }), { mode = PRIVATE, sync = false })
end

-- Runs helm; what it says goes into the run's log.
local function helm(request, scratch, ...)
  local argv = { table.unpack(request.app.publish.command) }
  for _, word in ipairs { ... } do argv[#argv + 1] = word end
  argv.cwd, argv.timeout, argv.max_output, argv.stderr = scratch, request.app.publish.timeout, KEPT_OUTPUT, "stdout"
  argv.inherit, argv.on_line = INHERITED, request.hooks.output and function(line, stream)
    request.hooks.output(stream or "stdout", line)
  end
  argv.env = {
    HOME = scratch .. "/home", KUBECONFIG = "/dev/null", HELM_CACHE_HOME = scratch .. "/home/cache",
    HELM_CONFIG_HOME = scratch .. "/home/config", HELM_DATA_HOME = scratch .. "/home/data",
    HELM_REPOSITORY_CONFIG = scratch .. "/home/repositories.yaml",
    HELM_REGISTRY_CONFIG = scratch .. "/home/registry.json",
  }
  local result, err = proc.run(argv)
  if not result then return nil, err end
  if result.ok then return true end
  return target.complain("exit", ("helm %s ended with %s"):format((...), result.signal and "signal " .. result.signal
    or "status " .. tostring(result.code)), target.last_words(result.stdout, 5),
    { op = "charts.package", target = request.path })
end

-- The checkout that helm packages: the chart's folder, or everything when it has neighbours.
local function check_out(request, chart, scratch)
  local folder, path = scratch .. "/source", clean(request.path)
  local whole = needs_neighbours(chart)
  local left_out, err = request.repo:left_out(request.commit)
  if not left_out then return nil, err end
  for _, line in ipairs(left_out) do request.hooks.output("stderr", line) end
  local done
  done, err = request.repo:checkout(request.commit, folder,
    { path = not whole and path or nil, symlinks = false })
  if not done then return nil, err end
  return whole and folder .. "/" .. path or folder
end

-- Helm writes the time of day into a Chart.lock that it makes.
local function settle_lock(entries, created, had_lock)
  for _, entry in ipairs(entries) do
    if not had_lock and entry.path:find("^[^/]+/Chart%.lock$") then
      entry.data = entry.data:gsub("generated: [^\n]*", ('generated: "%s"'):format(time.iso(created)), 1)
    end
  end
end

-- The archive that helm left, as ours.
local function take(request, chart, scratch, created, had_lock)
  local file = ("%s/out/%s-%s.tgz"):format(scratch, chart.name, request.version)
  local packed, err = fs.read(file, { max = 16 << 20 })
  if not packed then return fail("protocol", "helm made no archive of the expected name", request, err) end
  local entries
  entries, err = archive.read(packed)
  if not entries then return nil, err end
  settle_lock(entries, created, had_lock)
  archive.sort(entries)
  local bytes
  bytes, err = archive.write(entries, created)
  if not bytes then return nil, err end
  local about = yaml.decode(archive.file(entries, "Chart.yaml") or "")
  if type(about) ~= "table" or about.name ~= chart.name or about.version ~= request.version then
    return fail("mismatch", "helm packaged another chart than the one that was asked for", request)
  end
  return {
    name = chart.name, version = request.version, app_version = request.app_version, entries = entries, bytes = bytes,
    created = created, metadata = about,
  }
end

---Packages a chart. Nothing is pushed.
---@async
---@param request PackageRequest
---@return PackagedChart?
---@return Err? err exit with helm's last words, invalid when it is no chart
---@return_overload nil, Err
function M.build(request)
  local chart, err = metadata(request)
  if not chart then return nil, err end
  local history
  history, err = request.repo:log(nil, request.commit, 1)
  if not history then return nil, err end
  local ok
  ok, err = fs.mkdir(request.work, { parents = true })
  if not ok then return nil, err end
  local scratch <close>, problem = fs.temp_dir { dir = request.work, prefix = "chart-" }
  if not scratch then return nil, problem end
  ok, err = fs.mkdir(scratch.path .. "/home", { parents = true, mode = 448 })
  if not ok then return nil, err end
  local source
  source, err = check_out(request, chart, scratch.path)
  if not source then return nil, err end
  local had_lock = fs.exists(source .. "/Chart.lock")
  request.hooks.progress(("packaging %s %s"):format(text.clean(chart.name, 60), request.version))
  if type(chart.dependencies) == "table" and #chart.dependencies > 0 then
    ok, err = logins(request, scratch.path .. "/home")
    if ok then ok, err = helm(request, scratch.path, "dependency", "build", source) end
    if not ok then return nil, err end
  end
  ok, err = helm(request, scratch.path, "package", source, "--destination", scratch.path .. "/out", "--version",
    request.version, table.unpack(request.app_version and { "--app-version", request.app_version } or {}))
  if not ok then return nil, err end
  return take(request, chart, scratch.path, history[1] and history[1].committed_at or 0, had_lock)
end

---The name of a chart in the repository at a commit.
---@async
---@param request {repo: GitRepository, commit: string, path: string}
---@return string? name
---@return Err? err
---@return_overload nil, Err
function M.name(request)
  local chart, err = metadata(request)
  return chart and chart.name, err
end

return M
