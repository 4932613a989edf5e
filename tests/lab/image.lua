-- Images of the sample app without an engine: one layer, written by hand and pushed to a lab registry.
--
--   local one = lab.image(registry, { version = "one", health = true })     -- one.image, one.digest, one.commit
---@diagnostic disable: need-check-nil -- parts of things and wrong ones on purpose; a nil fails the test
local app = require "lab.app"
local hash, http, json = require "hash", require "http", require "json"

local M = {}

local MANIFEST <const> = "application/vnd.docker.distribution.manifest.v2+json"
local CONFIG <const> = "application/vnd.docker.container.image.v1+json"
local LAYER <const> = "application/vnd.docker.image.rootfs.diff.tar" -- not compressed

-- One file of a tar archive (ustar, POSIX.1-1988).
local function entry(name, data, mode)
  local function octal(n, width) return ("%0" .. width - 1 .. "o\0"):format(n) end
  local head = name .. ("\0"):rep(100 - #name) .. octal(mode, 8) .. octal(0, 8) .. octal(0, 8) .. octal(#data, 12)
    .. octal(0, 12)
  local tail = "0" .. ("\0"):rep(100) .. "ustar\00000" .. ("\0"):rep(247)
  local sum = 8 * 32
  for i = 1, #head do sum = sum + head:byte(i) end
  for i = 1, #tail do sum = sum + tail:byte(i) end
  return head .. ("%06o\0 "):format(sum) .. tail .. data .. ("\0"):rep(-#data % 512)
end

---A tar archive.
---@param files {[1]: string, [2]: string, [3]: integer?}[] Name, bytes, mode (0644).
---@return string
function M.tar(files)
  local parts = {}
  for i, file in ipairs(files) do parts[i] = entry(file[1], file[2], file[3] or 420) end
  return table.concat(parts) .. ("\0"):rep(1024)
end

local function digest_of(bytes) return "sha256:" .. hash.sha256(bytes) end

local function put_blob(registry, name, bytes)
  local digest = digest_of(bytes)
  local at = ("%s/v2/%s/blobs/"):format(registry.url, name)
  if assert(http.head(at .. digest, registry:options())).status == 200 then return digest end
  local place = assert(http.post(at .. "uploads/", "", registry:options())).headers.location
  local answer = assert(http.put(place .. (place:find("?", 1, true) and "&" or "?") .. "digest=" .. digest, bytes,
    registry:options { headers = { ["Content-Type"] = "application/octet-stream" } }))
  assert(answer.status == 201, answer.body)
  return digest
end

---Pushes one version of the app.
---@async
---@param registry LabRegistry
---@param options {name?: string, tag?: string, version?: string, mode?: string, health?: boolean|table,
---  files?: table[], entrypoint?: string[], labels?: table} files: instead of the app's, as M.tar takes them.
---@return {image: string, digest: string, commit: string}
function M.push(registry, options)
  local name, files = options.name or "team/web", app.files(options)
  local layer = M.tar(options.files or { { "app", files.app.text, 493 }, { "bin/sh", files.app.text, 493 },
    { "version", files.version }, { "mode", files.mode } })
  local health = options.health and {
    Test = { "CMD", "/app", "--check" }, Interval = 1000000000, Timeout = 2000000000, Retries = 2,
  } or nil
  for k, v in pairs(type(options.health) == "table" and options.health or {}) do health[k] = v end
  local config = json.encode {
    architecture = "amd64", os = "linux", rootfs = { type = "layers", diff_ids = { digest_of(layer) } },
    config = { Entrypoint = options.entrypoint or { "/app" }, Env = { "PORT=8080" }, Healthcheck = health,
      Labels = options.labels },
  }
  local manifest = json.encode {
    schemaVersion = 2, mediaType = MANIFEST,
    config = { mediaType = CONFIG, size = #config, digest = put_blob(registry, name, config) },
    layers = { { mediaType = LAYER, size = #layer, digest = put_blob(registry, name, layer) } },
  }
  local at = ("%s/v2/%s/manifests/%s"):format(registry.url, name, options.tag or "latest")
  local answer = assert(http.put(at, manifest, registry:options { headers = { ["Content-Type"] = MANIFEST } }))
  assert(answer.status == 201, answer.body)
  local digest = digest_of(manifest)
  return {
    image = ("%s/%s@%s"):format(registry.host, name, digest), digest = digest, commit = hash.sha256(digest):sub(1, 40),
  }
end

return M
