-- Polling: finds the apps that are due, observes each one's source (observe.lua), and makes a decision for each of its
-- policies (decide.lua).
local decide, errors, late_rollout = require "engine.decide", require "errors", require "engine.late_rollout"
local observe, previews, task, time = require "engine.observe", require "engine.previews", require "task",
  require "time"

local M = {}

local MAX_POLLS <const> = 32         -- at once

-- ---- one app ----

---Polls one app: each policy of each of its environments says what should be.
---@async
---@param engine table
---@param app AppConfig
---@return integer[] runs
---@return boolean ok
function M.poll(engine, app)
  local state = engine:app_state(app.name)
  if state.polling then return {}, true end -- another task polls it now
  local _ <close> = task.defer(function() state.polling = false end)
  state.polling = true
  local runs, ok, failure = {}, true, nil
  engine.counters.polls = engine.counters.polls + 1
  observe.observe(engine.journal, engine.world, state, app)
  engine.outages:source(app, state.error)
  previews.update(engine, app, state)
  for _, environment in ipairs { table.unpack(app.environment_list) } do -- which may change meanwhile
    if engine.config.apps[app.name] ~= app then break end -- a reload: the next poll asks as it says
    local place = engine:place(app.name, environment.name)
    late_rollout.look(engine, place)
    for _, name in ipairs(environment.gone_at and {} or { environment.policy, environment.rollback or nil }) do
      local done, run, err = pcall(decide.decide, engine, place, engine.policies[name])
      if not done then
        if engine.stopping or errors.is(run, "cancelled") then error(run, 0) end
        run, err, failure = nil, run, failure or run -- the others are asked all the same
      end
      runs[#runs + 1] = run
      if err then ok = false end
      engine.outages:policy(place, name, err)
    end
  end
  if not ok then engine.counters.poll_errors = engine.counters.poll_errors + 1 end
  if failure then error(failure, 0) end
  return runs, ok
end

-- ---- the timer ----

-- The apps in lines, one for each interval, whose front is due first. Who waits in a line already keeps its time; the
-- new ones are spread over the first interval.
local function lines_of(apps, before)
  local due_of = {}
  for _, line in ipairs(before) do
    for i = line.first, line.last do due_of[line[i].app .. "\0" .. line.interval] = line[i].due end
  end
  local lines, by_interval, now = {}, {}, time.monotonic()
  for _, app in ipairs(apps) do
    local line = by_interval[app.poll]
    if not line then
      line = { interval = app.poll, first = 1, last = 0, fresh = {} }
      by_interval[app.poll], lines[#lines + 1] = line, line
    end
    local entry = { app = app.name, due = due_of[app.name .. "\0" .. app.poll] }
    line.last = line.last + 1
    line[line.last] = entry
    if not entry.due then line.fresh[#line.fresh + 1] = entry end
  end
  for _, line in ipairs(lines) do
    local fresh = line.fresh
    local spread = math.min(line.interval, 0.05 * #fresh)
    for i, entry in ipairs(fresh) do entry.due = now + spread * (i - 1) / #fresh end
    local order = {}
    for i, entry in ipairs(line) do order[entry] = i end
    table.sort(line, function(a, b)
      if a.due ~= b.due then return a.due < b.due end
      return order[a] < order[b]
    end)
    line.fresh = nil
  end
  return lines
end

---Polls every app in its interval until the engine drains. Apps of one interval wait in a line, so that finding who
---is due costs nothing however many there are.
---@async
---@param engine table
function M.run(engine)
  local lines, busy = {}, 0
  local done = task.signal()
  local filled
  while not engine.draining do
    if filled ~= engine.app_edition then
      filled = engine.app_edition
      lines = lines_of(engine.config.app_list, lines)
    end
    local now, soonest = time.monotonic(), math.huge
    for _, line in ipairs(lines) do
      while line.first <= line.last and line[line.first].due <= now and busy < MAX_POLLS do
        local entry = line[line.first]
        line[line.first] = nil
        line.first, line.last = line.first + 1, line.last + 1
        entry.due = math.max(entry.due + line.interval, now + line.interval * 0.5)
        line[line.last] = entry
        local app = engine.config.apps[entry.app]
        if app then
          busy = busy + 1
          task.start({ name = "poll " .. entry.app }, function()
            local _ <close> = task.defer(function() busy = busy - 1 done:notify() end)
            local ok, err = pcall(M.poll, engine, app)
            if not ok and not engine.stopping then engine:trouble("polling " .. app.name .. " failed", err) end
          end)
        end
      end
      if line.first <= line.last then soonest = math.min(soonest, line[line.first].due) end
    end
    if busy >= MAX_POLLS then
      done:wait()
    elseif engine.wake:wait(math.max(0.001, math.min(soonest - time.monotonic(), 3600))) then
      for name in pairs(engine.hurry) do -- its source is known to have moved
        engine.hurry[name] = nil
        for _, line in ipairs(lines) do
          for i = line.first, line.last do
            if line[i].app == name then -- to the front; the others keep their order
              local entry = line[i]
              for j = i, line.first + 1, -1 do line[j] = line[j - 1] end
              line[line.first] = entry
              entry.due = time.monotonic()
              break
            end
          end
        end
      end
    end
  end
end

return M
