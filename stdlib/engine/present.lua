-- What the targets say now, for whoever asks how things are: a few at once, each for a moment only, and not again for
-- some seconds. Of very many those come first that were asked longest ago.
local errors, task, time = require "errors", require "task", require "time"

local M = {}

local FRESH <const>, PATIENCE <const> = 5, 3 -- seconds
local MOST <const>, AT_ONCE <const> = 64, 16
local LOOKED_AT <const> = 500 -- places in the journal, for those to ask

---@class TargetSeen
---@field at Wall
---@field running? Running nil without an error: nothing runs.
---@field err? Err Why it could not be asked.

local function ask(engine, at)
  local target, err = engine.world.target(at.config, engine.config)
  if not target then return nil, err end
  return target:current()
end

-- The places, those that were asked longest ago first.
local function in_turn(engine)
  local list = {}
  for _, app in ipairs(engine.config.app_list) do
    local state = engine:app_state(app.name)
    state.turns, state.targets = state.turns or {}, state.targets or {}
    for _, environment in ipairs(app.environment_list) do
      local name = environment.name
      list[#list + 1] = {
        turn = state.turns[name] or 0, at = state.targets[name] and state.targets[name].at or 0, state = state,
        app = app.name, environment = name, n = #list,
      }
    end
  end
  table.sort(list, function(a, b)
    if a.turn ~= b.turn then return a.turn < b.turn end
    return a.n < b.n
  end)
  return list
end

-- Whether something of ours should run there, and what its target said of it is old.
local function due(engine, item)
  local live, now = engine.journal:live(item.app, item.environment), time.now()
  return live ~= nil and not (item.at >= live.at and now - item.at < FRESH and now >= item.at)
end

---Asks targets how they are; what they say is kept with the app.
---@async
---@param engine table
function M.look(engine)
  local running, asked = {}, 0
  for n, item in ipairs(in_turn(engine)) do
    if asked == MOST or n > LOOKED_AT then break end
    item.state.turns[item.environment] = time.now()
    if due(engine, item) then
      asked = asked + 1
      local at = engine:place(item.app, item.environment)
      running[#running + 1] = task.spawn(function()
        local done, found, err = pcall(task.deadline, PATIENCE, ask, engine, at)
        if not done then found, err = nil, errors.wrap(found) end
        if errors.is(err, "cancelled") then error(err, 0) end
        if errors.is(err, "deadline") then
          err = errors.new("timeout", ("it does not answer within %d s"):format(PATIENCE), { op = "target.current" })
        end
        item.state.targets = item.state.targets or {}
        item.state.targets[item.environment] = { at = time.now(), running = found, err = err }
      end)
      if #running == AT_ONCE then
        for _, each in ipairs(running) do each:join() end
        running = {}
      end
    end
  end
  for _, each in ipairs(running) do each:join() end
end

return M
