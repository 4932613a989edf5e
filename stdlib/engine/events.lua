-- The latest events, numbered, for the control API. In memory only; what must last is in the journal.
local task, time = require "task", require "time"

local M = {}

local KEPT <const> = 2000
-- A run's output has a log of its own.
local LEFT_OUT <const> = { output = true, progress = true }

---@class EventLog
---@field private first integer number of the oldest that is kept
---@field private last integer number of the newest; 0: nothing yet
---@field private list table<integer, Event>
---@field private signal Signal
---@field private since Wall
local EventLog = {}
EventLog.__index = EventLog

---@return EventLog
function M.new()
  return setmetatable({ list = {}, first = 1, last = 0, signal = task.signal(), since = time.now() }, EventLog)
end

---Remembers an event.
---@param event Event
function EventLog:add(event)
  if LEFT_OUT[event.event] then return end
  self.last = self.last + 1
  local kept = { id = self.last } ---@type table
  for key, value in pairs(event) do kept[key] = value end
  self.list[self.last] = kept
  while self.last - self.first >= KEPT do
    self.list[self.first] = nil
    self.first = self.first + 1
  end
  self.signal:notify()
end

---@class EventQuery
---@field since? integer number of the last one that is known; default 0
---@field limit? integer default 100
---@field app? string
---@field environment? string
---@field run? integer

---@class EventPage
---@field events Event[] with their `id`, oldest first
---@field next integer `since` of the next question
---@field missed? boolean some between `since` and these are forgotten
---@field started_at Wall numbers begin anew with the host

---Events after a number.
---@param query EventQuery
---@return EventPage
function EventLog:page(query)
  local since, limit = query.since or 0, query.limit or 100
  if since > self.last then since = 0 end -- of a host before this one
  local page = {
    events = {}, next = math.max(since, self.first - 1), missed = since + 1 < self.first or nil,
    started_at = self.since,
  }
  for id = math.max(since + 1, self.first), self.last do
    local e = self.list[id]
    local asked = (not query.app or e.app == query.app) and (not query.run or e.run == query.run)
      and (not query.environment or e.environment == query.environment)
    if asked and #page.events >= limit then break end
    if asked then page.events[#page.events + 1] = e end
    page.next = id
  end
  return page
end

---Waits until something happens.
---@async
---@param seconds Seconds
function EventLog:wait(seconds) self.signal:wait(seconds) end

return M
