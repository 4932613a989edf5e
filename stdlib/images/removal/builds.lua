-- When this host was building what: kept in the state folder, so that the build cache that came of it is distinguished
-- from that of others. And a turn for builds and removals: what a build stands on is not removed under it.
local fs, json, task, time = require "fs", require "json", require "task", require "time"

local M = {}

local MOST <const> = 500 -- builds that are remembered
local SLACK <const> = 5  -- seconds: caches are written when a build is over already

---@class Builds
---@field list {image: string, from: number, to: number}[] Oldest first.
local Builds = {}
Builds.__index = Builds

local function path(state) return state .. "/builds.json" end

---Reads what is known.
---@param state string The state folder.
---@return Builds
function M.load(state)
  local text = fs.read(path(state))
  local decoded = text and json.decode(text)
  local list = {}
  for _, item in ipairs(type(decoded) == "table" and decoded or {}) do
    if type(item) == "table" and type(item.image) == "string" and type(item.from) == "number"
      and type(item.to) == "number" then
      list[#list + 1] = item
    end
  end
  return setmetatable({ list = list }, Builds)
end

---@return boolean
function Builds:empty() return #self.list == 0 end

---Whether something was made during one of the builds.
---@param at Wall
---@return boolean
function Builds:made(at)
  for i = #self.list, 1, -1 do
    if at >= self.list[i].from and at <= self.list[i].to + SLACK then return true end
  end
  return false
end

---Whether something was used last by the last build of some image, or later.
---@param at Wall
---@return boolean
function Builds:last_used(at)
  local seen = {}
  for i = #self.list, 1, -1 do
    local build = self.list[i]
    if not seen[build.image] then
      seen[build.image] = true
      if at >= build.from and at <= build.to + SLACK then return true end
    end
  end
  return #self.list > 0 and at > self.list[#self.list].to + SLACK
end

-- Adds a build. One that cannot be written only leaves its cache for others to remove.
local function add(state, image, from, to)
  local known = M.load(state)
  known.list[#known.list + 1] = { image = image, from = from, to = to }
  while #known.list > MOST do table.remove(known.list, 1) end
  fs.write(path(state), assert(json.encode(json.array(known.list))), { sync = false })
end

-- ---- turns ----

local building, removing, over = 0, false, task.signal()

---Builds, while nothing is removed.
---@async
---@param state? string The state folder.
---@param image string
---@param fn fun(): any, any
---@return any
---@return any
function M.building(state, image, fn)
  while removing do over:wait() end
  building = building + 1
  local from = time.now()
  local _ <close> = task.defer(function() building = building - 1 end)
  local value, err = fn()
  if state then add(state, image, from, time.now()) end
  return value, err
end

---Removes, unless a build is under way.
---@async
---@param fn fun()
---@return boolean done false: a build is under way; the end of its run calls this again.
function M.removing(fn)
  if building > 0 or removing then return false end
  removing = true
  local _ <close> = task.defer(function()
    removing = false
    over:notify()
  end)
  fn()
  return true
end

return M
