-- The plan of one run: what its steps would do, each judged against the world as it is. Steps (policy/steps.lua) asks
-- here instead of performing an effect.
--
-- Each step's name has a planner, which only reads: planner(run, args, perform) gives what it has to say, then what the
-- step would return, as far as that can be known. Those of the program's own words are in policy/planners.lua, those of
-- an extension beside its words. A step without one ends the plan of the run: what it returns decides what comes next.
local errors, extensions, log = require "errors", require "extensions", require "log"
local planners, unknown = require "policy.planners", require "policy.unknown"

local M = {}

---What a step would do, for people and machines.
---@class Planned
---@field action PlannedAction
---@field text string In words.
---@field step? string The step's name; set here.
---@field recorded? boolean It was done already, by the run as it stands in the journal.
---@field error? Err Why it would fail.
---@field [string] any Further data of the step: from, to, digest, ...

---create: makes something that is not there; change: of something that is; remove; none: it is so already; do:
---something that leaves nothing behind (a wait, a check, a message); fail: it would fail; unknown: it cannot be told.
---@alias PlannedAction "create"|"change"|"remove"|"none"|"do"|"fail"|"unknown"

---@alias Planner fun(run: Run, args: any, perform: fun(): any...): Planned|Planned[]|nil, any...

---The planner of a step; nil when it has none.
---@param name string
---@return Planner?
function M.planner(name)
  local own = planners.steps[name]
  if own then return own end
  for _, entry in ipairs(extensions.all "word") do
    local plan = entry.plan
    if type(plan) == "table" then plan = plan[name] elseif entry.name ~= name then plan = nil end
    if plan then return plan end
  end
end

local MOST <const> = 1000 -- steps of one run

---@class RunPlan
---@field run Run Set when the run is made.
---@field steps Planned[]
---@field ends? string Why it sees no further, in words.
local RunPlan = {}
RunPlan.__index = RunPlan

---@return RunPlan
function M.new() return setmetatable({ steps = {} }, RunPlan) --[[@as RunPlan]] end

---Adds what is said of a step; raises when the plan is long enough.
---@param name string
---@param said? Planned|Planned[]
function RunPlan:say(name, said)
  if not said then return end
  if #self.steps >= MOST then
    self.ends = ("a plan shows no more than %d steps"):format(MOST)
    error(errors.new("unsupported", self.ends, { op = "plan" }), 0)
  end
  for _, planned in ipairs(said.action and { said } or said) do
    planned.step, planned.text = name, log.redact(planned.text)
    self.steps[#self.steps + 1] = planned
  end
end

---@private
function RunPlan:failed(name, err)
  err = errors.wrap(err, name)
  if err.code == "cancelled" or err.code == "deadline" then error(err, 0) end
  if rawget(err, "unseen") then
    self.ends = err.message
  else
    self:say(name, { action = "fail", text = ("%s: %s"):format(name, err.message), error = err })
  end
  error(err, 0)
end

---Plans a step instead of performing it; raises what it would raise.
---@async
---@param name string
---@param args any
---@param perform fun(): any... The effect itself, for planners of steps that only read.
---@return any...
function RunPlan:perform(name, args, perform)
  local planner = M.planner(name) or function()
    local word = name:match "^step (.*)$"
    unknown.unseen(("%s decides what comes next"):format(word and ("run:step %q"):format(word)
      or name))
  end
  local results = table.pack(pcall(planner --[[@as function]], self.run, args, perform)) ---@type any
  if not results[1] then self:failed(name, results[2]) end
  self:say(name, results[2])
  return table.unpack(results, 3, results.n)
end

---A recorded value: free to take, unless it has a planner.
---@async
---@param name string
---@param args any
---@param take fun(): any
---@return any
function RunPlan:value(name, args, take)
  if M.planner(name) then return (self:perform(name, args, take)) end
  return take()
end

---Says what became of rows of the journal.
---@param name string
---@param args any
function RunPlan:noted(name, args)
  local note = planners.notes[name]
  if note then self:say(name, note(self.run, args)) end
end

return M
