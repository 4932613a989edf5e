---Semantic versions 2.0.0, ranges, and the update policies that keel made popular.
---
---     local semver = require "semver"
---     semver.compare("1.9.0", "1.10.0")                --> -1
---     semver.satisfies("1.4.9", "^1.2, !=1.4.0")       --> true
---     semver.tag("v1.4.9").text                        --> "1.4.9"
---     semver.allows("minor", "1.4.9", "2.0.0")         --> false, "2.0.0 changes the major number ..."
---
---Versions come from tags that anybody may push: they are at most 256 bytes long, numbers may be of any size
---and are never rounded, and all functions take time linear in their input.
local core = require "core.semver"
local errors = require "errors"
local sys = require "base.sys"

local M = {}

---@class Version
---@field major integer|string a string when it is too large for an integer
---@field minor integer|string
---@field patch integer|string
---@field pre (integer|string)[] identifiers of the pre-release; empty for a release
---@field build string[] identifiers of the build metadata
---@field text string the version as it was written, without a tag's `v`
---@field tag? string the tag as it was written, from `semver.tag`

---The text of a version given as text or as a parsed table.
local function text_of(version, usage)
  if type(version) == "table" then
    version = version.text
  end
  if type(version) ~= "string" then
    error("usage: " .. usage, 3)
  end
  return version
end

---Parses a version: three numbers without leading zeros and without `v`, as SemVer 2.0.0 has it.
---@param text string
---@return Version?
---@return Err? err code "invalid" or "too_large"
---@nodiscard
---@return_overload nil, Err
function M.parse(text)
  if type(text) ~= "string" then
    error("usage: semver.parse(text)", 2)
  end
  return core.parse(text)
end

---Parses a tag's name: a version behind at most one lower-case `v`. Keeps the spelling in the field `tag`.
---@param text string
---@return Version?
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.tag(text)
  if type(text) ~= "string" then
    error("usage: semver.tag(text)", 2)
  end
  local version, err = core.parse(text:sub(1, 1) == "v" and text:sub(2) or text)
  if not version then
    return nil, err
  end
  version.tag = text
  return version
end

---Compares by precedence (SemVer 2.0.0, section 11); build metadata has none.
---@param a Version|string
---@param b Version|string
---@return integer? order -1, 0 or 1
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.compare(a, b)
  local usage = "semver.compare(a, b)"
  return core.compare(text_of(a, usage), text_of(b, usage))
end

---Whether a version lies in a range such as `^1.2`, `~1.2.3`, `>=1.2 <2 || 3.x`, `1.2 - 1.4`.
---
---The rules are those of Masterminds/semver v3, which Helm and Flux use: commas and blanks both mean "and",
---and a pre-release lies only in a range that names one (`>=1.2.3-0`). Not copied: there `~0.0.0` is
---anything, here it is >=0.0.0 <0.1.0.
---@param version Version|string
---@param range string
---@return boolean?
---@return Err? err when either cannot be understood
---@nodiscard
---@return_overload nil, Err
function M.satisfies(version, range)
  local usage = "semver.satisfies(version, range)"
  if type(range) ~= "string" then
    error("usage: " .. usage, 2)
  end
  return core.satisfies(text_of(version, usage), range)
end

local function number_key(n)
  local digits = type(n) == "string" and n or ("%d"):format(n)
  return ("%03d%s"):format(#digits, digits)
end

-- A text whose order among its like is the precedence of versions: numbers behind their length, and an end below all
-- that may follow.
local function precedence_key(version)
  local parts = { number_key(version.major), number_key(version.minor), number_key(version.patch) }
  for _, identifier in ipairs(version.pre) do
    local numeric = math.type(identifier) == "integer" or not identifier:find "%D"
    parts[#parts + 1] = numeric and "1" .. number_key(identifier) or "2" .. identifier .. "\1"
  end
  parts[#parts + 1] = #version.pre > 0 and "0" or "3"
  return table.concat(parts)
end

---Sorts versions upwards into a new list; those of equal precedence keep their order.
---@param versions (Version|string)[]
---@return (Version|string)[]?
---@return Err? err when one of them is no version
---@nodiscard
---@return_overload nil, Err
function M.sort(versions)
  local keys = {}
  for i, version in ipairs(versions) do
    local parsed, err = core.parse(text_of(version, "semver.sort(versions)"))
    if not parsed then
      return nil, err
    end
    keys[i] = ("%s\1%09d"):format(precedence_key(parsed), i)
  end
  table.sort(keys) -- texts are compared without calling back for each pair
  local sorted = {}
  for i, key in ipairs(keys) do
    sorted[i] = versions[tonumber(key:sub(-9)) --[[@as integer]]]
  end
  return sorted
end

-- Update policies ------------------------------------------------------------------------------------------

-- The semver policies, and the numbers that each of them keeps.
local KEEPS = { all = {}, major = {}, minor = { major = true }, patch = { major = true, minor = true } }

---@class UpdatePolicy
---@field kind "all"|"major"|"minor"|"patch"|"force"|"never"|"glob"|"regexp"|"range"
---@field text string as it was written
---@field pattern any of a glob
---@field range any of a range
---@field regexp any of a regular expression, compiled

---Reads an update policy: `all`, `major`, `minor`, `patch`, `force`, `never` (or nothing), `glob:PATTERN`
---where `*` stands for anything, `regexp:PATTERN` in Go's syntax, `range:RANGE` as `satisfies` has it. A tag for
---which an expression needs too many steps (as `(a*)*b` may) does not match.
---@param text string
---@return UpdatePolicy?
---@return Err? err code "invalid" for an unknown one, or what is wrong with the pattern
---@nodiscard
---@return_overload nil, Err
function M.policy(text)
  if type(text) ~= "string" then
    error("usage: semver.policy(text)", 2)
  end
  local kind, pattern = text:match("^(%l+):(.*)$") ---@cast pattern string
  if kind == "glob" and #pattern <= 256 then
    return { kind = "glob", text = text, pattern = pattern }
  elseif kind == "regexp" then
    local regexp, err = core.regexp(pattern)
    if not regexp then
      return nil, err
    end
    return { kind = "regexp", text = text, regexp = regexp }
  elseif kind == "range" then
    local fine, err = core.satisfies("0.0.0", pattern)
    if fine == nil then
      return nil, err
    end
    return { kind = "range", text = text, range = pattern }
  elseif KEEPS[text] or text == "force" then
    return { kind = text --[[@as any]], text = text }
  elseif text == "never" or text == "" then
    return { kind = "never", text = "never" }
  end
  return errors.fail("invalid", ("not an update policy: %q; there are all, major, minor, patch, force, "
    .. "never, range:RANGE, glob:PATTERN and regexp:PATTERN"):format(text:sub(1, 80)), { op = "semver.policy" })
end

local function joined(pre)
  return #pre > 0 and ("the pre-release %q"):format(table.concat(pre, ".")) or "no pre-release"
end

---The loose versions behind a question to a semver policy, or nil and why there are none.
local function pair(current, candidate)
  if not candidate:find(".", 1, true) then
    return nil, ("%q is not a version with a minor number"):format(candidate:sub(1, 80))
  end
  local from, to = core.parse(current, true), core.parse(candidate, true)
  if not from then
    return nil, ("the current %q is not a version"):format(current:sub(1, 80))
  elseif not to then
    return nil, ("%q is not a version"):format(candidate:sub(1, 80))
  end
  return from, to
end

---The first number that differs, by name.
local function change(from, to)
  for _, name in ipairs { "major", "minor", "patch" } do
    if from[name] ~= to[name] then
      return name
    end
  end
  return "pre-release"
end

---A note about two versions that differ by numbers which SemVer compares as text: rc9 is above rc10.
local function as_text(from, to)
  for _, name in ipairs { "major", "minor", "patch" } do
    if from[name] ~= to[name] then
      return nil
    end
  end
  for i, id in ipairs(to.pre) do
    local other = from.pre[i]
    if id ~= other then
      local word, digits = id:match("^(.*%D)(%d+)$")
      local other_word, other_digits = (other or ""):match("^(.*%D)(%d+)$")
      local number, other_number = tonumber(digits), tonumber(other_digits)
      if not word or word ~= other_word or number == other_number or (id < other) == (number < other_number) then
        return nil
      end
      return ("%q and %q are compared as text, not by their numbers: %s.%s would be a number"):format(id, other, word,
        digits)
    end
  end
end

---The order of the tests is keel's own, so that both refuse the same tags for the same reason.
local function within_bounds(kind, current, candidate, match_prerelease)
  if current == "latest" then
    return true, '"latest" may be followed by any tag'
  end
  local from, to = pair(current, candidate)
  if not from then
    return false, to
  end
  local pre, trap = joined(to.pre), as_text(from, to)
  local hint = trap and "; " .. trap or ""
  if match_prerelease and kind ~= "all" and pre ~= joined(from.pre) then
    return false, ("%s has %s, %s has %s%s"):format(candidate, pre, current, joined(from.pre), hint), trap
  end
  local order = core.compare(candidate, current, true)
  if order <= 0 then
    return false, ("%s is %s %s%s"):format(candidate, order < 0 and "below" or "no newer than", current, hint), trap
  end
  local changed = change(from, to)
  if KEEPS[kind][changed] then
    return false, ("%s changes the %s number of %s, which the policy %q keeps"):format(candidate, changed,
      current, kind)
  end
  return true, ("%s is above %s by its %s%s%s"):format(candidate, current, changed,
    changed == "pre-release" and "" or " number", hint), trap
end

local DECIDE = {}

function DECIDE.never()
  return false, "the policy is never to update"
end

function DECIDE.force(_, current, candidate, options)
  if options.match_tag and current ~= candidate then
    return false, ("%q is another tag than %q"):format(candidate, current)
  end
  return true, "the policy takes any tag"
end

function DECIDE.glob(policy, current, candidate)
  if not core.glob(policy.pattern, candidate) then
    return false, ("%q does not match %s"):format(candidate:sub(1, 80), policy.text)
  elseif candidate <= current then
    return false, ("%q does not come after %q in the alphabet"):format(candidate, current)
  end
  return true, ("%q matches %s and comes after %q"):format(candidate, policy.text, current)
end

function DECIDE.regexp(policy, _, candidate)
  local matches, err = policy.regexp:match(candidate)
  if matches then
    return true, ("%q matches %s"):format(candidate, policy.text)
  end
  return false, ("%q does not match %s%s"):format(candidate:sub(1, 80), policy.text,
    matches == nil and ": " .. err.message or "")
end

-- A version that runs outside of the range gives way to any inside of it: the range was changed.
function DECIDE.range(policy, current, candidate)
  local from, to = M.tag(current), M.tag(candidate)
  if not to then
    return false, ("%q is not a version"):format(candidate:sub(1, 80))
  elseif not core.satisfies(to.text, policy.range) then
    return false, ("%s does not lie in %s"):format(candidate, policy.range)
  elseif not from or not core.satisfies(from.text, policy.range) then
    return true, ("%s lies in %s, what runs does not"):format(candidate, policy.range)
  end
  local order = core.compare(to.text, from.text)
  if order <= 0 then
    return false, ("%s is %s %s"):format(candidate, order < 0 and "below" or "no newer than", current)
  end
  return true, ("%s is above %s, and in %s"):format(candidate, current, policy.range)
end

local ALLOWS_USAGE = "usage: semver.allows(policy, current, candidate [, {match_prerelease=, match_tag=}])"

---Whether an update policy lets a candidate tag replace the current one, and why, in words.
---
---The decisions are those of keel 0.22. Its semver policies read tags loosely: `v`, `1.2`, leading zeros. A
---candidate must have a minor number, must differ from the current one upwards, and keeps exactly the
---current pre-release unless the policy is `all` or match_prerelease is false.
---@param policy string|UpdatePolicy
---@param current string
---@param candidate string
---@param options? {match_prerelease?: boolean, match_tag?: boolean} by default true and false; match_tag lets
--- `force` only follow the same tag
---@return boolean? allowed nil when the policy itself cannot be understood
---@return string|Err reason
---@return string? trap what to say of numbers that are compared as text (rc9 is above rc10); it is in the reason, too
function M.allows(policy, current, candidate, options)
  options = options == nil and {} or sys.plain(options)
  if type(current) ~= "string" or type(candidate) ~= "string" or type(options) ~= "table" then
    error(ALLOWS_USAGE, 2)
  end
  for key in pairs(options) do
    if key ~= "match_prerelease" and key ~= "match_tag" then
      error(("%s: unknown option %q"):format(ALLOWS_USAGE, tostring(key)), 2)
    end
  end
  if type(policy) == "string" then
    local read, err = M.policy(policy)
    if not read then
      return nil, err
    end
    policy = read
  end
  if KEEPS[policy.kind] then
    return within_bounds(policy.kind, current, candidate, options.match_prerelease ~= false)
  end
  return DECIDE[policy.kind](policy, current, candidate, options)
end

---The tags that a policy considers, best first, as keel orders them: versions downwards; for a glob and a
---regular expression the matching ones in descending order of bytes, or of what the expression's group
---`compare` holds. The first that `allows` accepts is the one to take.
---@param policy string|UpdatePolicy
---@param tags string[]
---@return string[]?
---@return Err? err
---@nodiscard
---@return_overload nil, Err
function M.candidates(policy, tags)
  if type(policy) == "string" then
    local read, err = M.policy(policy)
    if not read then
      return nil, err
    end
    policy = read
  end
  local found, key = {}, {}
  for _, tag in ipairs(tags) do
    local matches, compare = true --[[@as any]], nil
    if policy.kind == "glob" then
      matches = core.glob(policy.pattern, tag)
    elseif policy.kind == "regexp" then
      matches, compare = policy.regexp:match(tag)
    elseif policy.kind == "range" then
      local version = M.tag(tag)
      matches = version and core.satisfies(version.text, policy.range)
    elseif policy.kind ~= "force" then
      matches = policy.kind ~= "never" and tag:find(".", 1, true) and core.parse(tag, true)
    end
    if matches then
      found[#found + 1] = tag
      key[tag] = compare or tag
    end
  end
  if KEEPS[policy.kind] or policy.kind == "range" then
    table.sort(found, function(a, b) return core.compare(a, b, true) > 0 end)
  elseif policy.kind ~= "force" then
    table.sort(found, function(a, b) return key[a] > key[b] end)
  end
  return found
end

return M
