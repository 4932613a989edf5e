-- What is kept of a workload that follows its images as keel would, and the app that it becomes.
--
-- A thousand of them are in memory at once, so that each is small: its keel.sh keys, its containers, where it may run.
local json = require "json"
local annotations, reference = require "extensions.keel.annotations", require "images.reference"
local schedule = require "extensions.keel.schedule"
local tables = require "base.tables"

local M = {}

-- Kinds that keel knows, and the environments that they are.
M.KINDS = { "deployment", "statefulset", "daemonset", "cronjob" }

---@class KeelContainer
---@field name string
---@field image string
---@field init boolean
---@field pull string imagePullPolicy

---@class KeelWorkload
---@field kind string "deployment"
---@field namespace string
---@field name string
---@field generation integer
---@field annotations table<string, string> Only those of keel.
---@field labels table<string, string> Only those of keel.
---@field containers KeelContainer[]
---@field selector? table Of its pods.
---@field node? {name?: string, selector?: table<string, string>, affinity?: table}
---@field pull_secrets string[]
---@field settings KeelSettings

-- The keys of a map that are keel's; nil when there are none.
local function keel_keys(map)
  local own
  for key, value in pairs(type(map) == "table" and map or {}) do
    local lower = key:lower()
    if (lower:find("^keel%.sh/") or lower:find("^keel%.observer/")) and type(value) == "string" then
      own = own or {}
      own[key] = value
    end
  end
  return own
end

local function pod_spec(kind, object)
  local spec = type(object.spec) == "table" and object.spec or {}
  if kind == "cronjob" then spec = ((spec.jobTemplate or {}).spec or {}) end
  return ((spec.template or {}).spec or {})
end

local function containers_of(pod)
  local list = {}
  for _, group in ipairs { "containers", "initContainers" } do
    for _, c in ipairs(pod[group] or {}) do
      list[#list + 1] = {
        name = tostring(c.name), image = tostring(c.image), init = group == "initContainers",
        pull = c.imagePullPolicy or "IfNotPresent",
      }
    end
  end
  return list
end

local function where(kind, pod)
  local affinity = ((pod.affinity or {}).nodeAffinity or {}).requiredDuringSchedulingIgnoredDuringExecution
  local every_node = kind == "daemonset" or nil
  if not (pod.nodeName or pod.nodeSelector or affinity or pod.tolerations or every_node) then return nil end
  return {
    name = pod.nodeName, selector = pod.nodeSelector, affinity = affinity, tolerations = pod.tolerations,
    every_node = every_node,
  }
end

---What is kept of an object; nil when it has no policy.
---@param kind string
---@param object table
---@return KeelWorkload?
function M.keep(kind, object)
  local meta = object.metadata
  local own, labels = keel_keys(meta.annotations), keel_keys(meta.labels)
  if not own and not labels then return nil end
  own, labels = own or {}, labels or {}
  local settings = annotations.read(own, labels)
  if not settings.policy and not settings.why then return nil end
  local pod, secrets = pod_spec(kind, object), {}
  for _, secret in ipairs(pod.imagePullSecrets or {}) do secrets[#secrets + 1] = secret.name end
  ---@type any
  local workload = {
    kind = kind, namespace = meta.namespace, name = meta.name, generation = meta.generation or 0, annotations = own,
    labels = labels, containers = containers_of(pod), node = where(kind, pod), pull_secrets = secrets,
    settings = settings, selector = kind ~= "cronjob" and object.spec.selector or nil,
  }
  return workload
end

---Whether two states of a workload make the same app: what is asked for and the containers, whatever they run.
---@param a KeelWorkload
---@param b KeelWorkload
---@return boolean
function M.alike(a, b)
  if #a.containers ~= #b.containers then return false end
  for i, c in ipairs(a.containers) do
    local d = b.containers[i]
    local before, now = reference.parse(c.image), reference.parse(d.image)
    if c.name ~= d.name or (before and before.repository) ~= (now and now.repository) then return false end
  end
  return tables.equal(a.annotations, b.annotations) and tables.equal(a.labels, b.labels)
end

---@class KeelImage What containers of one repository and one tag have in common.
---@field name string As the workload writes it.
---@field repository string
---@field tag? string nil: pinned by digest alone.
---@field digest? string
---@field containers string[]
---@field init_containers string[]
---@field pull string The least eager pull policy of them.
---@field label? string Its label among the others, when the workload follows several.
---@field apart? string Its containers, when others of the same repository have another tag.
---@field after? KeelImage The workload's next one, while a policy reads them.
---@field trouble? any Why one before it could not be judged.

-- Labels of images for people: the repository, and the containers where several have the same one.
local function label(list)
  local of = {}
  for _, image in ipairs(list) do of[image.repository] = (of[image.repository] or 0) + 1 end
  for _, image in ipairs(#list > 1 and list or {}) do
    image.label = image.name
    if of[image.repository] > 1 then
      local names = table.move(image.init_containers, 1, #image.init_containers, #image.containers + 1,
        { table.unpack(image.containers) })
      image.apart = table.concat(names, ", ")
      image.label = ("%s (%s)"):format(image.name, image.apart)
    end
  end
  return list
end

---The images that a workload's settings are about, in the order of its containers. As with keel each container asks for
---its own tag: those of one repository are one image only while they have the same one.
---@param workload KeelWorkload
---@return KeelImage[] images
---@return string[] unreadable Images that are no references.
function M.images(workload)
  local list, by, unreadable = {}, {}, {}
  for _, c in ipairs(workload.containers) do
    if annotations.monitors(workload.settings, c.name) and (not c.init or workload.settings.init_containers) then
      local ref = reference.parse(c.image)
      if not ref then
        unreadable[#unreadable + 1] = c.image
      else
        local key = ref.repository .. (ref.tag and ":" .. ref.tag or "@" .. ref.digest)
        local image = by[key]
        if not image then
          image = {
            name = ref.name, repository = ref.repository, tag = ref.tag, digest = ref.digest, containers = {},
            init_containers = {}, pull = c.pull,
          }
          by[key], list[#list + 1] = image, image
        end
        if c.pull ~= "Always" then image.pull = c.pull end
        -- Containers with one tag and two digests are brought together by the next update.
        if ref.digest ~= image.digest then image.digest = nil end
        local names = c.init and image.init_containers or image.containers
        names[#names + 1] = c.name
      end
    end
  end
  return label(list), unreadable
end

-- The channels that the workload names, of those that there are; without any, those of the configuration.
local function channels(settings, part, cfg)
  local known, unknown = {}, {}
  for _, name in ipairs(settings.notify) do
    local list = (cfg.notify or {})[name] and known or unknown
    list[#list + 1] = name
  end
  if #settings.notify == 0 then known = part.notify end
  return known, unknown
end

---The schedule of a workload, and why it is not the one that is written on it.
---@param settings KeelSettings
---@param part KeelConfig
---@return KeelSchedule
---@return string? wrong
function M.schedule(settings, part)
  local asked, err
  if settings.schedule then asked, err = schedule.parse(settings.schedule) end
  return asked or assert(schedule.parse(("@every %ds"):format(math.max(1, math.ceil(part.poll))))), err and err.message
end

---The environment that a workload is.
---@param workload KeelWorkload
---@param part KeelConfig
---@param cfg Config
---@return EnvironmentConfig
function M.environment(workload, part, cfg)
  local settings, main = workload.settings, M.images(workload)[1] or { containers = {}, init_containers = {} }
  local notify, unknown = channels(settings, part, cfg)
  ---@type any
  local environment = {
    name = workload.kind, app = workload.namespace .. "/" .. workload.name, policy = part.policy,
    rollback = part.rollback, accept = settings.policy and settings.policy.text or "never",
    match_prerelease = settings.match_prerelease, watch_for = part.watch_for, notify = notify, unknown_notify = unknown,
    verify = {},
    target = {
      kind = "kubernetes", cluster = part.cluster, namespace = workload.namespace,
      workload = workload.kind .. "/" .. workload.name, timeout = part.timeout, patience = 30,
      -- One of them stands for what runs when no image is named: others may have another tag.
      containers = { main.containers[1] },
      init_containers = not main.containers[1] and { main.init_containers[1] } or {},
      server_side = false,
    },
  }
  return environment
end

---The app of workloads that have one name in one namespace; each kind is an environment of it.
---@param list KeelWorkload[]
---@param part KeelConfig
---@param cfg Config
---@return AppConfig app
---@return string fingerprint Of everything but the images that run.
function M.app(list, part, cfg)
  local first = list[1]
  local app = {
    name = first.namespace .. "/" .. first.name, follows = "workload", poll = math.huge, environments = {},
    environment_list = {}, workloads = {}, settings = part.settings,
    source = { url = ("kubernetes %s %s/%s"):format(first.kind, first.namespace, first.name) },
  }
  local seen = {}
  for i, workload in ipairs(list) do
    local environment = M.environment(workload, part, cfg)
    app.environments[environment.name], app.environment_list[i] = environment, environment
    app.workloads[environment.name] = workload
    app.poll = math.min(app.poll, M.schedule(workload.settings, part):interval())
    seen[i] = { environment, workload.annotations, workload.labels }
  end
  return app --[[@as AppConfig]], (assert(json.encode { seen, app.poll }))
end

return M
