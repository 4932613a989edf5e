-- Production follows SemVer tags: a new tag above the version in production, within the environment's `accept`.
--
-- The number always rises; the commit under it may be older, and then the release is a rollback in seconds, because
-- the image of that commit exists. Several tags at once: the newest is released, then each of the others gets its image
-- tag; one that does not build holds up none. With settings = { proven_by = "staging" } a tag waits until staging has
-- released its commit and it ran well there, and that very image, by digest, is what production gets.
local semver = require "semver"

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

local MOST <const> = 100 -- versions that came at once and get an image tag each

-- How a commit is known to be good: by the environment that has to prove it. No proof is asked for unless one is named.
local function proof_of(place, commit)
  local environment = place.settings.proven_by
  if not environment then return {} end
  return place:proved(environment, commit)
end

-- The image of a version, under its tag, with its charts.
local function prepare(run, commit, version, digest)
  local image = run:image(commit, { version = version, digest = digest })
  if version then
    image:tag(version)
    run:publish(commit, { version = version })
  end
  return image
end

return policy {
  first = "adopt", -- a new app's production takes what already runs, and waits for the next tag
  queue = "all",   -- releases keep their order

  settings = {
    proven_by = { type = "text", doc = "Environment that must have run a tag's commit well before it comes here." },
  },

  watch = function(place)
    local accepted, commits, passed = {}, {}, {} ---@type any, table<string, string>, table<string, string?>
    for _, tag in ipairs(place:tags()) do
      local version = version_of(place, tag)
      if version then
        accepted[#accepted + 1], commits[tag.name], passed[tag.name] = version, tag.commit, tag.passed
      end
    end

    local tags = {} ---@type {name: string, commit: string}[]
    accepted = semver.sort(accepted)
    for i = #accepted, 1, -1 do -- the newest first
      local name = accepted[i].tag --[[@as string]]
      local failed = #tags < MOST and place:failed(name .. "@" .. commits[name])
      local proof, unproved = proof_of(place, commits[name])
      if failed then
        place:refuse(name, "run %d tried it and %s: %s", failed.id, failed.how, failed.error)
      elseif passed[name] then
        place:refuse(name, passed[name] .. "; 'moontide release' puts it out")
      elseif #tags == MOST then
        place:refuse(name, "%d newer versions came with it", MOST)
      elseif not proof then
        place:refuse(name, unproved)
      else
        table.insert(tags, 1, { name = name, commit = commits[name], digest = proof.digest })
      end
    end
    if #tags == 0 then return nil, "no new version" end
    local newest = tags[#tags]
    return {
      key = newest.name .. "@" .. newest.commit,
      title = ("%s of %s"):format(newest.name, newest.commit:sub(1, 7)),
      version = newest.name, commit = newest.commit, digest = newest.digest, tags = tags,
    }
  end,

  run = function(run, release)
    run:release(prepare(run, release.commit, release.version, release.digest), { version = release.version })
    for _, tag in ipairs(release.tags) do -- whatever becomes of the older ones, the newest is out
      if tag.name ~= release.version then
        local ok, err = pcall(prepare, run, tag.commit, tag.name, tag.digest)
        if not ok then run:notify("%s came with %s and gets no image: %s", tag.name, release.version, err) end
      end
    end
  end,
}
