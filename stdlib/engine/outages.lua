-- Outages: sources that cannot be read and policies that fail at each poll. An outage of some minutes is
-- notified once, and once more when it is over; what is due at the same time is one message for each channel.
local errors, log, time = require "errors", require "log", require "time"

local M = {}

M.AFTER = 180           -- seconds that it must have lasted
local MOST <const> = 20 -- lines in a message
local RELOAD <const> = "reload: " -- how the keys of what is saved and cannot be loaded begin

---@class Outage
---@field app string
---@field what string "web: its source"
---@field reason string
---@field since Wall
---@field began number Monotonic.
---@field channels table<string, true>
---@field told table<string, true> Channels that were notified.
---@field over? boolean
---@field after? Seconds Instead of those that others must have lasted.

---@class Outages
---@field after Seconds That one must have lasted.
---@field private world World
---@field private journal Journal
---@field private known table<string, Outage>
local Outages = {}
Outages.__index = Outages

---Begins with the outages that earlier hosts notified.
---@param world World
---@param journal Journal
---@return Outages
function M.new(world, journal)
  local known = {}
  for _, row in ipairs(journal:outages()) do
    known[row.key] = {
      app = row.app, what = row.what, since = row.since, told = row.told, began = time.monotonic(), channels = {},
      reason = "", over = row.key:sub(1, #RELOAD) == RELOAD or nil, -- this host could load what there is
    }
  end
  return setmetatable({ after = M.AFTER, world = world, journal = journal, known = known }, Outages)
end

---Notes the state of what every poll of an app asks.
---@param key string
---@param about {app: string, what: string, notify: string[][], after?: Seconds} app "": of no single one.
---@param err? Err nil: it is well.
function Outages:note(key, about, err)
  local outage = self.known[key]
  if not err then
    if not outage then return end
    if next(outage.told) then outage.over = true else self.known[key] = nil end
    return
  end
  if not outage then
    outage = { since = time.now(), began = time.monotonic(), told = {} }
    self.known[key] = outage
  end
  outage.app, outage.what, outage.over, outage.channels, outage.after = about.app, about.what, nil, {}, about.after
  outage.reason = log.redact(errors.is(err) and err.message or tostring(err))
  for _, names in ipairs(about.notify) do
    for _, name in ipairs(names) do outage.channels[name] = true end
  end
end

---Notes the state of an app's source.
---@param app AppConfig
---@param err? Err
function Outages:source(app, err)
  local notify = {}
  for i, environment in ipairs(app.environment_list) do notify[i] = environment.notify end
  self:note(app.name, { app = app.name, what = app.name .. ": its source cannot be read", notify = notify }, err)
end

---Notes how a policy answers at a place. What only repeats that the source cannot be read is part of that outage.
---@param place Place
---@param policy string
---@param err? Err
function Outages:policy(place, policy, err)
  local source = place.seen.error
  if err and source and tostring(err):find(source.message, 1, true) then return end
  local what = ("%s %s: the policy %s fails"):format(place.app, place.environment, policy)
  self:note(("%s/%s/%s"):format(place.app, place.environment, policy),
    { app = place.app, what = what, notify = { place.config.notify } }, err)
end

---Notes why what is saved is not live.
---@param reasons table<string, string[][]> Each fault in words, with the channels that hear of it. None: it is live.
function Outages:reload(reasons)
  for key, outage in pairs(self.known) do
    if key:sub(1, #RELOAD) == RELOAD and not reasons[key:sub(#RELOAD + 1)] then
      self:note(key, { app = "", what = outage.what, notify = {} }, nil)
    end
  end
  for reason, channels in pairs(reasons) do
    self:note(RELOAD .. reason, {
      app = "", what = "what is saved is not live: " .. reason, notify = channels, after = 0,
    }, errors.new("invalid", "what was loaded before stays"))
  end
end

-- What a channel is to be notified of now: what began, and what is over.
local function due(self)
  local by_channel, now = {}, time.monotonic()
  local function add(name, key, outage)
    by_channel[name] = by_channel[name] or {}
    table.insert(by_channel[name], { key = key, outage = outage })
  end
  for key, outage in pairs(self.known) do
    if outage.app ~= "" and not self.world.config.apps[outage.app] then
      self.known[key], outage.told = nil, {}
      self.journal:told_outage(key, outage)
    elseif outage.over then
      for name in pairs(outage.told) do add(name, key, outage) end
    elseif now - outage.began >= (outage.after or self.after) then
      for name in pairs(outage.channels) do
        if not outage.told[name] then add(name, key, outage) end
      end
    end
  end
  return by_channel
end

local function message_of(list)
  table.sort(list, function(a, b) return a.key < b.key end)
  local lines, over = {}, 0
  for i, item in ipairs(list) do
    local outage = item.outage
    if outage.over then over = over + 1 end
    if i <= MOST then
      lines[i] = outage.over and ("%s: that is over, it lasted from %s"):format(outage.what, time.iso(outage.since))
        or ("%s since %s: %s"):format(outage.what, time.iso(outage.since), outage.reason)
    end
  end
  if #list > MOST then lines[#lines + 1] = ("and %d more"):format(#list - MOST) end
  local title = #list == 1 and list[1].outage.what .. (over == 1 and ": over" or "")
    or ("%d things fail, %d work again"):format(#list - over, over)
  return {
    level = over == #list and "info" or "error", title = title, text = table.concat(lines, "\n"),
    app = #list == 1 and list[1].outage.app ~= "" and list[1].outage.app or nil,
  }
end

---Notifies of what is due. A channel that fails is tried again the next time.
---@async
function Outages:tell()
  for name, list in pairs(due(self)) do
    local over = {}
    for i, item in ipairs(list) do over[i] = item.outage.over or false end
    local ok, err = self.world.notify({ name }, message_of(list))
    if not ok then log.warn("notifying failed", { channel = name, error = tostring(err) }) end
    for i, item in ipairs(ok and list or {}) do
      item.outage.told[name] = not over[i] or nil
      self.journal:told_outage(item.key, item.outage)
      if over[i] and not next(item.outage.told) and item.outage.over then self.known[item.key] = nil end
    end
  end
end

return M
