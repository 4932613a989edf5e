-- Which watch or run the current task belongs to.
--
-- Policies of many places share the modules that they require, so the modules find here, by task, the journal
-- that their calls belong to.
local task = require "task"

---@class Context
---@field mode "watch"|"run"|"effect"|"file" "effect": inside of a step, where calls are just calls; "file": the file's
---  own level, which belongs to no place.
---@field place? Place In every mode but "file".
---@field steps? Steps Only in mode run.
---@field edition? integer Of the run's words; inside of its steps, too.
---@field said? Refusals Only in mode watch: what the policy refuses.
---@field policy? Policy Only in mode watch: who is asked.
---@field settings? table Only in mode watch: place.settings, once it was read.
---@field running? table|false Only in mode watch: the release that runs, once it was looked up.
---@field metas? table<table, string> The metatables of the policy's instance, and where they were set.
---@field rng? table State of the deterministic random numbers.

local M = {}

local of_task = {} ---@type table<integer, Context>

---The context of the running task; nil outside of any policy.
---@return Context?
function M.current()
  local id = task.current()
  return id and of_task[id]
end

---Whether what asks is bound by this edition of the words: an older run goes on with what it began with.
---@param c Context
---@param edition integer
---@return boolean
function M.since(c, edition) return (c.edition or edition) >= edition end

---Gives a task its context for the rest of its life; forget ends that.
---@param id integer
---@param context Context
function M.bind(id, context) of_task[id] = context end

---@param id integer
function M.forget(id) of_task[id] = nil end

---Calls fn(...) with the current task belonging to the context.
---@async
---@param context Context
---@param fn fun(...): any...
---@return any...
function M.with(context, fn, ...)
  local id = assert(task.current(), "a policy runs in a task")
  local outer = of_task[id]
  local _ <close> = task.defer(function() of_task[id] = outer end)
  of_task[id] = context
  return fn(...)
end

return M
