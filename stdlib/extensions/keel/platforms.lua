-- Whether a candidate is an image at all, and one that runs on every node where a workload may be put: what is not is
-- passed over. What else is in a repository (signatures, SBOMs, charts) is distinguished by registry.content.
--
-- keel (its unreleased HEAD) takes no candidate while it cannot tell. Here what cannot be known (nodes that we may not
-- list, no nodes yet, a manifest that names no platform) forbids nothing.
local content, errors, kubernetes = require "images.registry.content", require "errors", require "kubernetes"
local log, task, time = require "log", require "task", require "time"
local observations, secrets = require "extensions.keel.observations", require "extensions.keel.secrets"
local tables = require "base.tables"

local M = {}

local FRESH <const> = 30 -- seconds that a list of nodes is good for
-- Faults of one tag's own, which the next candidate need not have.
local OF_THE_TAG <const> = { not_found = true, protocol = true, mismatch = true, too_large = true }
local UNSCHEDULABLE <const> = "node.kubernetes.io/unschedulable"

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
    taints = (node.spec or {}).taints,
    os = known(info.operatingSystem) or label(node, "kubernetes.io/os", "beta.kubernetes.io/os"),
    architecture = known(info.architecture) or label(node, "kubernetes.io/arch", "beta.kubernetes.io/arch"),
  }
end

local function satisfies(value, e)
  if e.operator == "In" then return tables.contains(e.values, value) end
  if e.operator == "NotIn" then return not tables.contains(e.values, value) end
  if e.operator == "Exists" then return value ~= nil end
  if e.operator == "DoesNotExist" then return value == nil end
  local have, want = math.tointeger(tonumber(value)), math.tointeger(tonumber(e.values and e.values[1]))
  if e.operator == "Gt" then return have ~= nil and want ~= nil and have > want end
  if e.operator == "Lt" then return have ~= nil and want ~= nil and have < want end
  return true -- an operator that is newer than this program
end

-- A term that says nothing is one that no node fits.
local function term_fits(node, term)
  if not next(term.matchExpressions or {}) and not next(term.matchFields or {}) then return false end
  for _, e in ipairs(term.matchExpressions or {}) do
    if not satisfies(node.labels[e.key], e) then return false end
  end
  for _, e in ipairs(term.matchFields or {}) do
    if e.key == "metadata.name" and not satisfies(node.name, e) then return false end
  end
  return true
end

local function tolerates(toleration, taint)
  if type(toleration) ~= "table" then return false end
  local key, effect, operator = toleration.key or "", toleration.effect or "", toleration.operator or "Equal"
  if effect ~= "" and effect ~= taint.effect or key ~= "" and key ~= taint.key then return false end
  if operator == "Exists" then return true end
  local have, want = taint.value or "", toleration.value or ""
  if operator == "Equal" then return key ~= "" and have == want end
  local a, b = math.tointeger(tonumber(have)), math.tointeger(tonumber(want))
  if not a or not b then return false end
  return operator == "Gt" and a > b or operator == "Lt" and a < b
end

-- What keeps pods away for as long as a node has a trouble, and says nothing of what the node is for: it will take them
-- again.
local function of_the_moment(taint)
  local key = tostring(taint.key)
  if key == UNSCHEDULABLE then return false end
  return key:find("^node%.kubernetes%.io/") or key:find("^node%.cloudprovider%.kubernetes%.io/")
end

-- Whether the taints of a node let a pod be there; one that names its node passes the scheduler and may still be ended.
local function admitted(node, where)
  for _, taint in ipairs(node.taints or {}) do
    local matters = taint.effect == "NoExecute" or taint.effect == "NoSchedule" and not where.name
    if taint.key == UNSCHEDULABLE and where.every_node then matters = false end
    if matters and not of_the_moment(taint) then
      local tolerated = false
      for _, toleration in ipairs(where.tolerations or {}) do tolerated = tolerated or tolerates(toleration, taint) end
      if not tolerated then return false end
    end
  end
  return true
end

local ANYWHERE <const> = {}

---Whether a workload's pods may be put on a node, by its name, labels, required affinity, and the node's taints.
---@param node table
---@param where? {name?: string, selector?: table<string, string>, affinity?: table, tolerations?: table[],
---  every_node?: boolean} every_node: a DaemonSet's, which tolerate that a node is closed for others
---@return boolean
function M.eligible(node, where)
  where = where or ANYWHERE
  if node.closed and not where.every_node and not where.name then return false end
  if where.name and where.name ~= node.name then return false end
  if not admitted(node, where) then return false end
  for key, value in pairs(where.selector or {}) do
    if node.labels[key] ~= value then return false end
  end
  if not where.affinity then return true end
  for _, term in ipairs(where.affinity.nodeSelectorTerms or {}) do
    if term_fits(node, term) then return true end
  end
  return false
end

-- The nodes of a cluster; nil: unknown. Asked for once in a while, for all workloads.
local function nodes_of(place)
  local cluster, m = place.config.target.cluster, observations.memory(place.world)
  local _ <close> = task.lock(m, "nodes " .. cluster)
  local known = m.nodes and m.nodes[cluster]
  if known and time.monotonic() - known.at < FRESH then return known.list end
  local client = place.world.cluster(cluster)
  local list, err
  if client then list, err = client:list(kubernetes.path("nodes"), nil, { keep = keep }) end
  if err and not (known and known.told) then
    log.warn("platforms are not compared: the nodes cannot be listed", { error = tostring(err) })
  end
  m.nodes = m.nodes or {}
  m.nodes[cluster] = { at = time.monotonic(), list = list and list.items, told = err ~= nil }
  return list and list.items
end

-- The platforms of an image, by its manifest; {} when it names none, and a text when it is no image. A digest's are
-- asked for once.
local function platforms_of(place, workload, name, tag)
  local m, since = observations.memory(place.world), time.monotonic() - place.app_config.poll
  local digest, err = observations.digest(place, name, tag, since, workload)
  if not digest then return nil, err end
  if m.platforms[digest] then return m.platforms[digest] end
  local found
  found, err = secrets.registry(place.world, m, name, workload):platforms(digest)
  if errors.is(err, "unsupported") then found = err.message end
  m.platforms[digest] = found
  return found, err
end

local function has(list, wanted)
  for _, p in ipairs(list) do
    if p.os == wanted.os and p.architecture == wanted.architecture then return true end
  end
  return false
end

---Whether a tag is an image that runs on every node where the workload may be put.
---@async
---@param place Place
---@param workload KeelWorkload
---@param image KeelImage
---@param tag string
---@return boolean fits
---@return string? reason
function M.fit(place, workload, image, tag)
  local other = content.of_tag(tag)
  if other then return false, other end
  local platforms, err = platforms_of(place, workload, image.name, tag)
  if type(platforms) == "string" then return false, platforms end
  if not platforms then
    -- Another candidate is no answer to a registry that cannot be asked.
    if not OF_THE_TAG[err.code] then error(err, 0) end
    return false, ("its manifest cannot be read: %s"):format(tostring(err.message))
  end
  if #platforms == 0 or assert(place.world.config.keel).platforms == false then return true end
  for _, node in ipairs(nodes_of(place) or {}) do
    if node.os and node.architecture and M.eligible(node, workload.node) and not has(platforms, node) then
      return false, ("it has no image for %s/%s, which node %s is"):format(node.os, node.architecture, node.name)
    end
  end
  return true
end

return M
