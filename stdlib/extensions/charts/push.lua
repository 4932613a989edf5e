-- Charts pushed into a repository, by HTTP: ChartMuseum's API (Gitea and others have it too) and OCI registries.
--
-- A version that is there already is no failure when it has the same files; a published version is never written over.
local errors, hash, http, json, time = require "errors", require "hash", require "http", require "json", require "time"
local archive, index = require "extensions.charts.archive", require "extensions.charts.index"
local museum, oci = require "extensions.charts.museum", require "extensions.charts.oci"
local may_be_missing = require("images.registry").may_be_missing

local M = {}

local MAX_CHART <const>, TIMEOUT <const> = 10 << 20, 120
local CONFIG <const> = "application/vnd.cncf.helm.config.v1+json"
local LAYER <const> = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
local OLD_LAYER <const> = "application/tar+gzip"
local MANIFEST <const> = "application/vnd.oci.image.manifest.v1+json"

---@class PushedChart
---@field name string
---@field version string
---@field digest? string As the repository tells it to those who follow it.
---@field found boolean It was there already.

local function fail(repo, code, message, cause)
  return errors.fail(code, message, { op = "charts.push", target = repo.url, cause = cause })
end

-- What is there under our version: the same files, or an error that says so.
local function compare(repo, chart, bytes)
  if bytes == chart.bytes then return true end
  local entries, err = archive.read(bytes)
  if not entries then return fail(repo, "conflict", ("%s %s is there already, and cannot be read"):format(chart.name,
    chart.version), err) end
  if archive.contents(entries) == archive.contents(chart.entries) then return true end
  return fail(repo, "conflict", ("%s %s is there already with other contents: a published version must not change")
    :format(chart.name, chart.version))
end

-- ---- ChartMuseum ----

local function origin(url) return url:match("^%a+://[^/?#]+") end

-- The archive that the repository has; our password goes to no other server.
local function download(repo, url)
  local answer, err
  if origin(url) == origin(repo.url) then
    answer, err = repo:send { url = url, timeout = TIMEOUT, max_body = MAX_CHART }
  else
    answer, err = http.get(url, { timeout = TIMEOUT, max_body = MAX_CHART })
  end
  if not answer then return nil, err end
  if answer.status ~= 200 then return nil, repo:failure(answer) end
  return answer.body
end

-- What the repository says of our version; nil when it is not listed.
local function listed(repo, chart)
  local list, err = repo:versions(chart.name, { max_age = 0 })
  if not list then
    if errors.is(err, "not_found") then return nil end
    return nil, err
  end
  for _, entry in ipairs(list) do
    if entry.version == chart.version then return entry end
  end
end

local function conflict(repo, chart)
  local entry, err = listed(repo, chart)
  if err then return nil, err end
  local ours = "sha256:" .. hash.sha256(chart.bytes)
  if entry and entry.digest == ours then return { found = true, digest = ours } end
  local url = entry and entry.url or index.resolve(repo.url, ("charts/%s-%s.tgz"):format(chart.name, chart.version))
  local bytes
  bytes, err = download(repo, url)
  if not bytes then return nil, err end
  local same
  same, err = compare(repo, chart, bytes)
  return same and { found = true, digest = entry and entry.digest or "sha256:" .. hash.sha256(bytes) } or nil, err
end

-- A form with one file: what every server with this API understands.
local function form(chart)
  local boundary = "moontide-" .. hash.sha256(chart.bytes):sub(1, 32)
  local head = ('Content-Disposition: form-data; name="chart"; filename="%s-%s.tgz"'):format(chart.name, chart.version)
  return table.concat {
    "--", boundary, "\r\n", head, "\r\nContent-Type: application/gzip\r\n\r\n", chart.bytes, "\r\n--", boundary,
    "--\r\n",
  }, "multipart/form-data; boundary=" .. boundary
end

-- Where charts are uploaded: at the API that answered, or wherever one may be.
local function upload(repo, chart)
  local body, media_type = form(chart)
  local bases = repo.api and { repo.api } or museum.bases(repo.url)
  for i = #bases, 1, -1 do
    local answer, err = repo:send {
      method = "POST", url = bases[i] .. "/charts", body = body, timeout = TIMEOUT,
      headers = { ["Content-Type"] = media_type },
    }
    if not answer then return nil, err end
    if answer.status ~= 404 and answer.status ~= 405 then return answer end
  end
  return fail(repo, "unsupported", "this repository takes no charts: it has no upload API")
end

local function push_museum(repo, chart)
  local answer, err = upload(repo, chart)
  if not answer then return nil, err end
  if answer.status == 409 then return conflict(repo, chart) end
  if answer.status // 100 == 2 then return { found = false } end
  return nil, repo:failure(answer)
end

-- ---- OCI ----

-- Annotations as Helm makes them, but for the time: the commit's, not that of the upload.
local function annotations(chart)
  local about = chart.metadata
  local map = {
    ["org.opencontainers.image.title"] = chart.name, ["org.opencontainers.image.version"] = chart.version,
    ["org.opencontainers.image.created"] = time.iso(chart.created),
  }
  if type(about.description) == "string" then map["org.opencontainers.image.description"] = about.description end
  if type(about.home) == "string" then map["org.opencontainers.image.url"] = about.home end
  return map
end

-- The archive in what a tag points to.
local function layer_of(where, digest)
  local manifest, err = where:manifest(digest)
  if not manifest then return nil, err end
  local decoded = json.decode(manifest.body)
  for _, layer in ipairs(type(decoded.layers) == "table" and decoded.layers or {}) do
    if layer.mediaType == LAYER or layer.mediaType == OLD_LAYER then return where:blob(layer.digest) end
  end
  return errors.fail("conflict", "what is there already is no chart", { op = "charts.push", target = where.name })
end

local function push_oci(repo, chart)
  local where, tag = oci.registry(repo, chart.name), oci.tag(chart.version)
  local there, err = where:digest(tag)
  if there then
    local bytes
    bytes, err = layer_of(where, there)
    if not bytes then return nil, err end
    local same
    same, err = compare(repo, chart, bytes)
    return same and { found = true, digest = there } or nil, err
  end
  if not may_be_missing(err) then return nil, err end
  local about = assert(json.encode(chart.metadata))
  local config, layer, digest
  config, err = where:push_blob(about)
  if not config then return nil, err end
  layer, err = where:push_blob(chart.bytes)
  if not layer then return nil, err end
  local manifest = assert(json.encode {
    schemaVersion = 2, mediaType = MANIFEST, annotations = annotations(chart),
    config = { mediaType = CONFIG, digest = config, size = #about },
    layers = json.array { { mediaType = LAYER, digest = layer, size = #chart.bytes } },
  })
  digest, err = where:push_manifest(manifest, MANIFEST, tag)
  return digest and { found = false, digest = digest } or nil, err
end

---Pushes a chart. Pushing the same one again changes nothing and is reported as such.
---@async
---@param repo ChartRepository
---@param chart PackagedChart
---@return PushedChart?
---@return Err? err conflict when the version is there with other contents; unsupported when nothing takes charts there
---@return_overload nil, Err
function M.push(repo, chart)
  local pushed, err
  if repo.kind == "oci" then pushed, err = push_oci(repo, chart) else pushed, err = push_museum(repo, chart) end
  if not pushed then return nil, err end
  repo:expire()
  pushed.name, pushed.version = chart.name, chart.version
  pushed.digest = pushed.digest or "sha256:" .. hash.sha256(chart.bytes)
  return pushed
end

return M
