-- The branches of a run take turns, so that a run goes the same way again after a crash.
--
-- Only the branch that has the turn runs policy code. It gives the turn away where it waits; the next one is
-- either woken by the run itself (a branch that ended, a signal), in the order in which that happened, or by something
-- outside (a step that ended, a deadline that passed), in the order in which the journal recorded it. When the run is
-- gone through again, the recorded order is followed first: `script`. What the journal has no end of is performed only
-- after all of it, so that what was cut short then is cut short again.
--
-- Tasks are set aside anywhere, and a branch that was cancelled unwinds without the turn: what several of them change
-- is changed as a whole.
local errors, record, sys = require "errors", require "journal.record", require "base.sys"
local task, tasks, time = require "task", require "policy.effects.tasks", require "time"

local M = {}

local EARLY <const> = 0.01 -- seconds that the loop's timers, which count milliseconds, may be early

---@class Deadline
---@field path string Of its row.
---@field seconds number
---@field last number By the monotonic clock.
---@field over? Err Set when it has passed: every wait inside raises it.

---@class Branch
---@field prefix string Of its paths.
---@field n integer Steps that it has begun.
---@field deadlines Deadline[] That it is in, the innermost last.
---@field wait? BranchWait
---@field joiners BranchWait[] Who waits for its end.
---@field begun? boolean
---@field ended? boolean
---@field over? Err It was cancelled, whatever the policy makes of that.
---@field rng? table

---@class BranchWait
---@field branch Branch
---@field signal Signal
---@field granted? boolean
---@field dropped? boolean
---@field late? boolean It is granted because a deadline passed.
---@field err? Err

---@class Branches
---@field steps Steps
---@field private holder? Branch Who has the turn.
---@field private all table<Branch, boolean>
---@field private ready BranchWait[] Woken by the run itself.
---@field private told table<string, BranchWait> By the paths whose recorded ends they wait for.
---@field private fresh BranchWait[] About to perform what has no recorded end.
---@field private arrived {wait: BranchWait, late?: boolean}[] Back from outside.
---@field private script? {path: string, name: string, state: string, error?: string}[]
---@field private at integer The next of it.
---@field private seq integer The last recorded end.
---@field made integer Branches so far.
---@field private closing table<Branch, Task> That were cancelled and have not ended.
local Branches = {}
Branches.__index = Branches

---@param steps Steps
---@return Branches
function M.new(steps)
  return setmetatable({
    steps = steps, all = {}, ready = {}, told = {}, fresh = {}, arrived = {}, at = 1, seq = 0, made = 0,
    closing = {},
  }, Branches)
end

---@param prefix string
---@return Branch
function Branches:branch(prefix)
  local branch = { prefix = prefix, n = 0, deadlines = {}, joiners = {} }
  self.all[branch] = true
  return branch
end

---The first branch has the turn from the beginning.
---@param branch Branch
function Branches:begin(branch) self.holder = branch end

-- ---- whose turn it is ----

local function wait_of(branch) return { branch = branch, signal = task.signal() } end

-- The deadline that passes first.
---@param branch Branch
---@return Deadline?
local function nearest(branch)
  local found ---@type Deadline?
  for _, d in ipairs(branch.deadlines) do
    if not found or d.last < found.last then found = d end
  end
  return found
end

---@private
function Branches:replaying() return self.script ~= nil and self.at <= #self.script end

-- The recorded end comes to a branch that does not wait for it: the run goes another way than it went before.
---@private
function Branches:astray(event)
  local waiting
  for branch in next, self.all do waiting = waiting or branch.wait end
  if not waiting then return end -- all of them are being cancelled
  self.steps.over = self.steps.over or errors.new("diverged",
    ("step %s, %s, ended here and is not under way now"):format(event.path, event.name), { op = "recover" })
  for branch in next, self.all do
    if branch.wait and not branch.wait.granted then
      branch.wait.err = self.steps.over
      table.insert(self.ready, branch.wait)
    end
  end
  self.at = #self.script + 1
end

-- The branch that a recorded end belongs to.
---@private
function Branches:follow(event)
  for branch in next, self.all do
    for _, d in ipairs(branch.deadlines) do
      if d.path == event.path and branch.wait then
        d.over = record.failure(event.error)
        branch.wait.err = d.over
        return branch.wait
      end
    end
  end
  local wait = self.told[event.path]
  self.told[event.path] = nil
  return wait
end

---@private
function Branches:next()
  if self.ready[1] then return table.remove(self.ready, 1) end
  if self:replaying() then
    local event = assert(self.script)[self.at]
    local wait = self:follow(event)
    if not wait or wait.dropped or wait.granted then
      self:astray(event)
      return table.remove(self.ready, 1)
    end
    self.at = self.at + 1
    if not self:replaying() then
      -- From here on deadlines count.
      for branch in next, self.all do
        if branch.wait and branch.deadlines[1] then branch.wait.signal:notify() end
      end
    end
    return wait
  end
  if self.fresh[1] then return table.remove(self.fresh, 1) end
  local came = table.remove(self.arrived, 1)
  if came and came.late and not came.wait.granted then came.wait.late = true end
  return came and came.wait
end

-- Makes a method one that others see happen at once.
local function whole(method)
  return function(...) return sys.whole(method, ...) end
end

-- Gives a free turn to the next branch.
---@private
Branches.pass = whole(function(self)
  -- A cancelled branch closes what it has open first: the branch that waits for its end is next.
  while not self.holder and (not next(self.closing) or self.ready[1]) do
    local wait = self:next()
    if not wait then return end
    if not wait.dropped and not wait.granted then
      wait.granted, self.holder = true, wait.branch
      wait.signal:notify()
    end
  end
end)

-- A wait begins: the turn is given away, unless it was granted already.
local begin_wait = whole(function(self, wait)
  wait.branch.wait = wait
  if self.holder == wait.branch and not wait.granted then self.holder = nil end
  self:pass()
end)

local end_wait = whole(function(wait)
  wait.branch.wait = nil
  if not wait.granted then wait.dropped = true end
end)

-- Gives the turn away until the wait is granted. A cancelled branch comes out of it without the turn.
---@async
---@param wait BranchWait
function Branches:rest(wait)
  local branch = wait.branch
  local _ <close> = task.defer(function() end_wait(wait) end)
  begin_wait(self, wait)
  local asked = false
  while not wait.granted do
    local deadline = not asked and not self:replaying() and nearest(branch)
    local left = deadline and deadline.last - time.monotonic()
    if left and left <= 0 then
      asked = true
      table.insert(self.arrived, { wait = wait, late = true })
      self:pass()
    elseif left then
      wait.signal:wait(left)
    else
      wait.signal:wait()
    end
  end
  if wait.err then error(wait.err, 0) end
  if wait.late then self:cut(branch) end
end

-- The nearest deadline has passed: recorded, and raised.
---@private
function Branches:cut(branch)
  local deadline = assert(nearest(branch))
  local err = errors.new("deadline", "not done within " .. time.words(deadline.seconds), { op = "task.deadline" })
  deadline.over = self.steps:cut(deadline.path, err)
  error(deadline.over, 0)
end

---The running task's branch.
---@return Branch
function Branches:here() return self.steps:branch_of(task.current()) end

---Before a step: the branch has the turn, and no deadline around it has passed.
---@async
function Branches:take()
  local branch = self:here()
  if not self.script then self.script, self.seq = self.steps:script() end
  if branch.over then error(branch.over, 0) end
  if self.holder ~= branch then
    local wait = wait_of(branch)
    table.insert(self.arrived, { wait = wait })
    self:rest(wait)
  end
  for _, d in ipairs(branch.deadlines) do
    if d.over then error(d.over, 0) end
  end
end

---Waits until it is this recorded end's turn.
---@async
---@param path string
function Branches:ended(path)
  local wait = wait_of(self:here())
  self.told[path] = wait
  self:rest(wait)
end

---Waits until all that the journal knows has happened again: what comes now is new.
---@async
function Branches:live()
  if not self:replaying() then return end
  local wait = wait_of(self:here())
  table.insert(self.fresh, wait)
  self:rest(wait)
end

---Calls fn(...) outside of the run: others have the turn meanwhile. The caller has it again afterwards, and records
---under the number `stamp()` what it brought.
---@async
---@param fn fun(...): ...
---@param ... any
---@return boolean ok
---@return any ...
function Branches:outside(fn, ...)
  local branch = self:here()
  local deadline = nearest(branch)
  sys.whole(function()
    self.holder = nil
    self:pass()
  end)
  local results
  if deadline then
    results = table.pack(pcall(task.deadline, math.max(deadline.last - time.monotonic(), 0), fn, ...))
  else
    results = table.pack(pcall(fn, ...))
  end
  -- Whether it was cancelled itself, and not only what it called: then this wait is, too.
  if not results[1] and errors.is(results[2], "cancelled") and not pcall(time.sleep, 0) then
    branch.over = results[2] --[[@as Err]]
    error(results[2], 0)
  end
  local wait = wait_of(branch)
  table.insert(self.arrived, { wait = wait })
  -- Coming back is no wait of the policy's: a deadline has nothing to cut there.
  local deadlines = branch.deadlines
  branch.deadlines = {}
  local _ <close> = task.defer(function() branch.deadlines = deadlines end)
  self:rest(wait)
  branch.deadlines = deadlines
  if not results[1] and deadline and errors.is(results[2], "deadline")
    and time.monotonic() >= deadline.last - EARLY then
    self:cut(branch)
  end
  return table.unpack(results, 1, results.n)
end

---The number of the end that is recorded next.
---@return integer
function Branches:stamp()
  self.seq = self.seq + 1
  return self.seq
end

---At the end of the run: all that was recorded has happened again.
---@async
function Branches:finish()
  self:closed()
  if self:replaying() and not self.steps.over then
    local event = assert(self.script)[self.at]
    assert(event)
    self.steps.over = errors.new("diverged",
      ("step %s, %s, ended before and was not asked for now"):format(event.path, event.name), { op = "recover" })
    error(self.steps.over, 0)
  end
end

-- ---- what the run does within itself ----

---Waits until `wake` is called for the list; not when it need not, which is asked in the same moment.
---@async
---@param list BranchWait[]
---@param need_not? fun(): boolean
function Branches:wait_in(list, need_not)
  local wait = wait_of(self:here())
  local waits = sys.whole(function()
    if need_not and need_not() then return false end
    table.insert(list, wait)
    return true
  end)
  if waits then self:rest(wait) end
end

---@private
Branches.wake = whole(function(self, list)
  for _, wait in ipairs(list) do table.insert(self.ready, wait) end
  for i = #list, 1, -1 do list[i] = nil end
end)

-- The branch runs no more.
---@private
Branches.leave = whole(function(self, branch)
  if branch.ended then return end
  branch.ended = true
  self.closing[branch], self.all[branch] = nil, nil
  self:wake(branch.joiners)
  if self.holder == branch then self.holder = nil end
  self:pass()
end)

---Starts fn(...) as a branch; it runs when this one waits.
---@param branch Branch
---@param of_task table<integer, Branch> Where it is found while it runs.
---@param fn fun(...): ...
---@return Task task
function Branches:start(branch, of_task, fn, ...)
  local wait = wait_of(branch)
  branch.wait = wait
  table.insert(self.ready, wait)
  self.made = self.made + 1
  local started = task.spawn(function(...)
    local id = task.current()
    branch.begun, of_task[id] = true, branch
    local _ <close> = task.defer(function() self:leave(branch) end)
    local results = table.pack(pcall(function(...)
      self:rest(wait)
      return fn(...)
    end, ...))
    -- Here and not only in the deferred call: a closer at a task's very end has little time.
    of_task[id] = nil
    self:leave(branch)
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end, ...)
  tasks.look_after(self.steps, branch, started)
  return started
end

---Ends a branch; it never runs when it has not begun.
---@type fun(self: Branches, branch: Branch, started: Task)
Branches.cancel = whole(function(self, branch, started)
  if branch.ended or self.closing[branch] then return end
  started:cancel()
  if branch.begun then
    self.closing[branch] = started
    return
  end
  if branch.wait then branch.wait.dropped = true end
  self:leave(branch)
end)

-- What cancelled branches have open is closed before this one goes on.
---@private
---@async
function Branches:closed()
  local branch, started = next(self.closing)
  while branch do
    tasks.joined(self.steps, branch, started --[[@as Task]])
    branch, started = next(self.closing)
  end
end

---Runs functions side by side; the first failure ends the others and is raised.
---@async
---@param fns (fun(): any)[]
---@param spawn fun(fn: fun()): Branch, Task Starts one as a branch of the run.
---@return any[] results
function Branches:side_by_side(fns, spawn)
  local results, children, waiting, failure, left = {}, {}, {}, nil, 0
  for i, fn in ipairs(fns) do
    left = left + 1
    local branch, started = spawn(function()
      local ok, value = pcall(fn)
      left = left - 1
      if ok then results[i] = value elseif failure == nil then failure = { value } end
      if left == 0 or failure then self:wake(waiting) end
    end)
    children[i] = { branch = branch, task = started }
  end
  local ok, err = true, nil
  if left > 0 then ok, err = pcall(self.wait_in, self, waiting) end
  for _, child in ipairs(children) do self:cancel(child.branch, child.task) end
  self:closed()
  if not ok then error(err, 0) end
  if failure then error(failure[1], 0) end
  return results
end

---@class RunSignal
---@field waiting BranchWait[]
---@field kept boolean

---@return RunSignal
function M.signal() return { waiting = {}, kept = false } end

---@param signal RunSignal
function Branches:notify(signal)
  sys.whole(function()
    local waiting
    for _, wait in ipairs(signal.waiting) do waiting = waiting or not (wait.granted or wait.dropped) end
    signal.kept = not waiting
    self:wake(signal.waiting)
  end)
end

---@async
---@param signal RunSignal
---@param seconds? number
---@param pause fun(seconds: number, list: BranchWait[], need_not: fun(): boolean): boolean
---@return boolean notified
function Branches:wait_for(signal, seconds, pause)
  local function kept()
    local was = signal.kept
    signal.kept = false
    return was
  end
  if seconds ~= nil then return pause(seconds, signal.waiting, kept) end
  self:take()
  self:wait_in(signal.waiting, kept)
  return true
end

---Waits in a list, at most until a moment.
---@async
---@param path string Of the row that tells when it passed.
---@param list BranchWait[]
---@param seconds number How long that is.
---@param last? number By the monotonic clock; math.huge: when the journal says so; nil: another branch was faster then.
---@param need_not fun(): boolean Whether what is waited for is there already.
---@return boolean in_time
function Branches:pause(path, list, seconds, last, need_not)
  if not last then
    self:wait_in(list, need_not)
    return true
  end
  local branch = self:here()
  local timer <close> = self:within(branch, { path = path, seconds = seconds, last = last })
  local ok, err = pcall(self.wait_in, self, list, need_not)
  if not ok and not timer.over then error(err, 0) end
  return ok
end

---Puts a deadline around what follows, until the returned guard is closed.
---@param branch Branch
---@param deadline Deadline
---@return Deadline guard
function Branches.within(_, branch, deadline)
  table.insert(branch.deadlines, deadline)
  return setmetatable(deadline, { __close = function()
    for i = #branch.deadlines, 1, -1 do
      if branch.deadlines[i] == deadline then table.remove(branch.deadlines, i) end
    end
  end })
end

return M
