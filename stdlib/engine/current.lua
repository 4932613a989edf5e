-- Observing targets for `status`: what runs at each place now. Many are asked at once, each with a short timeout, and
-- an answer is reused for some seconds. Those that the time did not suffice for are listed, and asked first the next
-- time.
local errors, targets, task, time = require "errors", require "targets", require "task", require "time"

local M = {}

local FRESH <const>, TIMEOUT <const> = 5, 3 -- seconds
local AT_ONCE <const> = 32

M.ALL_WITHIN = 10 -- seconds for observing all targets

---@class TargetSeen
---@field at Wall
---@field running? Running nil without an error: nothing runs.
---@field err? Err Why it could not be asked.
---@field unasked? boolean The time did not suffice for it.

local function ask(at, part)
  local target, err = at.world.target(assert(targets.part(at.config, part)))
  if not target then return nil, err end
  return target:current()
end

-- Whether an observation is of the release that is live, and no older than so many seconds.
local function fresh(seen, live, within)
  if not seen or seen.unasked or seen.at < live.at then return false end
  local age = time.now() - seen.at
  return age >= 0 and age < within
end

-- The parts of places with a live release whose observation is old: first those that were asked longest ago.
local function due(engine)
  local list = {}
  for _, app in ipairs(engine.config.app_list) do
    local state = engine:app_state(app.name)
    state.targets = state.targets or {}
    for _, environment in ipairs(app.environment_list) do
      local live = engine.journal:live(app.name, environment.name)
      for _, part in ipairs(targets.parts(environment)) do
        local key = targets.called(part, "/")
        local seen = state.targets[key]
        local known = seen and not seen.unasked and live and seen.at >= live.at
        if live and not fresh(seen, live, FRESH) then
          list[#list + 1] = {
            at = known and seen.at or 0, targets = state.targets, key = key, app = app.name,
            environment = environment.name, part = part.part, n = #list,
          }
        end
      end
    end
  end
  table.sort(list, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.n < b.n
  end)
  return list
end

local function look_at(at, item)
  local done, found, err = pcall(task.deadline, TIMEOUT, ask, at, item.part)
  if not done then found, err = nil, errors.wrap(found) end
  if errors.is(err, "cancelled") then error(err, 0) end
  if errors.is(err, "deadline") then
    err = errors.new("timeout", ("it does not answer within %d s"):format(TIMEOUT), { op = "target.current" })
  end
  item.targets[item.key] = { at = time.now(), running = found, err = err }
end

---Observes the targets of one place, unless that was done within so many seconds; the results are kept with the app.
---@async
---@param at Place
---@param live Release What runs there.
---@param within Seconds
function M.look_here(at, live, within)
  local seen = at.seen
  seen.targets = seen.targets or {}
  for _, part in ipairs(targets.parts(at.config)) do
    local key = targets.called(part, "/")
    if not fresh(seen.targets[key], live, within) then
      look_at(at, { targets = seen.targets, key = key, part = part.part })
    end
  end
end

---Observes targets; the results are kept with the app.
---@async
---@param engine table
function M.look(engine)
  local list, running, last, next_one = due(engine), {}, time.monotonic() + M.ALL_WITHIN, 0
  for n = 1, math.min(AT_ONCE, #list) do
    running[n] = task.spawn(function()
      while next_one < #list and time.monotonic() < last do
        next_one = next_one + 1
        local item = assert(list[next_one])
        look_at(engine:place(item.app, item.environment), item)
      end
    end)
  end
  for _, each in ipairs(running) do each:join() end
  for n = next_one + 1, #list do
    list[n].targets[list[n].key] = {
      at = time.now(), unasked = true, err = errors.new("timeout",
        ("it was not asked: others took the %d s of this look, and it comes first in the next"):format(M.ALL_WITHIN),
        { op = "target.current" }),
    }
  end
end

return M
