-- Keel: a workload of the cluster follows its image repository as the keel.sh annotations on it say, without keel.
--
-- Every workload that has such a policy is an app by itself. The best tag that the policy allows is rolled out by
-- digest, with its tag kept in sight; nothing goes back by itself, and what failed is tried again later.
local time = require "time"

return policy {
  watch = function(place)
    local workload, reason = place:workload()
    if not workload then return nil, reason end
    local waits
    for _, image in ipairs(workload.images) do -- one does not hide the others
      for _, candidate in ipairs(place:candidates(image)) do -- best first
        if candidate.allowed then
          local update, why = place:update(image, candidate)
          if update then return update end
          waits = waits or why
        else
          place:refuse(candidate.subject, candidate.reason)
        end
      end
    end
    return nil, waits or "it runs what its policy asks for"
  end,

  run = function(run, update)
    run:approval {
      id = update.approval, votes = update.votes, deadline = update.deadline, digest = update.image.digest,
      from = update.from, to = update.version,
    }
    run:adopt(update) -- what runs before it is what a rollback would go to
    run:release(update.image, {
      version = update.version, containers = update.containers, init_containers = update.init_containers,
      cause = ("moontide automated update, version %s -> %s"):format(update.from, update.version),
      pod_annotations = { ["keel.sh/update-time"] = time.iso(run:now()) },
    })
    if update.release_notes then run:notify("%s: release notes are at %s", update.version, update.release_notes) end
  end,
}
