-- Lanes: one for each place, working on its runs one at a time, in order.
--
-- A run has the lane's turn from its beginning to its end, except while it only waits: for people, for time, for an
-- image being built, or because the place is held. Then the turn goes to what may pass: a rollback that its
-- policy asked for, then operators' orders. Changes stay in their order behind it. Before its next effect a run that
-- waited takes the turn back; one whose release was taken back, or after which an operator's order was carried out, is
-- superseded instead.
local attempts, errors, task, time = require "engine.attempt", require "errors", require "task", require "time"

local M = {}

local PAUSE <const> = 10 -- seconds after a failure of our own, such as a journal on a full disk

---@class Lane
---@field engine table
---@field place Place
---@field active boolean It has work, or looks for some.
---@field asked boolean It was kicked since it last looked for work.
---@field runs table<integer, Attempt> Under way, by the run's number.
---@field holder? Attempt The one whose turn it is.
---@field unread boolean The journal may have unfinished runs that are not under way.
---@field interrupted table<integer, true> Runs that the journal's failure stopped: the attempt does not count.
---@field paused boolean After a failure of our own.
---@field still boolean It waits for something to happen.
---@field wake Signal For the lane itself, and for runs that want the turn.
---@field news Signal For runs that wait for people or for time: something changed at the place.
local Lane = {}
Lane.__index = Lane

---@param engine table
---@param place Place
---@return Lane
function M.new(engine, place)
  return setmetatable({
    engine = engine, place = place, active = false, asked = false, runs = {}, unread = true, interrupted = {},
    paused = false, still = false, wake = task.signal(), news = task.signal(),
  }, Lane)
end

---Whether it works on something: not when all there is waits for people, or for its time to be tried again.
---@return boolean
function Lane:busy()
  if not self.active or not self.still then return self.active end
  for _, attempt in pairs(self.runs) do
    if not attempt:rests() then return true end
  end
  return false
end

---Wakes the lane and what waits here. It is busy from now on, although its task goes on only later: a run that just
---ended is not taken for the last one.
function Lane:rouse()
  self.still = false
  self.wake:notify()
  self.news:notify()
end

---Makes the lane look for work: something changed at the place.
function Lane:kick()
  self.news:notify()
  self:look()
end

---Makes the lane look for work, because a run waits from now on or wants its turn: no news for those that wait.
function Lane:look()
  self.asked, self.still = true, false
  self.wake:notify()
  if self.active then return end
  self.active = true
  task.start({ name = "lane " .. self.place.app, detached = true }, function()
    local _ <close> = task.defer(function()
      self.active = false
      self.engine.idle:notify()
      if self.asked and not self.engine.draining then self:kick() end -- while it was about to end
    end)
    repeat
      self.asked = false
      while self:turn() do end
    until not self.asked
  end)
end

---Waits until something happens here, or the seconds are over; false when nothing can.
---@private
function Lane:rest(seconds)
  if not next(self.runs) and self.engine.once_only then return false end
  self.still = true
  self.engine.idle:notify()
  self.wake:wait(seconds)
  self.still = false
  return true
end

---Does the next thing. A failure of our own (the journal's disk is full) ends neither the lane nor a run: it goes on
---from the journal when that works again.
---@private
function Lane:turn()
  local ok, more = pcall(self.work, self)
  if ok then return more end
  if not self:broke(more) then return false end
  return true
end

---@private
---@return boolean goes_on
function Lane:broke(err)
  if errors.is(err) and rawget(err, "fenced") then self.engine.lead:lose(err) end
  if self.engine.draining or errors.is(err, "cancelled") then return false end
  self.paused = true
  local where = self.place.app .. " " .. self.place.environment
  self.engine:trouble(("%s stopped, and goes on in %d s"):format(where, PAUSE), err)
  return true
end

-- Whether anything new may begin here.
local function may_begin(self)
  local engine, place = self.engine, self.place
  if engine.draining or engine.stopping or not engine.lead:acting() then return false end
  local app = engine.config.apps[place.app]
  return app ~= nil and app.environments[place.environment] ~= nil -- a reload may have taken it away
end

---Does the next thing; false when there is nothing to do now.
---@private
function Lane:work()
  if self.paused then
    self.paused = false
    return self:rest(PAUSE)
  end
  local begins, row, wait = may_begin(self), nil, nil
  if begins then self:resume() end
  self:overtake()
  if not self.holder or self.holder:idle() then
    if begins then row, wait = self:next_row() end
    if row then
      self:start(row, true)
      return true
    end
    local waiting = self:first_waiting()
    if waiting then
      self:give(waiting)
      return true
    end
  end
  if not next(self.runs) and not wait then return false end
  return self:rest(wait)
end

local function superseded(why) return errors.new("conflict", why, { op = "run" }) end

---Goes on with what was interrupted: first the one whose turn it was. What was overtaken before the host died ends.
---@private
function Lane:resume()
  if not self.unread then return end
  local journal, place = self.engine.journal, self.place
  for id in pairs(self.interrupted) do
    journal:park(id)
    self.interrupted[id] = nil
  end
  for _, row in ipairs(journal:interrupted(place.app, place.environment)) do
    local why = not self.runs[row.id] and journal:passed_over(row)
    if why then
      attempts.finish(self.engine, place, row, "superseded", superseded(why), time.monotonic())
    elseif not self.runs[row.id] then
      self:start(row, self.holder == nil)
    end
  end
  self.unread = false
end

---What begins next, or for how long to wait for it. While others wait, only who may pass.
---@private
function Lane:next_row()
  local journal, app, environment = self.engine.journal, self.place.app, self.place.environment
  if next(self.runs) then return journal:next_passing(app, environment, time.now(), attempts.LONGEST_RETRY) end
  local row = journal:next_run(app, environment, journal:hold_of(app, environment) ~= nil)
  local wait = row and row.not_before and row.not_before - time.now() or 0
  if wait > attempts.LONGEST_RETRY then wait = 0 end -- the clock was set back
  if wait > 0 then return nil, wait end
  return row
end

---Begins an attempt, or goes on with a run.
---@private
---@param row table
---@param turn boolean It gets the turn.
function Lane:start(row, turn)
  local attempt = attempts.new(self, row)
  self.runs[row.id] = attempt
  if turn then self.holder = attempt end
  task.start({ name = "run " .. row.id .. " of " .. row.app, detached = true }, function()
    local _ <close> = task.defer(function()
      self.runs[row.id] = nil
      if self.holder == attempt then self.holder = nil end
      self:rouse()
      self.engine.idle:notify()
    end)
    local ok, err = pcall(attempt.execute, attempt, turn)
    if ok then return end
    self.unread = true
    if attempt.begun and errors.is(err) and tostring(err.op):find("^store%.") then self.interrupted[row.id] = true end
    self:broke(err)
  end)
end

-- Of those that want the turn back: what people and rollback policies asked for first, then the older ones.
local function before(a, b)
  local first, second = a.row.kind ~= "change", b.row.kind ~= "change"
  if first ~= second then return first end
  return a.row.id < b.row.id
end

---@private
function Lane:first_waiting()
  local found
  for _, attempt in pairs(self.runs) do
    if attempt.wanting > 0 and not attempt.verdict and (not found or before(attempt, found)) then found = attempt end
  end
  return found
end

---Gives the turn back to a run that waited.
---@private
function Lane:give(attempt)
  self.engine.journal:take_lane(attempt.row)
  self.holder = attempt
  self:rouse()
end

---Ends what was overtaken while it waited.
---@private
function Lane:overtake()
  for _, attempt in pairs(self.runs) do
    if attempt ~= self.holder and attempt.begun and not attempt.verdict then
      local why = self.engine.journal:passed_over(attempt.row)
      if why then attempt:stop("superseded", superseded(why)) end
    end
  end
end

---Ends a run by an operator's order: one that waits at once, one that is under way when its effect has ended.
---@async
---@param row table The run.
---@param err Err Who said so.
function Lane:cancel(row, err)
  local attempt = self.runs[row.id]
  if attempt then return attempt:stop("cancelled", err) end
  attempts.finish(self.engine, self.place, row, "cancelled", err, time.monotonic())
end

---Ends a run that is under way, because a person's order that waits for the lane takes back what it puts out.
---@param id integer The run.
---@param why string
function Lane:supersede(id, why)
  local attempt = self.runs[id]
  if attempt then attempt:stop("superseded", superseded(why)) end
end

return M
