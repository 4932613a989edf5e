-- Observations of registries, shared by all workloads of a repository: a thousand workloads of ten repositories make
-- ten requests an interval.
--
-- The caller says how old an observation may be. One that differs wakes the other apps that use it. It is shared only
-- among the same credentials: what one namespace may read, or is refused, does not hold for another.
local candidates, errors = require "extensions.keel.candidates", require "errors"
local secrets, shrink = require "extensions.keel.secrets", require "base.shrink"
local task, time = require "task", require "time"

local M = {}

local SHARED <const> = 0.9   -- of an interval: who comes later in the same one takes what is there
local OBSERVATIONS <const> = 4 -- of a much shorter list before it is accepted: that one is
local MOST_IMAGES <const> = 1000 -- whose platforms are remembered

local of_world = setmetatable({}, { __mode = "k" }) ---@type table<table, table>

---Everything that is remembered of a world, in memory only.
---@param world World
---@return table
local function memory(world)
  local m = of_world[world]
  if not m then
    m = { answers = {}, due = {}, platforms = {}, baselines = {}, asked = 0 }
    of_world[world] = m
  end
  return m
end

---@param world World
---@return table memory
function M.memory(world) return memory(world) end

-- The other apps that asked this are polled at once.
local function wake_others(place, answer)
  for name in pairs(answer.users) do
    if name ~= place.app then place.poll_soon(name) end
  end
end

-- Asks, and keeps the answer.
local function look(place, answer, ask, same)
  local m = memory(place.world)
  m.asked = m.asked + 1
  local at, value, err = time.monotonic(), ask(answer)
  if errors.is(err, "cancelled") then error(err, 0) end
  local changed = value ~= nil and answer.value ~= nil and not same(answer.value, value)
  -- A registry that is down has not forgotten its tags, but an old observation decides nothing.
  answer.at, answer.err, answer.value = at, err, value
  answer.last = value or answer.last
  if changed then wake_others(place, answer) end
end

-- An answer that was asked for at `since` (monotonic) or later; those who ask meanwhile share it.
local function shared(place, key, since, ask, same)
  local m = memory(place.world)
  local answer = m.answers[key] ---@type any
  if not answer then
    answer = { users = {}, at = -math.huge }
    m.answers[key] = answer
  end
  answer.users[place.app] = true
  local asked
  while not asked and answer.at < since do
    task.once(answer, "look", function()
      asked = true
      look(place, answer, ask, same)
    end)
  end
  return answer.value, answer.err
end

---From when on an answer must be for a place, by its schedule: for "@every", an interval ago; for a cron line, the last
---moment that it names. The first one is always due.
---@param place Place
---@param schedule KeelSchedule
---@return number since Monotonic.
function M.since(place, schedule)
  local now, due, key = time.monotonic(), memory(place.world).due, ("%s/%s"):format(place.app, place.environment)
  if schedule.every then return now - schedule.every * SHARED end
  local entry = due[key]
  if entry and entry.text == schedule.text and time.now() < entry.next then return entry.since end
  due[key] = { text = schedule.text, next = schedule:next(time.now()), since = now }
  return now
end

---Forgets what was asked for apps that are gone, and unused credentials.
---@param world World
function M.tidy(world)
  local m, apps = memory(world), world.config.apps
  for key, answer in pairs(m.answers) do
    local used = answer.asking ~= nil
    for name in pairs(answer.users) do
      if apps[name] then used = true else answer.users[name] = nil end
    end
    if not used then m.answers[key] = nil end
  end
  for place in pairs(m.due) do
    if not apps[place:match("^(.+)/[^/]+$") or place] then m.due[place] = nil end
  end
  local images = 0
  for _ in pairs(m.platforms) do images = images + 1 end
  if images > MOST_IMAGES then m.platforms = {} end
  secrets.tidy(m)
end

---Makes every place due now.
---@param world World
function M.expire(world)
  local m = memory(world)
  m.due = {}
  for _, answer in pairs(m.answers) do answer.at = -math.huge end
end

local function same_list(a, b)
  if #a ~= #b then return false end
  for i, v in ipairs(a) do
    if b[i] ~= v then return false end
  end
  return true
end

---All tags of a repository.
---@async
---@param place Place Who asks.
---@param name string The repository, as images name it.
---@param since number Monotonic: an answer from then on will do.
---@param workload? KeelWorkload Whose pull secrets may be used.
---@return string[]? tags
---@return Err? err
---@return_overload nil, Err
function M.tags(place, name, since, workload)
  local registry, who = secrets.registry(place.world, memory(place.world), name, workload)
  return shared(place, ("tags %s%s"):format(name, who), since, function(answer)
    local tags, err = registry:tags()
    if not tags then return nil, err end
    local before = answer.last
    local suspicious = before and shrink.suspicious(#before, #tags)
    answer.shrink = suspicious and (answer.shrink or shrink.new(OBSERVATIONS, 0)) or nil
    if answer.shrink and not answer.shrink:observe() then
      local words = ("the registry lists %d tags of %s where it had %d: not believed yet"):format(#tags, name, #before)
      return errors.fail("mismatch", words, { op = "registry.tags", target = name })
    end
    answer.shrink = nil
    return tags
  end, same_list)
end

---The digest that a tag points to.
---@async
---@param place Place Who asks.
---@param name string
---@param tag string
---@param since number Monotonic.
---@param workload? KeelWorkload Whose pull secrets may be used.
---@return string? digest
---@return Err? err
---@return_overload nil, Err
function M.digest(place, name, tag, since, workload)
  local registry, who = secrets.registry(place.world, memory(place.world), name, workload)
  return shared(place, ("digest %s:%s%s"):format(name, tag, who), since, function()
    return registry:digest(tag)
  end, function(a, b) return a == b end)
end

---The tags that a policy considers, best first; sorted once for each list and policy.
---@param world World
---@param policy UpdatePolicy
---@param tags string[] As `tags` gave them.
---@return string[]
function M.ordered(world, policy, tags)
  local m = memory(world)
  m.orders = m.orders or setmetatable({}, { __mode = "k" })
  local orders = m.orders[tags]
  if not orders then
    orders = {}
    m.orders[tags] = orders
  end
  local kind = (policy.regexp or policy.pattern) and policy.text or policy.kind == "force" and "force" or "semver"
  orders[kind] = orders[kind] or candidates.order(policy, tags)
  return orders[kind]
end

return M
