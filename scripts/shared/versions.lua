-- Versions: which tags of a repository may be released at a place. Policies that follow tags share these rules.
--
-- The number always rises; the commit under it may be older, and then the release is a rollback in seconds, because
-- the image of that commit exists.
local semver = require "semver"

local M = {}

local MOST <const> = 100 -- versions that came at once and get an image tag each

-- The version of a tag that may be released here. Each rule refuses for itself: `moontide why` names its line.
local function version_of(place, tag)
  if tag.was then
    place:alarm(tag.name, "the tag moved from %s to %s; a published version must not change", tag.was:sub(1, 7),
      tag.commit:sub(1, 7))
  elseif tag.old then
    place:refuse(tag.name, "it was there before Moontide; 'moontide release' puts it out")
  else
    local version, err = semver.tag(tag.name)
    local allowed, reason = place:allows(tag.name)
    if not version then
      place:refuse(tag.name, "not a version: %s", err.message)
    elseif not tag.name:find("^[%w.-]+$") or #tag.name > 128 then
      place:refuse(tag.name, "a registry cannot have such a tag")
    elseif not allowed then
      place:refuse(tag.name, reason)
    else
      return version
    end
  end
end

---The new versions that may be released here, oldest first. Every other tag is refused, with the reason.
---@param place Place
---@return {name: string, commit: string}[] tags
function M.new(place)
  local accepted, found = {}, {} ---@type any, table<string, {commit: string, passed?: string}>
  for _, tag in ipairs(place:tags()) do
    local version = version_of(place, tag)
    if version then accepted[#accepted + 1], found[tag.name] = version, tag end
  end
  local tags = {} ---@type {name: string, commit: string}[]
  accepted = semver.sort(accepted)
  for i = #accepted, 1, -1 do -- the newest first
    local name = accepted[i].tag --[[@as string]]
    local tag = found[name] --[[@as {commit: string, passed?: string}]]
    local failed = #tags < MOST and place:failed(name .. "@" .. tag.commit)
    if failed then
      place:refuse(name, "run %d tried it and %s: %s", failed.id, failed.how, failed.error)
    elseif tag.passed then
      place:refuse(name, tag.passed .. "; 'moontide release' puts it out")
    elseif #tags == MOST then
      place:refuse(name, "%d newer versions came with it", MOST)
    else
      table.insert(tags, 1, { name = name, commit = tag.commit })
    end
  end
  return tags
end

---The newest new version as a change, the older ones that came with it in its `tags`.
---@param place Place
---@return Change? change
---@return string? reason
function M.newest(place)
  local tags = M.new(place)
  local newest = tags[#tags]
  if not newest then return nil, "no new version" end
  return {
    key = newest.name .. "@" .. newest.commit,
    title = ("%s of %s"):format(newest.name, newest.commit:sub(1, 7)),
    version = newest.name, commit = newest.commit, tags = tags,
  }
end

---The image of a version, under its tag, with its charts.
---@param run Run
---@param commit string
---@param version? string nil: an operator released a commit.
---@return Image
function M.image(run, commit, version)
  local image = run:image(commit, { version = version })
  if version then
    image:tag(version)
    run:publish(commit, { version = version })
  end
  return image
end

---Releases the newest version of a change, then gives each that came with it its image: one that does not build
---holds up none.
---@param run Run
---@param release table What M.newest gave.
function M.release(run, release)
  run:release(M.image(run, release.commit, release.version), { version = release.version })
  for _, tag in ipairs(release.tags or {}) do
    if tag.name ~= release.version then
      local ok, err = pcall(M.image, run, tag.commit, tag.name)
      if not ok then run:notify("%s came with %s and gets no image: %s", tag.name, release.version, err) end
    end
  end
end

return M
