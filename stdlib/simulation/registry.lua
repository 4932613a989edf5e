-- The simulated registry and the builder that fills it.
local errors, hash, image, manifests = require "errors", require "hash", require "images.image",
  require "images.registry.manifest"

local M = {}

---@class SimulatedImages
---@field tags table<string, string> To digests.
---@field labels table<string, table<string, string>> By digest.
---@field platforms? table<string, {os: string, architecture: string}[]> By digest; linux on amd64 unless it is there.

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
---@param labels? table<string, string>
---@return string? digest
function M.push(state, name, tag, text, labels)
  local images, digest = M.of(state, name), text and "sha256:" .. hash.sha256(text) or nil
  images.tags[tag] = digest
  if digest then images.labels[digest] = labels or images.labels[digest] or {} end
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
  -- The images, and the digest that a reference stands for.
  local function find(op, ref)
    local about = { op = "registry." .. op, target = name }
    local ok, err = manifests.check_reference(ref, about)
    if ok then ok, err = outside:reach "registry" end
    if not ok then return nil, err end
    local images = M.of(outside:look(), name)
    local digest = images.tags[ref] or images.labels[ref] and ref
    if digest then return images, digest end
    return errors.fail("not_found", ("there is no %s"):format(ref), about)
  end
  function registry.tag(_, digest, tag)
    local ok, err = manifests.check_target(digest, tag, { op = "registry.tag", target = name })
    if not ok then return nil, err end
    local found
    found, err = find("tag", digest)
    if not found then return nil, err end
    if found.tags[tag] == digest then return true end
    local line = ("tag %s:%s %s"):format(short(name), tag, outside:called(found.labels[digest][REVISION]))
    return outside:effect(life, line, function(state) M.of(state, name).tags[tag] = digest end)
  end
  function registry.digest(_, ref)
    local found, digest = find("digest", ref)
    return found and digest, not found and digest or nil
  end
  function registry.labels(_, ref)
    local found, digest = find("labels", ref)
    if not found then return nil, digest end
    return found.labels[digest]
  end
  function registry.tags()
    local up, err = outside:reach "registry"
    if not up then return nil, err end
    local tags = require("base.tables").keys(M.of(outside:look(), name).tags)
    if #tags > 0 then return tags end
    return errors.fail("not_found", "there is no such repository", { op = "registry.tags", target = name })
  end
  function registry.manifest(_, ref)
    local found, digest = find("manifest", ref)
    if not found then return nil, digest end
    return { digest = digest, children = {} }
  end
  function registry.platforms(_, ref)
    local found, digest = find("platforms", ref)
    if not found then return nil, digest end
    return found.platforms and found.platforms[digest] or { { os = "linux", architecture = "amd64" } }
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
  local digest, err = image.find(M.repository(outside, life, name) --[[@as any]], commit, request.digest)
  if not digest and (request.digest or not errors.is(err, "not_found")) then return nil, err end
  local built = not digest
  if built then
    digest = M.digest_of(commit)
    local ready
    ready, err = request.repo:fetch(commit)
    if ready then ready, err = outside:reach "builder" end
    if not ready then return nil, err end
    if outside:look().troubles[commit] == "build" then
      return errors.fail("failed", "the build ended with status 1", { op = "image.build", target = commit })
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
