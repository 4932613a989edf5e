-- Asking: calls a policy's `watch` for a place. The first of the three parts of a decision; it changes nothing.
local errors, log, policy, refusals = require "errors", require "log", require "policy.load", require "engine.refusals"

local M = {}

local WATCH_TIMEOUT <const> = 60 -- seconds a policy's watch may take, waiting included

---What a policy answered: a change, a reason for none, or a failure.
---@class Answer
---@field change? table Plain data with a `key`: what should be.
---@field reason? string Why nothing should be done.
---@field err? Err Why there is no answer.
---@field file? string Where the policy failed.
---@field line? integer
---@field refusals Decision[] What it refused, at most one decision a subject.

---The answer that stands for a failure before the policy could be asked.
---@param err Err
---@return Answer
function M.failed(err) return { err = err, refusals = {} } end

-- The line of the policy that a failure is about.
local function line_of(err, file)
  for _, text in ipairs { err.where or "", err.message } do
    local line = text:sub(1, #file + 1) == file .. ":" and tonumber(text:match("^%d+", #file + 2))
    if line then return file, line end
  end
end

---Asks one policy at one place.
---@async
---@param place Place
---@param compiled Policy
---@param before? table<string, Decision> Its last decisions, by subject.
---@return Answer answer
function M.ask(place, compiled, before)
  local said = refusals.new(before)
  local change, reason = policy.ask(compiled, place, WATCH_TIMEOUT, said)
  local answer = { refusals = said:list() }
  if change then
    change.key = log.redact(change.key) -- as the journal has it
    answer.change = change
  elseif errors.is(reason) then
    answer.err = reason
    answer.file, answer.line = line_of(reason, compiled.file)
  else
    answer.reason = reason
  end
  return answer
end

return M
