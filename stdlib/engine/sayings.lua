-- What a policy turns down while it is asked: one decision a subject, and at most so many subjects.
--
-- A policy may name every tag of a repository, or the same one twice, with other words each time. What is kept of it is
-- bounded here, before anything is compared, written or told; what is left out is counted.
local log = require "log"

---@class Sayings
---@field private order Decision[]
---@field private by_subject table<string, Decision>
---@field private alarms integer
---@field private left_out integer
local Sayings = {}
Sayings.__index = Sayings

local M = {}

M.SUBJECTS = 1000    -- of one answer; alarms have room of their own
M.ALARMS = 50
M.OTHERS = "(others)" -- the subject of what is only counted

local MAX_SUBJECT <const> = 300 -- bytes
local MAX_REASON <const> = 2000
local MAX_REASONS <const> = 4   -- that are told of one subject

---@return Sayings
function M.new() return setmetatable({ order = {}, by_subject = {}, alarms = 0, left_out = 0 }, Sayings) end

-- Cuts a text to so many bytes, never inside of a character.
local function cut(text, most)
  if #text <= most then return text end
  local last = most
  while last > 0 and (text:byte(last + 1) & 0xC0) == 0x80 do last = last - 1 end
  return text:sub(1, last)
end

-- What is said again of a subject joins what was said before: two decisions that take turns would both be news forever.
local function join(known, said, reason)
  if said.alarm and not known.alarm then
    known.alarm, known.file, known.line = true, said.file, said.line
  end
  for _, r in ipairs(known.reasons) do
    if r == reason then return end
  end
  if #known.reasons < MAX_REASONS then table.insert(known.reasons, reason) end
end

---Keeps one decision of the policy about one subject.
---@param said {subject: string, reason: string, file?: string, line?: integer, alarm?: boolean}
function Sayings:add(said)
  local subject = log.redact(cut(said.subject, MAX_SUBJECT)) -- as the journal has it
  local reason = cut(said.reason, MAX_REASON)
  local known = self.by_subject[subject]
  if known then return join(known, said, reason) end
  local full = #self.order - self.alarms >= M.SUBJECTS
  if said.alarm then full = self.alarms >= M.ALARMS end
  if full then
    self.left_out = self.left_out + 1
    return
  end
  known = {
    subject = subject, verdict = "refused", reasons = { reason }, file = said.file, line = said.line,
    alarm = said.alarm,
  }
  if said.alarm then self.alarms = self.alarms + 1 end
  self.order[#self.order + 1], self.by_subject[subject] = known, known
end

---@return Decision[] decisions In the order in which their subjects came up.
function Sayings:list()
  local list = {}
  for i, d in ipairs(self.order) do
    list[i] = {
      subject = d.subject, verdict = d.verdict, reason = cut(table.concat(d.reasons, "; "), MAX_REASON), file = d.file,
      line = d.line, alarm = d.alarm,
    }
  end
  if self.left_out > 0 then
    list[#list + 1] = {
      subject = M.OTHERS, verdict = "refused",
      reason = ("%d more were refused; the first %d are kept"):format(self.left_out, #self.order),
    }
  end
  return list
end

return M
