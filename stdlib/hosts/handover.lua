-- What a host hands over to its successor in an annotation of the Lease, since they may not share a state folder: the
-- holds, and which releases are bad. Without it a failover would lift holds and roll bad releases out again.
local json, labels, rollout_identity = require "json", require "base.labels", require "cluster.rollout.identity"

local M = {}

M.KEY = labels.PREFIX .. "handed-over" -- an annotation of the Lease
local OLD_KEY <const> = "moontide/handed-over" -- as earlier releases have it

local MOST <const> = 16 << 10
local MOST_HOLDS <const>, MOST_BAD <const> = 100, 50

---Writes it.
---@param journal Journal
---@param state_id string
---@return string json
function M.write(journal, state_id)
  local data = {
    state = state_id, generation = journal.generation,
    holds = journal:holds(MOST_HOLDS), bad = journal:bad_releases(MOST_BAD),
  }
  local text = assert(json.encode(data))
  while #text > MOST and #data.bad > 0 do -- a hold matters more
    table.remove(data.bad)
    text = assert(json.encode(data))
  end
  return #text <= MOST and text or ""
end

local function text_of(value) return type(value) == "string" and #value <= 500 and value or nil end

local function entries(list, place_of)
  local out = {}
  for _, item in ipairs(type(list) == "table" and list or {}) do
    if type(item) == "table" and #out < MOST_HOLDS and place_of(text_of(item.app), text_of(item.environment)) then
      out[#out + 1] = {
        till = type(item.till) == "number" and item.till or nil,
        app = item.app, environment = item.environment, by = text_of(item.by), reason = text_of(item.reason),
        version = text_of(item.version), commit = text_of(item.commit), digest = text_of(item.digest),
      }
    end
  end
  return out
end

-- The holds of the Lease replace those of this journal, which may be stale from an earlier generation.
local function take_holds(journal, list)
  local wanted, taken = {}, 0
  for _, hold in ipairs(list) do wanted[hold.app .. "/" .. hold.environment] = true end
  for _, hold in ipairs(journal:holds()) do
    if not wanted[hold.app .. "/" .. hold.environment] then journal:unhold(hold.app, hold.environment) end
  end
  for _, hold in ipairs(list) do
    local by = hold.by or "somebody"
    if hold.app == "" then
      taken = taken + journal:freeze(by, hold.reason, hold.till)
    else
      taken = taken + journal:hold(hold.app, hold.environment, by, hold.reason)
    end
  end
  return taken
end

local function take_bad(journal, list)
  local taken = 0
  journal:synced("handed", function()
    for i = #list, 1, -1 do
      local bad = list[i]
      if bad.digest and not journal:known_bad(bad.app, bad.environment, bad.digest) then
        bad.state, bad.handed = "bad", true
        journal:add_release(bad)
        taken = taken + 1
      end
    end
    return true
  end)
  return taken
end

-- The annotation of a Lease, under its present or former name.
local function told(annotations, key)
  local text = type(annotations) == "table" and annotations[key]
  local data = type(text) == "string" and #text <= MOST and json.decode(text)
  return type(data) == "table" and math.type(data.generation) == "integer" and data or nil
end

---Takes what the host before handed over into the journal, unless it is the journal where it came from.
---@async
---@param journal Journal
---@param config Config
---@param annotations? table<string, string> Of the Lease, as that host left them.
---@return integer taken
function M.take(journal, config, annotations)
  local data, own = told(annotations, M.KEY), rollout_identity.of(config.state)
  local older = told(annotations, OLD_KEY)
  if older and (not data or older.generation > data.generation) then data = older end
  if not data or not own or data.state == own then return 0 end
  if data.generation <= journal:generation_before() then return 0 end
  local function place_of(app, environment)
    if app == "" then return environment == "" end -- a freeze
    local known = app and config.apps[app]
    return known and environment and known.environments[environment]
  end
  return take_holds(journal, entries(data.holds, place_of)) + take_bad(journal, entries(data.bad, place_of))
end

return M
