-- Outages that were notified: a restarted host neither notifies them again nor forgets to notify
-- that they are over. Methods of the journal.
local json = require "json"
local tables = require "base.tables"

---@class (partial) Journal
local Outages = {}

---@return {key: string, app: string, what: string, since: number, told: table<string, true>}[]
function Outages:outages()
  local list = self:rows "SELECT key, app, what, since, told FROM outages ORDER BY key"
  for _, row in ipairs(list) do
    local told = {}
    for _, channel in ipairs(assert(json.decode(row.told))) do told[channel] = true end
    row.told = told
  end
  return list
end

---Records which channels were notified of an outage; it is forgotten when all were notified of its end.
---@param key string
---@param outage {app: string, what: string, since: number, told: table<string, true>}
function Outages:told_outage(key, outage)
  local channels = tables.keys(outage.told)
  return self:synced("outage", function()
    if #channels == 0 then return self:write("DELETE FROM outages WHERE key = ?", key) end
    return self:write([[INSERT INTO outages (key, app, what, since, told) VALUES (?1, ?2, ?3, ?4, ?5)
      ON CONFLICT DO UPDATE SET what = ?3, told = ?5]], key, outage.app, outage.what, outage.since,
      json.encode(json.array(channels)))
  end)
end

return Outages
