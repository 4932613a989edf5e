-- What /metrics shows. Labels are names from the configuration and fixed words, never anything from outside.
local problems, sys, task, time = require "journal.problems", require "base.sys", require "task", require "time"

local M = {}

local function metric(list, name, kind, help, samples)
  list[#list + 1] = { name = "moontide_" .. name, type = kind, help = help, samples = samples }
end

local function one(value) return { { labels = {}, value = value } } end

---@param engine table
---@return Metric[]
function M.collect(engine)
  local list, runs, places, holds, ages = {}, {}, {}, {}, {}
  local canaries, changed, healthy = {}, {}, {}
  local resident, lua = sys.memory()
  for state, n in pairs(engine.counters.runs) do runs[#runs + 1] = { labels = { state = state }, value = n } end
  table.sort(runs, function(a, b) return a.labels.state < b.labels.state end)
  for _, app in ipairs(engine.config.app_list) do
    local state = engine:app_state(app.name)
    ages[#ages + 1] = { labels = { app = app.name }, value = state.polled_at and time.now() - state.polled_at or -1 }
    for _, environment in ipairs(app.environment_list) do
      local labels = { app = app.name, environment = environment.name }
      local open = engine.journal:count_open(app.name, environment.name)
      places[#places + 1] = { labels = labels, value = open }
      for _, part in ipairs(problems.parts(engine.journal, app.name, environment, engine) or {}) do
        local of_part = { app = app.name, environment = environment.name, part = part.name }
        canaries[#canaries + 1] = { labels = of_part, value = part.canary and 1 or 0 }
        if part.since then changed[#changed + 1] = { labels = of_part, value = part.since } end
        if part.healthy ~= nil then healthy[#healthy + 1] = { labels = of_part, value = part.healthy and 1 or 0 } end
      end
      holds[#holds + 1] = { labels = labels, value = engine.journal:own_hold(app.name, environment.name) and 1 or 0 }
    end
  end
  if engine.leader then
    metric(list, "leader", "gauge", "1 while this host acts.", one(engine.lead:acting() and 1 or 0))
  end
  metric(list, "generation", "gauge", "Rises with every host that acts on this state, or holds the Lease.",
    one(engine.journal.generation))
  metric(list, "polls_total", "counter", "Polls of apps.", one(engine.counters.polls))
  metric(list, "poll_errors_total", "counter", "Polls in which a policy or what it asked failed.",
    one(engine.counters.poll_errors))
  metric(list, "reload_refused", "gauge", "1 while what is saved has faults and what was loaded before stays.",
    one(engine.reload_faults and 1 or 0))
  metric(list, "reloads_total", "counter", "Reloads, by their outcome.", {
    { labels = { outcome = "loaded" }, value = engine.reloads.loaded },
    { labels = { outcome = "refused" }, value = engine.reloads.refused },
  })
  metric(list, "runs_total", "counter", "Runs that ended, by their end.", runs)
  metric(list, "open_runs", "gauge", "Runs under way or waiting.", places)
  metric(list, "frozen", "gauge", "1 while everything is held.", one(engine.journal:freeze_of(time.now()) and 1 or 0))
  metric(list, "held", "gauge", "1 while a person or a policy holds the environment.", holds)
  if #canaries > 0 then
    metric(list, "part_canary", "gauge", "1 while a part has what the rest of its environment has not.", canaries)
    metric(list, "part_released_time_seconds", "gauge", "When a part got what it has.", changed)
    metric(list, "part_healthy", "gauge", "Whether the target of a part says it is well, when it was last looked at.",
      healthy)
  end
  metric(list, "poll_age_seconds", "gauge", "Seconds since the last poll that got an answer; -1 before the first.",
    ages)
  metric(list, "resident_bytes", "gauge", "Memory of the process.", one(resident))
  metric(list, "lua_bytes", "gauge", "Memory that Lua holds.", one(lua))
  metric(list, "tasks", "gauge", "Tasks alive.", one(task.count()))
  metric(list, "start_time_seconds", "gauge", "When the host started.", one(engine.started_at))
  return list
end

return M
