-- Removes images of older releases after each run, since only a run adds one. Engine:report wakes it.
local errors, task, time = require "errors", require "task", require "time"

local M = {}

local PAUSE <const> = 1        -- seconds: runs that end together are one occasion
local EVERY <const> = 6 * 3600 -- seconds: what was in use then may not be now
local ONCE <const> = 120       -- seconds that a host that does everything once spends on it

---@class ImageRemoval
---@field private world World
---@field private journal Journal
---@field private lead Leadership
---@field private trouble fun(what: string, err: any) Logs an error.
---@field due boolean There may be an image more than is kept.
---@field wanted Signal
local Removal = {}
Removal.__index = Removal

---@param parts {world: World, journal: Journal, lead: Leadership, trouble: fun(what: string, err: any)}
---@return ImageRemoval
function M.new(parts)
  return setmetatable({
    world = parts.world, journal = parts.journal, lead = parts.lead, trouble = parts.trouble, due = false,
    wanted = task.signal(),
  }, Removal)
end

---A run ended: there may be an image more than is kept.
function Removal:wake()
  self.due = true
  self.wanted:notify()
end

local function remove(self)
  self.due = false
  if not self.lead:acting() then return end
  local ok, err = pcall(self.world.remove_images, self.journal)
  if errors.is(err, "cancelled") then error(err, 0) end
  if not ok then self.trouble("images of older releases could not be removed", err) end
end

---Removes, soon and whenever a run has ended.
---@async
function Removal:run()
  if not self.world.remove_images then return end
  while true do
    time.sleep(PAUSE) -- a host that starts has more urgent things to do
    remove(self)
    if not self.due then self.wanted:wait(EVERY) end
  end
end

---Removes once, when a run ended.
---@async
function Removal:once()
  if not self.due or not self.world.remove_images then return end
  local ok, err = pcall(task.deadline, ONCE, remove, self)
  if not ok and not errors.is(err, "deadline") then error(err, 0) end
end

return M
