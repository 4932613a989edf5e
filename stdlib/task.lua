-- Tasks: run things side by side, wait for them, bound their time.
--
-- A task ends with the task that started it. Every wait of a cancelled task raises {code = "cancelled"}.
local core = require "core.task"
local time = require "time"

---@class Task
---@field join fun(self: Task, timeout?: number): any... Waits for the end; returns its results, or nil and the Err.
---@field cancel fun(self: Task) Ends it: its wait raises {code="cancelled"}.
---@field done fun(self: Task): boolean
---@field id fun(self: Task): integer

---@class Signal
---@field wait fun(self: Signal, timeout?: number): boolean Waits for notify; false when the seconds passed first.
---@field notify fun(self: Signal) Wakes all waiting tasks; kept once without any.

---@class TaskOptions
---@field name? string
---@field detached? boolean
---@field cpu? number
---@field memory? integer
---@field timeout? number
---@field handler? fun(raised: any): any

local M = {}

---Starts fn(...) as a task of its own. It runs when this one waits.
---@param fn fun(...): any...
---@param ... any Given to fn.
---@return Task task
function M.spawn(fn, ...)
  if type(fn) ~= "function" then error("usage: task.spawn(fn, ...)", 2) end
  return core.spawn(nil, fn, ...)
end

---Starts fn(...) with options. `detached` makes it outlive this task; `cpu` (seconds) and `memory` (bytes) bound
---what it and its own tasks may use up, in a way that pcall cannot escape.
---`timeout` (seconds) bounds its whole life. `handler` makes of what it raises what it fails with, as xpcall's does;
---no limit reaches a handler, so it is a short function of the program.
---@param options TaskOptions
---@param fn fun(...): any...
---@param ... any
---@return Task task
function M.start(options, fn, ...)
  if type(options) ~= "table" or type(fn) ~= "function" then error("usage: task.start(options, fn, ...)", 2) end
  return core.spawn(options, fn, ...)
end

---Runs all functions side by side and returns their first results in order. The first failure cancels the others
---and is raised.
---@async
---@param fns (fun(): any...)[]
---@return any[] results
function M.all(fns)
  local results, signal, failure, left = {}, core.signal(), nil, #fns
  local running = setmetatable({}, {
    __close = function(self)
      for _, t in ipairs(self) do t:cancel() end
    end,
  })
  local guard <close> = running
  for i, fn in ipairs(fns) do
    guard[i] = core.spawn({ name = "all" }, function()
      local ok, value = pcall(fn)
      if ok then
        results[i] = value
      elseif failure == nil then
        failure = value
      end
      left = left - 1
      if left == 0 or not ok then signal:notify() end
      return true
    end)
  end
  -- A task for which there was no memory to begin or to end with ends without a word; nothing else does.
  while left > 0 and failure == nil do
    if not signal:wait(1) and left > 0 then
      for _, t in ipairs(running) do
        if t:done() and failure == nil then
          local fine, err = t:join()
          if not fine then failure = err end
        end
      end
    end
  end
  if failure ~= nil then error(failure, 0) end
  return results
end

local deferred_meta = { __close = function(self) self[1]() end }

---Calls fn when the variable that holds the result goes out of scope, however that happens:
---`local _ <close> = task.defer(function() busy = false end)`.
---@param fn fun()
---@return table closable
function M.defer(fn) return setmetatable({ fn }, deferred_meta) end

-- What is under way, by the table that it belongs to, then by key.
local locks, flights = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

---Takes the lock of a key, waiting while another task has it; it is free again when the result goes out of scope:
---`local _ <close> = task.lock(self, "renew")`.
---@async
---@param owner table What the key belongs to.
---@param key any
---@param seconds? number How long to wait; nil: until it is free.
---@return table? closable nil: the seconds were over.
function M.lock(owner, key, seconds)
  local held = locks[owner] or {}
  locks[owner] = held
  local last = seconds and time.monotonic() + seconds
  while held[key] do
    local left = last and last - time.monotonic()
    if left and left <= 0 then return nil end
    held[key]:wait(left)
  end
  local freed = core.signal()
  held[key] = freed
  return M.defer(function()
    held[key] = nil
    freed:notify()
  end)
end

---Calls fn; calls under the same key meanwhile wait and get the same results. When the call raises, or its
---task is cancelled, one of those who wait makes a call of its own.
---@async
---@param owner table What the key belongs to.
---@param key any
---@param fn fun(): ...
---@return ...
function M.once(owner, key, fn)
  local under_way = flights[owner] or {}
  flights[owner] = under_way
  while under_way[key] do
    local flight = under_way[key]
    flight.ended:wait()
    if flight.results then return table.unpack(flight.results, 1, flight.results.n) end
  end
  local flight = { ended = core.signal() }
  under_way[key] = flight
  local _ <close> = M.defer(function()
    under_way[key] = nil
    flight.ended:notify()
  end)
  flight.results = table.pack(fn())
  return table.unpack(flight.results, 1, flight.results.n)
end

---Calls fn(...); every wait inside raises {code="deadline"} once `seconds` have passed.
---@async
---@param seconds number
---@param fn fun(...): any...
---@param ... any Given to fn.
---@return any...
function M.deadline(seconds, fn, ...)
  return core.deadline(seconds, fn, ...)
end

---Makes a signal: one task waits, another notifies.
---@return Signal signal
function M.signal() return core.signal() end

---Sets what the running task and its own tasks work on: reported when one keeps the loop for too long, and noted
---for the next host when it takes the process down with it.
---Takes the pieces of a text; its first line is for people.
---@type fun(...: string)
M.asked = core.asked

---Names the file for such notes. It exists only after a host ended with a note.
---@param path? string nil: none.
function M.asked_file(path) return core.asked_file(path) end

---The number of the running task, nil outside of any.
---@type fun(): integer?
M.current = core.current

---How many tasks are alive.
---@return integer
function M.count() return core.count() end

return M
