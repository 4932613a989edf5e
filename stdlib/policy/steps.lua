-- Steps: the journaled effects of one run.
--
-- A step is known by its path in the run (its number, within its parallel branch), its name and its arguments. When
-- the journal has it finished, it answers from there; when it has only the intent, the effect is performed again;
-- when what the run asks now is not what it asked then, the run has diverged and goes no further.
--
-- A word that performs another step, a further one, or the same under another name or with other arguments would
-- strand the runs that are under way. So each run keeps the edition of the words that it began with, and such a word
-- asks: `if steps:since(2) then NEW else OLD end`. What is not released yet belongs to EDITION; it rises with the
-- first such change after a release. tests/fixture/editions has a journal of each released edition.
local branches, context, errors = require "policy.branches", require "policy.context", require "errors"
local hash, json, log = require "hash", require "json", require "log"
local policy, record, schema = require "policy.load", require "journal.record", require "base.schema"
local sys, task, time = require "base.sys", require "task", require "time"

---@class Steps
---@field journal Journal
---@field run integer
---@field edition integer Of the words, when the run began.
---@field emit fun(entry: table) What the run's log and the terminal see.
---@field stopping fun(): boolean
---@field acting fun(): boolean Whether this host may cause effects now.
---@field count integer Steps finished so far.
---@field moved number When a step last began or ended, by the monotonic clock.
---@field sleeping integer Branches that sleep now.
---@field waiting integer Branches that only wait: for people, time, a build.
---@field busy integer Branches with an effect under way.
---@field superseded? boolean A newer change took its place while it waited.
---@field turn? Attempt Whom to ask for the lane's turn.
---@field over? Err Why the run goes no further; sticky: pcall in a policy does not get past it.
---@field broken? Err The journal could not be read or written: nothing was decided, the run goes on later.
---@field private forked? boolean It has had more than one branch.
---@field branches table<integer, Branch>
---@field turns Branches nil in the first edition: branches went on as they came.
---@field plan? RunPlan Nothing is performed: what each step would do is asked here.
local Steps = {}
Steps.__index = Steps

local M = {}

---The edition of the words that runs begin with now. 1: until 28 November 2026; 2 and 3: on the 29th.
M.EDITION = 4

local MAX_RESULT <const> = 256 * 1024
local LONG <const> = 60 -- seconds of sleep that are worth two writes
local SHOWN <const> = 1 -- seconds of sleep that people see in the run's log

---@param options {journal: Journal, run: integer, edition?: integer, emit: fun(entry: table),
---  stopping: (fun(): boolean), acting: (nil|fun(): boolean), turn?: Attempt, plan?: RunPlan}
---@return Steps
function M.new(options)
  local self = setmetatable({
    journal = options.journal, run = options.run, edition = options.edition or M.EDITION, emit = options.emit,
    stopping = options.stopping, acting = options.acting or function() return true end, count = 0, branches = {},
    moved = time.monotonic(), sleeping = 0, waiting = 0, busy = 0, turn = options.turn,
    plan = options.plan,
  }, Steps)
  local first = { prefix = "", n = 0 } ---@type any
  if self:since(2) then
    self.turns = branches.new(self)
    first = self.turns:branch("")
    self.turns:begin(first)
  end
  self.branches[assert(task.current())] = first
  return self
end

---Whether the run began with this edition of the words or a later one.
---@param edition integer
---@return boolean
function Steps:since(edition) return self.edition >= edition end

---The name of the step that the journal has next in the current branch; nil when it has none there.
---@return string? name
function Steps:upcoming()
  local here, branch = context.current(), self.branches[task.current() or 0]
  if here and here.mode == "effect" or not branch then return nil end
  local row = self:book("step", self.run, branch.prefix .. branch.n + 1)
  return row and row.name
end

---The branch of a task.
---@param id? integer
---@return Branch
function Steps:branch_of(id)
  local branch = self.branches[id or 0]
  if not branch then error("this task does not belong to the run: start it with task.spawn or run:all", 4) end
  return branch
end

---The next path of the current branch.
---@return string path "2", "2.1.3"
function Steps:path()
  policy.strong(context.current(), self)
  local branch = self:branch_of(task.current())
  branch.n = branch.n + 1
  return branch.prefix .. branch.n
end

-- What a step is asked, as the journal keeps it.
---@private
function Steps:asked(args, name) return record.asked(args, name, self:since(3) and errors.made or errors.is) end

---Where the random numbers of the current branch are kept.
---@param otherwise table
---@return table
function Steps:luck(otherwise) return self:since(2) and self:branch_of(task.current()) or otherwise end

---Gives a new task of the run a branch of its own below the next path: how the first edition did it.
---@return fun(id: integer) join Called with the task's id before it runs.
function Steps:branch()
  local prefix = self:path() .. "."
  self.forked = true
  return function(id) self.branches[id] = { prefix = prefix, n = 0 } end
end

---Stops the run for good when what it asks is not what the journal has.
---@param path string
---@param row table The recorded step.
---@param name string
---@param args string
function Steps:check(path, row, name, args)
  if row.name == name and row.args == args then return end
  self.over = errors.new("diverged",
    ("step %s was %s %s and is now %s %s"):format(path, row.name, row.args, name, args), { op = "recover" })
  error(self.over, 0)
end

---Asks the journal. When it fails (a full disk), no policy decides what that means: the run stops where it is, and
---what was not recorded is as if it had not happened.
---@private
function Steps:book(what, ...)
  self.moved = time.monotonic()
  local ok, value = pcall(self.journal[what], self.journal, ...)
  if ok then return value end
  if errors.is(value) and tostring(value.op):find("^store%.") then self.over, self.broken = value, value end
  error(value, 0)
end

-- ---- the lane's turn ----

---Whether it only waits now.
---@return boolean
function Steps:idle() return self.waiting > 0 and self.busy == 0 end

---Counts a branch as sleeping, waiting or busy until what this returns is closed.
---@param what "sleeping"|"waiting"|"busy"
---@return table closable
function Steps:counting(what)
  local was = self:idle()
  self[what] = self[what] + 1
  local function changed(before)
    if self.turn and self:idle() and not before then self.turn:paused() end
  end
  changed(was)
  return task.defer(function()
    local idle = self:idle()
    self[what], self.moved = self[what] - 1, time.monotonic()
    changed(idle)
  end)
end

---Makes sure that it is this run's turn; not when the next step is recorded already. What acts on the place waits while
---that is held.
---@async
---@param acts boolean
function Steps:ready(acts)
  local branch = self.branches[task.current() or 0]
  if not self.turn or not branch or self:book("step", self.run, branch.prefix .. branch.n + 1) then return end
  if acts then self.turn:unheld() end
  self.turn:take()
end

-- The way into a step that is not recorded as ended. `waits`: others may have their turn meanwhile.
local function enter(self, how, begun)
  if how == "waits" then return self:counting "waiting" end
  if self.turn then
    if how == "acts" and not begun then self.turn:unheld() end
    self.turn:take()
  end
  return self:counting "busy"
end

---Ends the run here when this host may not act any more. Asked before an intent is written, so that none is left behind
---whose effect is another host's; and again when it is on disk, which may have taken its time.
---@param name string
function Steps:may_act(name)
  if self.acting() then return end
  self.over = errors.new("cancelled", "this host does not act any more", { op = name })
  error(self.over, 0)
end

-- Calls an effect. What it raises without an error of its own is explained where it is raised: the script's mistake.
local function explained(fn, attempt)
  local results = table.pack(xpcall(fn, function(value)
    return errors.is(value) and value or policy.raised(value)
  end, attempt))
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

---Performs an effect as a step, or answers from the journal. Returns what fn returned; raises what it raised. Inside
---of fn nothing is a step: only the outermost effect is one.
---@async
---@param name string
---@param args any
---@param fn fun(attempt: integer): any...
---@param how? "waits"|"acts" waits: it takes its time and changes nothing here, others may have their turn; acts: it
--- changes the place, and does not begin while that is held.
---@return any...
function Steps:perform(name, args, fn, how)
  if self.over then error(self.over, 0) end
  local here = context.current()
  if here and here.mode == "effect" then return fn(1) end
  local turns = self.turns
  if turns then turns:take() end
  local path, asked = self:path(), self:asked(args, name)
  if #asked > MAX_RESULT then asked = assert(json.encode { sha256 = hash.sha256(asked) }) end
  local row = self:book("step", self.run, path)
  if row then
    self:check(path, row, name, asked)
    if row.state ~= "started" then
      if turns then turns:ended(path) end
      self.count = self.count + 1
      self.emit { kind = "step", level = "info", step = name, phase = "end", recorded = true, text = name }
      if row.state == "failed" then error(record.failure(row.error), 0) end
      return record.revive(row.result)
    end
  end
  if turns then
    turns:live()
    if self.over then error(self.over, 0) end
  end
  local inside = { mode = "effect", place = here and here.place, edition = self.edition, metas = here and here.metas }
  if self.plan then return self:planned(name, args, function() return context.with(inside, explained, fn, 1) end) end
  local inside_step <close> = enter(self, how, row ~= nil)
  assert(inside_step)
  self:may_act(name)
  self:book("intend", self.run, path, name, asked)
  self:may_act(name)
  local started = time.monotonic()
  self.emit { kind = "step", level = "info", step = name, phase = "begin", text = name }
  local attempt = row and row.attempts + 1 or 1
  if turns then return self:ended(path, name, started, turns:outside(context.with, inside, explained, fn, attempt)) end
  return self:ended(path, name, started, pcall(context.with, inside, explained, fn, attempt))
end

-- Asks the plan of the run. Where it sees no further, the run ends, whatever its policy catches.
---@private
function Steps:planned(name, args, perform)
  local plan = assert(self.plan)
  local results = table.pack(pcall(plan.perform, plan, name, args, perform)) ---@type any
  if not results[1] then
    if plan.ends then self.over = self.over or results[2] end
    error(results[2], 0)
  end
  self.count = self.count + 1
  return record.revive(record.results(name, table.unpack(results, 2, results.n)))
end

---@private
function Steps:stamp() return self.turns and self.turns:stamp() end

---@private
function Steps:failed(path, name, elapsed, err)
  local text = log.redact(assert(json.encode(errors.plain(err), { clean = true })))
  self:book("outcome", self.run, path, "failed", nil, text, self:stamp())
  local data = assert(json.decode(text))
  for line in (err.traceback or ""):gmatch("[^\n]+") do
    self.emit { kind = "output", level = "info", stream = "stderr", text = line }
  end
  err = record.error(data)
  self.emit {
    kind = "step", level = "error", step = name, phase = "end", elapsed = elapsed, text = tostring(err), error = data,
  }
  error(err, 0)
end

---@private
function Steps:ended(path, name, started, ok, ...)
  local elapsed = time.monotonic() - started
  sys.killpoint("effect.after")
  if not ok then
    local err = errors.wrap((...), name)
    -- The host stops, or the run was ended from outside: the effect's outcome is unknown, so none is recorded.
    if self.stopping() then self.over = self.over or err end
    if err.code == "cancelled" and not self.turns or self.stopping() then error(err, 0) end
    self:failed(path, name, elapsed, err)
  end
  -- A result that cannot be recorded fails the step, so that it is not performed again after a crash.
  local fine, text = pcall(record.results, name, ...)
  if not fine then self:failed(path, name, elapsed, text) end
  if #text > MAX_RESULT then
    self:failed(path, name, elapsed, errors.new("too_large", ("the result of %s is larger than %d KiB: write it to a "
      .. "file and return its name"):format(name, MAX_RESULT // 1024), { op = "step" }))
  end
  self:book("outcome", self.run, path, "ok", text, nil, self:stamp())
  self.count = self.count + 1
  self.emit { kind = "step", level = "info", step = name, phase = "end", elapsed = elapsed, text = name }
  return record.revive(text)
end

---Records a value that is free to take (a time, a random seed), or rows of our own journal that `write` adds in the
---same transaction.
---@param name string
---@param args any
---@param take fun(): any
---@param in_transaction? boolean `take` writes the journal.
---@return any value
function Steps:value(name, args, take, in_transaction)
  if self.over then error(self.over, 0) end
  local here = context.current()
  if here and here.mode == "effect" then
    if in_transaction then return self:book("lazily", "value", take) end
    return take()
  end
  local path, asked = self:path(), self:asked(args, name)
  local row = self:book("step", self.run, path)
  if row then
    self:check(path, row, name, asked)
    return record.value_of(row.result)
  end
  if in_transaction then
    if self.turn then self.turn:take() end
    self:may_act(name)
    local value = record.value_of(self:book("value", self.run, path, name, asked, function()
      return record.value(take(), name)
    end))
    if self.plan then self.plan:noted(name, args) end
    return value
  end
  local value
  if self.plan then value = self.plan:value(name, args, take) else value = take() end
  local text = record.value(value, name)
  self:book("value", self.run, path, name, asked, function() return text end)
  return record.value_of(text)
end

---Like `value`, for what waits: for people, for a time. With `begin` the wait is in the journal from its beginning,
---with what `begin` gives; `take` is given that, also after a restart.
---@async
---@param name string
---@param args any
---@param take fun(begun: any): any
---@param begin? fun(): any
---@return any value
function Steps:await(name, args, take, begin)
  local here, turns = context.current(), self.turns
  if not turns or here and here.mode == "effect" then
    return self:value(name, args, function() return take(begin and begin()) end)
  end
  if self.over then error(self.over, 0) end
  turns:take()
  local path, asked = self:path(), self:asked(args, name)
  local row = self:book("step", self.run, path)
  if row then
    self:check(path, row, name, asked)
    if row.state ~= "started" then
      turns:ended(path)
      return record.value_of(row.result)
    end
  end
  local begun = row and record.value_of(row.result)
  if begin and not row and not self.plan then
    begun = begin()
    self:book("await", self.run, path, name, asked, record.value(begun, name))
  end
  turns:live()
  if self.plan then return self:planned(name, args, take) end
  local ok, value = turns:outside(take, begun)
  if not ok then
    if begin and errors.is(value, "deadline") then self:book("outcome", self.run, path, "failed") end
    error(value, 0)
  end
  local text = record.value(value, name)
  if begin then
    self:book("outcome", self.run, path, "ok", text, nil, turns:stamp())
  else
    self:book("value", self.run, path, name, asked, function() return text end, turns:stamp())
  end
  return record.value_of(text)
end

-- Looks at something at each of the moments of a time, counted from its beginning; a restart goes on with the next.
local function looks(seconds, every, seen, look)
  local since = math.max(0, math.min(time.now() - seen.began, seconds))
  local first, most = time.monotonic() - since, math.floor(seconds / every + 1e-6)
  local n = math.min(seen.looks and math.ceil(since / every) or 0, most) -- most: its end passed while no host ran
  while true do
    local left = first + n * every - time.monotonic()
    if left > 0 then time.sleep(math.min(left, 3600)) end
    if left <= 3600 then
      seen.looks = (seen.looks or 0) + 1
      local result = look(seen, n == most)
      if result ~= nil then return result end
      n = n + 1
    end
  end
end

---Looks at something again and again for a time, as one step. The journal keeps what was seen with each look, so that a
---restart neither forgets it nor begins the time again. What is raised, but for an end from outside, fails the step.
---@async
---@param name string
---@param args any
---@param seconds Seconds
---@param every Seconds
---@param look fun(seen: table, last: boolean): any What was seen, plain data that it changes; gives the step's result
--- when it is known, at the last look at the latest.
---@return any result
function Steps:observe(name, args, seconds, every, look)
  if self.over then error(self.over, 0) end
  local here, turns = context.current(), self.turns
  if not turns or here and here.mode == "effect" then return looks(seconds, every, { began = time.now() }, look) end
  turns:take()
  local path, asked = self:path(), self:asked(args, name)
  local row = self:book("step", self.run, path)
  if row then
    self:check(path, row, name, asked)
    if row.state ~= "started" then
      turns:ended(path)
      if row.state == "failed" then error(record.failure(row.error), 0) end
      return record.revive(row.result)
    end
  end
  turns:live()
  if self.plan then return self:planned(name, args, function() return nil end) end
  local seen = row and record.value_of(row.result) or { began = time.now() }
  if not row then self:book("await", self.run, path, name, asked, record.value(seen, name)) end
  self.emit { kind = "step", level = "info", step = name, phase = "begin", text = name }
  local function noted(...)
    local result = look(...)
    if result == nil then self:book("note", self.run, path, record.value(seen, name)) end
    return result
  end
  local started = time.monotonic()
  local last = started + seconds
  return self:ended(path, name, started, turns:outside(self.rest, self, last, function()
    return looks(seconds, every, seen, noted)
  end))
end

-- Waits by itself for a moment. A host that goes down while a run only sleeps long says nothing about the run: the
-- attempt does not count. `instead`: what it does until then.
---@private
function Steps:rest(last, instead)
  local parked = not self.forked and last - time.monotonic() >= LONG
  if parked then self:book("park", self.run) end
  local waiting <close> = self:counting "waiting"
  local sleeping <close> = self:counting "sleeping"
  local _ <close> = task.defer(function()
    if parked then self:book("unpark", self.run) end
  end)
  assert(waiting and sleeping)
  if instead then return instead() end
  while time.monotonic() < last do time.sleep(math.min(last - time.monotonic(), 3600)) end
end

-- The next step is a wait that ends at a moment which the journal remembers; never later than asked for, because the
-- clock may have been set back.
---@private
---@return string path
---@return table? row nil: it is new.
---@return number last By the monotonic clock; math.huge: the journal has it.
function Steps:moment(name, seconds)
  self.turns:take()
  local path, asked = self:path(), self:asked({ seconds = seconds }, name)
  local row = self:book("step", self.run, path)
  local wake = time.now() + seconds
  if row then
    self:check(path, row, name, asked)
    if row.state ~= "started" then return path, row, math.huge end
    wake = record.value_of(row.result)
  else
    self:book("await", self.run, path, name, asked, record.value(wake, name))
  end
  return path, row, time.monotonic() + math.min(wake - time.now(), seconds)
end

---Sleeps; a restart does not begin the wait again.
---@async
---@param seconds number
function Steps:sleep(seconds)
  if self.over then error(self.over, 0) end
  local here, turns = context.current(), self.turns
  if here and here.mode == "effect" then return time.sleep(seconds) end
  if not turns then
    local wake = self:value("sleep", { seconds = seconds }, function() return time.now() + seconds end)
    return self:rest(time.monotonic() + math.min(wake - time.now(), seconds))
  end
  local path, row, last = self:moment("sleep", seconds)
  if row and row.state ~= "started" then return turns:ended(path) end
  turns:live()
  local shown, left = seconds >= SHOWN, last - time.monotonic()
  if self.plan then
    local rest = math.floor(left + 0.5)
    return self.plan:say("sleep", { action = "do", text = "waits " .. time.words(rest), seconds = rest })
  end
  if shown then
    local text = ("sleep until %s"):format(time.iso(time.now() + left))
    self.emit { kind = "step", level = "info", step = "sleep", phase = "begin", text = text }
  end
  local ok, err = turns:outside(self.rest, self, last)
  if not ok then error(err, 0) end
  self:book("outcome", self.run, path, "ok", nil, nil, turns:stamp())
  if shown then
    self.emit { kind = "step", level = "info", step = "sleep", phase = "end", elapsed = left, text = "sleep" }
  end
end

-- ---- branches, from the second edition on ----

---How the waits of the run ended, for policy/branches.lua.
---@return table[] script
---@return integer seq The last number.
function Steps:script()
  local script = self:book("script", self.run)
  return script, #script > 0 and script[#script].seq or 0
end

---Records that a deadline passed.
---@param path string
---@param err Err
---@return Err err As it is found again.
function Steps:cut(path, err)
  local text = log.redact(assert(json.encode(errors.plain(err), { clean = true })))
  self:book("outcome", self.run, path, "failed", nil, text, self.turns:stamp())
  return record.failure(text)
end

---Calls fn(...); every wait inside raises "deadline" once the seconds have passed.
---@async
---@param seconds number
---@param fn fun(...): any...
---@return any...
function Steps:deadline(seconds, fn, ...)
  if self.over then error(self.over, 0) end
  local turns = self.turns
  local path, row, last = self:moment("task.deadline", seconds)
  if row and row.state == "ok" then return fn(...) end
  local results
  do
    local deadline <close> = turns:within(self:branch_of(task.current()), {
      path = path, seconds = seconds, last = last,
    })
    results = table.pack(pcall(fn, ...))
    if not deadline.over and not self.over and (results[1] or not errors.is(results[2], "cancelled")) then
      self:book("outcome", self.run, path, "ok")
    end
  end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- Starts fn(...) as a branch of the run below the next path.
---@private
function Steps:fork(fn, ...)
  self.turns:take()
  local branch = self.turns:branch(self:path() .. ".")
  self.forked = true
  local here = assert(context.current())
  return branch, self.turns:start(branch, self.branches, function(...) return context.with(here, fn, ...) end, ...)
end

-- Waits in a list of policy/branches.lua, at most so long.
---@private
function Steps:pause(name, given, list, need_not)
  local seconds = type(given) == "number" and given < 0 and 0 or schema.seconds(given)
  if not seconds then error("usage: a time is 90, or a text such as \"90s\", \"1m30s\", \"2h\"", 4) end
  local path, row, last = self:moment(name, seconds)
  if self.plan then last = math.min(last, time.monotonic()) end -- only the run's own branches can end it
  local done = row and row.state == "ok"
  local in_time = self.turns:pause(path, list, seconds --[[@as number]], not done and last or nil, need_not)
  if in_time and not done then self:book("outcome", self.run, path, "ok") end
  return in_time
end

---@param fn fun(...): ...
---@return Task
function Steps:spawn(fn, ...)
  if self.over then error(self.over, 0) end
  local branch, started = self:fork(fn, ...)
  return require("policy.effects.tasks").handle(self.turns, branch, started, function(seconds, list, need_not)
    return self:pause("task.join", seconds, list, need_not)
  end)
end

---Runs functions side by side; the first failure ends the others and is raised.
---@async
---@param fns (fun(): any)[]
---@return any[] results
function Steps:all(fns)
  if self.over then error(self.over, 0) end
  return self.turns:side_by_side(fns, function(fn) return self:fork(fn) end)
end

---@param signal RunSignal
function Steps:notify(signal) self.turns:notify(signal) end

---@async
---@param signal RunSignal
---@param seconds? number
---@return boolean notified
function Steps:wait_for(signal, seconds)
  if self.over then error(self.over, 0) end
  return self.turns:wait_for(signal, seconds, function(s, list, need_not)
    return self:pause("signal", s, list, need_not)
  end)
end

---At the end of the run.
---@async
function Steps:finish()
  if self.turns and not self.over then self.turns:finish() end
end

return M
