-- The election: who of several hosts acts, by the rules of client-go's leader election, over any store that keeps one
-- record and changes it only when it is still the one that was read.
--
-- No wall clock counts. A candidate notes by its own monotonic clock when it first saw the record as it is; only
-- when that is longer ago than the record's duration may it take over. The holder counts from before it asked for the
-- renewal that worked, so that it gives up before anybody else may begin, as long as clocks run at the same rate.
local errors, task, time = require "errors", require "task", require "time"

local M = {}

---@class LeaseRecord
---@field holder? string nil: nobody.
---@field duration? Seconds How long it holds after a renewal.
---@field acquired? string When the holder began, by its own clock: for people.
---@field renewed? string
---@field transitions integer How often the holder changed.
---@field version? any The store's own: what makes an update conditional.
---@field object? any The store's own.

---@class LeaseStore
---@field namespace? string
---@field name? string
---@field get fun(self: LeaseStore): LeaseRecord?, Err? not_found: there is none.
---@field create fun(self: LeaseStore, record: LeaseRecord): LeaseRecord?, Err? exists, conflict: another was faster.
---@field update fun(self: LeaseStore, record: LeaseRecord): LeaseRecord?, Err? conflict: it is another one by now.

---@class ElectionOptions
---@field store LeaseStore
---@field identity string Different in every process.
---@field duration Seconds
---@field renew Seconds Within which a renewal must work.
---@field retry Seconds
---@field clock? fun(): number Monotonic.
---@field wall? fun(): number
---@field random? fun(): number
---@field on_change? fun(holder: string?, record: LeaseRecord) The holder changed.

---@class Election
---@field identity string
---@field store LeaseStore
---@field duration Seconds
---@field renew Seconds
---@field retry Seconds
---@field clock fun(): number
---@field wall fun(): number
---@field random fun(): number
---@field on_change fun(holder: string?, record: LeaseRecord)
---@field leading boolean
---@field generation? integer While leading: rises with every holder.
---@field observed? LeaseRecord As it was seen last.
---@field observed_at number Monotonic: when it was first seen so; set with `observed`.
---@field renewed_at number Monotonic: before the renewal that worked was asked for; set before it leads.
---@field problem? Err What the last attempt failed with, until one works.
---@field wake Signal Ends a wait early.
---@field private turn Signal
---@field private trying boolean
---@field private missing_at? number
---@field private floor integer The most transitions that we know of.
local Election = {}
Election.__index = Election

local JITTER <const> = 1.2 -- a retry comes after retry to retry * JITTER
local LONGEST <const> = 3600 -- seconds: a record that claims more does not block everybody for good
local MOST_TRANSITIONS <const> = 2 ^ 31 - 2 | 0 -- the field has 32 bits

---@param options ElectionOptions
---@return Election
function M.new(options)
  if not (options.duration > options.renew and options.renew > options.retry * JITTER) then
    error("an election needs duration > renew > retry * 1.2", 2)
  end
  return setmetatable({
    store = options.store, identity = options.identity, duration = options.duration, renew = options.renew,
    retry = options.retry, clock = options.clock or time.monotonic, wall = options.wall or time.now,
    random = options.random or math.random, on_change = options.on_change or function() end, leading = false,
    floor = 0, wake = task.signal(),
  }, Election)
end

-- Asks the store, no longer than the seconds; the store may have done it all the same.
local function ask(self, limit, word, record)
  local ok, answer, err = pcall(task.deadline, limit, function() return self.store[word](self.store, record) end)
  if ok then return answer, err end
  if errors.is(answer, "deadline") then
    return errors.fail("timeout", ("no answer within %s"):format(time.words(limit)), { op = "lease." .. word })
  end
  if errors.is(answer) and answer.code ~= "cancelled" then return nil, answer end
  error(answer, 0)
end

local function same(a, b)
  return a ~= nil and a.holder == b.holder and a.duration == b.duration and a.acquired == b.acquired
    and a.renewed == b.renewed and a.transitions == b.transitions
end

local function observe(self, record)
  local before = self.observed
  if record.duration ~= record.duration then record.duration = nil end -- not a number: it would never be the same
  if not same(before, record) then self.observed_at = self.clock() end
  self.observed, self.missing_at = record, nil
  self.floor = math.max(self.floor, record.transitions)
  if not before or before.holder ~= record.holder then self.on_change(record.holder, record) end
end

-- How long the record that was seen holds after a renewal; those of others are untrusted.
local function duration_of(self, record)
  local told = record.duration
  if type(told) ~= "number" or told ~= told or told <= 0 then return self.duration end
  return math.min(told, math.max(LONGEST, self.duration))
end

local function failed(self, err)
  self.problem = err
  return false, err
end

local function too_late(self)
  return failed(self, errors.new("timeout", ("the lease could not be renewed within %s"):format(time.words(self.renew)),
    { op = "lease.renew", target = self.identity, cause = self.problem }))
end

local function won(self, record, asked_at)
  observe(self, record)
  if self.clock() >= asked_at + self.renew then -- the answer took so long that others may be about to begin
    self.leading = false
    return too_late(self)
  end
  self.leading, self.renewed_at, self.problem = true, asked_at, nil
  self.generation = record.transitions + 1
  return true
end

---A time as the API writes it.
---@param seconds number
---@return string
function M.micro_time(seconds)
  local whole = math.floor(seconds)
  return ("%s.%06dZ"):format(time.iso(whole):sub(1, 19), (seconds - whole) * 1000000 // 1 | 0)
end

-- The record as it should be after `before`. A new holder counts one transition; ours keeps its beginning.
local function wanted(self, before)
  local wall = self.wall()
  local now = M.micro_time(wall)
  -- The others see a renewal by its being different, also when our wall clock stands still.
  if before and before.renewed == now then now = M.micro_time(wall + 0.000002) end
  local transitions = self.floor
  if before and not self.leading then transitions = transitions + 1 end
  return {
    holder = self.identity, duration = self.duration, renewed = now,
    acquired = self.leading and self.observed.acquired or now, transitions = math.min(MOST_TRANSITIONS, transitions),
    version = before and before.version, object = before and before.object,
  }
end

-- Whether the holder that was seen last may still act.
local function taken(self)
  local record = self.observed
  return record ~= nil and record.holder ~= nil and record.holder ~= self.identity
    and self.observed_at + duration_of(self, record) > self.clock()
end

---Seconds that a call may take now: half of what a renewal has, and never longer than we may go on acting.
---@private
function Election:patience()
  local most = self.renew / 2
  if not self.leading then return most end
  return math.max(0.001, math.min(most, self.renewed_at + self.renew - self.clock()))
end

-- There is no record: the first host ever, or it was removed. Then its holder may still count on it, and
-- makes it again at its next renewal; the others wait as if it had been renewed when it was found missing. What was
-- counted goes on, so that a generation never comes twice.
local function create(self, asked_at)
  local last = self.observed
  if not self.leading and last then
    self.missing_at = self.missing_at or self.clock()
    if self.missing_at + math.max(duration_of(self, last), self.duration) > self.clock() then return false end
  end
  local record = wanted(self, self.observed)
  record.version, record.object = nil, nil
  local made, err = ask(self, self:patience(), "create", record)
  if made then return won(self, made, asked_at) end
  if errors.is(err, "exists") or errors.is(err, "conflict") then return false end -- another one was faster
  return failed(self, err)
end

-- As the holder. Straight from the record of our last renewal; when that fails, from a fresh one.
local function renew(self)
  local asked_at, last = self.clock(), self.renewed_at + self.renew
  local kept, err = ask(self, self:patience(), "update", wanted(self, self.observed))
  if not kept and self.clock() < last then
    local record
    asked_at = self.clock()
    record, err = ask(self, self:patience(), "get")
    if record and record.holder ~= self.identity then -- whatever our clock says
      observe(self, record)
      self.leading = false
      return failed(self, errors.new("conflict", ("%s holds the lease now"):format(record.holder or "nobody"),
        { op = "lease.renew", target = self.identity }))
    end
    if record then
      kept, err = ask(self, self:patience(), "update", wanted(self, record))
    elseif errors.is(err, "not_found") then
      local made = create(self, asked_at)
      if made and self.clock() < last then return true end
    end
  end
  self.problem = err or self.problem
  if self.clock() >= last then -- also when it worked at last: the fence may have been checked meanwhile
    self.leading = false
    return too_late(self)
  end
  if kept then return won(self, kept, asked_at) end
  return failed(self, err)
end

-- As a candidate.
local function stand(self)
  local asked_at = self.clock()
  local record, err = ask(self, self:patience(), "get")
  if not record then
    if errors.is(err, "not_found") then return create(self, asked_at) end
    return failed(self, err)
  end
  observe(self, record)
  self.problem = nil
  if taken(self) then return false end
  local updated
  updated, err = ask(self, self:patience(), "update", wanted(self, record))
  if updated then return won(self, updated, asked_at) end
  if errors.is(err, "conflict") then return false end -- another candidate was faster
  return failed(self, err)
end

---One attempt to get or to keep the lease, without waiting for anything but the store.
---@async
---@return boolean leading
---@return Err? err Why the attempt failed; a candidate that only has to wait gets none.
function Election:try()
  local _ <close> = task.lock(self, "try")
  if self.leading then return renew(self) end
  return stand(self)
end

---Whether this host may act now. False from the renew deadline on, whatever else has been noticed.
---@return boolean
function Election:acting()
  return self.leading and self.clock() < self.renewed_at + self.renew
end

---Seconds until another host may begin; 0 when that may be now.
---@return number
function Election:left()
  if not self.renewed_at then return 0 end
  return math.max(0, self.renewed_at + self.duration - self.clock())
end

---Who holds the lease, as far as we know: nil when it is free, or its time has passed.
---@return string? holder
function Election:holder()
  if self.leading then return self.identity end
  return taken(self) and assert(self.observed).holder or nil
end

---Seconds until the next attempt of a candidate: the retry, or sooner when what it saw runs out.
---@return number
function Election:pause()
  local pause = self.retry * (1 + self.random() * (JITTER - 1))
  if taken(self) then
    local left = self.observed_at + duration_of(self, self.observed) - self.clock()
    if left < pause then pause = left + self.random() * 0.05 end
  end
  return pause
end

---Waits until this host leads, or `stopped` says so.
---@async
---@param stopped fun(): boolean
---@return boolean leading
function Election:acquire(stopped)
  while not stopped() do
    if self:try() then return true end
    if stopped() then break end
    self.wake:wait(self:pause())
  end
  return false
end

---Keeps the lease; returns when it is lost.
---@async
---@param renewed? fun() After each renewal.
---@return Err err Why.
function Election:keep(renewed)
  while true do
    if renewed then renewed() end
    local next_at = self.clock() + self.retry
    repeat
      local until_next = math.min(next_at, self.renewed_at + self.renew) - self.clock()
      if until_next > 0 then self.wake:wait(until_next) end
    until self.clock() >= next_at or not self:acting()
    local _, err
    if self:acting() then _, err = self:try() end
    if not self:acting() then
      self.leading = false
      if err then return err end
      local _, late = too_late(self)
      return late
    end
  end
end

---Makes our generation at least this one, when we do hold the lease: another host may have written a higher one
---than the lease knows, such as after the lease was removed.
---@async
---@param generation integer
---@return boolean raised false: the lease is not ours any more, or could not be written.
function Election:raise(generation)
  if not self.leading then return false end
  self.floor = math.max(self.floor, math.min(generation - 1, MOST_TRANSITIONS))
  self:try()
  return self.leading and self:acting() and self.generation >= generation
end

---Gives the lease back, so that another host need not wait for it to run out.
---@async
---@param limit Seconds
---@return boolean released
function Election:release(limit)
  if not self.leading then return false end
  self.leading = false
  local now, last = M.micro_time(self.wall()), assert(self.observed)
  local record = {
    duration = 1, acquired = now, renewed = now, transitions = last.transitions, version = last.version,
    object = last.object,
  }
  local updated, err = ask(self, limit, "update", record)
  if not updated and errors.is(err, "conflict") then -- the answer of our own last renewal may have been lost
    local found = ask(self, limit, "get")
    if not found or found.holder ~= self.identity then return false end
    record.version, record.object, record.transitions = found.version, found.object, found.transitions
    updated = ask(self, limit, "update", record)
  end
  if updated then observe(self, updated) end
  return updated ~= nil
end

return M
