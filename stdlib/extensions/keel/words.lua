-- Words of policies: place:workload, place:candidates, place:update, run:adopt: what a workload asks for, what the
-- registry has, and whether now is the time.
local errors = require "errors"

local M = { place = {}, run = {}, plan = {} }

local function modules()
  return require "extensions.keel.observations", require "extensions.keel.candidates",
    require "extensions.keel.workload"
end

-- The workload that a place is; raises for places that are none.
local function workload_of(place)
  local app = place.app_config
  if app.follows ~= "workload" then
    error(("%s is not a workload that was found in a cluster"):format(app.name), 4)
  end
  return app.workloads[place.environment]
end

---The settings and images of the workload that this place is; nil and why when nothing is to be done with it.
---@param place Place
---@return {kind: string, namespace: string, name: string, images: KeelImage[]}?
---@return string? reason
function M.place.workload(place)
  local _, _, workloads = modules()
  local workload = workload_of(place)
  if not workload then return nil, "it is gone" end
  local settings = workload.settings
  if not settings.policy then return nil, settings.why end
  if settings.trigger ~= "poll" and not assert(place.world.config.keel).poll_all then
    return nil, "keel.sh/trigger is not poll, so only a webhook would update it (keel.poll_all polls it, too)"
  end
  if settings.approvals_error then return nil, settings.approvals_error end
  local _, wrong = workloads.schedule(settings, assert(place.world.config.keel))
  if wrong then place:refuse("keel.sh/pollSchedule", wrong .. "; the default is used") end
  -- One subject, one decision: two that alternate would be new at every poll.
  local warnings, unknown = settings.warnings, place.config.unknown_notify or {}
  if #warnings > 0 then place:refuse("annotations", "%s", table.concat(warnings, "; ")) end
  if #unknown > 0 then
    place:refuse("keel.sh/notify", "the configuration has no notifier %s", table.concat(unknown, ", "))
  end
  local images, unreadable = workloads.images(workload)
  for _, image in ipairs(unreadable) do place:refuse(image, "it is no image reference") end
  if #images == 0 then return nil, "no container of it is followed" end
  for i, image in ipairs(images) do image.after = images[i + 1] end
  return { kind = workload.kind, namespace = workload.namespace, name = workload.name, images = images }
end

-- From when on an answer of the registry must be.
local function since(place, workload)
  local observations, _, workloads = modules()
  local schedule = workloads.schedule(workload.settings, place.world.config.keel)
  return observations.since(place, schedule)
end

local function must(value, err)
  if value == nil then error(err, 0) end
  return value
end

local function judged(place, image)
  local observations, candidates = modules()
  local workload = workload_of(place)
  local settings = workload.settings
  if not image.tag then
    place:refuse(image.label or image.name, "it is pinned by digest, without a tag to go on from")
    return {}
  end
  local from = since(place, workload)
  if candidates.same_tag(settings, image.tag) then
    local digest = must(observations.digest(place, image.name, image.tag, from, workload))
    local running = image.digest or require("extensions.keel.baseline").digest(place, workload, image, digest)
    if running == digest then return {} end
    local fits, why = require("extensions.keel.platforms").fit(place, workload, image, image.tag)
    local reason = ("%s points to another image"):format(image.tag)
    return { { tag = image.tag, digest = digest, was = running, allowed = fits, reason = why or reason } }
  end
  local tags = must(observations.tags(place, image.name, from, workload))
  return candidates.judge(settings, image.tag, tags, {
    order = function(policy, list) return observations.ordered(place.world, policy, list) end,
    fits = function(tag) return require("extensions.keel.platforms").fit(place, workload, image, tag) end,
  })
end

---The tags that an image's policy considers, judged, best first; the last is the one to take, if it is allowed. Empty
---when what runs is what should run. The registry is asked once for all workloads of the repository. A repository that
---cannot be read does not hide the other images of its workload: it is raised with the last of them.
---@async
---@param place Place
---@param image KeelImage
---@return KeelCandidate[] candidates
function M.place.candidates(place, image)
  workload_of(place)
  local fine, list = pcall(judged --[[@as function]], place, image) ---@type boolean, any
  if not fine then
    if errors.is(list, "cancelled") or errors.is(list, "deadline") or not image.after then error(list, 0) end
    place:refuse(image.label --[[@as string]], tostring(list))
    image.after.trouble = image.after.trouble or list
    return {}
  end
  for _, candidate in ipairs(list) do
    candidate.subject = image.label and ("%s of %s"):format(candidate.tag, image.label) or candidate.tag
    -- What is refused says so itself.
    if candidate.trap and candidate.allowed then place:refuse("numbers in " .. candidate.subject, candidate.trap) end
  end
  local best = list[#list]
  if image.after then
    image.after.trouble = image.after.trouble or image.trouble
  elseif image.trouble and not (best and best.allowed) then
    error(image.trouble, 0)
  end
  return list
end

---The change that brings a candidate into the workload; nil and why when it was tried, rejected, or taken back.
---@async
---@param place Place
---@param image KeelImage
---@param candidate KeelCandidate
---@return table? change
---@return string? reason
function M.place.update(place, image, candidate)
  local observations = modules()
  local workload = workload_of(place)
  local digest, err = (candidate --[[@as table]]).digest, nil
  if not digest then
    digest, err = observations.digest(place, image.name, candidate.tag, since(place, workload), workload)
    if errors.is(err, "not_found") then return nil, tostring(err) end -- listed, and gone: not a word about the others
  end
  return require("extensions.keel.update").change(place, workload, image, candidate.tag, must(digest, err))
end

-- What the containers of an update run now: the target tells the digest, the workload the tag that is read with it.
local function adoptable(run, about)
  local place = run.place
  local _, _, workloads = modules()
  local workload = workload_of(place)
  local image = {}
  for _, candidate in ipairs(workload and workloads.images(workload) or {}) do
    local first = candidate.containers[1] or candidate.init_containers[1]
    if not about or first == ((about.containers or {})[1] or (about.init_containers or {})[1]) then
      image = candidate
      break
    end
  end
  local target = must(run.world.target(require("targets").about(place.config, about or {})))
  local running, err = target:current()
  if err then error(err, 0) end
  if not running or not running.digest then return nil end
  return {
    app = run.app, environment = run.environment, version = running.version or image.tag, commit = running.commit,
    digest = running.digest, reason = "found running before the first update",
    image = image.name and require("images.reference").format(image.name, image.tag,
      running.digest) or running.image,
    containers = about and about.containers, init_containers = about and about.init_containers,
  }
end

---Remembers what an update's containers run, when that is known neither as good nor as bad: so that the update can be
---taken back.
---@async
---@param run Run
---@param update? {containers?: string[], init_containers?: string[]} Nothing: of the whole place, when it is new.
function M.run.adopt(run, update)
  local about = update and { containers = update.containers, init_containers = update.init_containers } or nil
  run.steps:perform("adopt", about or {}, function()
    local journal = run.journal
    if not about and journal:newest_release(run.app, run.environment) then return false end
    local found = adoptable(run, about)
    if not found or about and journal:knows(run.app, run.environment, about, found.image, found.digest) then
      return false
    end
    journal:adopt(found)
    return true
  end)
end

---The planner of adopt: it only reads the target, and writes the journal.
---@async
---@param _ Run
---@param _args table
---@param perform fun(): boolean
---@return Planned?
---@return boolean adopted
function M.plan.adopt(_, _args, perform)
  if not perform() then return nil, false end
  return { action = "none", text = "what runs now is remembered: an update can be taken back to it" }, true
end

return M
