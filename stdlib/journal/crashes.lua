-- Crash notes: what the loop was doing when a host went down with it. Methods of the journal.
--
-- A policy that ended three hosts with the same text is suspended until its text changes or an operator resumes it.
-- Runs count their own attempts.
local time = require "time"

---@class (partial) Journal
local Crashes = {}

local SUSPENDS <const> = 3      -- ends with one text
local FORGOTTEN <const> = 86400 -- seconds after which fewer of them say nothing any more

---@class Suspension
---@field kind "watch"|"load"
---@field app string "" for a load: it is everybody's.
---@field environment string
---@field policy string
---@field hash string Of the policy's text.
---@field ends integer
---@field at number When the host last ended.

---Writes down that a host ended while a policy was asked.
---@param unit {kind: string, app: string, environment: string, policy: string, hash: string}
---@return integer ends How often that happened with this text.
function Crashes:ended(unit)
  return self:synced("ended", function()
    local name = { unit.kind, unit.app, unit.environment, unit.policy }
    local function count()
      return self:count([[SELECT count(*) AS n FROM ends WHERE kind = ? AND app = ? AND environment = ?
        AND policy = ? AND hash = ?]], name[1], name[2], name[3], name[4], unit.hash)
    end
    if count() < SUSPENDS then
      self:write([[DELETE FROM ends WHERE kind = ?1 AND app = ?2 AND environment = ?3 AND policy = ?4
        AND (hash <> ?5 OR at < ?6)]], name[1], name[2], name[3], name[4], unit.hash, time.now() - FORGOTTEN)
    end
    self:write("INSERT INTO ends (kind, app, environment, policy, hash, at) VALUES (?, ?, ?, ?, ?, ?)",
      name[1], name[2], name[3], name[4], unit.hash, time.now())
    return count()
  end)
end

---@return Suspension[]
function Crashes:suspensions()
  return self:rows([[SELECT kind, app, environment, policy, hash, count(*) AS ends, max(at) AS at FROM ends
    GROUP BY kind, app, environment, policy, hash HAVING count(*) >= ?]], SUSPENDS)
end

---Lets the policies of a place be asked again.
---@param app string
---@param environment string
---@param policies string[] Whose loading may be tried again, too.
---@return integer lifted How many ends were forgotten.
function Crashes:lift_suspensions(app, environment, policies)
  return self:synced("lift suspensions", function()
    local lifted = self:write("DELETE FROM ends WHERE app = ? AND environment = ?", app, environment)
    for _, name in ipairs(policies) do
      lifted = lifted + self:write("DELETE FROM ends WHERE kind = 'load' AND policy = ?", name)
    end
    return lifted
  end)
end

return Crashes
