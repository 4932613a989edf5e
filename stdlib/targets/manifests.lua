-- Manifests for the kubernetes target: what the app's repository says at the released commit, by server-side apply.
--
-- The workload's image is replaced by digest before anything is sent. Objects are applied in the order of
-- cluster/rollout/manifest.lua, each one a whole: fields that went out of a manifest go out of the object. An object
-- that went out of the folder stays in the cluster: deleting is left to people.
local errors, fs, labels, text = require "errors", require "fs", require "base.labels", require "base.text"
local manifest, patch = require "cluster.rollout.manifest", require "cluster.rollout.patch"
local dig, previews = require("cluster.rollout").dig, require "config.previews"

local M = {}

local MAX_FILE <const> = 1 << 20
local MAX_FILES <const> = 200

---The repository of an app.
---@param name string
---@param world World
---@return table? repo
---@return Err? err
---@return_overload nil, Err
function M.repository(name, world)
  local app = world.config.apps[name]
  if not app or not app.source then
    return errors.fail("invalid", "there is no repository to take manifests from", { op = "target.manifests",
      target = name })
  end
  return world.repository(app)
end

-- The manifests below a folder of a checkout, by name.
local function in_folder(dir, path)
  local found = {}
  for name, kind in fs.walk(dir) do
    if kind == "file" and manifest.is_manifest(name) then found[#found + 1] = name end
  end
  table.sort(found)
  if #found > MAX_FILES then
    return errors.fail("too_large", ("%s holds more than %d manifests"):format(path, MAX_FILES),
      { op = "target.manifests", target = path })
  end
  local files = {}
  for i, name in ipairs(found) do
    local content, err = fs.read(dir .. "/" .. name, { max = MAX_FILE })
    if not content then return nil, err end
    files[i] = { path = path .. "/" .. name, text = content }
  end
  return files
end

---The files of a path of a repository, at a commit: one manifest, or all of a folder.
---@async
---@param repo table
---@param commit string
---@param path string
---@return {path: string, text: string}[]? files
---@return Err? err
function M.files(repo, commit, path)
  path = path:gsub("^%./", ""):gsub("/+$", "")
  local fetched, err = repo:fetch(commit)
  if not fetched then return nil, err end
  if manifest.is_manifest(path) then
    local content
    content, err = repo:read(commit, path, { max = MAX_FILE })
    if not content then return nil, err end
    return { { path = path, text = content } }
  end
  local temp <close>, problem = fs.temp_dir { prefix = "manifests-" }
  if not temp then return nil, problem end
  local dir = temp.path .. "/files"
  local ok
  ok, err = repo:checkout(commit, dir, { path = path, symlinks = false })
  if not ok then return nil, err end
  local files
  files, err = in_folder(dir, path == "" and "." or path)
  if not files then return nil, err end
  if #files == 0 then
    return errors.fail("not_found", ("%s holds no manifest (.yaml, .yml, .json)"):format(path),
      { op = "target.manifests", target = commit })
  end
  return files
end

-- The path of an object, by discovery for kinds that we do not know.
local function path_of(target, entry)
  local object = entry.object
  local kind, err = target.client:resource(object.apiVersion, object.kind)
  if not kind then return nil, err end
  if not kind.namespaced then
    return errors.fail("denied", ("%s: %s %s lives in no namespace; an app's repository may only hold what lives in"
      .. " its own"):format(entry.file, object.kind, object.metadata.name), { op = "target.manifests",
      target = entry.file })
  end
  return require("cluster.kinds").path(kind, target.namespace, object.metadata.name)
end

-- Whether an object may be applied over the one that is there. Namespaces are shared, our own pod's among them: a
-- commit to one app's repository must not rewrite what is another app's, or Helm's (our own configuration is). What
-- people made by hand is taken over.
local function may_take(target, entry, path)
  local object = entry.object
  local there, err = target.client:get(path)
  if not there then return errors.is(err, "not_found") or nil, err end
  local app = patch.annotation(there, "app")
  local helm = dig(there, "metadata", "annotations", "meta.helm.sh/release-name")
  local owner = app and "the app " .. app or helm and "the Helm release " .. tostring(helm)
  if app == target.environment.app or not owner then return true end
  return errors.fail("denied", text.clean(("%s: %s %s belongs to %s"):format(entry.file, object.kind,
    object.metadata.name, owner), 400), { op = "target.manifests", target = entry.file })
end

-- The objects of a commit, and the workload among them. Those of a branch's place bear its label, or are alone in their
-- namespace: what another branch has, too, would be taken from it.
local function read(target, commit)
  local environment = target.environment
  local repo, err = M.repository(environment.app, target.world)
  if not repo then return nil, err end
  local files, list, found
  files, err = M.files(repo, commit, target.config.manifests)
  if not files then return nil, err end
  if environment.branch then
    for _, file in ipairs(files) do file.text = previews.fill(file.text, environment) end
  end
  list, err = manifest.read(files)
  if not list then return nil, err end
  found, err = manifest.place(list, target.workload, target.namespace)
  if not found then return nil, err end
  local alone = not environment.branch or target.namespace:find(environment.label, 1, true)
  for _, entry in ipairs(alone and {} or list) do
    local object = entry.object
    if not object.metadata.name:find(environment.label, 1, true) then
      return errors.fail("invalid", ("%s: %s %s would be that of every branch: name it, or the target's namespace, with"
        .. " {place} or {branch}"):format(entry.file, object.kind, object.metadata.name), { op = "target.manifests",
        target = entry.file })
    end
  end
  return list, found
end

-- Finds out where everything goes; all that can be wrong is found before the first change.
local function settle(target, list)
  local paths = {}
  for i, entry in ipairs(list) do
    local path, err = path_of(target, entry)
    if not path then return nil, err end
    if not entry.workload then
      local ok
      ok, err = may_take(target, entry, path)
      if not ok then return nil, err end
      manifest.annotate(entry.object, { [labels.PREFIX .. "app"] = target.environment.app })
    end
    paths[i] = path
  end
  return paths
end

-- Puts the image and the story into the manifest of the workload.
local function prepare(target, request, entry, existing)
  local object = entry.object
  local chosen, err = target:choose(object, request)
  if not chosen then return nil, err end
  local story = patch.story(existing or {}, request, target.who)
  if existing then
    object.metadata.resourceVersion = existing.metadata.resourceVersion
    local there = target:choose(existing, request)
    if there and patch.applied(existing, there, request, target.who) then
      story.at = patch.annotation(existing, "at") or story.at -- the same text again changes nothing
    else
      local ok
      ok, err = target:may_write(existing, there or { containers = {}, initContainers = {} }, request)
      if not ok then return nil, err end
    end
  end
  manifest.put(object, chosen, request.image, patch.annotations(story, nil, request.cause))
  return true
end

---Applies everything. Gives the workload as it is then.
---@async
---@param target KubernetesTarget
---@param request TargetRequest
---@return table? workload
---@return Err? err
---@return_overload nil, Err
function M.apply(target, request)
  local list, found = read(target, request.commit)
  if not list then return nil, found end
  local existing, err
  existing, err = target.client:get(target.path, nil, { managed_fields = true })
  if not existing and not errors.is(err, "not_found") then return nil, err end
  local ok
  ok, err = prepare(target, request, found, existing)
  if not ok then return nil, err end
  local paths, workload
  paths, err = settle(target, list)
  if not paths then return nil, err end
  for i, entry in ipairs(list) do
    local object
    object, err = target.client:patch(paths[i], entry.object, "apply", { force = true })
    if not object then
      ---@cast err Err
      local words = err.message
      -- The error of a field may quote its value.
      if entry.object.kind == "Secret" and errors.is(err, "invalid") then words = "the cluster refuses the Secret" end
      err.message = ("%s: %s"):format(entry.file, words)
      return nil, err
    end
    if request.hooks then
      request.hooks.output("stdout", ("applied %s %s"):format(object.kind or entry.object.kind, object.metadata.name))
    end
    if entry.workload then workload = object end
  end
  return workload
end

---Deletes what the manifests of a commit made, the workload last: it says which commit that was.
---@async
---@param target KubernetesTarget
---@param commit string
---@return true? ok
---@return Err? err
function M.destroy(target, commit)
  local list, found = read(target, commit)
  if not list then return nil, found end
  local paths, last = {}, nil
  for _, entry in ipairs(list) do
    local path, err = path_of(target, entry)
    if path and not entry.workload then
      local ok
      ok, err = may_take(target, entry, path)
      path = ok and path or nil
    end
    if not path then return nil, err end
    if entry.workload then last = path else table.insert(paths, 1, path) end
  end
  paths[#paths + 1] = last
  for _, path in ipairs(paths) do
    local gone, err = target.client:delete(path)
    if not gone and not errors.is(err, "not_found") then return nil, err end
  end
  return true
end

return M
