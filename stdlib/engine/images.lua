-- Removes images of older releases after each run, since only a run adds one.
local errors, task, time = require "errors", require "task", require "time"

local M = {}

local PAUSE <const> = 1        -- seconds: runs that end together are one occasion
local EVERY <const> = 6 * 3600 -- seconds: what was in use then may not be now
local ONCE <const> = 120       -- seconds that a host that does everything once spends on it

local function signal(engine)
  engine.images_wake = engine.images_wake or task.signal()
  return engine.images_wake
end

---A run ended: there may be an image more than is kept.
---@param engine table
function M.wake(engine)
  engine.images_due = true
  signal(engine):notify()
end

local function remove(engine)
  engine.images_due = false
  local ok, err = pcall(engine.world.remove_images, engine.journal)
  if errors.is(err, "cancelled") then error(err, 0) end
  if not ok then engine:trouble("images of older releases could not be removed", err) end
end

---Removes, soon and whenever a run has ended.
---@async
---@param engine table
function M.run(engine)
  if not engine.world.remove_images then return end
  while true do
    time.sleep(PAUSE) -- a host that starts has more urgent things to do
    remove(engine)
    if not engine.images_due then signal(engine):wait(EVERY) end
  end
end

---Removes once, when a run ended.
---@async
---@param engine table
function M.once(engine)
  if not engine.images_due or not engine.world.remove_images then return end
  local ok, err = pcall(task.deadline, ONCE, remove, engine)
  if not ok and not errors.is(err, "deadline") then error(err, 0) end
end

return M
