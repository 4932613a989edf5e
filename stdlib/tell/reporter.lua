-- Telling the world outside: commit statuses, deployments, notifications; and hearing from the forge that news exist.
--
-- Nothing here decides, and nothing here fails a run: a channel that is down is logged.
local errors, log, task, time = require "errors", require "log", require "task", require "time"
local view = require "journal.view"

local M = {}

local function quietly(engine, name, fn)
  engine.telling = (engine.telling or 0) + 1
  local teller
  teller = task.start({ name = name, detached = true }, function()
    engine.tellers[teller] = true
    local _ <close> = task.defer(function()
      engine.telling, engine.tellers[teller] = engine.telling - 1, nil
      engine.idle:notify()
    end)
    local ok, err = pcall(task.deadline, 30, fn)
    if not ok and not errors.is(err, "cancelled") then log.warn(name .. " failed", { error = tostring(err) }) end
  end)
end

---Waits until everybody was told, or the seconds are over. A host that ends earlier leaves them in the dark.
---@async
---@param engine table
---@param seconds number
function M.told(engine, seconds)
  local last = time.monotonic() + seconds
  while (engine.telling or 0) > 0 and time.monotonic() < last do engine.idle:wait(0.1) end
end

-- How the state of a run is called there: of a commit status, and of a deployment.
local COMMIT_STATE <const> = { running = "pending", done = "success", superseded = "success" }
local DEPLOYMENT_STATE <const> = { running = "in_progress", done = "success", superseded = "inactive" }

-- A commit status for the environment, and a deployment that the run's number finds again.
local function tell_github(hub, at, row, commit, state, description)
  assert(hub:set_status(commit, {
    state = COMMIT_STATE[state] or "failure", context = "moontide/" .. at.environment, description = description,
  }))
  local id = assert(hub:deploy(commit, {
    environment = at.environment, production = at.environment == "production",
    key = ("%s run %d"):format(at.app.name, row.id), description = row.title,
  }))
  assert(hub:set_deployment_status(id, {
    state = DEPLOYMENT_STATE[state] or "failure", description = description,
    environment_url = at.config.host and "https://" .. at.config.host or nil,
  }))
end

---How a branch came from one commit to another: "moved", "was reset", "was forced".
---@async
---@param engine table
---@param app AppConfig
---@param before string A commit.
---@param now string A commit.
function M.explain(engine, app, before, now)
  local repo = engine.world.repository(app)
  local ok, comparison = pcall(function()
    local hub = engine.world.forge(app)
    if hub then return hub:compare(before, now) end
    return repo:compare(before, now)
  end)
  local status = ok and type(comparison) == "table" and comparison.status or nil
  if status == "behind" then return "was reset" end
  if status == "diverged" then return "was forced" end
  return "moved"
end

-- The try of a run that failed by a transient error with which people hear that it waits.
local TOLD_AT <const> = 3

---Tells channels and the forge what became of a run.
---@param engine table
---@param at Place
---@param row table
---@param state "running"|RunState
---@param err? Err
---@param again? integer
function M.report(engine, at, row, state, err, again)
  local commit = row.change and row.change.commit
  local title = ("%s %s: %s"):format(at.app.name, at.environment, row.title)
  local failed = state ~= "running" and state ~= "done" and state ~= "superseded"
  if failed and (not again or row.try == TOLD_AT) and #at.config.notify > 0 then
    quietly(engine, "notifying", function()
      assert(engine.world.notify(at.config.notify, {
        level = again and "warn" or "error", title = title,
        text = again and ("waits: %s; it is tried again until that is over"):format(tostring(err))
          or ("%s: %s"):format(state, view.failure(row, state, err)),
        app = at.app.name, environment = at.environment, version = row.change and row.change.version,
        commit = commit, run = row.id,
      }))
    end)
  elseif state == "done" and row.kind ~= "rollback" and #at.config.notify > 0 then
    quietly(engine, "notifying", function()
      assert(engine.world.notify(at.config.notify, {
        level = "info", title = title, text = "released", app = at.app.name, environment = at.environment,
        version = row.change and row.change.version, commit = commit, run = row.id,
      }))
    end)
  end
  local one_of_many = row.try > 1 and (again or state == "running") -- the forge keeps what the first try said
  if commit and at.app.source.github and not one_of_many then
    quietly(engine, "reporting to GitHub", function()
      local hub = engine.world.forge(at.app)
      if not hub then return end
      local description = log.redact(err and err.message or row.title)
      -- In order: of two that overtake each other the forge would keep the wrong one.
      engine:alone(("github %s %s"):format(at.app.name, at.environment), function()
        tell_github(hub, at, row, commit, state, description)
      end)
    end)
  end
end

---Tells people of something that no run shows: a tag that moved, a rollback that failed.
---@param engine table
---@param at Place
---@param decision Decision
function M.alarm(engine, at, decision)
  log.warn(decision.reason, { app = at.app.name, environment = at.environment, subject = decision.subject })
  if #at.config.notify == 0 then return end
  quietly(engine, "notifying", function()
    assert(engine.world.notify(at.config.notify, {
      level = "error", title = ("%s %s: %s"):format(at.app.name, at.environment, decision.subject),
      text = decision.reason, app = at.app.name, environment = at.environment,
    }))
  end)
end

-- Listens to one repository's events; each makes its app's next poll come at once.
local function listen(engine, app)
  local hub = engine.world.forge(app)
  if not hub then return end
  engine:app_state(app.name).hub = hub
  hub:follow(function()
    engine.world.repository(app):expire()
    engine.hurry[app.name] = true
    engine.wake:notify()
  end)
end

---Follows the forges of all apps until it is cancelled.
---@async
---@param engine table
function M.follow(engine)
  while true do
    local config, listeners = engine.config, {}
    for _, app in ipairs(config.app_list) do
      if app.source.github then
        listeners[#listeners + 1] = task.spawn(function()
          local ok, err = pcall(listen, engine, app)
          if not ok and not errors.is(err, "cancelled") then
            log.warn("following the forge failed", { app = app.name, error = tostring(err) })
          end
        end)
      end
    end
    repeat engine.reloaded:wait() until engine.config ~= config
    for _, listener in ipairs(listeners) do listener:cancel() end
  end
end

return M
