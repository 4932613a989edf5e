-- The decisions about each subject, when they differ from the ones before. Methods of the journal.
local words = require("journal.words").kept

---@class (partial) Journal
local Decisions = {}

---Appends decisions (those that differ from the ones before).
---@param list Decision[]
function Decisions:decide(list)
  self:lazily("decision", function()
    for _, d in ipairs(list) do
      self:write([[INSERT INTO decisions (app, environment, policy, subject, verdict, reason, file, line, at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)]],
        d.app, d.environment, d.policy, words(d.subject or ""), d.verdict, words(d.reason), d.file, d.line, d.at)
    end
    return true
  end)
end

---Whether the same was decided of the same subject before, whatever was said of it in between.
---@param d Decision
---@return boolean
function Decisions:decided_before(d)
  return self:row([[SELECT 1 AS yes FROM decisions WHERE app = ? AND environment = ? AND policy = ? AND subject = ?
    AND verdict = ? AND reason = ? LIMIT 1]], d.app, d.environment, d.policy, words(d.subject), d.verdict,
    words(d.reason)) ~= nil
end

---The latest decision for every subject of a policy.
---@param app string
---@param environment string
---@param policy string
function Decisions:last_decisions(app, environment, policy)
  return self:rows([[SELECT subject, verdict, reason, file, line, at FROM decisions WHERE id IN
    (SELECT max(id) FROM decisions WHERE app = ? AND environment = ? AND policy = ? GROUP BY subject)]],
    app, environment, policy)
end

return Decisions
