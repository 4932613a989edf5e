-- The simulated registry and the builder that fills it.
local errors, hash = require "errors", require "hash"

local M = {}

---@class SimulatedImages
---@field tags table<string, string> To digests.
---@field labels table<string, table<string, string>> By digest.
---@field platforms? table<string, {os: string, architecture: string}[]> By digest; none: it does not say.

local REVISION <const> = "org.opencontainers.image.revision"

---The digest of what is built of a commit.
---@param commit string
---@return string
function M.digest_of(commit) return "sha256:" .. hash.sha256("image of " .. commit) end

---@param state SimulatedState
---@param name string
---@return SimulatedImages
function M.of(state, name)
  local found = state.images[name]
  if not found then
    found = { tags = {}, labels = {} }
    state.images[name] = found
  end
  return found
end

---Somebody pushes an image: points a tag at what a text stands for; nil takes the tag away.
---@param state SimulatedState
---@param name string The image.
---@param tag string
---@param text? string
---@return string? digest
function M.push(state, name, tag, text)
  local images, digest = M.of(state, name), text and "sha256:" .. hash.sha256(text) or nil
  images.tags[tag] = digest
  if digest then images.labels[digest] = images.labels[digest] or {} end
  return digest
end

-- Without the registry's host.
local function short(name) return (name:gsub("^[^/]*/", "")) end

---A repository of images, with the methods of a real one (images/registry).
---@param outside Outside
---@param life SimulatedLife
---@param name string
---@return table
function M.repository(outside, life, name)
  local registry = { name = name }
  local function images()
    local up, err = outside:reach "registry"
    if not up then return nil, err end
    return M.of(outside:look(), name)
  end
  function registry.tag(_, digest, tag)
    local found, err = images()
    if not found then return nil, err end
    if not found.labels[digest] then return errors.fail("not_found", "there is no image " .. digest, { op = "tag" }) end
    if found.tags[tag] == digest then return true end
    local line = ("tag %s:%s %s"):format(short(name), tag, outside:called(found.labels[digest][REVISION]))
    return outside:effect(life, line, function(state) M.of(state, name).tags[tag] = digest end)
  end
  function registry.digest(_, tag)
    local found, err = images()
    if not found then return nil, err end
    if found.tags[tag] then return found.tags[tag] end
    return errors.fail("not_found", "there is no tag " .. tag, { op = "registry.digest", target = name })
  end
  function registry.labels(_, digest)
    local found, err = images()
    if not found then return nil, err end
    if found.labels[digest] then return found.labels[digest] end
    return errors.fail("not_found", "there is no such image", { op = "registry.labels", target = name })
  end
  function registry.tags()
    local found, err = images()
    if not found then return nil, err end
    return require("base.tables").keys(found.tags)
  end
  function registry.manifest(_, digest)
    local found, err = images()
    if not found then return nil, err end
    return { digest = digest, children = {} }
  end
  function registry.platforms(_, digest)
    local found, err = images()
    if not found then return nil, err end
    return found.platforms and found.platforms[digest] or {}
  end
  return registry
end

---Gives the image of a commit, as images/image does: found, or built and pushed.
---@param outside Outside
---@param life SimulatedLife
---@param request table
---@return table? image
---@return Err? err
function M.ensure(outside, life, request)
  local name, commit = request.app.image, request.commit
  local up, err = outside:reach "registry"
  if not up then return nil, err end
  local found, digest = M.of(outside:look(), name), M.digest_of(commit)
  if request.digest and not found.labels[request.digest] then
    return errors.fail("not_found", "there is no image " .. request.digest, { op = "image.find", target = name })
  end
  local built = not request.digest and not found.tags["sha-" .. commit]
  if built then
    up, err = outside:reach "git"
    if up then up, err = outside:reach "builder" end
    if not up then return nil, err end
    if outside:look().troubles[commit] == "build" then
      return errors.fail("exit", "the build ended with status 1", { op = "image.build", target = commit })
    end
    request.hooks.output("stdout", "building " .. commit)
    local done
    done, err = outside:effect(life, ("build %s %s"):format(request.app.name, outside:called(commit)), function(state)
      local images = M.of(state, name)
      images.tags["sha-" .. commit], images.labels[digest] = digest, { [REVISION] = commit }
    end)
    if not done then return nil, err end
  end
  return { repository = name, commit = commit, digest = digest, image = name .. "@" .. digest, built = built }
end

return M
