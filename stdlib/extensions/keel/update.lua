-- The change that an update is: its key, when it is retried, and what its run gets.
--
-- keel tries a version that failed again at each poll, forgets a constant tag until it moves again, and fights whoever
-- puts an older image back. Here an update is tried again with growing pauses; and who goes back to an image that we
-- pinned by digest, or asks for it, is left alone until the registry has something new. A manifest that is applied
-- again names no digest: it is followed again.
local reference, time = require "images.reference", require "time"

local M = {}

local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 60, 3600 -- seconds, doubling

-- When an attempt may follow n others.
local function pause(n) return math.min(FIRST_PAUSE * 2 ^ math.min(n - 1, 10), LONGEST_PAUSE) end

local FAILED <const> = { failed = true, quarantined = true, diverged = true, cancelled = true }

-- The key of the next attempt, or nil and why there is none.
local function next_key(place, image, key)
  local list = place.journal:attempts(place.app, place.environment, key)
  local last = list[#list]
  if not last then return key end
  if last.state == "queued" or last.state == "running" then return last.key end
  local again_key, journal = ("%s #%d"):format(key, #list + 1), place.journal
  if place.retrying then return again_key end
  local bad = journal:taken_back(last.id)
  if bad and (last.state == "done" or place.config.rollback) then
    return nil, ("run %d put it out, and it was taken back: %s"):format(last.id, bad)
  end
  if last.state == "done" and image.digest then
    local live = journal:live(place.app, place.environment, image)
    if live and live.digest == image.digest then return again_key end -- it is the tag that moved
    return nil, ("run %d put it out, and somebody went back to %s: it stays until there is something new")
      :format(last.id, image.tag)
  end
  local again = (last.ended_at or 0) + pause(#list)
  if time.now() < again then
    local what = FAILED[last.state] and "failed" or "was undone"
    return nil, ("run %d %s; it is tried again at %s"):format(last.id, what, time.iso(again))
  end
  return again_key
end

---The change that brings a tag's image into a workload.
---@param place Place
---@param workload KeelWorkload
---@param image KeelImage
---@param tag string
---@param digest string
---@return table? change
---@return string? reason
function M.change(place, workload, image, tag, digest)
  local settings = workload.settings
  local approval = ("%s/%s/%s:%s"):format(workload.kind, workload.namespace, workload.name, tag)
  if settings.approvals > 0 then
    local before = place.journal:approval_of(place.app, place.environment, approval, digest)
    if before and before.state == "rejected" then
      return nil, ("%s was rejected by %s%s"):format(approval, before.by or "somebody",
        before.reason and ": " .. before.reason or "")
    end
  end
  local what = image.apart and " of " .. image.apart or ""
  local key, reason = next_key(place, image, ("%s:%s@%s%s"):format(image.repository, tag, digest, what))
  if not key then return nil, reason end
  local from, short = image.tag, digest:sub(8, 19)
  local title = tag == from and ("%s is now %s"):format(tag, short) or ("%s -> %s"):format(from, tag)
  if #workload.containers > #image.containers + #image.init_containers then
    title = ("%s of %s"):format(title, image.label or image.name)
  end
  return {
    key = key, title = title, version = tag, from = from, approval = approval, votes = settings.approvals,
    deadline = settings.deadline * 3600, release_notes = settings.release_notes,
    image = { image = reference.format(image.name, tag, digest), digest = digest, repository = image.name },
    containers = image.containers, init_containers = image.init_containers,
  }
end

return M
