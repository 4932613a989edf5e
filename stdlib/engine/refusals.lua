-- What a policy refuses while it is asked (place:refuse): one decision for each subject, and a bounded number of them.
--
-- A policy may refuse every tag of a repository, or one tag twice with different reasons. The list is bounded here,
-- before it is compared, written or reported; what is left out is counted.
local log = require "log"

---@class Refusals
---@field private order? Decision[] nil: nothing was refused, as most often.
---@field private by_subject table<string, integer> Where in `order`.
---@field private reasons? table<integer, string[]> Of those that have several.
---@field private before? table<string, Decision> The decisions of the time before: not to be changed.
---@field private alarms integer
---@field private left_out integer
local Refusals = { alarms = 0, left_out = 0 }
Refusals.__index = Refusals

local M = {}

M.SUBJECTS = 1000    -- of one answer; alarms have room of their own
M.ALARMS = 50
M.MAX_REASON = 2000   -- bytes
M.OTHERS = "(others)" -- the subject of what is only counted

local MAX_SUBJECT <const> = 300 -- bytes
local MAX_REASONS <const> = 4   -- that are kept of one subject

---@param before? table<string, Decision> What the policy said when it was asked before, by subject: what is said again
--- is that decision, and its line is not looked up again.
---@return Refusals
function M.new(before) return setmetatable({ before = before }, Refusals) end

---A text as it is kept: without secrets, and so many bytes long. No character and no secret is cut in two.
---@param text string
---@param most integer
---@return string
function M.kept(text, most)
  text = log.redact(#text > 4 * most and text:sub(1, 4 * most) or text)
  if #text <= most then return text end
  local last = most
  while last > 0 and (text:byte(last + 1) & 0xC0) == 0x80 do last = last - 1 end
  return text:sub(1, last)
end

---@return Decision
local function decision(subject, reason, alarm, file, line)
  local refusal = { subject = subject, verdict = "refused", reason = reason, alarm = alarm, file = file, line = line }
  return refusal --[[@as Decision]]
end

-- Further reasons about a subject are appended: two decisions that alternate would be new each time.
local function join(self, i, reason)
  local d = self.order[i]
  self.reasons = self.reasons or {}
  local reasons = self.reasons[i] or { d.reason }
  self.reasons[i] = reasons
  for _, r in ipairs(reasons) do
    if r == reason then return end
  end
  if #reasons == MAX_REASONS then return end
  reasons[#reasons + 1] = reason
  self.order[i] = decision(d.subject, M.kept(table.concat(reasons, "; "), M.MAX_REASON), d.alarm, d.file, d.line)
end

local function same(d, reason, alarm)
  return d and d.verdict == "refused" and d.reason == reason and d.alarm == alarm and d.line
end

-- Whether there is no room for one more subject.
local function is_full(self, alarm)
  if alarm then return self.alarms >= M.ALARMS end
  return #self.order - self.alarms >= M.SUBJECTS
end

---Keeps one decision of the policy about one subject.
---@param subject string
---@param reason string
---@param alarm? boolean
---@param line_of fun(): string?, integer? Where the policy said so; asked when it matters.
function Refusals:add(subject, reason, alarm, line_of)
  if not self.order then
    self.order, self.by_subject = {}, {}
  end
  subject = M.kept(subject, MAX_SUBJECT) -- as the journal has it
  local i = self.by_subject[subject]
  if not i and is_full(self, alarm) then
    self.left_out = self.left_out + 1
    return
  end
  reason = M.kept(reason, M.MAX_REASON)
  local known = i and self.order[i]
  if i and (known.alarm or not alarm) then return join(self, i, reason) end
  if i then
    self.order[i] = decision(subject, known.reason, true, line_of())
    return join(self, i, reason)
  end
  local before = self.before and self.before[subject]
  i = #self.order + 1
  self.order[i] = same(before, reason, alarm) and before or decision(subject, reason, alarm, line_of())
  self.by_subject[subject] = i
  if alarm then self.alarms = self.alarms + 1 end
end

---@return Decision[] decisions In the order in which their subjects came up.
function Refusals:list()
  local list = self.order or {}
  if self.left_out > 0 then
    local others = {
      subject = M.OTHERS, verdict = "refused",
      reason = ("%d more were refused; the first %d are kept"):format(self.left_out, #list),
    }
    list[#list + 1] = others --[[@as Decision]]
  end
  return list
end

return M
