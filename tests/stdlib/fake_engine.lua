-- An engine that remembers what it was asked and answers from a table: for tests of everything in front of it.
---@diagnostic disable: undefined-field -- parts of things and wrong ones on purpose; a nil fails the test

local M = {}
M.__index = M

local NOW = 1763900000

function M.run_info(fields)
  local run = {
    id = 42, app = "web", environment = "production", policy = "production", state = "running", kind = "change",
    key = "v1.4.0", title = "v1.4.0 of 3f2a9c1aa", by = "ann", queued_at = NOW - 60, started_at = NOW - 50,
    attempts = 1, steps = 2,
  }
  for key, value in pairs(fields or {}) do run[key] = value end
  return run
end

function M.new()
  local self = setmetatable({ calls = {}, log = {}, ready = true, live = true }, M)
  self.environments = {
    { name = "staging", policy = "staging", state = "idle", queued = 0, host = "staging.example.com",
      current = {
        commit = ("3f2a9c1"):rep(5) .. "12345", digest = "sha256:" .. ("a"):rep(64), at = NOW - 3600, run = 41,
      } },
    { name = "production", policy = "production", state = "held", queued = 1,
      hold = { by = "ann@box", reason = "sale until Monday", at = NOW - 7200 },
      current = {
        version = "v1.3.9", commit = ("ab"):rep(20), digest = "sha256:" .. ("b"):rep(64), at = NOW - 86400 * 3,
      } },
  }
  return self
end

function M:note(name, value)
  self.calls[#self.calls + 1] = { name, value }
  if self.fails then return nil, self.fails end
  return true
end

function M:status()
  local fine, err = self:note("status")
  if not fine then return nil, err end
  return {
    at = NOW,
    host = {
      version = "test", pid = 1, hostname = "box", started_at = NOW - 100, config = "/c", state_dir = "/s",
      loaded_at = NOW - 100, live = self.live, ready = self.ready, stopping = false,
    },
    apps = { {
      name = "web", source = "https://example.com/web.git", branch = "main", environments = self.environments,
    } },
  }
end

function M:history(query)
  local fine, err = self:note("history", query)
  if not fine then return nil, err end
  if query.app and query.app ~= "web" then return
    require("base.unknown").app({ { name = "web" } }, query.app, "history") end
  return { runs = self.runs or {
    M.run_info {
      id = 43, state = "failed", ended_at = NOW - 10, error = { code = "unhealthy", message = "it answers 500" },
    },
    M.run_info { id = 42, state = "done", ended_at = NOW - 40 },
  } }
end

function M:why(app, policy)
  local fine, err = self:note("why", { app, policy })
  if not fine then return nil, err end
  if app ~= "web" then return require("base.unknown").app({ { name = "web" } }, app, "why") end
  return { app = app, environments = self.environments, decisions = {
    { at = NOW - 5, count = 12, app = app, environment = "production", policy = "production", verdict = "refused",
      subject = "v2.0.0-rc.1", reason = "a pre-release may not follow v1.3.9", file = "scripts/production.lua",
      line = 17 },
  } }
end

-- The log grows by M.add; finish ends it.
function M:add(text)
  self.log[#self.log + 1] = { at = NOW, kind = "output", level = "info", text = text, stream = "stdout" }
end

function M:finish(state)
  self.ended = state
end

function M:run_log(id, offset)
  if id ~= 42 then return require("base.unknown").run(id, "logs") end
  local entries = {}
  for i = offset + 1, math.min(#self.log, offset + 1000) do entries[#entries + 1] = self.log[i] end
  return {
    run = M.run_info { state = self.ended or "running", ended_at = self.ended and NOW }, entries = entries,
    next = offset + #entries, done = self.ended ~= nil and offset + #entries >= #self.log,
  }
end

for _, verb in ipairs { "rollback", "release", "retry", "apply", "destroy" } do
  M[verb] = function(self, act)
    local fine, err = self:note(verb, act)
    if not fine then return nil, err end
    return M.run_info { kind = verb, title = verb .. " to " .. (act.what or "v1.3.8"), by = act.by }
  end
end

function M:cancel(act)
  local fine, err = self:note("cancel", act)
  if not fine then return nil, err end
  return M.run_info { id = act.run, state = "cancelled" }
end

for _, verb in ipairs { "hold", "unhold" } do
  M[verb] = function(self, act)
    local fine, err = self:note(verb, act)
    if not fine then return nil, err end
    return { self.environments[2] }
  end
end

for verb, state in pairs { approve = "pending", reject = "rejected" } do
  M[verb] = function(self, act)
    local fine, err = self:note(verb, act)
    if not fine then return nil, err end
    return {
      id = 7, run = 42, app = act.app, environment = act.environment or "deployment",
      name = "deployment/shop/web:1.2.4", title = "1.2.3 -> 1.2.4", votes = 2, voters = { act.by }, state = state,
      deadline = NOW, at = NOW, changed_at = NOW, archived = false,
    }
  end
end

-- The last events of a list; nothing new ever comes by itself.
function M:events(query)
  self:note("events", query)
  local page = { events = {}, next = query.since, started_at = NOW }
  for id = query.since + 1, math.min(#(self.event_log or {}), query.since + query.limit) do
    page.events[#page.events + 1], page.next = self.event_log[id], id
  end
  return page
end

function M.events_wait(_, seconds) require("time").sleep(math.min(seconds, 0.02)) end

function M:poll(app)
  local fine, err = self:note("poll", app)
  if not fine then return nil, err end
  return { apps = { "web" }, changes = {} }
end

function M:reload()
  local fine, err = self:note("reload")
  if not fine then return nil, err end
  return { apps = 1, policies = 3, changed = {} }
end

function M:health()
  return { live = self.live, ready = self.ready, reason = not self.ready and "starting" or nil }
end

function M.metrics()
  return {
    { name = "moontide_runs_total", type = "counter", help = "Runs that ended.\nBy state.", samples = {
      { labels = { app = 'we"b\\', state = "done" }, value = 3 },
      { labels = { app = "web", state = "failed" }, value = 0.5 },
    } },
    { name = "moontide_up", type = "gauge", help = "Up", samples = { { labels = {}, value = 1 } } },
  }
end

return M
