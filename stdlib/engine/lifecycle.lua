-- The life of the engine: recover interrupted runs, poll and run until told to stop, park what is under way.
local errors, fs, log, poller, sys = require "errors", require "fs", require "log", require "engine.poller",
  require "base.sys"
local task, time = require "task", require "time"
local forge, discovery = require "engine.forge", require "engine.discovery"
local view = require "journal.view"

---@class (partial) EngineState
local Lifecycle = {}

local OUTAGES_EVERY <const> = 15 -- seconds between two checks of outages to notify
local SETTLED <const> = 10 -- seconds after which a start and its first polls are over

---Lanes with unfinished runs begin: those that were interrupted go on before anything is polled. Several runs
---may have been under way when the host crashed twice, and only one of them can be the reason: such suspects go on
---one after the other, so that the innocent ones finish.
---@async
function Lifecycle:recover()
  local suspects = {}
  for _, row in ipairs(self.journal:unfinished()) do
    local app = self.config.apps[row.app]
    if app and app.environments[row.environment] then
      local l = self:lane(self:place(row.app, row.environment))
      if row.attempts >= 2 then suspects[#suspects + 1] = l else l:kick() end
    end
  end
  for i, l in ipairs(suspects) do
    l:kick()
    while i < #suspects and l:busy() and not self.draining do self.idle:wait(0.2) end
  end
end

local function busy(self)
  for _, l in pairs(self.lanes) do
    if l:busy() then return true end
  end
  return false
end

-- Whether any run has not been parked yet, those that wait for people included.
local function under_way(self)
  for _, l in pairs(self.lanes) do
    if next(l.runs) then return true end
  end
  return false
end

-- Forgets what retention allows, now and each hour.
local function housekeeping(self)
  while true do
    local ok, err = pcall(function()
      self:tidy()
      for _, id in ipairs(self.journal:forget(self.config.retention)) do
        if self.lock then fs.remove(require("engine.runlog").path(self.state, id)) end
      end
    end)
    if not ok and errors.is(err, "cancelled") then return end
    if not ok then self:trouble("what is old could not be forgotten", err) end
    time.sleep(3600)
  end
end

-- When the first polls are over, what they and the start needed is given back.
local function settle()
  time.sleep(SETTLED)
  sys.settle()
end

local function remove_images(self) self.images:run() end

-- Notifies of outages until the engine drains.
local function tell_outages(self)
  while not self.draining do
    local ok, err = pcall(self.outages.tell, self.outages)
    if not ok and errors.is(err, "cancelled") then error(err, 0) end
    if not ok then log.warn("telling of outages failed", { error = tostring(err) }) end
    self.ended:wait(OUTAGES_EVERY)
  end
end

local function cancel_lanes(self)
  self.stopping = true
  for _, l in pairs(self.lanes) do
    for _, attempt in pairs(l.runs) do
      attempt.cancelled = true -- whatever its policy makes of it
      if attempt.task then attempt.task:cancel() end
    end
  end
  local limit = time.monotonic() + 5
  while under_way(self) and time.monotonic() < limit do self.idle:wait(0.1) end
end

-- Waits until nothing is under way; once the engine drains, for its grace at most.
local function until_idle(self)
  local draining_since
  while busy(self) and not self.lead.lost do
    draining_since = draining_since or self.draining and time.monotonic()
    local left = draining_since and draining_since + self.grace - time.monotonic() -- the grace may become less
    if left and left <= 0 then return end
    self.idle:wait(left and math.max(0.01, left) or 1)
  end
end

---Polls and runs until stop is called, or this host must not act any more.
---@async
---@return true? ok
---@return Err? err Why it must not: see abandon.
---@return_overload nil, Err
function Lifecycle:run()
  local tasks <close> = setmetatable({}, { __close = function(list)
    for _, t in ipairs(list) do t:cancel() end
  end })
  for i, work in ipairs {
    self.recover, housekeeping, remove_images, forge.follow, discovery.run, tell_outages, poller.run, settle,
    self.end_freezes,
  } do
    tasks[i] = task.spawn(work, self)
  end
  self.ready = true
  self:tell_last_end()
  self:emit {
    event = "host", level = "info",
    text = ("watching %d app%s, state in %s"):format(#self.config.app_list, #self.config.app_list == 1 and "" or "s",
      self.state),
  }
  while not self.draining do self.ended:wait() end
  until_idle(self)
  if self.lead.lost then
    for _, t in ipairs(tasks) do t:cancel() end
    self.reporter:cancel()
  end
  cancel_lanes(self)
  self.unfinished = under_way(self)
  if not self.lead.lost then self.reporter:wait(5) end
  self:close()
  if self.lead.lost then return nil, self.lead.lost end
  return true
end

---Finishes or parks what is under way, within `grace` seconds; run() then returns.
---@async
---@param grace Seconds
function Lifecycle:stop(grace)
  self.grace, self.draining = math.min(grace, self.grace or grace), true
  if grace == 0 then self.stopping = true end
  self.wake:notify()
  self.ended:notify()
  self.idle:notify()
  self.refrozen:notify()
  for _, l in pairs(self.lanes) do l:rouse() end
end

---Polls every app once, and finishes the runs that this starts or finds unfinished.
---@async
---@return {ok: boolean, runs: RunInfo[]}? result
---@return Err? err
---@return_overload nil, Err
function Lifecycle:once()
  self.once_only, self.health_checks.in_place, self.ready = true, true, true
  self:tell_last_end()
  local first = self.journal:newest_run()
  local unfinished = {}
  for _, row in ipairs(self.journal:open_runs()) do
    unfinished[row.id] = true
  end
  local ok = discovery.once(self)
  self:recover()
  local polls = {}
  for i, app in ipairs(self.config.app_list) do
    polls[i] = task.spawn(function()
      local done, runs, fine = pcall(poller.poll, self, app)
      if not done then self:trouble("polling " .. app.name .. " failed", runs) end
      return done and fine
    end)
    if #polls % 16 == 0 then polls[i - 15]:join() end
  end
  for _, p in ipairs(polls) do ok = p:join() and ok end
  until_idle(self)
  cancel_lanes(self)
  self.reporter:wait(30)
  self.images:once()
  local runs = {}
  for _, row in ipairs(self.journal:all_runs()) do
    if row.id > first or unfinished[row.id] then
      local info = view.run_info(self.journal, assert(self.journal:run_by_id(row.id)))
      runs[#runs + 1] = info
      if info.state ~= "done" and info.state ~= "superseded" and info.state ~= "waiting" then ok = false end
    end
  end
  self:close()
  return { ok = ok, runs = runs }
end

return Lifecycle
