-- Deletes images from a registry whose configuration says so.
--
-- A manifest goes with every tag that points to it. So one goes only if this host built or released it, no place needs
-- it any more, and every tag on it is one that we gave: `sha-<commit>`, or the version of the release. What an index
-- with a foreign tag is made of stays, too.
local errors, log, time = require "errors", require "log", require "time"
local keep, listed = require "images.removal.keep", require "images.removal.listed"

local M = {}

local MOST <const> = 20000 -- tags of a repository; in a larger one nothing is deleted
local SAME <const> = 3600 -- seconds after which the same candidates are tried again
local children = {} ---@type table<string, {digest: string, index: boolean}[]> by digest, which names it for good
local looked = {} ---@type table<string, {at: number, candidates: string}> by repository
local absent = {} ---@type table<string, table<string, true>> by repository: digests that are not there any more
local refusing = {} ---@type table<string, boolean> registries that do not delete

-- What a manifest is made of.
local function parts_of(where, digest)
  if not children[digest] then
    local manifest, err = where:manifest(digest)
    if not manifest then return nil, err end
    local list = {}
    for i, child in ipairs(manifest.children) do
      local kind = tostring(child.mediaType)
      local index = kind:find("image.index", 1, true) or kind:find("manifest.list", 1, true)
      list[i] = { digest = child.digest, index = index ~= nil }
    end
    children[digest] = list
  end
  return children[digest]
end

-- The versions that releases of a repository had, by digest.
local function versions_of(journal, known)
  local versions = {}
  for digest in pairs(known) do
    for _, row in ipairs(journal:versions_of_digest(digest)) do
      versions[digest] = versions[digest] or {}
      versions[digest][row.version] = true
    end
  end
  return versions
end

-- The candidates that may go, with a tag or without one.
local function look(where, kept, repository, candidates, versions)
  local tags, err = where:tags()
  if not tags then
    if errors.is(err, "not_found") then return {} end -- no tags at all
    return nil, err
  end
  if #tags > MOST then
    return errors.fail("too_large", ("%d tags are too many to look at each: nothing is deleted"):format(#tags),
      { op = "registry.delete", target = where.name })
  end
  local stays = {}
  for _, tag in ipairs(tags) do
    local digest
    digest, err = where:digest(tag)
    if not digest and not errors.is(err, "not_found") then return nil, err end
    if digest then
      local commit = listed.commit(tag)
      local ours = commit ~= nil or versions[digest] ~= nil and versions[digest][tag] == true
      if not ours or not candidates[digest] or kept:has(repository, digest, commit) then stays[digest] = true end
    end
  end
  -- What stays, stays whole: the list grows by the indexes that an index holds.
  local whole = {}
  for digest in pairs(stays) do whole[#whole + 1] = digest end
  for _, digest in ipairs(whole) do
    local parts
    parts, err = parts_of(where, digest)
    if not parts then return nil, err end
    for _, part in ipairs(parts) do
      if part.index and not stays[part.digest] then whole[#whole + 1] = part.digest end
      stays[part.digest] = true
    end
  end
  local gone = {}
  for digest in pairs(candidates) do
    if not stays[digest] then gone[#gone + 1] = digest end
  end
  table.sort(gone)
  return gone
end

-- What may go if its tags allow it, and the same as a text. What was deleted and is built again is kept at first.
local function candidates_of(kept, journal, config, repository)
  local candidates, list = {}, {}
  absent[repository] = absent[repository] or {}
  for digest in pairs(keep.known(kept, journal, config, repository)) do
    if kept:has(repository, digest) then
      absent[repository][digest] = nil
    elseif not absent[repository][digest] then
      candidates[digest], list[#list + 1] = true, digest
    end
  end
  table.sort(list)
  return candidates, table.concat(list, " ")
end

---Deletes what may go.
---@async
---@param repository string As removal.keep names it.
---@param kept KeptImages
---@param journal Journal
---@param world World
---@return integer? removed
---@return Err? err
---@return_overload nil, Err
function M.images(repository, kept, journal, world)
  local config, where = world.config, world.registry(kept.repositories[repository].name)
  if not where.config.delete or refusing[where.base] then return 0 end
  local candidates, some = candidates_of(kept, journal, config, repository)
  local last = looked[repository]
  if some == "" or last and last.candidates == some and time.monotonic() - last.at < SAME then return 0 end
  local gone, err = look(where, kept, repository, candidates, versions_of(journal, candidates))
  if not gone then return nil, err end
  looked[repository] = { at = time.monotonic(), candidates = some }
  local removed = 0
  for _, digest in ipairs(gone) do
    keep.renew(kept, journal, config) -- it may be needed by now
    if not kept:has(repository, digest) then
      local ok
      ok, err = where:delete(digest)
      if ok or errors.is(err, "not_found") then absent[repository][digest] = true end
      if ok then
        removed = removed + 1
      elseif errors.is(err, "unsupported") then
        refusing[where.base] = true
        log.warn("images of older releases stay in the registry", { registry = where.host, error = tostring(err) })
        return removed
      elseif not errors.is(err, "not_found") then
        return nil, err
      end
    end
    time.sleep(0)
  end
  return removed
end

return M
