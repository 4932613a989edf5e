-- Rate limits and backoff towards a server, shared by all its callers in this host.
--
-- One budget per key (an origin, a token). A caller enters before a request and leaves after it. Three things
-- hold callers back: the number of requests under way, a time that the server asked for (Retry-After, rate
-- limits), and a pause after failures in a row, so that a dead server costs little and is not met by a crowd
-- when it returns. A pause is never longer than the caller's own interval: what heals is seen within two
-- polls. It holds back everybody only when the server cannot be reached at all; otherwise just those who ask for
-- the same thing (a repository), so that a broken one costs its neighbours nothing.

local errors = require "errors"
local task = require "task"
local time = require "time"

local M = {}

---Failures in a row before a pause begins.
local TOLERATED = 3
---A server may ask for silence between these (seconds).
local MIN_HOLD, MAX_HOLD = 1, 3600

---@class Budget
---@field key string
---@field private limit integer
---@field private under_way integer
---@field private waiting table[]
---@field private held_until number monotonic
---@field private held_by? Err the failure behind a pause
---@field private failures integer
---@field private parts table<string, {failures: integer, held_until: number, held_by?: Err}> things that fail
local Budget = {}
Budget.__index = Budget

local budgets = {}

---Returns the budget of a key, the same one for all who ask.
---@param key string
---@param limit? integer requests at once, 8 by default; counts when the budget is made
---@return Budget
function M.of(key, limit)
  local budget = budgets[key]
  if not budget then
    budget = setmetatable({
      key = key, limit = limit or 8, under_way = 0, waiting = {}, held_until = 0, failures = 0, parts = {},
    }, Budget)
    budgets[key] = budget
  end
  return budget
end

---Makes a budget of its own, for tests and for one-off servers.
---@param key string
---@param limit? integer
---@return Budget
---@nodiscard
function M.new(key, limit)
  local kept = budgets[key]
  budgets[key] = nil
  local budget = M.of(key, limit)
  budgets[key] = kept
  return budget
end

---@class BudgetSlot
---@field private budget? Budget
local Slot = {}
Slot.__index = Slot

local function release(budget)
  budget.under_way = budget.under_way - 1
  -- A waiter that was cancelled meanwhile left the queue by its own closer.
  local first = table.remove(budget.waiting, 1)
  if first then
    budget.under_way = budget.under_way + 1
    first.granted = true
    first.signal:notify()
  end
end

---Gives the place back.
function Slot:close()
  if self.budget then
    release(self.budget)
    self.budget = nil
  end
end
Slot.__close = Slot.close

-- Leaves the queue, or gives back a slot that was granted to a waiter that ended by cancellation.
local waiter_meta = {
  __close = function(waiter)
    if waiter.taken then return end
    if waiter.granted then return release(waiter.budget) end
    for i, other in ipairs(waiter.budget.waiting) do
      if other == waiter then
        table.remove(waiter.budget.waiting, i)
        return
      end
    end
  end,
}

local function held(budget, part)
  local by = part and budget.parts[part]
  if not by or by.held_until < budget.held_until then by = budget end
  local left = by.held_until - time.monotonic()
  if left <= 0 then return nil end
  local cause = by.held_by
  local code = cause and cause.code or "rate_limited"
  local message = cause and ("not asked again for %.0f s: %s"):format(math.ceil(left), cause.message)
    or ("the server asked for %.0f s more of silence"):format(math.ceil(left))
  local err = errors.new(code, message, { op = "budget", target = budget.key, cause = cause })
  err.retry_after = left
  return err
end

---Waits for a free place. Refuses at once while the server is held.
---
---     local slot <close>, err = budget:enter()
---     if not slot then return nil, err end
---@async
---@param timeout? Seconds longest wait in the queue, 30 by default
---@param part? string what is asked for, where a server has several things that may fail by themselves
---@return table? slot closable
---@return Err? err carries retry_after (seconds) while held; code "busy" when the queue is too slow
---@nodiscard
function Budget:enter(timeout, part)
  local err = held(self, part)
  if err then return nil, err end
  if self.under_way < self.limit then
    self.under_way = self.under_way + 1
    return setmetatable({ budget = self }, Slot)
  end
  local waiter <close> = setmetatable({ budget = self, signal = task.signal() }, waiter_meta)
  table.insert(self.waiting, waiter)
  local deadline = time.monotonic() + (timeout or 30)
  while not waiter.granted do
    local left = deadline - time.monotonic()
    if left <= 0 then
      return errors.fail("busy", "too many requests wait for this server",
        { op = "budget", target = self.key })
    end
    waiter.signal:wait(left)
  end
  err = held(self, part)
  if err then return nil, err end
  waiter.taken = true
  return setmetatable({ budget = self }, Slot)
end

---Notes that the server answered.
---@param part? string what it answered for
function Budget:succeeded(part)
  self.failures = 0
  if part then self.parts[part] = nil end
end

-- What says that the server cannot be reached, whatever is asked of it.
local UNREACHED <const> = { refused = true, unreachable = true, dns = true, tls = true }

---Notes that the server could not be reached or failed; after some in a row it is left alone for a while.
---@param err Err
---@param most Seconds longest pause, the caller's interval
---@param part? string what failed
function Budget:failed(err, most, part)
  local by = self
  if part and not UNREACHED[err.code] then
    by = self.parts[part] or { failures = 0, held_until = 0 }
    self.parts[part] = by
  end
  by.failures = by.failures + 1
  if by.failures <= TOLERATED then return end
  local pause = math.min(most, 2.0 ^ math.min(by.failures - TOLERATED, 12)) * (0.5 + math.random() / 2)
  local till = time.monotonic() + pause
  if till > by.held_until then by.held_until, by.held_by = till, err end
end

---@return number
local function clamped(seconds) return math.max(MIN_HOLD, math.min(MAX_HOLD, seconds)) --[[@as number]] end

---Holds everybody back because the server asked for it. Jitter is added, so that not all return at once.
---@param seconds Seconds clamped to 1 s .. 1 h
---@return Seconds held for how long
function Budget:hold(seconds)
  if seconds ~= seconds then seconds = MIN_HOLD end
  seconds = clamped(seconds) * (1 + math.random() / 10)
  local till = time.monotonic() + seconds
  if till > self.held_until then self.held_until, self.held_by = till, nil end
  return seconds
end

---Seconds until the next caller may enter; 0: now.
---@return Seconds
function Budget:held()
  return math.max(0, self.held_until - time.monotonic())
end

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10,
  Nov = 11, Dec = 12 }

---Seconds since 1970 of an HTTP date, in any of its three forms (RFC 9110, 5.6.7).
---@param value string
---@return number? seconds
local function http_date(value)
  local day, name, year, hour, minute, second =
    value:match "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  if not day then
    day, name, year, hour, minute, second = value:match "^%a+, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$"
    year = year and (tonumber(year) < 70 and "20" or "19") .. year
  end
  if not day then
    name, day, hour, minute, second, year =
      value:match "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$"
  end
  local m = MONTHS[name]
  if not m then return nil end
  local function number(digits) return assert(math.tointeger(tonumber(digits))) end
  local y = number(year)
  if m <= 2 then y, m = y - 1, m + 12 end
  local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * (m - 3) + 2) // 5 + number(day) - 719469
  return days * 86400 + number(hour) * 3600 + number(minute) * 60 + number(second)
end

---Reads a Retry-After value: seconds or an HTTP date.
---@param value? string
---@param now? Wall against which a date counts; the server's own Date is best
---@return Seconds? seconds clamped to 1 s .. 1 h; nil when there is none
function M.retry_after(value, now)
  if type(value) ~= "string" then return nil end
  local digits = value:match "^%s*(%d+)%s*$"
  if digits then return clamped(#digits > 9 and MAX_HOLD or tonumber(digits) --[[@as integer]]) end
  local at = http_date(value)
  return at and clamped(at - (now or time.now()))
end

M.http_date = http_date

return M
