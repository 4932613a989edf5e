-- Which versions there are, in which order, and which of them may run: the rules that charts are followed by.
local errors, semver = require "errors", require "semver"

local M = {}

-- Staging versions: a chart cannot have the version `staging` since Helm 3.5, so they are 0.0.0-staging.N. The range is
-- how Helm itself would be told of them: it takes in nothing but pre-releases of 0.0.0 from staging.0 on.
M.STAGING = ">=0.0.0-staging.0 <0.0.1-0"

---@class ChartVersion
---@field version string As the repository writes it; strict SemVer, after one optional `v`.
---@field digest? string "sha256:..." of the chart's archive, or of its manifest in an OCI registry.
---@field created? string
---@field app_version? string
---@field url? string Where its archive is.
---@field deprecated? boolean
---@field tag? string In an OCI registry: the tag.

---Tells whether a text can be a chart's name, in a URL and on disk.
---@param name any
---@return boolean
function M.is_name(name)
  return type(name) == "string" and #name <= 250 and name:find("^[%w_.-]+$") ~= nil and not name:find("^[.-]")
end

---Keeps what is a version, newest first. Those of equal precedence (they differ in build metadata) are in the order of
---their texts, so that the same list always comes out the same.
---@param list ChartVersion[]
---@return ChartVersion[] versions
---@return string[] dropped What was no version, cleaned; at most 20 of them.
function M.order(list)
  local kept, parsed, dropped, seen = {}, {}, {}, {}
  for _, entry in ipairs(list) do
    local version = type(entry.version) == "string" and semver.tag(entry.version)
    if not version then
      if #dropped < 20 then dropped[#dropped + 1] = require("text").clean(tostring(entry.version), 60) end
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
---@field kind "newest"|"above"|"range"|"exact"
---@field text string As it was written.
---@field range? string
---@field exact? string
---@field policy? UpdatePolicy

---Reads how a chart is followed: the update policies of images (all, major, minor, patch, force, glob:, regexp:),
---`range:>=1.2 <2`, `staging`, or `version:1.2.3` for one version whose bytes may change.
---@param text string
---@return ChartRule? rule
---@return Err? err
---@nodiscard
function M.rule(text)
  if type(text) ~= "string" then error("usage: version.rule(text)", 2) end
  if text == "staging" then return { kind = "range", text = text, range = M.STAGING } end
  local kind, rest = text:match("^(%l+):(.*)$")
  if kind == "range" then
    local fine, err = semver.satisfies("0.0.0", rest)
    if fine == nil then return nil, err end
    return { kind = "range", text = text, range = rest }
  elseif kind == "version" then
    local parsed, err = semver.tag(rest)
    if not parsed then return nil, err end
    return { kind = "exact", text = text, exact = rest }
  end
  local policy, err = semver.policy(text)
  if not policy then
    return errors.fail("invalid", err.code == "invalid" and ("%q says no versions: there are all, major, minor, patch, "
      .. "force, staging, range:RANGE, version:VERSION, glob:PATTERN and regexp:PATTERN"):format(text:sub(1, 80))
      or err.message, { op = "charts.rule" })
  end
  return { kind = policy.kind == "force" and "newest" or "above", text = text, policy = policy }
end

local function in_range(rule, version) return semver.satisfies(semver.tag(version).text, rule.range) == true end

-- Whether a version is among those that the rule speaks of, whatever runs.
local function belongs(rule, version)
  if rule.kind == "exact" then return version == rule.exact, ("it is not %s"):format(rule.exact) end
  if rule.kind == "range" then
    return in_range(rule, version), ("it does not lie in %s"):format(rule.range)
  end
  local kind = rule.policy.kind
  if kind == "glob" or kind == "regexp" then
    -- What comes before everything in the alphabet cannot stand in the way of a glob.
    local fits = semver.allows(rule.policy, "", version)
    return fits, ("it does not match %s"):format(rule.text)
  end
  if kind == "never" then return false, "the policy is never to update" end
  local stable = #semver.tag(version).pre == 0 or kind == "all" or kind == "force"
  return stable, "it is a pre-release, and nothing runs yet that it could follow"
end

---Tells whether a version may follow the one that runs.
---@param rule ChartRule
---@param current? string The version that runs; nil when there is none.
---@param candidate string
---@param match_prerelease? boolean As for images.
---@return boolean allowed
---@return string reason In words.
function M.allows(rule, current, candidate, match_prerelease)
  if not current then
    local fits, reason = belongs(rule, candidate)
    return fits, fits and "nothing runs yet" or reason
  end
  if rule.kind == "above" then
    local allowed, reason = semver.allows(rule.policy, current, candidate, { match_prerelease = match_prerelease })
    return allowed or false, tostring(reason)
  end
  local fits, reason = true, nil
  if rule.kind ~= "newest" then fits, reason = belongs(rule, candidate) end
  if not fits then return false, reason end
  local running = semver.tag(current)
  if rule.kind == "newest" or not running or not belongs(rule, current) then
    return true, ("%s is what %s asks for"):format(candidate, rule.text)
  end
  local order = semver.compare(semver.tag(candidate), running)
  if order > 0 then return true, ("%s is above %s"):format(candidate, current) end
  return false, ("%s is %s %s"):format(candidate, order < 0 and "below" or "no newer than", current)
end

return M
