-- Images: one for each commit, found in the registry by its `sha-<commit>` tag, or else built from the commit (without
-- what .dockerignore names) by the configured builder, and pushed.
local errors, fs, log, task, time = require "errors", require "fs", require "log", require "task", require "time"
local extensions = require "extensions"
local choice, ignore = require "images.builder.choice", require "images.builder.ignore"
local registry = require "images.registry"
local builds = require "images.removal.builds"
local short, without_credentials = require("base.text").short, require("base.text").without_credentials

local M = {}

local REVISION <const> = "org.opencontainers.image.revision"

---@class BuildRequest
---@field name string Image name with its tag.
---@field repository string
---@field tag string
---@field archive string Tar file of the build context: exactly the commit.
---@field checkout fun(dir: string): table?, Err? Writes the same context as a folder of files.
---@field dockerfile string Its path inside of the context.
---@field app AppConfig
---@field cfg Config
---@field world World
---@field labels table<string, string>
---@field registry ImageRegistry
---@field hooks BuildHooks
---@field work string Folder that is removed afterwards.

---@class BuildHooks
---@field output fun(stream: string, line: string)
---@field progress fun(text: string, done?: number, total?: number)

---@class ImageRequest
---@field app AppConfig
---@field repo table Git repository object.
---@field commit string Full id.
---@field version? string For the label.
---@field work string Folder for what is needed on the way.
---@field hooks BuildHooks
---@field force? boolean Builds even if it is there.
---@field digest? string The image that it must be: it is never built.

---@class ImageFound
---@field repository string
---@field commit string
---@field digest string
---@field image string "repository@sha256:..."
---@field built boolean Built now, not found.

---@class Builder
---@field available fun(cfg: Config, world: World): boolean?, Err? nil and why: it belongs here, but cannot be used now
---@field build fun(request: BuildRequest): string?, Err? Gives the digest that was pushed.

local function clean(path)
  path = path:gsub("^%./", ""):gsub("/+$", "")
  return path == "." and "" or path
end

-- The Dockerfile's path inside of the context: as the configuration names it from the checkout's root, or
-- else from the context. It must be a plain file of the commit: a builder may follow a symbolic link to a
-- file of this machine.
local function find_dockerfile(request)
  local repo, commit, context, file = request.repo, request.commit, clean(request.app.context),
    clean(request.app.dockerfile)
  local prefix = context == "" and "" or context .. "/"
  local text, err
  if file:sub(1, #prefix) == prefix then
    text, err = repo:read(commit, file)
    if text then return file:sub(#prefix + 1) end
    if not errors.is(err, "not_found") then return nil, err end
  end
  text, err = repo:read(commit, prefix .. file)
  if text then return file end
  if errors.is(err, "not_found") and repo:read(commit, file) then
    return errors.fail("invalid", ("%s lies outside of the build context %s"):format(file, context),
      { op = "image.build", target = commit })
  end
  return nil, err
end

---Labels by the OCI image specification's annotation keys.
local function labels(request, created)
  return {
    [REVISION] = request.commit,
    ["org.opencontainers.image.source"] = without_credentials(request.app.source.url),
    ["org.opencontainers.image.version"] = request.version,
    ["org.opencontainers.image.created"] = created,
  }
end

---The digest of a commit's image in the registry.
---@async
---@param where ImageRegistry
---@param commit string
---@param digest? string The one that it must be; else what its tag names.
---@return string? digest
---@return Err? err not_found; mismatch when it is another commit's image.
---@return_overload nil, Err
function M.find(where, commit, digest)
  local name = digest or "the tag sha-" .. commit
  if not digest then
    local tagged, err = where:digest("sha-" .. commit)
    if not tagged then return nil, err end
    digest = tagged
  end
  local found, err = where:labels(digest)
  if not found then return nil, err end
  if found[REVISION] and found[REVISION] ~= commit then
    return errors.fail("mismatch", ("%s holds an image of commit %s"):format(name, found[REVISION]:sub(1, 64)),
      { op = "image.find", target = where.name })
  end
  return digest
end

-- The context's tar: exactly the commit, without what its .dockerignore names. One beside the Dockerfile,
-- with its name before the suffix, comes before the folder's.
local function make_context(request, dockerfile, dir)
  local repo, commit, context = request.repo, request.commit, clean(request.app.context)
  local whole = dir .. "/context.tar"
  local ok, err = repo:archive(commit, { path = context, to = whole })
  if not ok then return nil, err end
  local prefix = context == "" and "" or context .. "/"
  for _, name in ipairs { dockerfile .. ".dockerignore", ".dockerignore" } do
    local text
    text, err = repo:read(commit, prefix .. name)
    if text then
      local part = dir .. "/part.tar"
      local left_out, wrong = ignore.apply(text, whole, part, dockerfile)
      if not left_out then return nil, wrong end
      fs.remove(whole)
      request.hooks.output("stdout", ("%s leaves out %d files and folders"):format(name, left_out))
      return part
    end
    if not errors.is(err, "not_found") then return nil, err end
  end
  return whole
end

local function build(request, where, world)
  local cfg = world.config
  local kind, err = choice.kind(world, request.hooks)
  if not kind then return nil, err end
  local ok
  ok, err = fs.mkdir(request.work, { parents = true })
  if not ok then return nil, err end
  local scratch <close>, problem = fs.temp_dir { dir = request.work, prefix = "build-" }
  if not scratch then return nil, problem end
  local app, hooks = request.app, request.hooks
  hooks.progress("fetching " .. short(request.commit))
  local fetched
  fetched, err = request.repo:fetch(request.commit)
  if not fetched then return nil, err end
  local left_out
  left_out, err = request.repo:left_out(request.commit)
  if not left_out then return nil, err end
  for _, line in ipairs(left_out) do hooks.output("stderr", line) end
  local dockerfile
  dockerfile, err = find_dockerfile(request)
  if not dockerfile then return nil, err end
  local archive
  archive, err = make_context(request, dockerfile, scratch.path)
  if not archive then return nil, err end
  local history = request.repo:log(nil, request.commit, 1)
  local created = history and history[1] and time.iso(history[1].committed_at) or nil
  hooks.progress("building " .. short(request.commit))
  local what = {
    name = ("%s:sha-%s"):format(app.image, request.commit), repository = app.image,
    checkout = function(dir) return request.repo:checkout(request.commit, dir, { path = clean(app.context) }) end,
    tag = "sha-" .. request.commit, archive = archive, dockerfile = dockerfile, app = app, cfg = cfg, world = world,
    labels = labels(request, created), registry = where, hooks = hooks, work = scratch.path,
  }
  local builder = assert(extensions.get("builder", kind))
  return builds.building(cfg.state, app.image, function() return builder.build(what) end)
end

---Gives the image of a commit: found, or built, pushed and verified. A failed build pushes nothing.
---@async
---@param request ImageRequest
---@param world World
---@return ImageFound? image
---@return Err? err
---@return_overload nil, Err
function M.ensure(request, world)
  local name = assert(request.app.image)
  local where = world.registry(name)
  local digest, err
  if not request.force then
    digest, err = M.find(where, request.commit, request.digest)
    if not digest and (request.digest or not registry.may_be_missing(err)) then return nil, err end
  end
  local built = not digest
  if built then
    -- A task of the host's own: what a context of 100,000 files takes is not the policy's processor time.
    local work <close> = task.start({ name = "build", detached = true }, build, request, where, world)
    local pushed
    pushed, err = work:join()
    if not pushed then return nil, err end
    digest, err = M.find(where, request.commit)
    if not digest then return nil, err end
    if digest ~= pushed then
      return errors.fail("mismatch", ("pushed %s, but the registry shows %s"):format(pushed, digest),
        { op = "image.push", target = name })
    end
    log.debug("image built", { image = name, digest = digest })
  end
  ---@cast digest string
  return {
    repository = name, commit = request.commit, digest = digest, image = name .. "@" .. digest, built = built,
  }
end

return M
