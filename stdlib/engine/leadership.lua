-- Whether this host may act, and in which generation: asked before each intent and before each effect. The generation
-- is the journal's; with several hosts only the one that holds the Lease may raise it.
local errors = require "errors"

---@class Leadership
---@field host string Who this host is, for people and for annotations.
---@field lost? Err Why it must not act any more: another host does.
---@field private journal Journal
---@field private fence? fun(): boolean Whether this host may act now, when that may end.
---@field private outrank? fun(generation: integer): integer? Raises the Lease's generation to at least that.
---@field private on_lost fun(err: Err)
local Leadership = {}
Leadership.__index = Leadership

local M = {}

---@param parts {host: string, journal: Journal, fence?: function, outrank?: function, on_lost: fun(err: Err)}
---@return Leadership
function M.new(parts) return setmetatable(parts, Leadership) --[[@as Leadership]] end

---Whether this host may act now. When it may not any more, everything stops.
---@return boolean
function Leadership:acting()
  if not self.lost and self.fence and not self.fence() then
    self:lose(errors.new("conflict", "this host's time to act is over", { op = "leader" }))
  end
  return not self.lost
end

---Makes this host's generation at least `least`: something outside bears the one before it.
---@async
---@param least integer
---@return boolean risen
function Leadership:rise(least)
  if least <= self.journal.generation then return true end
  if self.outrank then
    local given = self.outrank(least)
    if not given or given < least then return false end
    least = given
  end
  self.journal:take_turn(self.host, least)
  return true
end

---Rises above the generation that another host wrote; only with several hosts.
---@async
---@param theirs integer
---@return boolean risen
function Leadership:rise_above(theirs) return self.outrank ~= nil and self:rise(theirs + 1) end

---Another host acts from now on, or soon: this one does not any more.
---@param err Err
function Leadership:lose(err)
  if self.lost then return end
  self.lost = err
  self.on_lost(err)
end

return M
