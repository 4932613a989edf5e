-- Which tag a workload should run, by its policy, of those that its repository has.
--
-- keel's order: the tags that the policy considers, best first; the first one that it allows is taken, and when that is
-- the one that runs, nothing happens. What differs, on purpose, only ever keeps a workload from going back by itself.
local semver = require "semver"

local M = {}

local MAX_REFUSALS <const> = 20

---@class KeelCandidate
---@field tag string
---@field subject string What `why` calls it: the tag, with its repository where a workload follows several images.
---@field allowed boolean
---@field reason string
---@field trap? string What to say of numbers that are ordered as text.

-- What a regexp policy orders by: its named group `compare`, else the tag.
local function order_key(policy, tag)
  local matches, key = policy.regexp:match(tag)
  if matches then return key or tag end
end

-- keel's regexp policy asks for a match only, so a list that lost its newest tag, or an event about an old one, takes
-- a workload back. Here a tag that comes before the one that runs is refused, when both match.
local function goes_back(policy, current, tag)
  if policy.kind ~= "regexp" then return nil end
  local from, to = order_key(policy, current), order_key(policy, tag)
  if from and to and to < from then return ("%q comes before %q: nothing goes back by itself"):format(tag, current) end
end

-- A whole number ("42", "v7-rc.1") is a version to `force`, as it is to keel; the other policies want a minor number.
local function with_minor(tag)
  local number, rest = tag:match("^(v?%d+)(.*)$")
  if number and (rest == "" or rest:find("^[-+]")) then return number .. ".0" .. rest, true end
  return tag, false
end

-- Whether a tag is a version as keel's policies read them.
local function is_version(tag) return #(semver.candidates("all", { (with_minor(tag)) }) or {}) == 1 end

---The tags that a policy considers, best first. `force` without matchTag would take whatever the registry lists first;
---here it goes by versions, which have an order.
---@param policy UpdatePolicy
---@param tags string[]
---@return string[]
function M.order(policy, tags)
  if policy.kind ~= "force" then return semver.candidates(policy, tags) or {} end
  local versions, written, list = {}, {}, {}
  for _, tag in ipairs(tags) do
    local version = with_minor(tag)
    if not written[version] then
      versions[#versions + 1], written[version] = version, {}
    end
    table.insert(written[version], tag)
  end
  for _, version in ipairs(semver.candidates("all", versions) or {}) do
    table.move(written[version], 1, #written[version], #list + 1, list)
  end
  return list
end

-- Whether a tag, and with it everything after it, is older than the one that runs.
local function is_older(policy, current, tag)
  if policy.kind == "regexp" then return false end
  if policy.kind == "glob" then return tag <= current end
  if policy.kind == "force" then tag, current = with_minor(tag), with_minor(current) end
  return semver.allows("all", tag, current) == true and current ~= "latest"
end

---Whether a policy is about the digest of the tag that runs (HEAD of that tag) and not about other tags.
---@param settings KeelSettings
---@param current string
---@return boolean
function M.same_tag(settings, current)
  return assert(settings.policy).kind == "force" and (settings.match_tag or not is_version(current))
end

-- What is not taken because numbers are ordered as text would never be seen: it stands behind the one that runs, next
-- to it, among the tags with the same three numbers.
local function trapped(judged, settings, current, tags, from)
  local kind = settings.policy.kind
  if kind == "regexp" or kind == "glob" or kind == "force" then return end
  for i = from, math.min(#tags, from + MAX_REFUSALS) do
    local _, reason, trap = semver.allows("all", current, tags[i])
    if trap and #judged < MAX_REFUSALS then
      judged[#judged + 1] = { tag = tags[i], allowed = false, reason = reason, trap = trap }
    end
  end
end

---@class KeelJudging
---@field order? fun(policy: UpdatePolicy, tags: string[]): string[]
---@field fits? fun(tag: string): boolean, string? Whether an allowed tag can run there; if not, the next one is tried.

---Judges the tags of a repository, best first, and stops at the first that is allowed or that runs already.
---@param settings KeelSettings
---@param current string The tag that runs.
---@param tags string[]
---@param how? KeelJudging
---@return KeelCandidate[] judged The last one is the one to take, if it is allowed.
function M.judge(settings, current, tags, how)
  how = how or {}
  local policy, judged = assert(settings.policy), {}
  if policy.kind == "force" and not is_version(current) then return judged end
  local options = { match_prerelease = settings.match_prerelease, match_tag = settings.match_tag }
  local _, whole = with_minor(current)
  local ordered = (how.order or M.order)(policy, tags)
  for i, tag in ipairs(ordered) do
    if tag == current or is_older(policy, current, tag) then
      trapped(judged, settings, current, ordered, i)
      break
    end
    local allowed, reason, trap = semver.allows(policy, current, tag, options) ---@type boolean?, any, string?
    if policy.kind == "force" and not whole and select(2, with_minor(tag)) then
      allowed, reason = false, ("%q is a whole number, %q is none"):format(tag, current)
    end
    local back = allowed and goes_back(policy, current, tag)
    if back then allowed, reason = false, back end
    if allowed and how.fits then
      local fit, why = how.fits(tag)
      if not fit then allowed, reason = false, why end
    end
    if allowed or #judged < MAX_REFUSALS then
      judged[#judged + 1] = { tag = tag, allowed = allowed or false, reason = tostring(reason), trap = trap }
    end
    if allowed then break end
  end
  return judged
end

return M
