-- Who holds which place, and why. Methods of the journal.
local time = require "time"
local words = require("journal.words").kept

---@class (partial) Journal
local Holds = {}

---Who holds a place, and why.
---@param app string
---@param environment string
---@return {by: string, reason?: string, at: number}? hold
function Holds:hold_of(app, environment)
  return self:row([[SELECT "by", reason, at FROM holds WHERE app = ? AND environment = ?]], app, environment)
end

---Holds a place; the first hold stays.
---@param app string
---@param environment string
---@param by string
---@param reason? string
---@return integer changes
function Holds:hold(app, environment, by, reason)
  return self:synced("hold", function()
    return self:write([[INSERT OR IGNORE INTO holds (app, environment, "by", reason, at) VALUES (?, ?, ?, ?, ?)]],
      app, environment, words(by), words(reason), time.now())
  end)
end

---@param app string
---@param environment string
---@return integer changes
function Holds:unhold(app, environment)
  return self:synced("hold", function()
    return self:write("DELETE FROM holds WHERE app = ? AND environment = ?", app, environment)
  end)
end

---The newest holds.
---@param most? integer All unless told.
---@return {app: string, environment: string, by: string, reason?: string}[] holds
function Holds:holds(most)
  return self:rows([[SELECT app, environment, "by", substr(reason, 1, 200) AS reason FROM holds
    ORDER BY at DESC LIMIT ?]], most or -1)
end

return Holds
