-- Reading queries to the engine: health, status, history, why, logs and metrics. Methods of the engine.
local current, sys, time, view = require "engine.current", require "base.sys", require "time", require "journal.view"

---@class (partial) EngineState
local Queries = {}

---@return Health
function Queries:health()
  if self.draining then return { live = true, ready = false, reason = "stopping" } end
  local freeze = self.journal:freeze_of(time.now())
  return {
    live = true, ready = self.ready, reason = not self.ready and "starting" or nil,
    frozen = freeze and require("journal.words").held(freeze),
  }
end

---What runs where, and how the host itself is.
---@async
---@return Status
function Queries:status()
  if not self.draining then current.look(self) end
  local status = view.status(self.journal, self.config, self)
  local health = self:health()
  status.host = {
    version = sys.version, pid = sys.pid(), hostname = sys.hostname(), started_at = self.started_at,
    config = self.config.file, state_dir = self.state, scripts = self.config.scripts, loaded_at = self.loaded_at,
    reload_error = require("engine.reload").words(self.reload_faults), reload_faults = self.reload_faults,
    live = health.live, ready = health.ready, reason = health.reason,
    stopping = self.draining, leader = self.leader and self.leader() or nil,
  }
  return status
end

---@param query HistoryQuery
---@return History?
---@return Err? err
function Queries:history(query) return view.history(self.journal, query, self) end

---@param app string
---@param name? string A policy's or an environment's name.
---@return Why? why
---@return Err? err
---@return_overload nil, Err
function Queries:why(app, name)
  local why, err = view.why(self.journal, app, name, self.config, self)
  if not why then return nil, err end
  why.reload_faults = self:reload_faults_of(app)
  return why
end

---@async
---@param id integer
---@param offset integer
---@return RunLog? log
---@return Err? err
---@return_overload nil, Err
function Queries:run_log(id, offset) return view.run_log(self.journal, id, offset, self) end

---What happened lately.
---@param query EventQuery
---@return EventPage
function Queries:events(query) return self.event_log:page(query) end

---Waits until something happens.
---@async
---@param seconds Seconds
function Queries:events_wait(seconds) self.event_log:wait(seconds) end

---@return Metric[]
function Queries:metrics() return require("engine.metrics").collect(self) end

return Queries
