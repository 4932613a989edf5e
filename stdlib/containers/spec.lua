-- What a container of the Docker Engine is made of: the body of /containers/create, from the configuration.
--
-- Its labels tell whose it is and what it holds; its name ends with the number of the release that it serves now.
-- The fingerprint covers everything that a new container would get: one that has it need not be made again.
local hash, json, labels = require "hash", require "json", require "base.labels"
local targets = require "targets"

local M = {}

---A label of ours.
---@param container table As the engine lists it.
---@param key string
---@return string?
function M.label(container, key) return labels.get(container.Labels, key) end

---Those containers of a place that belong to one of its parts; without a name, to none.
---@param list table[]
---@param part? string
---@return table[]
function M.of_part(list, part)
  local own = {}
  for _, container in ipairs(list) do
    if M.label(container, "part") == part then own[#own + 1] = container end
  end
  return own
end

---The release that a container serves: the number at the end of its name.
---@param container table
---@return integer release 0 when a person renamed it.
function M.release(container)
  local name = container.Names and container.Names[1] or ""
  return math.tointeger(tonumber(name:match("%-(%d+)$"))) or 0
end

---@param container table
---@return string name
function M.name(container) return (container.Names and container.Names[1] or ""):gsub("^/", "") .. "" end

local function ports_of(config)
  local bindings, exposed = {}, {}
  for _, text in ipairs(config.ports) do
    local address, host, inside, protocol = text:match("^(.-):?(%d+):(%d+)/?(%a*)$")
    local key = inside .. "/" .. (protocol ~= "" and protocol or "tcp")
    exposed[key] = json.decode("{}")
    bindings[key] = bindings[key] or {}
    table.insert(bindings[key], { HostIp = address, HostPort = host })
  end
  return next(bindings) and bindings, next(exposed) and exposed
end

local function env_of(config)
  local variables, err = targets.variables(config.env)
  if not variables then return nil, err end
  local env = {}
  for name, value in pairs(variables) do env[#env + 1] = name .. "=" .. value end
  table.sort(env)
  return env
end

local function labelled(config, prefix, own)
  local all = {}
  for k, v in pairs(config.labels) do all[k] = v end
  for k, v in pairs(own) do all[prefix .. k] = v end
  return all
end

---The body that creates the container of a release.
---@async
---@param environment EnvironmentConfig
---@param request table As for Target.apply.
---@return table? body
---@return string|Err fingerprint
function M.describe(environment, request)
  local config = environment.target
  local env, err = env_of(config)
  if not env then return nil, err end
  local bindings, exposed = ports_of(config)
  local own = {
    app = environment.app, environment = environment.name, commit = request.commit, version = request.version,
    digest = request.digest, part = environment.part,
  }
  local body = {
    Image = request.image, Cmd = config.command, User = config.user, Labels = labelled(config, "moontide.", own),
    Env = #env > 0 and env or nil,
    ExposedPorts = exposed or nil, StopTimeout = math.floor(config.stop_timeout),
    HostConfig = {
      NetworkMode = config.network, PortBindings = bindings or nil, Memory = config.memory,
      Binds = #config.volumes > 0 and config.volumes or nil,
    },
  }
  -- Over the labels' names of earlier releases: a container that one of them made is still the same.
  local fingerprint = hash.sha256(json.encode(body)):sub(1, 32)
  own.fingerprint, own.release = fingerprint, tostring(request.release) -- the one it was made for
  body.Labels = labelled(config, labels.PREFIX, own)
  body.HostConfig.RestartPolicy = { Name = config.restart } -- changed in place, so no part of the fingerprint
  return body, fingerprint
end

return M
