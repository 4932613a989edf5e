-- Whether an image runs on every node where a workload may be put: a candidate that does not is passed over.
--
-- keel (its unreleased HEAD) takes no candidate while it cannot tell. Here what cannot be known (nodes that we may not
-- list, no nodes yet, a manifest that names no platform) forbids nothing.
local kubernetes, log, time = require "kubernetes", require "log", require "time"
local looks, secrets = require "keel.looks", require "keel.secrets"

local M = {}

local FRESH <const> = 30 -- seconds that a list of nodes is good for

local function label(node, ...)
  for _, key in ipairs { ... } do
    local value = (node.metadata.labels or {})[key]
    if value and value ~= "" then return value end
  end
end

-- The little that is kept of a node.
local function keep(node)
  local info = (node.status or {}).nodeInfo or {}
  local function known(value) return value and value ~= "" and value or nil end
  return {
    name = node.metadata.name, labels = node.metadata.labels or {}, closed = (node.spec or {}).unschedulable == true,
    os = known(info.operatingSystem) or label(node, "kubernetes.io/os", "beta.kubernetes.io/os"),
    architecture = known(info.architecture) or label(node, "kubernetes.io/arch", "beta.kubernetes.io/arch"),
  }
end

local function contains(list, value)
  for _, v in ipairs(list or {}) do
    if v == value then return true end
  end
  return false
end

local function satisfies(value, e)
  if e.operator == "In" then return contains(e.values, value) end
  if e.operator == "NotIn" then return not contains(e.values, value) end
  if e.operator == "Exists" then return value ~= nil end
  if e.operator == "DoesNotExist" then return value == nil end
  local have, want = tonumber(value), tonumber(e.values and e.values[1])
  if not have or not want then return true end
  if e.operator == "Gt" then return have > want end
  return e.operator ~= "Lt" or have < want
end

local function term_fits(node, term)
  for _, e in ipairs(term.matchExpressions or {}) do
    if not satisfies(node.labels[e.key], e) then return false end
  end
  for _, e in ipairs(term.matchFields or {}) do
    if e.key == "metadata.name" and not satisfies(node.name, e) then return false end
  end
  return true
end

---Whether a workload's pods may be put on a node, by its name, labels and required affinity.
---@param node table
---@param where? {name?: string, selector?: table<string, string>, affinity?: table}
---@return boolean
function M.eligible(node, where)
  if node.closed then return false end
  if not where then return true end
  if where.name and where.name ~= node.name then return false end
  for key, value in pairs(where.selector or {}) do
    if node.labels[key] ~= value then return false end
  end
  if not where.affinity then return true end
  for _, term in ipairs(where.affinity.nodeSelectorTerms or {}) do
    if term_fits(node, term) then return true end
  end
  return false
end

-- The nodes of a cluster; nil when nobody can tell. Asked for once in a while, for all workloads.
local function nodes_of(place)
  local engine, cluster = place.engine, place.config.target.cluster
  local m = looks.memory(engine)
  return engine:alone("keel nodes " .. cluster, function()
    local known = m.nodes and m.nodes[cluster]
    if known and time.monotonic() - known.at < FRESH then return known.list end
    local client = engine.world.cluster(cluster, engine.config)
    local list, err
    if client then list, err = client:list(kubernetes.path("nodes"), nil, { keep = keep }) end
    if err and not (known and known.told) then
      log.warn("platforms are not compared: the nodes cannot be listed", { error = tostring(err) })
    end
    m.nodes = m.nodes or {}
    m.nodes[cluster] = { at = time.monotonic(), list = list and list.items, told = err ~= nil }
    return list and list.items
  end)
end

-- The platforms of an image, by its manifest; {} when it names none. A digest's are asked for once.
local function platforms_of(place, workload, name, tag)
  local m, since = looks.memory(place.engine), time.monotonic() - place.app.poll
  local digest, err = looks.digest(place.engine, place.name, name, tag, since, workload)
  if not digest then return nil, err end
  if m.platforms[digest] then return m.platforms[digest] end
  m.platforms[digest], err = secrets.registry(place.engine, m, name, workload):platforms(digest)
  return m.platforms[digest], err
end

local function has(list, wanted)
  for _, p in ipairs(list) do
    if p.os == wanted.os and p.architecture == wanted.architecture then return true end
  end
  return false
end

---Whether a tag's image runs on every node where the workload may be put.
---@async
---@param place Place
---@param workload KeelWorkload
---@param image KeelImage
---@param tag string
---@return boolean fits
---@return string? reason
function M.fit(place, workload, image, tag)
  if place.engine.config.keel.platforms == false then return true end
  local nodes = nodes_of(place)
  if not nodes or #nodes == 0 then return true end
  local platforms, err = platforms_of(place, workload, image.name, tag)
  if not platforms then return false, ("its platforms cannot be read: %s"):format(tostring(err.message)) end
  if #platforms == 0 then return true end
  for _, node in ipairs(nodes) do
    if node.os and node.architecture and M.eligible(node, workload.node) and not has(platforms, node) then
      return false, ("it has no image for %s/%s, which node %s is"):format(node.os, node.architecture, node.name)
    end
  end
  return true
end

return M
