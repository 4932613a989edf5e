-- Reporting to the forge and to channels: commit statuses, deployments, notifications. Called when a run begins and
-- ends, and when a decision needs people.
--
-- Nothing here decides, and nothing here fails a run: a channel that is down is logged.
local errors, log, task, time = require "errors", require "log", require "task", require "time"
local tables, view = require "base.tables", require "journal.view"

local M = {}

---@class Reporter
---@field private world World
---@field private telling integer Reports under way.
---@field private tellers table<table, true> The tasks that report.
---@field private told Signal One was reported.
local Reporter = {}
Reporter.__index = Reporter

---@param world World
---@return Reporter
function M.new(world)
  return setmetatable({ world = world, telling = 0, tellers = {}, told = task.signal() }, Reporter)
end

local function quietly(self, name, fn)
  self.telling = self.telling + 1
  local teller
  teller = task.start({ name = name, detached = true }, function()
    self.tellers[teller] = true
    local _ <close> = task.defer(function()
      self.telling, self.tellers[teller] = self.telling - 1, nil
      self.told:notify()
    end)
    local ok, err = pcall(task.deadline, 30, fn)
    if not ok and not errors.is(err, "cancelled") then log.warn(name .. " failed", { error = tostring(err) }) end
  end)
end

---Waits until all reports are sent, or the seconds are over.
---@async
---@param seconds number
function Reporter:wait(seconds)
  local last = time.monotonic() + seconds
  while self.telling > 0 and time.monotonic() < last do self.told:wait(0.1) end
end

---Stops reporting.
function Reporter:cancel()
  for teller in pairs(self.tellers) do teller:cancel() end
end

-- How the state of a run is called there: of a commit status, and of a deployment.
local COMMIT_STATE <const> = { running = "pending", done = "success", superseded = "success" }
local DEPLOYMENT_STATE <const> = { running = "in_progress", done = "success", superseded = "inactive" }

-- A commit status for the environment, and a deployment that the run's number finds again.
local function tell_github(forge, at, row, commit, state, description)
  assert(forge:set_status(commit, {
    state = COMMIT_STATE[state] or "failure", context = "moontide/" .. at.environment, description = description,
  }))
  local id = assert(forge:deploy(commit, {
    environment = at.environment, production = at.environment == "production",
    key = ("%s run %d"):format(at.app, row.id), description = row.title,
  }))
  assert(forge:set_deployment_status(id, {
    state = DEPLOYMENT_STATE[state] or "failure", description = description,
    environment_url = at.config.host and "https://" .. at.config.host or nil,
  }))
end

-- The try of a run that failed by a transient error with which people hear that it waits.
local TOLD_AT <const> = 3

---Reports the state of a run to the channels and the forge.
---@param at Place
---@param row table
---@param state "running"|RunState
---@param err? Err
---@param again? integer
function Reporter:report(at, row, state, err, again)
  local commit = row.change and row.change.commit
  local title = ("%s %s: %s"):format(at.app, at.environment, row.title)
  local failed = state ~= "running" and state ~= "done" and state ~= "superseded"
  if failed and (not again or row.try == TOLD_AT) and #at.config.notify > 0 then
    quietly(self, "notifying", function()
      assert(self.world.notify(at.config.notify, {
        level = again and "warn" or "error", title = title,
        text = again and ("waits: %s; it is tried again until that is over"):format(tostring(err))
          or ("%s: %s"):format(state, view.failure(row, state, err)),
        app = at.app, environment = at.environment, version = row.change and row.change.version,
        commit = commit, run = row.id,
      }))
    end)
  elseif state == "done" and row.kind ~= "rollback" and #at.config.notify > 0 then
    quietly(self, "notifying", function()
      assert(self.world.notify(at.config.notify, {
        level = "info", title = title, text = "released", app = at.app, environment = at.environment,
        version = row.change and row.change.version, commit = commit, run = row.id,
      }))
    end)
  end
  local one_of_many = row.try > 1 and (again or state == "running") -- the forge keeps the status of the first try
  if commit and at.app_config.source.github and not one_of_many then
    quietly(self, "reporting to GitHub", function()
      local forge = self.world.forge(at.app_config)
      if not forge then return end
      local description = log.redact(err and err.message or row.title)
      -- In order: of two that overtake each other the forge would keep the wrong one.
      local _ <close> = task.lock(self, ("%s %s"):format(at.app, at.environment))
      tell_github(forge, at, row, commit, state, description)
    end)
  end
end

---Notifies every channel that some environment names of what holds for all of them.
---@param config Config
---@param title string
---@param text string
function Reporter:announce(config, title, text)
  local names = {}
  for _, app in ipairs(config.app_list) do
    for _, environment in ipairs(app.environment_list) do
      for _, name in ipairs(environment.notify) do
        if not tables.contains(names, name) then names[#names + 1] = name end
      end
    end
  end
  if #names == 0 then return end
  quietly(self, "notifying", function()
    assert(self.world.notify(names, { level = "info", title = title, text = text }))
  end)
end

---Notifies of something that no run shows: a tag that moved, a rollback that failed.
---@param at Place
---@param decision Decision
function Reporter:alarm(at, decision)
  log.warn(decision.reason, { app = at.app, environment = at.environment, subject = decision.subject })
  if #at.config.notify == 0 then return end
  quietly(self, "notifying", function()
    assert(self.world.notify(at.config.notify, {
      level = "error", title = ("%s %s: %s"):format(at.app, at.environment, decision.subject),
      text = decision.reason, app = at.app, environment = at.environment,
    }))
  end)
end

return M
