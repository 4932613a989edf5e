-- Polling: who is due, what the repository looks like, and what its policies' answers become: ask, judge, accept.
local accept, ask, errors, first, judge, task, time = require "engine.accept", require "engine.ask", require "errors",
  require "engine.first", require "engine.judge", require "task", require "time"

local M = {}

local MAX_POLLS <const> = 32         -- at once

-- ---- one policy at one place ----

-- Takes what runs at a place that nobody of ours has touched yet. A policy that releases looks, too: what should be may
-- be what is.
local function adopt(engine, place, compiled)
  local releases = place.app.follows == "git" and compiled.name == place.config.policy
  if compiled.first ~= "adopt" and not releases then return false end
  if engine.journal:touched(place.app.name, place.environment) then return false end
  return first.adopt(engine, place, compiled.first == "adopt")
end

local function decide(engine, place, compiled)
  local found, problem = false, nil
  if not engine.journal:watch(place.app.name, place.environment, compiled.name) then
    found, problem = adopt(engine, place, compiled)
  end
  local answer = found == nil and ask.failed(problem) or ask.ask(place, compiled)
  if answer.err and (engine.stopping or answer.err.code == "cancelled") then return nil end
  local memory = judge.memory(engine.journal, place, compiled, answer, found or nil)
  return accept.accept(engine, place, compiled, judge.judge(answer, memory)), answer.err
end

---Asks one policy and acts on the answer. One at a time for each place: a poll and a run that failed may ask at the
---same moment, and both would find the same change to be new.
---@async
---@param engine table
---@param place Place
---@param compiled Policy
---@return integer? run A change that was accepted.
---@return Err? err
function M.decide(engine, place, compiled)
  return engine:alone(("decide %s %s"):format(place.app.name, place.environment), function()
    return decide(engine, place, compiled)
  end)
end

-- ---- one app ----

-- How often the same much shorter list must come before it is taken for news (after a restart; while the host runs,
-- git.lua itself has doubts).
local DOUBTS <const> = 3

-- What the repository looks like; first sight and new tags are remembered. A failure is kept for the policies that
-- ask: those that do not (rollback) go on. The same snapshot as before costs nothing more.
local function observe(engine, app, state)
  if app.follows ~= "git" then
    local ok, problem = true, nil -- its policies look for themselves, and find what was asked for here
    if app.charts then ok, problem = require("charts.follow").poll(app, engine.world, engine.config) end
    state.error = problem
    if ok then state.polled_at = time.now() end
    return
  end
  local repo = engine:repository(app)
  local snapshot, err = repo:refs()
  state.error = err
  if not snapshot then return end
  state.polled_at = time.now()
  if snapshot == state.snapshot then return end
  local head, tags
  head, err = repo:head(app.branch)
  if not head and not errors.is(err, "not_found") then
    state.error = err
    return
  end
  tags, err = repo:tags()
  if not tags then
    state.error = err
    return
  end
  local before = engine.journal:snapshot(app.name)
  local far_fewer = before and before.tags >= 4 and #tags < before.tags / 2
  if far_fewer and not state.snapshot and (state.doubts or 0) < DOUBTS then
    state.doubts = (state.doubts or 0) + 1
    state.error = errors.new("mismatch",
      ("the repository shows %d tags where it had %d: not believed yet"):format(#tags, before.tags),
      { op = "git.tags", target = app.name })
    return
  end
  local known, new = engine.journal:tags(app.name), {}
  for _, tag in ipairs(tags) do
    if not known[tag.name] then new[#new + 1] = tag end
  end
  local commit = head and head.commit
  if not before or #new > 0 or before.head ~= commit or before.tags ~= #tags or before.branch ~= app.branch then
    state.previous_head = before and before.head
    engine.journal:remember_repository(app.name, { branch = app.branch, head = commit, tags = #tags }, new,
      before == nil)
  end
  state.snapshot, state.head, state.doubts = snapshot, commit, nil
end

---Polls one app: each policy of each of its environments says what should be.
---@async
---@param engine table
---@param app AppConfig
---@return integer[] runs
---@return boolean ok
function M.poll(engine, app)
  local state = engine:app_state(app.name)
  if state.polling then return {}, true end -- somebody does it now
  local guard <close> = setmetatable({}, { __close = function() state.polling = false end })
  state.polling = guard ~= nil
  local runs, ok, failure = {}, true, nil
  engine.counters.polls = engine.counters.polls + 1
  observe(engine, app, state)
  for _, environment in ipairs(app.environment_list) do
    if engine.config.apps[app.name] ~= app then break end -- a reload: the next poll asks as it says
    local place = engine:place(app.name, environment.name)
    for _, name in ipairs { environment.policy, environment.rollback or nil } do
      local done, run, err = pcall(M.decide, engine, place, engine.policies[name])
      if not done then
        if engine.stopping or errors.is(run, "cancelled") then error(run, 0) end
        run, err, failure = nil, run, failure or run -- the others are asked all the same
      end
      runs[#runs + 1] = run
      if err then ok = false end
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
    for i, entry in ipairs(line) do entry.order = i end
    table.sort(line, function(a, b)
      if a.due ~= b.due then return a.due < b.due end
      return a.order < b.order
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
            local guard <close> = setmetatable({}, { __close = function() busy = busy - 1 done:notify() end })
            local ok, err = pcall(M.poll, engine, guard and app)
            if not ok and not engine.stopping then engine:trouble("polling " .. app.name .. " failed", err) end
          end)
        end
      end
      if line.first <= line.last then soonest = math.min(soonest, line[line.first].due) end
    end
    if busy >= MAX_POLLS then
      done:wait()
    elseif engine.wake:wait(math.max(0.001, math.min(soonest - time.monotonic(), 3600))) then
      for name in pairs(engine.hurry) do -- somebody knows that the source moved
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
