-- What lies outside of a simulated host, as one plain table, and how it changes.
--
-- Every effect passes here: it adds its line to `effects`, by the world and never by the host, and may be disturbed
-- once: the host dies before or after it, it fails, or its answer is lost.
local cluster, errors = require "simulation.cluster", require "errors"

local M = {}

---@class (partial) SimulatedState
---@field repositories table<string, SimulatedRepository> By address.
---@field images table<string, SimulatedImages> By name.
---@field charts table<string, SimulatedCharts> By the repository's address.
---@field targets table<string, table> What runs, by place: "web/production", "web/production:canary".
---@field troubles table<string, string> By commit, or chart ("web=1.1.0"): "build", "check", "check in PART", "later".
---@field names table<string, string> What tests call a commit, by its id.
---@field down table<string, true>
---@field files table<string, string>
---@field cluster SimulatedCluster
---@field effects string[]
---@field told {to: string[], title?: string, text: string}[]

---@class Disturbance One of them, once.
---@field kill? integer The host dies at the so manyeth place: before or after a write of the journal, or an effect.
---@field fail? integer The so manyeth effect is not done and fails.
---@field lose? integer The so manyeth effect is done, and its answer is lost.

---@class Outside
---@field state SimulatedState
---@field on_change fun(line?: string) Called after each change.
---@field disturb Disturbance
---@field disturbed? string The place that was.
---@field kills integer Places passed.
---@field count integer Effects begun.
local Outside = {}
Outside.__index = Outside

---@return SimulatedState
function M.fresh()
  return {
    repositories = {}, images = {}, charts = {}, targets = {}, troubles = {}, names = {}, down = {}, files = {},
    effects = {}, told = {}, cluster = cluster.fresh(),
  }
end

---@param options {state?: SimulatedState, on_change?: fun(line?: string), disturb?: Disturbance}
---@return Outside
function M.new(options)
  return setmetatable({
    state = options.state or M.fresh(), on_change = options.on_change or function() end,
    disturb = options.disturb or {}, kills = 0, count = 0,
  }, Outside)
end

---The state as it is now.
---@return SimulatedState
function Outside:look() return self.state end

---A commit as the test calls it.
---@param commit? string
---@return string
function Outside:called(commit)
  if not commit then return "something else" end
  return self:look().names[commit] or require("base.text").short(commit)
end

---Fails while a part is out of reach.
---@param part string
---@return true?
---@return Err? err
---@return_overload nil, Err
function Outside:reach(part)
  if not self:look().down[part] then return true end
  return errors.fail("refused", ("%s is down: nobody listens there"):format(part), { op = part })
end

---Changes the world, without an effect of the host's.
---@param change fun(state: SimulatedState)
---@param line? string
function Outside:change(change, line)
  change(self.state)
  self.on_change(line)
end

---Marks a place where the host may die.
---@param life SimulatedLife
---@param name string
function Outside:place(life, name)
  self.kills = self.kills + 1
  if self.kills == self.disturb.kill then
    self.disturbed = name
    life:kill()
  end
  life:check()
end

---Has an effect of the host's.
---@param life SimulatedLife
---@param line string
---@param change fun(state: SimulatedState)
---@return true?
---@return Err? err It failed in passing.
---@return_overload nil, Err
function Outside:effect(life, line, change)
  self:place(life, "before " .. line)
  self.count = self.count + 1
  local disturb, n = self.disturb, self.count
  if n == disturb.fail then
    self.disturbed = "failing: " .. line
    return errors.fail("refused", "it fails, once", { op = line })
  end
  self:change(function(state)
    change(state)
    state.effects[#state.effects + 1] = line
  end, line)
  self:place(life, "after " .. line)
  if n == disturb.lose then
    self.disturbed = "answer lost: " .. line
    return errors.fail("timeout", "its answer is lost, once", { op = line })
  end
  return true
end

---Tells people something.
---@param life SimulatedLife
---@param names string[] The channels.
---@param message table
---@return true?
---@return Err? err
---@return_overload nil, Err
function Outside:tell(life, names, message)
  local text = message.title and ("%s: %s"):format(message.title, message.text) or message.text
  self:place(life, "before telling " .. text)
  self:change(function(state)
    state.told[#state.told + 1] = { to = names, title = message.title, text = message.text }
  end, ("tell %s: %s"):format(table.concat(names, ", "), text))
  self:place(life, "after telling " .. text)
  return true
end

return M
