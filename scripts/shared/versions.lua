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

-- How a commit is known to be good: by the environment that has to prove it. No proof is asked for unless one is named.
local function proof_of(place, commit)
  local environment = place.settings.proven_by
  if not environment then return {} end
  return place:proved(environment, commit)
end

---What a policy declares to have `proven_by` among its settings.
M.proven_by = { type = "text", doc = "Environment that must have run a tag's commit well before it comes here." }

---The new versions that may be released here, oldest first. Every other tag is refused, with the reason.
---@param place Place
---@return {name: string, commit: string, digest?: string}[] tags
function M.new(place)
  local accepted, found = {}, {} ---@type Version[], table<string, {commit: string, passed?: string}>
  for _, tag in ipairs(place:tags()) do
    local version = version_of(place, tag)
    if version then accepted[#accepted + 1], found[tag.name] = version, tag end
  end
  local tags = {} ---@type {name: string, commit: string, digest?: string}[]
  accepted = semver.sort(accepted) --[[@as Version[] ]]
  for i = #accepted, 1, -1 do -- the newest first
    local name = accepted[i].tag --[[@as string]]
    local commit, passed = found[name].commit, found[name].passed
    local failed = #tags < MOST and place:failed(name .. "@" .. commit)
    if failed then
      place:refuse(name, "run %d tried it and %s: %s", failed.id, failed.how, failed.error)
    elseif passed then
      place:refuse(name, passed .. "; 'moontide release' puts it out")
    elseif #tags == MOST then
      place:refuse(name, "%d newer versions came with it", MOST)
    else
      local proof, unproved = proof_of(place, commit)
      if proof then
        table.insert(tags, 1, { name = name, commit = commit, digest = proof.digest })
      else
        place:refuse(name, unproved)
      end
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
    version = newest.name, commit = newest.commit, digest = newest.digest, tags = tags,
  }
end

---The image of a version, under its tag, with its charts.
---@param run Run
---@param tag {name?: string, commit: string, digest?: string} Without a name: an operator releases a commit.
---@return Image
function M.image(run, tag)
  local image = run:image(tag.commit, { version = tag.name, digest = tag.digest })
  if tag.name then
    image:tag(tag.name)
    run:publish(tag.commit, { version = tag.name })
  end
  return image
end

---The image of what M.newest gave.
---@param run Run
---@param release table
---@return Image
function M.image_of(run, release)
  return M.image(run, { name = release.version, commit = release.commit, digest = release.digest })
end

---Releases the newest version, then gives each that came with it its image: one that does not build holds up none. What
---fails in passing is tried again, since no run after this one would come back to it.
---@param run Run
---@param release table What M.newest gave.
function M.release(run, release)
  run:release(M.image_of(run, release), { version = release.version })
  for _, tag in ipairs(release.tags or {}) do
    if tag.name ~= release.version then
      local ok, err = pcall(run.retry, run, 10, function() M.image(run, tag) end, { pause = "10s", growing = true })
      if not ok then run:notify("%s came with %s and gets no image: %s", tag.name, release.version, err) end
    end
  end
end

return M
