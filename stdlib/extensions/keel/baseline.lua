-- What a workload runs whose image names no digest: what its pods say, compared once with what the tag points to.
--
-- As keel does: when a pod runs the digest of the tag, or one of the images of its index, the workload is up to date;
-- else what the pods run counts, so that a change while no host ran is found.
local kubernetes, log = require "kubernetes", require "log"
local observations, reference = require "extensions.keel.observations", require "images.reference"
local secrets = require "extensions.keel.secrets"
local rollout_watch = require "cluster.rollout.watch"

local M = {}

-- The digests that running pods of the workload have for these containers, by digest.
local function running(client, workload, image)
  local names, found, first = {}, {}, nil
  for _, list in ipairs { image.containers, image.init_containers } do
    for _, name in ipairs(list) do names[name] = true end
  end
  local selector = rollout_watch.selector { spec = { selector = workload.selector } }
  local pods, err = client:list(kubernetes.path("pods", workload.namespace), { labelSelector = selector })
  if not pods then return nil, nil, err end
  for _, pod in ipairs(pods.items) do
    local status = pod.status or {}
    for _, group in ipairs { "containerStatuses", "initContainerStatuses" } do
      for _, c in ipairs(not pod.metadata.deletionTimestamp and status[group] or {}) do
        local digest = names[c.name] and reference.digest(c.imageID)
        if digest then
          found[digest], first = true, first or digest
        end
      end
    end
  end
  return found, first
end

-- Whether a digest, or one of the images of its index, is among those that run.
local function among(place, workload, image, digest, found)
  if found[digest] then return true end
  local repository = secrets.registry(place.world, observations.memory(place.world), image.name, workload)
  local manifest, err = repository:manifest(digest)
  if not manifest then
    log.warn("an image's manifest could not be read", { image = image.name, error = tostring(err) })
    return true -- we cannot tell: no reason to roll anything out
  end
  for _, child in ipairs(manifest.children or {}) do
    if found[child.digest] then return true end
  end
  return false
end

---The digest that an unpinned image of a workload counts as running.
---@async
---@param place Place
---@param workload KeelWorkload
---@param image KeelImage
---@param digest string What the tag points to now.
---@return string digest
function M.digest(place, workload, image, digest)
  local known = observations.memory(place.world).baselines
  local key = ("%s/%s %s"):format(place.app, place.environment, image.repository)
  local before = known[key]
  if before and before.generation == workload.generation and before.tag == image.tag then return before.digest end
  local found, first
  if workload.selector then
    local client, err = place.world.cluster(place.config.target.cluster)
    if not client then error(err, 0) end
    found, first, err = running(client, workload, image)
    if not found then error(err, 0) end
  end
  local runs = first and not among(place, workload, image, digest, found) and first or digest
  known[key] = { generation = workload.generation, tag = image.tag, digest = runs }
  return runs
end

return M
