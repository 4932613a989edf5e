-- What the keel.sh annotations and labels of a workload ask for, by keel's own order of precedence.
--
-- The rules are those of keel 0.22 (its types, internal/policy, util/policies and provider/kubernetes), with their
-- inconsistencies: people switch by uninstalling keel, and nothing in their manifests changes.
local semver = require "semver"

local M = {}

local MAX_CHANNELS <const> = 20 -- of keel.sh/notify: an annotation may have a hundred thousand
local LONGEST_DEADLINE <const> = 10 * 366 * 24 -- hours: beyond the year 9999 no date can be written

---@class KeelSettings
---@field policy? UpdatePolicy nil: keel would not touch this workload.
---@field why? string Why there is no policy although the annotations name one.
---@field match_tag boolean
---@field match_prerelease boolean
---@field trigger "poll"|"default"
---@field schedule? string As written; nil: the default.
---@field approvals integer Votes that an update needs.
---@field approvals_error? string No update until it is corrected.
---@field deadline number Hours.
---@field notify string[]
---@field monitor? table A compiled expression: only containers that it matches.
---@field init_containers boolean
---@field warnings string[] What was written and will not do what it says.
---@field pull_secret? string
---@field release_notes? string

-- The value of a key whose spelling may differ in case: keel reads some of its keys so.
local function any_case(map, key)
  if map[key] ~= nil then return map[key], key end
  local wanted = key:lower()
  for name, value in pairs(map) do
    if name:lower() == wanted then return value, name end
  end
end

-- The new key if it is there, whatever it says; else the old one.
local function first_of(map, new, old)
  if map[new] ~= nil then return map[new] end
  return map[old]
end

-- The map that the policy is in. An annotation that is there wins, even an empty one.
local function policy_map(annotations, labels)
  for _, map in ipairs { annotations, labels } do
    local text = first_of(map, "keel.sh/policy", "keel.observer/policy")
    if text ~= nil then return map, text end
  end
end

-- As Go's strconv.Atoi reads a number.
local function integer(text)
  local digits = text:match("^[+-]?%d+$")
  return digits and #digits <= 10 and math.tointeger(tonumber((digits:gsub("^%+", "")))) or nil
end

local function read_policy(settings, annotations, labels)
  local map, text = policy_map(annotations, labels)
  if not map then return end
  settings.match_tag = first_of(map, "keel.sh/matchTag", "keel.sh/match-tag") == "true"
  local pre = map["keel.sh/matchPreRelease"]
  settings.match_prerelease = pre == nil or pre == "true"
  local policy, err = semver.policy(text)
  if not policy then
    settings.why = ("keel.sh/policy: %s"):format(err.message)
  elseif policy.kind == "never" then
    settings.why = ("keel.sh/policy is %q"):format(text)
  else
    settings.policy = policy
  end
end

-- Labels before annotations: here keel does it the other way round.
local function read_approvals(settings, annotations, labels)
  local votes = labels["keel.sh/approvals"] or annotations["keel.sh/approvals"]
  if votes ~= nil then
    local count = integer(votes)
    if count then
      settings.approvals = math.max(0, count)
    else
      settings.approvals_error = ("keel.sh/approvals is %q and no number: no update until it is one")
        :format(votes:sub(1, 40))
    end
  end
  local hours = labels["keel.sh/approvalDeadline"] or annotations["keel.sh/approvalDeadline"]
  local count = hours and integer(hours)
  if count and count >= 0 then settings.deadline = math.min(count, LONGEST_DEADLINE) end
end

local function read_containers(settings, annotations, labels)
  for _, map in ipairs { annotations, labels } do
    local text = any_case(map, "keel.sh/monitorContainers")
    if text then
      local policy, err = semver.policy("regexp:" .. text)
      if policy then
        settings.monitor = policy.regexp
        break
      end
      settings.warnings[#settings.warnings + 1] = ("keel.sh/monitorContainers: %s"):format(err.message)
    end
  end
  -- keel looks for this key in any case, and in labels too, when it chooses what to poll, but only for this spelling
  -- in the annotations when it updates.
  settings.init_containers = annotations["keel.sh/initContainers"] == "true"
  local tracked, spelling = any_case(annotations, "keel.sh/initContainers")
  if tracked == nil then tracked, spelling = any_case(labels, "keel.sh/initContainers") end
  if tracked == "true" and not settings.init_containers then
    settings.warnings[#settings.warnings + 1] = ("%s does not update init containers: only the annotation "
      .. "keel.sh/initContainers does"):format(spelling)
  end
end

---Reads the settings of a workload.
---@param annotations? table<string, string> Of the workload itself, not of its pods.
---@param labels? table<string, string>
---@return KeelSettings
function M.read(annotations, labels)
  annotations, labels = annotations or {}, labels or {}
  local settings = {
    match_tag = false, match_prerelease = true, approvals = 0, deadline = 24, notify = {}, init_containers = false,
    warnings = {},
  }
  read_policy(settings, annotations, labels)
  local trigger = annotations["keel.sh/trigger"] or labels["keel.sh/trigger"]
  settings.trigger = trigger == "poll" and "poll" or "default"
  settings.schedule = annotations["keel.sh/pollSchedule"]
  read_approvals(settings, annotations, labels)
  for channel in (annotations["keel.sh/notify"] or ""):gmatch("[^,]+") do
    channel = channel:match("^%s*(.-)%s*$")
    if channel ~= "" and #channel <= 63 and #settings.notify < MAX_CHANNELS then
      settings.notify[#settings.notify + 1] = channel
    end
  end
  read_containers(settings, annotations, labels)
  settings.pull_secret = any_case(labels, "keel.sh/imagePullSecret") or any_case(annotations, "keel.sh/imagePullSecret")
  settings.release_notes = annotations["keel.sh/releaseNotes"]
  return settings
end

---Whether the settings are about a container.
---@param settings KeelSettings
---@param name string
---@return boolean
function M.monitors(settings, name)
  return not settings.monitor or (settings.monitor:match(name)) and true or false
end

return M
