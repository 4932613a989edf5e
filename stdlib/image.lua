-- Images: one for each commit, built once, found again ever after by its `sha-<commit>` tag.
local errors, fs, log, time = require "errors", require "fs", require "log", require "time"
local registry = require "registry"

local M = {}

local REVISION <const> = "org.opencontainers.image.revision"

---@class BuildRequest
---@field name string Image name with its tag.
---@field repository string
---@field tag string
---@field archive string Tar file of the build context: exactly the commit.
---@field app AppConfig
---@field cfg Config
---@field labels table<string, string>
---@field registry ImageRegistry
---@field hooks {output: fun(stream: string, line: string), progress: fun(text: string, done?: number, total?: number)}
---@field work string Folder that is removed afterwards.

---@class Builder
---@field available fun(cfg: Config): boolean
---@field build fun(request: BuildRequest): string?, Err? Builds and pushes; gives the digest that the push reported.

-- Which builders are tried, in this order, when the configuration says auto.
local KINDS <const> = { "docker", "buildah", "podman" }

local function builder(cfg)
  if cfg.builder.kind ~= "auto" then return require("builder." .. cfg.builder.kind) end
  for _, kind in ipairs(KINDS) do
    local candidate = require("builder." .. kind)
    if candidate.available(cfg) then return candidate end
  end
  return errors.fail("not_found", "there is no builder: start docker, or install buildah or podman, or name one in the configuration",
    { op = "image.build" })
end

local function without_credentials(url) return (url:gsub("^(%a[%w+.-]*://)[^/@]*@", "%1")) end

---Labels by the OCI image specification's annotation keys.
local function labels(request, created)
  return {
    [REVISION] = request.commit,
    ["org.opencontainers.image.source"] = without_credentials(request.app.source.url),
    ["org.opencontainers.image.version"] = request.version,
    ["org.opencontainers.image.created"] = created,
  }
end

---Finds the image of a commit in the registry.
---@async
---@param where ImageRegistry
---@param commit string
---@return string? digest
---@return Err? err not_found; mismatch when the tag holds another commit's image.
local function find(where, commit)
  local digest, err = where:digest("sha-" .. commit)
  if not digest then return nil, err end
  local found
  found, err = where:labels(digest)
  if not found then return nil, err end
  if found[REVISION] and found[REVISION] ~= commit then
    return errors.fail("mismatch", ("the tag sha-%s holds an image of commit %s"):format(commit, found[REVISION]:sub(1, 64)),
      { op = "image.find", target = where.name })
  end
  return digest
end

local function build(request, where)
  local make, err = builder(request.cfg)
  if not make then return nil, err end
  local ok
  ok, err = fs.mkdir(request.work, { parents = true })
  if not ok then return nil, err end
  local scratch <close>, problem = fs.temp_dir { dir = request.work, prefix = "build-" }
  if not scratch then return nil, problem end
  local app, hooks = request.app, request.hooks
  hooks.progress("fetching " .. request.commit:sub(1, 7))
  local fetched
  fetched, err = request.repo:fetch(request.commit)
  if not fetched then return nil, err end
  local archive = scratch.path .. "/context.tar"
  fetched, err = request.repo:archive(request.commit, { path = app.context ~= "." and app.context or nil, to = archive })
  if not fetched then return nil, err end
  local history = request.repo:log(nil, request.commit, 1)
  local created = history and history[1] and time.iso(history[1].committed_at) or nil
  hooks.progress("building " .. request.commit:sub(1, 7))
  return make.build {
    name = ("%s:sha-%s"):format(app.image, request.commit), repository = app.image, tag = "sha-" .. request.commit,
    archive = archive, app = app, cfg = request.cfg, labels = labels(request, created),
    registry = where, hooks = hooks, work = scratch.path,
  }
end

---Gives the image of a commit: found, or built, pushed and looked at again. A failed build pushes nothing.
---@async
---@param request {app: AppConfig, cfg: Config, repo: table, commit: string, version?: string, work: string, hooks: table, force?: boolean}
---@return {repository: string, commit: string, digest: string, image: string, built: boolean}? image
---@return Err? err
function M.ensure(request)
  local name = request.app.image
  local where = registry.repository(name, request.cfg)
  local digest, err
  if not request.force then
    digest, err = find(where, request.commit)
    if not digest and not errors.is(err, "not_found") then return nil, err end
  end
  local built = not digest
  if built then
    local pushed
    pushed, err = build(request, where)
    if not pushed then return nil, err end
    digest, err = where:digest("sha-" .. request.commit)
    if not digest then return nil, err end
    if digest ~= pushed then
      return errors.fail("mismatch", ("pushed %s, but the registry shows %s"):format(pushed, digest), { op = "image.push", target = name })
    end
    log.debug("image built", { image = name, digest = digest })
  end
  return { repository = name, commit = request.commit, digest = digest, image = name .. "@" .. digest, built = built }
end

return M
