-- Shrunken lists of references: what is missing from one is kept for a while. Every whole answer passes here.
--
-- Names that are missing from a suspicious answer stay as they were, until base/shrink.lua confirms that they are gone,
-- counted from when each went; everything else in it counts at once. An answer without any reference is never accepted.
local log = require "log"
local parted = require "base.parted"
local refs = require "sources.git.refs"
local shrink = require "base.shrink"

local M = {}

---@class GitShrunken
---@field snapshot? GitSnapshot what counts
---@field private url string
---@field private gone table<string, Shrink> names that are held back
---@field private empty boolean the last answer had no reference at all
local Shrunken = { gone = parted.table(), empty = false }
Shrunken.__index = Shrunken

---@param url string For the log.
---@return GitShrunken
function M.new(url) return setmetatable({ url = url }, Shrunken) end

-- Counts an observation without the missing names, once for each batch.
local function count(self)
  local seen = {}
  for _, batch in pairs(self.gone) do
    if not seen[batch] then
      seen[batch] = true
      batch:observe()
    end
  end
end

---What is held back now, in words that do not change while nothing does.
---@private
function Shrunken:held(complaint)
  local names, since, till = {}, math.huge, 0
  for name, batch in pairs(self.gone) do
    names[#names + 1] = name
    since, till = math.min(since, batch.at), math.max(till, batch:till()) --[[@as any]]
  end
  if #names == 0 then return nil end
  table.sort(names)
  return shrink.held(complaint, names, since, not self.empty and till or nil)
end

---Takes a new answer.
---@param answer GitSnapshot What is held back is added to it.
---@return GitSnapshot snapshot
function Shrunken:take(answer)
  local before = self.snapshot
  local complaint = before and refs.shrunk(before, answer)
  self.snapshot, self.empty = answer, answer.heads + answer.tags == 0 or nil
  local was_held = not parted.empty(self.gone)
  if not complaint then
    self.gone = nil -- the class has an empty one
    return answer
  end
  count(self)
  local batch = shrink.new()
  batch:observe()
  local gone, kept = parted.table(), parted.table()
  ---@cast before GitSnapshot
  for name, ref in pairs(before.refs) do
    local known = self.gone[name] or batch
    if not answer.refs[name] and (self.empty or not known:confirmed()) then gone[name], kept[name] = known, ref end
  end
  self.gone = gone
  if parted.empty(gone) then
    log.warn("a repository stays without the references that it lost; the answer is accepted now",
      { url = self.url, why = complaint })
    return answer
  end
  refs.keep(answer, kept, before)
  answer.held = self:held(complaint)
  if not was_held then
    log.warn("a repository lost references; what is missing stays as it was for now",
      { url = self.url, why = complaint })
  end
  return answer
end

---The same answer came again.
---@return GitSnapshot snapshot Another one when something that was held back counts as gone now.
function Shrunken:again()
  local snapshot = assert(self.snapshot)
  count(self)
  if not snapshot.held or self.empty then return snapshot end
  local over = parted.table()
  for name, batch in pairs(self.gone) do
    if batch:confirmed() then over[name] = true end
  end
  if parted.empty(over) then return snapshot end
  for name in pairs(over) do self.gone[name] = nil end
  local complaint = snapshot.held.complaint
  log.warn("a repository stays without the references that it lost; the answer is accepted now",
    { url = self.url, why = complaint })
  self.snapshot = refs.without(snapshot, over)
  self.snapshot.held = self:held(complaint)
  return self.snapshot
end

---Sets the first snapshot, from what the journal remembers, unless there is one.
---@param snapshot GitSnapshot
function Shrunken:expect(snapshot) self.snapshot = self.snapshot or snapshot end

return M
