-- Whether this host may act, and in which generation: what the engine asks before each effect, and what ends it when
-- another host acts. Methods of the engine.
local errors = require "errors"

---@class (partial) EngineState
local Lead = {}

---Whether this host may act now: asked before each effect. When it may not any more, everything stops.
---@return boolean
function Lead:acting()
  if not self.lost and self.fence and not self.fence() then
    self:abandon(errors.new("conflict", "this host's time to act is over", { op = "leader" }))
  end
  return not self.lost
end

---Makes this host's generation at least `least`: something outside bears the one before it. With several hosts only
---the one that holds the Lease may.
---@async
---@param least integer
---@return boolean risen
function Lead:rise(least)
  if least <= self.generation then return true end
  if self.outrank then
    local given = self.outrank(least)
    if not given or given < least then return false end
    least = given
  end
  self.generation = self.journal:take_turn(self.host, least)
  return true
end

---Another host acts from now on, or soon: no further effect begins, what runs is parked, children end; run() returns
---the reason.
---@param err Err
function Lead:abandon(err)
  if self.lost then return end
  self.lost = err
  self:emit { event = "host", level = "error", text = "stops acting: " .. tostring(err) }
  self:stop(0)
end

return Lead
