-- Lists that lost much at once: references of a repository, versions of a chart, tags of an image.
--
-- A server that restores a backup, a proxy that cuts a list and a repository that was emptied all look like "somebody
-- deleted the releases". Such a shrink is believed once it was observed often and long enough; what happens until then
-- is up to whoever asked for the list.
local time = require "time"

local M = {}

local OBSERVATIONS <const>, SECONDS <const> = 3, 600 -- before a shrink is confirmed
local ENOUGH <const> = 4 -- entries from which on losing half of them is suspicious
local NAMED <const> = 5 -- of the missing ones in messages

---@class Held What is held back, for people.
---@field complaint string "2 of 4 tags are gone"
---@field names string[] Some of what is missing.
---@field count integer Of all of it.
---@field since number Wall seconds.
---@field till? number Wall seconds; nil: as long as the list is empty.

---@class Shrink A shrink that is not believed yet.
---@field since number Monotonic.
---@field at number Wall seconds.
---@field observations integer So far.
---@field private needed integer
---@field private seconds Seconds
local Shrink = {}
Shrink.__index = Shrink

---Tells whether a list lost so much that it is suspicious.
---@param before integer
---@param left integer Of those.
---@return boolean
function M.suspicious(before, left) return before >= ENOUGH and left * 2 <= before end

---A shrink that begins now.
---@param observations? integer Before it is confirmed.
---@param seconds? Seconds It must last as long.
---@return Shrink
---@nodiscard
function M.new(observations, seconds)
  return setmetatable({
    since = time.monotonic(), at = time.now(), observations = 0, needed = observations or OBSERVATIONS,
    seconds = seconds or SECONDS,
  }, Shrink)
end

---Tells whether it is to be believed.
---@return boolean
function Shrink:confirmed()
  return self.observations >= self.needed and time.monotonic() - self.since >= self.seconds
end

---Notes that it was observed.
---@return boolean confirmed
function Shrink:observe()
  self.observations = self.observations + 1
  return self:confirmed()
end

---When it can be confirmed, at the earliest.
---@return number wall seconds
function Shrink:till() return self.at + self.seconds end

---What is held back, for people.
---@param complaint string
---@param names string[] All that is missing.
---@param since number Wall seconds.
---@param till? number
---@return Held
function M.held(complaint, names, since, till)
  return {
    complaint = complaint, names = table.move(names, 1, NAMED, 1, {}), count = #names, since = since, till = till,
  }
end

return M
