-- Freezing: one hold for everything, until it is thawed or its time is over. Methods of the engine.
local errors, hold_words, time = require "errors", require "journal.words", require "time"

---@class (partial) EngineState
---@field refrozen Signal A freeze began, or ended.
local Freezing = {}

local LOOK <const> = 60 -- seconds between two looks at the clock, which may be set

-- Says to people what holds for everything: the log, and every channel that some environment names.
local function tell(self, title, text)
  self:emit { event = "hold", level = "info", text = title .. (text and ": " .. text or "") }
  self.reporter:announce(self.config, title, text or title)
end

-- What waits everywhere looks whether it may go on.
local function kick(self)
  for _, row in ipairs(self.journal:unfinished()) do
    local app = self.config.apps[row.app]
    if app and app.environments[row.environment] then self:lane(self:place(row.app, row.environment)):kick() end
  end
end

---Holds every environment of every app, those found later, too. A freeze takes the place of the one before.
---@param act {by: string, reason?: string, seconds?: Seconds} seconds: after which it ends by itself.
---@return Hold? freeze
---@return Err? err
---@return_overload nil, Err
function Freezing:freeze(act)
  if act.seconds and act.seconds <= 0 then
    return errors.fail("invalid", "a freeze lasts for some time", { op = "freeze" })
  end
  self.journal:freeze(act.by, act.reason, act.seconds and time.now() + act.seconds)
  local freeze = assert(self.journal:freeze_of())
  self.refrozen:notify()
  tell(self, hold_words.held(freeze), freeze.reason)
  return freeze
end

---Ends the freeze: what waited goes on, but for what is held by itself.
---@param act {by: string, reason?: string}
---@return Hold? freeze That ended.
---@return Err? err conflict: nothing is frozen.
---@return_overload nil, Err
function Freezing:thaw(act)
  local freeze = self.journal:freeze_of()
  if not freeze then return errors.fail("conflict", "nothing is frozen", { op = "thaw" }) end
  self.journal:thaw()
  self.refrozen:notify()
  tell(self, "thawed by " .. act.by, act.reason)
  kick(self)
  return freeze
end

---Ends freezes whose time is over, until the engine drains.
---@async
function Freezing:end_freezes()
  while not self.draining do
    local freeze = self.journal:freeze_of()
    local left = freeze and freeze.till and freeze.till - time.now()
    if left and left <= 0 then
      self.journal:thaw()
      tell(self, "thawed: its time was over", hold_words.hold(freeze --[[@as Hold]]))
      kick(self)
    else
      self.refrozen:wait(left and math.min(left, LOOK) or nil)
    end
  end
end

return Freezing
