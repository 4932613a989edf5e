-- Registry credentials that workloads bring along: keel.sh/imagePullSecret and the pods' own imagePullSecrets.
--
-- Only where the configuration asks for it (keel.pull_secrets): reading secrets is a right that few hosts need. What
-- the configuration itself says of a registry goes first.
local errors, hash, json, kubernetes, log, time = require "errors", require "hash", require "json",
  require "kubernetes", require "log", require "time"
local reference, task = require "images.reference", require "task"

local M = {}

local FRESH <const> = 300 -- seconds that a secret is good for

-- A registry as docker's configuration calls it: "https://index.docker.io/v1/", "ghcr.io".
local function host_of(name)
  local host = name:gsub("^%a+://", ""):match("^[^/]+") or ""
  return reference.is_hub(host) and reference.HUB or host
end

-- The credentials in a secret, by the registry's host.
local function read(secret)
  local data = type(secret.data) == "table" and secret.data or {}
  local text = data[".dockerconfigjson"] or data[".dockercfg"]
  local config = type(text) == "string" and json.decode(hash.unbase64(text) or "")
  local auths = type(config) == "table" and (data[".dockerconfigjson"] and config.auths or config)
  local found = {}
  for name, entry in pairs(type(auths) == "table" and auths or {}) do
    if type(name) == "string" and type(entry) == "table" then
      local user, password = entry.username, entry.password
      if type(entry.auth) == "string" and entry.auth ~= "" then
        user, password = (hash.unbase64(entry.auth) or ""):match("^([^:]*):(.*)$")
      end
      if type(user) == "string" and type(password) == "string" and password ~= "" then
        found[host_of(name)] = { user = user, password = password }
      end
    end
  end
  return found
end

-- How answers are marked that came with these credentials.
local function mark(credentials)
  return " as " .. hash.sha256(credentials.user .. "\0" .. credentials.password)
end

-- One set of credentials takes the place of another: what is new is hidden, what is gone is forgotten with all that was
-- answered to it.
local function exchange(memory, before, now)
  for host, entry in pairs(now) do
    if not before[host] or before[host].password ~= entry.password then log.secret(entry.password) end
  end
  for host, entry in pairs(before) do
    local other = now[host]
    if not other or other.password ~= entry.password then log.retire(entry.password) end
    if not other or mark(other) ~= mark(entry) then
      local old = mark(entry)
      for key in pairs(memory.answers or {}) do
        if key:sub(-#old) == old then memory.answers[key] = nil end
      end
    end
  end
end

---Forgets the secrets that were not used for a while.
---@param memory table Of keel.observations.
function M.tidy(memory)
  for key, known in pairs(memory.secrets or {}) do
    if time.monotonic() - known.at > 3 * FRESH then
      exchange(memory, known.found, {})
      memory.secrets[key] = nil
    end
  end
end

-- What a secret holds; asked for once in a while. One that cannot be read is logged once, and holds nothing.
local function secret_of(world, memory, cluster, namespace, name)
  local key = ("%s %s/%s"):format(cluster, namespace, name)
  local _ <close> = task.lock(memory, "secret " .. key)
  memory.secrets = memory.secrets or {}
  local known = memory.secrets[key]
  if known and time.monotonic() - known.at < FRESH then return known.found end
  local client, err = world.cluster(cluster)
  local secret
  if client then secret, err = client:get(kubernetes.path("secret", namespace, name)) end
  if errors.is(err, "cancelled") then error(err, 0) end
  if not secret and not known then
    log.warn("a pull secret cannot be read", { secret = namespace .. "/" .. name, error = tostring(err) })
  end
  local found = secret and read(secret) or {}
  exchange(memory, known and known.found or {}, found)
  memory.secrets[key] = { at = time.monotonic(), found = found }
  return found
end

---The registry of an image, with the credentials of the workload that runs it where the configuration has none.
---@async
---@param world World
---@param memory table Of keel.observations.
---@param name string The repository, as the workload names it.
---@param workload? KeelWorkload
---@return ImageRegistry
---@return string who Identifies credentials of workloads; "" for those of the configuration, or none.
function M.registry(world, memory, name, workload)
  local cfg, host = world.config, (reference.split(name))
  local opened = world.registry(name)
  if not workload or not assert(cfg.keel).pull_secrets or opened.config and opened.config.username then
    return opened, ""
  end
  local names = { workload.settings.pull_secret }
  for _, secret in ipairs(workload.pull_secrets) do names[#names + 1] = secret end
  for _, secret in ipairs(names) do
    local found = secret_of(world, memory, assert(cfg.keel).cluster, workload.namespace, secret)[host]
    if found then
      local own = {}
      for key, value in pairs(opened.config or {}) do own[key] = value end
      own.host, own.username, own.password = host, found.user, { reveal = function() return found.password end }
      local own_way = world.under(setmetatable({
        registries = setmetatable({ [host] = own }, { __index = cfg.registries }),
      }, { __index = cfg })).registry(name)
      return own_way, mark(found)
    end
  end
  return opened, ""
end

return M
