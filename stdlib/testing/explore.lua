-- Random worlds of a seed against the invariants. What fails is told again with fewer events, until none can be spared.
local errors, events, invariants, random = require "errors", require "testing.events", require "testing.invariants",
  require "testing.random"

local M = {}

---@class Exploration
---@field seed integer
---@field count integer How many worlds.
---@field only? integer Only that one.
---@field apps? table<string, table> Apps of the configuration; an app with staging and production unless given.
---@field open fun(): TestWorld Opens a world that is the current one of the test.
---@field check? fun(world: table): Err? The user's invariant, within its limits.
---@field close fun(world: TestWorld)

local ACCEPT <const> = { "major", "minor", "patch" }
local MOST <const> = 200 -- stories that are told to find a shorter one

-- The seed of one of the worlds.
local function seed_of(exploration, number) return random.new(exploration.seed * 1000003 + number):upto(1 << 62) end

local function apps_of(exploration, seed)
  return exploration.apps or {
    web = { environments = { staging = {}, production = { accept = random.new(seed):of(ACCEPT) } } },
  }
end

local function environments_of(apps)
  local found = {}
  for name, app in pairs(apps) do
    found[name] = {}
    for environment in pairs(app.environments or { [name] = {} }) do table.insert(found[name], environment) end
    table.sort(found[name])
  end
  return found
end

-- Orders that the world refuses, and what cannot happen without what was left out, are as if they had not been given.
local function happen(world, apps, event)
  if event.word == "settle" and next(world.state.down) then return world:pass "20m" end -- it never would
  local object = event.app and apps[event.app] or world
  local fine, err = pcall(object[event.word], object, table.unpack(event.args))
  if not fine and errors.is(err, "cancelled") then error(err, 0) end
  if not fine and (event.word == "settle" or event.word == "pass" or event.word == "poll") then error(err, 0) end
end

local function mend(world)
  local parts = {}
  for part in pairs(world.state.down) do parts[#parts + 1] = part end
  table.sort(parts)
  for _, part in ipairs(parts) do world:up(part) end
end

-- Tells a story; what does not hold, if anything.
---@return string? broken
local function tell(exploration, tested, seed, list)
  local world, apps = tested:open(), {}
  local watched = invariants.watch(world, random.new(seed))
  local configured = apps_of(exploration, seed)
  local names = {}
  for name in pairs(configured) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do apps[name] = world:app(name, configured[name]) end
  local function check()
    local err = exploration.check and exploration.check(tested.face)
    if errors.is(err, "budget") or errors.is(err, "memory") then error(err, 0) end
    if err then watched.broken = watched.broken or err.message end
    return watched.broken
  end
  for _, event in ipairs(list) do
    happen(world, apps, event)
    watched:look()
    if watched.broken or event.word == "settle" and check() then return watched.broken end
  end
  mend(world)
  world:settle()
  world:pass "6h"
  world:settle()
  watched:rested(apps)
  return check()
end

local function try(exploration, seed, list)
  local tested = exploration.open()
  local fine, broken = pcall(tell, exploration, tested, seed, list)
  exploration.close(tested)
  if fine then return broken end
  for _, code in ipairs { "cancelled", "budget", "memory" } do
    if errors.is(broken, code) then error(broken, 0) end
  end
  return errors.clean(broken).message
end

-- Leaves out what can be spared, in ever smaller pieces.
local function shrink(exploration, seed, list, broken)
  local tried, size = 0, #list // 2
  while size >= 1 do
    local at = 1
    while at <= #list and tried < MOST do
      local fewer = table.move(list, 1, at - 1, 1, {})
      table.move(list, at + size, #list, at, fewer)
      tried = tried + 1
      local still = try(exploration, seed, fewer)
      if still then list, broken = fewer, still else at = at + size end
    end
    size = size // 2
  end
  return list, broken
end

---Explores.
---@async
---@param exploration Exploration
---@return integer worlds How many.
function M.run(exploration)
  local tried = 0
  for number = exploration.only or 1, exploration.only or exploration.count do
    local seed = seed_of(exploration, number)
    local list = events.make(seed, environments_of(apps_of(exploration, seed)))
    local broken = try(exploration, seed, list)
    tried = tried + 1
    if broken then
      local fewer, why = shrink(exploration, seed, list, broken)
      try(exploration, seed, fewer) -- its story is the one that is shown
      local enough = "seed %d, world %d; %d of its %d events are enough:"
      local lines = { why, enough:format(exploration.seed, number, #fewer, #list) }
      for _, event in ipairs(fewer) do lines[#lines + 1] = "  " .. events.text(event) end
      lines[#lines + 1] = ("repeat only this world with --only %d"):format(number)
      error(errors.new("script", table.concat(lines, "\n")), 0)
    end
  end
  return tried
end

return M
