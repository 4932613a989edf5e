-- Who holds which place, and why; and who holds everything: a freeze, the hold of no app. Methods of the journal.
local time = require "time"
local words = require("journal.words").kept

---@class (partial) Journal
local Holds = {}

local COLUMNS <const> = [[SELECT "by", reason, at, till, CASE app WHEN '' THEN 1 END AS frozen FROM holds ]]

local function hold_row(row)
  if row then row.frozen = row.frozen and true end
  return row
end

---Who holds a place, and why: it alone, or everything.
---@param app string
---@param environment string
---@return Hold? hold
function Holds:hold_of(app, environment) return self:own_hold(app, environment) or self:freeze_of(time.now()) end

---Who holds a place by itself.
---@param app string
---@param environment string
---@return Hold? hold
function Holds:own_hold(app, environment)
  return hold_row(self:row(COLUMNS .. "WHERE app = ? AND environment = ?", app, environment))
end

---Who holds everything.
---@param now? Wall Left out: also a freeze whose time is over.
---@return Hold? freeze
function Holds:freeze_of(now)
  local freeze = hold_row(self:row(COLUMNS .. "WHERE app = '' AND environment = ''"))
  if freeze and freeze.till and now and freeze.till <= now then return nil end
  return freeze
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

---Holds everything; another freeze takes the place of the one before.
---@param by string
---@param reason? string
---@param till? Wall
---@return integer changes
function Holds:freeze(by, reason, till)
  return self:synced("hold", function()
    return self:write([[INSERT OR REPLACE INTO holds (app, environment, "by", reason, at, till)
      VALUES ('', '', ?, ?, ?, ?)]], words(by), words(reason), time.now(), till)
  end)
end

---Ends the freeze.
---@return integer changes
function Holds:thaw() return self:unhold("", "") end

---The newest holds, a freeze among them.
---@param most? integer All unless told.
---@return {app: string, environment: string, by: string, reason?: string, till?: Wall}[] holds
function Holds:holds(most)
  return self:rows([[SELECT app, environment, "by", substr(reason, 1, 200) AS reason, till FROM holds
    ORDER BY app = '' DESC, at DESC LIMIT ?]], most or -1)
end

return Holds
