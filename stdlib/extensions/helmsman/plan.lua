-- helmsman's plan: what it decided to do, read from its log.
--
-- Facts: helmsman 4, internal/app/plan.go and decision_maker.go. A line is "2026-11-23 19:21:56 LEVEL: text"; what
-- follows without a time belongs to the line before.
local text = require "base.text"

local M = {}

local MOST <const> = 2000 -- decisions of one plan

---@class HelmsmanEntry
---@field level string "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"; "" for what came before the first
---@field text string

---@alias HelmsmanAction "install"|"upgrade"|"delete"|"rollback"|"keep"|"ignore"

---@class HelmsmanDecision
---@field action HelmsmanAction
---@field release? string
---@field namespace? string
---@field version? string
---@field text string as helmsman says it

---@class HelmsmanPlan
---@field complete boolean its end was seen
---@field decisions HelmsmanDecision[]
---@field changes integer how many of them change something
---@field changing? boolean helmsman itself says that something changes

---The lines of a log.
---@param said string
---@return HelmsmanEntry[]
function M.entries(said)
  local list, last = {}, nil
  for line in said:gsub("\27%[[%d;]*m", ""):gmatch("[^\r\n]+") do
    local level, words = line:match("^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d (%u+): (.*)$")
    if level then
      last = { level = level, text = words }
      list[#list + 1] = last
    elseif last then
      last.text = last.text .. "\n" .. line
    else
      last = { level = "", text = line }
      list[#list + 1] = last
      last = nil
    end
  end
  return list
end

-- What the words of a decision mean, the more special first.
local MEANINGS <const> = {
  { " ignored$", "ignore" }, { "pending state and will be ignored$", "ignore" },
  { "is disabled$", "keep" }, { "is PROTECTED", "keep" }, { "installed and up%-to%-date$", "keep" },
  { "will be DELETED", "delete" }, { "is desired to be DELETED", "delete" },
  { "^Untracked release .* will be deleted$", "delete" },
  { "will be installed using version %[ (.-) %]", "install" },
  { "will be upgraded$", "upgrade" }, { "will be updated$", "upgrade" },
  { "is in FAILED state%. Upgrade is scheduled", "upgrade" },
  { "is desired to use a new chart", "upgrade" }, { "is desired to be enabled in a new namespace", "upgrade" },
  { "is desired to be rolled back", "rollback" }, { "is deleted BUT from namespace", "rollback" },
}

local CHANGING <const> = { install = true, upgrade = true, delete = true, rollback = true }

local function decision(words)
  local d = { text = text.clean(words, 300), action = "keep" }
  d.release = words:match("[Rr]elease %[ (%S+) %]")
  d.namespace = words:match("in namespace %[ (%S+) %]")
  for _, meaning in ipairs(MEANINGS) do
    local found = words:match(meaning[1])
    if found then
      d.action = meaning[2]
      d.version = meaning[2] == "install" and found or nil
      break
    end
  end
  return d
end

---Reads the plan in a log.
---@param said string
---@return HelmsmanPlan
function M.read(said)
  local plan, inside = { complete = false, decisions = {}, changes = 0 }, false
  for _, entry in ipairs(M.entries(said)) do
    if entry.text:find("PLAN starts here", 1, true) then
      inside, plan.decisions, plan.changes = true, {}, 0
    elseif entry.text:find("PLAN ends here", 1, true) then
      inside, plan.complete = false, true
    elseif inside and #plan.decisions < MOST then
      local words = entry.text:match("^(.*) %-%- priority: %-?%d+%s*$")
      if words then
        local d = decision(words)
        plan.decisions[#plan.decisions + 1] = d
        if CHANGING[d.action] then plan.changes = plan.changes + 1 end
      end
    end
  end
  return plan
end

local ORDER <const> = { "install", "upgrade", "rollback", "delete", "keep", "ignore" }
local WORDS <const> = {
  install = "to install", upgrade = "to upgrade", rollback = "to bring back", delete = "to delete",
  keep = "as they should be", ignore = "ignored",
}

---A plan in one line for people: "1 to install (api), 2 as they should be". By name: helmsman has no order.
---@param plan HelmsmanPlan
---@return string
function M.words(plan)
  local parts = {}
  for _, action in ipairs(ORDER) do
    local names, count = {}, 0
    for _, d in ipairs(plan.decisions) do
      if d.action == action then
        count = count + 1
        names[#names + 1] = d.release
      end
    end
    table.sort(names)
    if #names > 5 then names = table.move({ "..." }, 1, 1, 6, { table.unpack(names, 1, 5) }) end
    local who = CHANGING[action] and names[1] and (" (%s)"):format(table.concat(names, ", ")) or ""
    if count > 0 then parts[#parts + 1] = ("%d %s%s"):format(count, WORDS[action], who) end
  end
  return #parts > 0 and table.concat(parts, ", ") or "nothing to do"
end

return M
