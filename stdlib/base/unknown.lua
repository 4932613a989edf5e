-- The error for an unknown app, environment or run: what was asked for, and the known ones.
local closest = require("base.suggest").closest
local errors = require "errors"

local M = {}

local MOST <const> = 20 -- names that are listed

-- What there is, and which of it was probably meant.
local function instead(name, list, extra)
  local names, seen = {}, {}
  local function add(known)
    if not seen[known] then
      seen[known] = true
      names[#names + 1] = known
    end
  end
  for _, item in ipairs(list) do add(item.name) end
  for _, known in ipairs(extra or {}) do add(known) end
  local meant = closest(name, names)
  return ("%s%s%s"):format(#names > 0 and table.concat(names, ", ", 1, math.min(#names, MOST)) or "none",
    #names > MOST and (" and %d more"):format(#names - MOST) or "",
    meant and (" (did you mean %s?)"):format(meant) or "")
end

---@param apps {name: string}[]
---@param name string
---@param op string Who asks.
---@return nil
---@return Err err not_found
function M.app(apps, name, op)
  return errors.fail("not_found", ("there is no app '%s'; there are: %s"):format(name, instead(name, apps)),
    { op = op })
end

---@param app AppConfig
---@param name string
---@param op string
---@param policies? string[] Where a policy's name is as good.
---@return nil
---@return Err err not_found
function M.environment(app, name, op, policies)
  return errors.fail("not_found", ("%s has no environment%s '%s'; it has: %s"):format(app.name,
    policies and " or policy" or "", name, instead(name, app.environment_list, policies)), { op = op })
end

---What is wrong with a question that has no answer: there is no such app or environment.
---@param apps AppConfig[]
---@param query HistoryQuery
---@return Err? err not_found
function M.asked(apps, query)
  local found
  for _, app in ipairs(apps) do
    if app.name == query.app then found = app end
  end
  if query.app and not found then return select(2, M.app(apps, query.app, "history")) end
  if not found or not query.environment then return nil end
  for _, environment in ipairs(found.environment_list) do
    if environment.name == query.environment then return nil end
  end
  return select(2, M.environment(found, query.environment, "history"))
end

---@param id any
---@param op string
---@return nil
---@return Err err not_found
function M.run(id, op)
  return errors.fail("not_found", ("there is no run %s; 'moontide history' lists them"):format(tostring(id)),
    { op = op })
end

return M
