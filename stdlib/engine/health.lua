-- Health: whether the release that went out last at a place is well, by several looks.
--
-- One look proves nothing: an engine that restarts shows its containers stopped for a moment, a container that is
-- started again answers no check yet. Unhealthy is what LOOKS looks in a row say, EVERY seconds apart, while the target
-- answers. A look that finds it well, or a target that does not answer, begins the count anew.
local errors, task, time = require "errors", require "task", require "time"

local M = {}

M.LOOKS = 3
M.EVERY = 10 -- seconds

---What the key `watch_for` means.
M.WATCHED = ("How long its health is watched after a release. Unhealthy is what stays so in %d looks, %d s apart, while"
  .. " the target answers; then it is taken back."):format(M.LOOKS, M.EVERY)
local SHORT <const> = 1 -- seconds: less than that is waited for in place

---@class HealthLooks
---@field every Seconds Between two looks.
---@field in_place boolean Looks are waited for where they are asked for: nobody comes back later.
---@field private looking table<string, true> Places of which somebody looks again soon.
---@field private look_again fun(at: Place) Asks whoever acts on what a look finds.
---@field private ended Signal
local Health = {}
Health.__index = Health

---@param parts {look_again: fun(at: Place), ended: Signal} ended: wakes who waits when the host stops.
---@return HealthLooks
function M.new(parts)
  return setmetatable({
    every = M.EVERY, in_place = false, looking = {}, look_again = parts.look_again, ended = parts.ended,
  }, Health)
end

-- One look: the target's own word, then one round of the checks. nil: nobody can tell, or it is somebody else's.
local function look(at, release)
  local target, err = at.world.target(require("targets").about(at.config, release))
  if not target then return nil, err end
  local running
  running, err = target:current()
  if err then return nil, err end
  if running and (running.foreign or running.digest and running.digest ~= release.digest) then return true end
  if not running then return false, errors.new("unhealthy", "it runs no more") end
  if running.healthy == false then
    local how = running.state and " (" .. running.state .. ")" or ""
    return false, errors.new("unhealthy", "the target says it is unhealthy" .. how)
  end
  if #at.config.verify == 0 then return true end
  local ok
  ok, err = at.world.verify(at.config.verify, {
    app = at.app, environment = at.environment, version = release.version, commit = release.commit,
    digest = release.digest, within = 5,
  })
  return ok or false, err
end

-- The next look does not wait for the next poll.
local function again(self, at)
  local key = at.app .. "/" .. at.environment
  if self.looking[key] then return end
  self.looking[key] = true
  task.start({ name = "look " .. key, detached = true }, function()
    local _ <close> = task.defer(function() self.looking[key] = nil end)
    self.ended:wait(self.every)
    self.looking[key] = nil
    self.look_again(at)
  end)
end

---Judges the release that runs at a place.
---@async
---@param at Place
---@param release table
---@return boolean? well false: unhealthy; nil: not known, or not yet.
---@return Err? err What the last look found.
---@return_overload nil, Err
function Health:judge(at, release)
  local state = at.seen
  state.looks = state.looks or {}
  local seen = state.looks[at.environment]
  if not seen or seen.release ~= release.id then
    seen = { release = release.id, bad = 0, at = -math.huge }
    state.looks[at.environment] = seen
  end
  while true do
    local well, err = look(at, release)
    local now, every = time.monotonic(), self.every
    if well ~= false then
      seen.bad, seen.at = 0, -math.huge
      return well, err
    end
    if now - seen.at >= every * 0.9 then seen.bad, seen.at = seen.bad + 1, now end
    if seen.bad >= M.LOOKS then return false, err end
    if not self.in_place and every >= SHORT then
      again(self, at)
      return nil, errors.new("unhealthy", ("%s, in %d of %d looks"):format(err.message, seen.bad, M.LOOKS))
    end
    time.sleep(every)
  end
end

return M
