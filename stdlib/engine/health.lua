-- Health of the live release at a place, by several observations. The rollback policy asks for it at each poll, by
-- place:bad_release().
--
-- One observation proves nothing: a restarting engine shows its containers as stopped, a restarting container answers
-- no check yet. Unhealthy is what OBSERVATIONS in a row found so, EVERY seconds apart. A healthy observation, or a
-- target that does not answer, resets the count.
local errors, targets, task, time = require "errors", require "targets", require "task", require "time"

local M = {}

M.OBSERVATIONS = 3
M.EVERY = 10 -- seconds

---What the key `watch_for` means.
M.WATCHED = ("How long its health is watched after a release. Unhealthy is what stays so in %d observations, %d s"
  .. " apart, while the target answers; then it is taken back."):format(M.OBSERVATIONS, M.EVERY)
local SHORT <const> = 1 -- seconds: less than that is waited for in place

---@class HealthChecks
---@field every Seconds Between two observations.
---@field in_place boolean judge() waits for all observations: there is no later poll.
---@field private waiting table<string, true> Places that are observed again soon.
---@field private observe_again fun(at: Place) Asks the policy that acts on the observation.
---@field private ended Signal
local Health = {}
Health.__index = Health

---@param parts {observe_again: fun(at: Place), ended: Signal} ended: wakes waiting tasks when the host stops.
---@return HealthChecks
function M.new(parts)
  return setmetatable({
    every = M.EVERY, in_place = false, waiting = {}, observe_again = parts.observe_again, ended = parts.ended,
  }, Health)
end

---The parts of a place that have a release, or may have it: of several targets those that were given it last.
---@param at Place
---@param release Release
---@return EnvironmentConfig[]
function M.given(at, release)
  local parts, given = targets.parts(at.config), {}
  if not parts[1].part then return parts end
  local held = at.journal:held(at.app, at.environment)
  for _, part in ipairs(parts) do
    local now = held[part.part]
    if now and now.digest == release.digest then given[#given + 1] = part end
  end
  return given
end

-- One observation of one part: what the target reports, then one round of the checks. nil: unknown.
local function look(at, part, release)
  local target, err = at.world.target(targets.about(part, release))
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
  if #part.verify == 0 then return true end
  local ok
  ok, err = at.world.verify(part.verify, {
    app = at.app, environment = at.environment, part = part.part, version = release.version, commit = release.commit,
    digest = release.digest, within = 5,
  })
  return ok or false, err
end

-- One observation of all parts: the worst of them. false: unhealthy; nil: unknown.
local function observe(at, release)
  local well, why = true, nil ---@type boolean?, Err?
  for _, part in ipairs(M.given(at, release)) do
    local ok, err = look(at, part, release)
    if not ok and part.part and err then err = errors.new(err.code, ("part %s: %s"):format(part.part, err.message)) end
    if ok == false then return false, err end
    if ok == nil then well, why = nil, err end
  end
  return well, why
end

-- The next observation does not wait for the next poll.
local function again(self, at)
  local key = at.app .. "/" .. at.environment
  if self.waiting[key] then return end
  self.waiting[key] = true
  task.start({ name = "observe " .. key, detached = true }, function()
    local _ <close> = task.defer(function() self.waiting[key] = nil end)
    self.ended:wait(self.every)
    self.waiting[key] = nil
    self.observe_again(at)
  end)
end

---Judges the release that runs at a place.
---@async
---@param at Place
---@param release table
---@return boolean? well false: unhealthy; nil: not known, or not yet.
---@return Err? err What the last observation found.
---@return_overload nil, Err
function Health:judge(at, release)
  local state = at.seen
  state.health = state.health or {}
  local seen = state.health[at.environment]
  if not seen or seen.release ~= release.id then
    seen = { release = release.id, bad = 0, at = -math.huge }
    state.health[at.environment] = seen
  end
  while true do
    local well, err = observe(at, release)
    local now, every = time.monotonic(), self.every
    if well ~= false then
      seen.bad, seen.at = 0, -math.huge
      return well, err
    end
    if now - seen.at >= every * 0.9 then seen.bad, seen.at = seen.bad + 1, now end
    if seen.bad >= M.OBSERVATIONS then return false, err end
    if not self.in_place and every >= SHORT then
      again(self, at)
      local words = ("%s, in %d of %d observations"):format(err.message, seen.bad, M.OBSERVATIONS)
      return nil, errors.new("unhealthy", words)
    end
    time.sleep(every)
  end
end

return M
