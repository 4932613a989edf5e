-- What must be true of every world, whatever happens in it: never two rollouts at once at a place, never back without
-- an intent, never a bad digest again by itself, at most one live release, and every push ends somewhere.
local semver, task, time = require "semver", require "task", require "time"
local short = require("base.text").short

local M = {}

---@class Invariants
---@field world SimulatedWorld
---@field random TestRandom Of how long effects take.
---@field under_way table<string, string> Rollouts, by place.
---@field past table<string, {at: Wall, runs: table}[]> What was rolled out, by place.
---@field heads table<string, string[]> What branches pointed at, one after the other, by address.
---@field broken? string The first that does not hold.
local Invariants = {}
Invariants.__index = Invariants

local SLOWEST <const> = 90 -- seconds of an effect

---@param format string
---@param ... any
---@private
function Invariants:no(format, ...) self.broken = self.broken or format:format(...) end

local function app_and_environment(place) return place:match("^(.+)/([^/:]+)") end

-- Whether a run may go back: somebody ordered it, or it is a rollback.
local function meant(run, release) return run.kind ~= "change" or release.restored == 1 end

-- What ran at a place at a time, as far as it was rolled out.
local function ran(past, at)
  local found
  for _, entry in ipairs(past or {}) do
    if entry.at <= at then found = entry.runs end
  end
  return found
end

-- The releases of a run that proved bad.
local function bad_releases(book, run)
  local found = {}
  for id = book:newest_release_id(), 1, -1 do
    local release = book:release_by_id(id)
    if release and release.run == run.id and release.state == "bad" then found[release.digest or ""] = true end
  end
  return found
end

-- Whether the same change had proved bad, and nothing else was asked for since: a branch that moves away and back, or
-- another tag at the same image, is an intent.
local function was_bad(book, release, run)
  for id = run.id - 1, 1, -1 do
    local other = book:run_by_id(id)
    if other and other.kind == "change" and other.app == run.app and other.environment == run.environment then
      if other.key ~= run.key then return false end
      if bad_releases(book, other)[release.digest] then return true end
    end
  end
  return false
end

-- Whether a branch pointed at a commit after it had pointed at another for the first time.
local function moved_on(heads, from, to)
  local begun = false
  for _, head in ipairs(heads) do
    if head == from then begun = true end
    if begun and head == to and from ~= to then return true end
  end
  return not begun -- where it came from was never seen on a branch
end

---What was rolled out follows what ran before.
---@private
---@param place string
---@param before? table
---@param now table
function Invariants:follows(place, before, now)
  local book = self.world.book
  local app, environment = app_and_environment(place)
  local release = now.release and book:release_by_id(now.release)
  local run = release and release.run and book:run_by_id(release.run)
  if not release or not run or meant(run, release) then return end
  if was_bad(book, release, run) then
    self:no("%s got %s again by itself, which had proved bad there", place, short(now.digest))
  end
  if not before or before.digest == now.digest then return end
  if book:known_bad(app, environment, before.digest) then return end -- whatever is not bad may follow it
  if now.version and before.version then
    local a, b = semver.tag(now.version), semver.tag(before.version)
    -- What was accepted while something lower ran waits for its turn, and is not judged again.
    local then_ran = ran(self.past[place], assert(run).queued_at)
    local c = then_ran and then_ran.version and semver.tag(then_ran.version)
    if a and b and semver.compare(a, b) <= 0 and c and semver.compare(a, c) <= 0 then
      self:no("%s went from %s back to %s without an intent", place, before.version, now.version)
    end
  elseif not now.version and now.commit and before.commit then
    for _, heads in pairs(self.heads) do
      if not moved_on(heads, before.commit, now.commit) then
        self:no("%s went from %s back to %s, and no branch did", place, self.world.outside:called(before.commit),
          self.world.outside:called(now.commit))
      end
    end
  end
end

---Notes where the branches point now.
function Invariants:look()
  for url, repository in pairs(self.world.state.repositories) do
    local heads = self.heads[url] or {}
    self.heads[url] = heads
    for _, commit in pairs(repository.branches) do
      if heads[#heads] ~= commit then heads[#heads + 1] = commit end
    end
  end
end

-- Effects take a while, so that things happen meanwhile; rollouts are watched.
local function watch(self)
  local outside = self.world.outside
  local effect = outside.effect
  function outside.effect(of, life, line, change)
    local place = line:match("^roll out (%S+)")
    if place and self.under_way[place] then
      self:no("two rollouts at once at %s: '%s' and '%s'", place, self.under_way[place], line)
    end
    local _ <close> = task.defer(function() if place then self.under_way[place] = nil end end)
    if place then self.under_way[place] = line end
    time.sleep(self.random:upto(SLOWEST))
    local before = of.state.targets[place]
    local done, err = effect(of, life, line, change)
    if done and place then
      self:follows(place, before, of.state.targets[place])
      self.past[place] = self.past[place] or {}
      table.insert(self.past[place], { at = time.now(), runs = of.state.targets[place] })
    end
    return done, err
  end
end

---@param world SimulatedWorld
---@param random TestRandom
---@return Invariants
function M.watch(world, random)
  local self = setmetatable({ world = world, random = random, under_way = {}, past = {}, heads = {} }, Invariants)
  watch(self)
  return self
end

-- Whether the newest commit of a branch came to its end at a place whose policy follows the branch.
local function ended(app, environment, head)
  local runs = app:running(environment)
  if runs and runs.commit == head then return true end
  for _, run in ipairs(app:runs(environment)) do
    if run.key:find(head, 1, true) then return true end
  end
  return false
end

---What must be true when the world has come to rest and nothing is down.
---@async
---@param apps table<string, SimulatedApp>
function Invariants:rested(apps)
  local config = self.world:configuration()
  for name, app in pairs(apps) do
    local heads = self.heads[config.apps[name].source.url] or {}
    for _, environment in ipairs(config.apps[name].environment_list) do
      local at, status = name .. "/" .. environment.name, app:status(environment.name)
      if status.state == "queued" or status.state == "running" then
        self:no("%s has come to rest and is %s: %s", at, status.state, status.reason or "")
      end
      local live = 0
      for _, release in ipairs(self.world.book:recent_releases(name, environment.name, 1000)) do
        if release.state == "live" and release.part == nil then live = live + 1 end
      end
      if live > 1 then self:no("%s has %d live releases", at, live) end
      if environment.policy == "staging" and status.state ~= "held" and #heads > 0
        and not ended(app, environment.name, heads[#heads]) then
        self:no("the push of %s ended nowhere at %s", self.world.outside:called(heads[#heads]), at)
      end
    end
  end
end

return M
