-- A standby, as the control servers show it: alive, ready to take over, and refusing orders.
--
-- It has nothing open of the state folder, which may be the acting host's; what it knows is who acts.
local errors, sys, task, time = require "errors", require "base.sys", require "task", require "time"

---@class Standby
---@field election Election
---@field config Config
---@field started_at Wall
---@field stopping boolean
---@field reload fun(): ReloadResult?, Err? The host's.
---@field reload_faults? Fault[] Why what is saved is not what this host would act by.
---@field trouble? string Why the state could not be opened when this host led; for the operator.
local Standby = {}
Standby.__index = Standby

local M = {}

---@param config Config
---@param election Election
---@return Standby
function M.new(config, election)
  return setmetatable({ config = config, election = election, started_at = time.now(), stopping = false }, Standby)
end

-- Who acts, without details: this is public. Errors of the API server name servers and
-- accounts; they are for the operator's status.
local function words(self)
  local holder = self.election:holder()
  local said = self.election.leading and "takes over" or holder and ("standby; %s acts"):format(holder)
    or "standby; nobody acts"
  if self.election.problem then said = said .. "; the last look at the Lease failed" end
  if self.trouble then said = said .. "; the state could not be opened" end
  return said
end

---@return Health
function Standby:health()
  if self.stopping then return { live = true, ready = false, reason = "stopping" } end
  if self.trouble then return { live = true, ready = false, reason = words(self) } end
  return { live = true, ready = true, standby = words(self) }
end

---@return Status
function Standby:status()
  local health = self:health()
  return {
    at = time.now(), apps = {},
    host = {
      version = sys.version, pid = sys.pid(), hostname = sys.hostname(), started_at = self.started_at,
      config = self.config.file, state_dir = self.config.state, scripts = self.config.scripts,
      loaded_at = self.started_at, live = true, ready = health.ready,
      reason = self.trouble or health.standby or health.reason,
      reload_error = require("engine.reload").words(self.reload_faults), reload_faults = self.reload_faults,
      stopping = self.stopping, standby = true, leader = require("hosts.leader").status(self.election),
    },
  }
end

---@return Metric[]
function Standby:metrics()
  local list = {}
  local function gauge(name, help, value)
    list[#list + 1] = {
      name = "moontide_" .. name, type = "gauge", help = help, samples = { { labels = {}, value = value } },
    }
  end
  local resident, lua = sys.memory()
  gauge("leader", "1 while this host acts.", 0)
  gauge("resident_bytes", "Memory of the process.", resident)
  gauge("lua_bytes", "Memory that Lua holds.", lua)
  gauge("tasks", "Tasks alive.", task.count())
  gauge("start_time_seconds", "When the host started.", self.started_at)
  return list
end

---Why whatever else is asked of a host cannot be answered here: only the one that acts knows it.
---@return Err
function Standby:elsewhere()
  local holder = self.election:holder()
  return errors.new("busy", holder and ("this host stands by; ask the one that acts: %s"):format(holder)
    or "this host stands by, and nobody acts now", { op = "leader", target = holder })
end

return M
