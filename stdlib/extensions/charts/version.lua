-- Which versions there are, in which order, and which of them may run: the rules that charts are followed by.
local semver = require "semver"

local M = {}

-- Staging versions: a chart cannot have the version `staging` since Helm 3.5, so they are 0.0.0-staging.N. The range is
-- Helm's own way to express that: it takes in nothing but pre-releases of 0.0.0 from staging.0 on.
M.STAGING = ">=0.0.0-staging.0 <0.0.1-0"

---@class ChartVersion
---@field version string As the repository writes it; strict SemVer, after one optional `v`.
---@field digest? string "sha256:..." of the chart's archive, or of its manifest in an OCI registry.
---@field created? string
---@field app_version? string
---@field url? string Where its archive is.
---@field deprecated? boolean
---@field missing? boolean The repository lists it no more, and it counts as there for now.
---@field tag? string In an OCI registry: the tag.

---@class ChartVersions: { [integer]: ChartVersion }
---@field held? Held Those that the repository lists no more, and that count as there for now.

---Whether a text can be a chart's name, in a URL and on disk.
---@param name any
---@return boolean
function M.is_name(name)
  return type(name) == "string" and #name <= 250 and name:find("^[%w_.-]+$") ~= nil and not name:find("^[.-]")
end

---Keeps what is a version, newest first. Those of equal precedence (they differ in build metadata) are in the order of
---their texts, so that the same list always comes out the same.
---@param list ChartVersion[]
---@return ChartVersions versions
---@return string[] dropped What was no version, cleaned; at most 20 of them.
function M.order(list)
  local kept, parsed, dropped, seen = {}, {}, {}, {}
  for _, entry in ipairs(list) do
    local version = type(entry.version) == "string" and semver.tag(entry.version)
    if not version then
      if #dropped < 20 then dropped[#dropped + 1] = require("base.text").clean(tostring(entry.version), 60) end
    elseif not seen[entry.version] then -- the first of two that claim one version, as Helm takes it
      seen[entry.version], parsed[entry] = true, version
      kept[#kept + 1] = entry
    end
  end
  table.sort(kept, function(a, b)
    local order = semver.compare(parsed[a], parsed[b])
    if order ~= 0 then return order > 0 end
    return a.version > b.version
  end)
  return kept, dropped
end

---@class ChartRule How a chart is followed.
---@field text string As it was written.
---@field exact? string The one version, whose bytes may change.
---@field policy? UpdatePolicy Else.

---Reads how a chart is followed: by an update policy of images (all, major, minor, patch, force, range:, glob:,
---regexp:), `staging`, or `version:1.2.3` for one version whose bytes may change.
---@param text string
---@return ChartRule? rule
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.rule(text)
  if type(text) ~= "string" then error("usage: version.rule(text)", 2) end
  local exact = text:match("^version:(.*)$")
  if exact then
    local parsed, err = semver.tag(exact)
    return parsed and { text = text, exact = exact }, err
  end
  local policy, err = semver.policy(text == "staging" and "range:" .. M.STAGING or text)
  return policy and { text = text, policy = policy }, err
end

---Whether a version is one that the rule speaks of, whatever runs. The policies that go upwards from what runs
---speak of every version.
---@param rule ChartRule
---@param version string
---@return boolean
function M.fits(rule, version)
  if rule.exact then return version == rule.exact end
  local policy = assert(rule.policy)
  local kind = policy.kind
  if kind ~= "range" and kind ~= "glob" and kind ~= "regexp" then return kind ~= "never" end
  -- What comes before everything in the alphabet, and is no version, blocks nothing.
  return semver.allows(policy, "", version) or false
end

-- Whether a version may be the first that runs.
local function may_begin(rule, version)
  if not M.fits(rule, version) then return false, ("it does not fit %s"):format(rule.text) end
  local kind = rule.policy and rule.policy.kind
  local upwards = kind == "major" or kind == "minor" or kind == "patch"
  if upwards and #assert(semver.tag(version)).pre > 0 then
    return false, "it is a pre-release, and nothing runs yet that it could follow"
  end
  return true, ("%s asks for it"):format(rule.text)
end

---Whether a version may follow the one that runs. A range, a pattern and one exact version say what should run:
---what fits them follows what does not, and else only what is newer follows. Charts' versions are ordered as SemVer
---orders them, for patterns too.
---@param rule ChartRule
---@param current? string The version that runs; nil when there is none.
---@param candidate string
---@param match_prerelease? boolean As for images.
---@return boolean allowed
---@return string reason In words.
function M.allows(rule, current, candidate, match_prerelease)
  local policy = rule.policy
  local kind = policy and policy.kind
  if not current then return may_begin(rule, candidate) end
  if policy and (kind == "all" or kind == "major" or kind == "minor" or kind == "patch") then
    local allowed, reason = semver.allows(policy, current, candidate, { match_prerelease = match_prerelease })
    return allowed or false, tostring(reason)
  elseif not M.fits(rule, candidate) then
    return false, ("it does not fit %s"):format(rule.text)
  end
  local running = semver.tag(current)
  if kind == "force" or not running or not M.fits(rule, current) then
    return candidate ~= current, ("%s asks for it"):format(rule.text)
  end
  local order = assert(semver.compare(assert(semver.tag(candidate)), running))
  if order > 0 then return true, ("%s is above %s"):format(candidate, current) end
  return false, ("%s is %s %s"):format(candidate, order < 0 and "below" or "no newer than", current)
end

return M
