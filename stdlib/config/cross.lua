-- Rules over several keys of a configuration: names that must exist elsewhere, values that must be unique, and values
-- that one key inherits from another.

local extensions = require "extensions"
local names = require "config.names"
local previews = require "config.previews"
local s = require "base.schema"
local sys = require "base.sys"
local tables = require "base.tables"

local M = {}

-- A unix socket's address holds 108 bytes with its end (unix(7)).
local SOCKET_PATH = 107

-- Names of the policies that there are: the folder's files, and those inside the program that it does not replace.
local function policies_of(config, at)
  local found = {}
  if config.scripts then
    local fs = require "fs"
    local list, err = fs.list(config.scripts)
    if not list then
      local there = fs.stat(config.scripts)
      at:child("scripts"):fault(("%s %s"):format(config.scripts,
        there and there.type ~= "dir" and "is not a folder"
        or err.code == "not_found" and "does not exist" or err.message))
      return nil
    end
    for _, entry in ipairs(list) do
      local name = entry:match("^([^.].*)%.lua$")
      if name and not name:find("_test$") then found[#found + 1] = name end -- those are a policy's tests
    end
  end
  for _, path in ipairs(sys.embedded_list()) do
    local name = path:match("^scripts/([^/]+)%.lua$")
    if name and not tables.contains(found, name) then found[#found + 1] = name end
  end
  table.sort(found)
  return found
end

-- The values of a map, which know their names, in the order of the file; what has no line of its own comes last, by
-- name.
local function in_order(map, at)
  local list = {}
  for _, value in pairs(map) do list[#list + 1] = value end
  if #list < 2 then return list end
  local lines, keys = {}, at:keys()
  local last = #keys + 1
  for _, value in ipairs(list) do
    keys[last] = value.name
    lines[value] = at.source.line(keys) or math.huge
  end
  table.sort(list, function(a, b)
    local first, second = lines[a], lines[b]
    if first ~= second then return first < second end
    return a.name < b.name
  end)
  return list
end

-- Remembers who has something that only one may have: a place, and which key of it says so.
local function claimer()
  local taken = {}
  return function(what, value, at, key, hint)
    local places = taken[what]
    if not places then
      places = {}
      taken[what] = places
    end
    local other = places[value]
    if not other then
      places[value] = at
      return
    end
    if key then at, other = at:child(key), other:child(key) end
    at:fault(("%s is already taken by %s"):format(what, s.path(other:keys())), hint)
  end
end

-- The cluster that the key `cluster` of a place names.
local function check_cluster(name, config, at)
  if name == nil or name == "default" or config.clusters and config.clusters[name] then return end
  local known = { "default" }
  for other in pairs(config.clusters or {}) do known[#known + 1] = other end
  table.sort(known)
  at:child("cluster"):fault(("there is no cluster %s"):format(s.quote(name)), s.meant(name, known)
    or "name it in `clusters` at the top")
end

-- The parts of an environment with several targets, and what checks say of them.
local function check_parts_of(env, at, cross)
  local known = {}
  for i, part in ipairs(env.targets or {}) do
    local here = at:child("targets"):child(i)
    if part.name and tables.contains(known, part.name) then
      here:child("name"):fault("is already the name of another part")
    elseif part.name then
      known[#known + 1] = part.name
    end
    local entry = part.name and part.target and extensions.get("target", part.target.kind)
    local check = entry and extensions.shape(entry).cross
    if check then check(part.target, setmetatable({ part = part.name }, { __index = env }), here, cross) end
  end
  for i, probe in ipairs(env.verify or {}) do
    if probe.part and not tables.contains(known, probe.part) then
      at:child("verify"):child(i):child("part"):fault(("there is no part %s"):format(s.quote(probe.part)),
        s.meant(probe.part, known) or "parts are the names in `targets`")
    end
  end
end

local function check_target(env, config, at, cross)
  local target, here = env.target, at:child("target")
  if not target and not env.targets and not here:faulty() and not at:child("targets"):faulty() then
    here:fault("is missing", 'for example { kind = "docker" }')
  elseif target and env.targets then
    at:child("targets"):fault("does not belong beside `target`: name all of them in `targets`")
  end
  local check = target and extensions.shape(assert(extensions.get("target", target.kind))).cross
  if check then check(target, env, here, cross) end
  check_parts_of(env, at, cross)
  for i, probe in ipairs(env.verify or {}) do
    if probe.job then
      check_cluster(probe.cluster, config, at:child("verify"):child(i))
      if not probe.cluster and target then
        probe.cluster, probe.namespace = target.cluster or "default", probe.namespace or target.namespace
      end
    end
  end
end

-- Names of a place's list `notify` that the configuration's does not know.
local function unknown_notifiers(config, list, at)
  if not list or #list == 0 then return end
  local notifiers = tables.keys(config.notify)
  for i, name in ipairs(list) do
    if not tables.contains(notifiers, name) then
      at:child("notify"):child(i):fault(("there is no notifier %s"):format(s.quote(name)), s.meant(name, notifiers)
        or "name it in `notify` at the top")
    end
  end
end

-- Keys that name a policy, each with its value.
local function check_policies(config, known, at, ...)
  for i = 1, select("#", ...), 2 do
    local key, name = select(i, ...)
    if known and name and not tables.contains(known, name) then
      at:child(key):fault(("there is no policy %s"):format(s.quote(name)), s.meant(name, known)
        or ("there are: %s%s"):format(table.concat(known, ", "),
          config.scripts and ("; files of %s come before those in the program"):format(config.scripts) or ""))
    end
  end
end

local NEEDED <const> = { { "source", '"https://github.com/team/web.git"' }, { "image", '"ghcr.io/team/web"' } }

-- What an app follows: what it has of the kinds of sources, or a git repository. Says what is missing, and what does
-- not belong to it.
local function settle(app, config, at)
  app.follows = "git"
  for _, source in ipairs(extensions.all "source") do
    if source.key and app[source.name] ~= nil then
      if app.follows ~= "git" then
        at:child(source.name):fault(("does not belong to an app that follows %s"):format(app.follows))
      else
        app.follows = source.name
      end
    end
  end
  if app.follows == "git" then
    for _, needed in ipairs(NEEDED) do
      local here = app[needed[1]] == nil and at:child(needed[1])
      if here and not here:faulty() then here:fault("is missing", "for example " .. needed[2]) end
    end
  else
    for _, needed in ipairs(NEEDED) do
      if app[needed[1]] ~= nil then
        at:child(needed[1]):fault("does not belong to an app that follows " .. app.follows)
      end
    end
    for _, key in ipairs { "branch", "dockerfile", "context", "build" } do app[key] = nil end
    local source = assert(extensions.get("source", app.follows))
    local part = app[source.name]
    app.source = { url = type(part) == "table" and part.url or type(part) == "string" and part or source.name }
    if source.cross then source.cross(app, config, at) end
  end
  for _, entry in ipairs(extensions.all "app_key") do
    if app[entry.name] ~= nil and entry.cross then entry.cross(app, config, at) end
  end
  for name, environment in pairs(app.environments or {}) do
    local rule = environment.accept
    local source = rule and names.accept_of(rule)
    if source and source.name ~= app.follows then
      at:child("environments"):child(name):child("accept"):fault(("%s is a policy for %s"):format(s.quote(rule),
        source.name))
    end
  end
end

-- What extensions have at the top of the configuration.
local function check_parts(config, at, cross)
  for _, kind in ipairs { "key", "finder" } do
    for _, entry in ipairs(extensions.all(kind)) do
      local part = config[entry.name]
      if type(part) == "table" and entry.cross then entry.cross(part, config, at:child(entry.name), cross) end
      if part and kind == "finder" and config.apps == nil then config.apps = {} end
    end
  end
end

local function check_environment(env, config, at, known, cross)
  if env.policy == nil then env.policy = env.name end
  if env.protected == nil then env.protected = env.name == "production" end
  check_policies(config, known, at, "policy", env.policy, "rollback", env.rollback)
  unknown_notifiers(config, env.notify, at)
  if env.host then
    cross.claim("this host", env.host:lower(), at, "host", "two environments cannot be found at one place")
  end
  for i, probe in ipairs(env.verify or {}) do
    if probe.every and probe.within and probe.every > probe.within then
      at:child("verify"):child(i):child("every"):fault("is longer than within: there would be one attempt only")
    end
  end
  check_target(env, config, at, cross)
end

---Checks what single keys cannot show and fills in what they inherit.
---@async
---@param config table the normalised configuration; keys may be missing where there were faults
---@param at Cursor the cursor of the whole
function M.check(config, at)
  local socket = config.state and require("people.control").socket_path(config)
  if socket and #socket > SOCKET_PATH then
    local most = SOCKET_PATH - (config.control and 0 or #socket - #config.state)
    at:child(config.control and "control" or "state"):fault(
      config.control and "is too long a path of a socket"
        or "is too long a path: the control socket in it could not be opened", ("at most %d bytes"):format(most))
  end
  if config.leader and config.leader.cluster ~= "default" and not (config.clusters or {})[config.leader.cluster] then
    local known = { "default" }
    for name in pairs(config.clusters or {}) do known[#known + 1] = name end
    at:child("leader"):child("cluster"):fault(("there is no cluster %s"):format(s.quote(config.leader.cluster)),
      s.meant(config.leader.cluster, known) or "name it in `clusters` at the top")
  end
  local known = policies_of(config, at)
  ---@class CrossCheck What checks of an extension may ask about the whole configuration.
  ---@field claim fun(what: string, value: string, at: Cursor, key?: string, hint: string) Only one place may have it;
  --- `key` is the key there that says so.
  ---@field cluster fun(name: string?, at: Cursor) The key `cluster` there must name a cluster of the configuration.
  ---@field policies fun(at: Cursor, key: string, name: string|false|nil, ...) Names of keys and of policies.
  ---@field notifiers fun(list: string[]?, at: Cursor) The names of the key `notify` there.
  local cross = {
    claim = claimer(), cluster = function(name, here) check_cluster(name, config, here) end,
    policies = function(here, ...) check_policies(config, known, here, ...) end,
    notifiers = function(list, here) unknown_notifiers(config, list, here) end,
  }
  check_parts(config, at, cross)
  if config.apps == nil then
    at:child("apps"):fault("is missing", 'apps = { web = { source = "...", image = "...", environments = {} } }')
  end
  local apps = type(config.apps) == "table" and config.apps or {}
  for name, app in pairs(apps) do app.name = name end
  local all = at:child("apps")
  config.app_list = in_order(apps, all)
  for _, app in ipairs(config.app_list) do
    local here = all:child(app.name)
    app.poll = app.poll or config.poll
    settle(app, config, here)
    if app.image then
      cross.claim("this image repository", app.image, here, "image", "two apps would move each other's tags")
    end
    local environments = type(app.environments) == "table" and app.environments or {}
    local list = here:child("environments")
    for name, env in pairs(environments) do
      if type(env.branches) == "string" then env.branches = { env.branches } end
      env.name, env.app = previews.name(env, name), app.name
      env.policy = env.policy or name
    end
    app.environment_list = in_order(environments, list)
    if app.environments and #app.environment_list == 0 then
      list:fault("is empty: nothing would ever be released")
    end
    for _, env in ipairs(app.environment_list) do
      check_environment(env, config, list:child(env.branches and previews.template(env) or env.name), known, cross)
    end
    previews.settle(app, list)
  end
  for host, registry in pairs(config.registries or {}) do registry.host = host end
  for host, credential in pairs(config.credentials or {}) do credential.host = host end
  for name, cluster in pairs(config.clusters or {}) do cluster.name = name end
  for name, notifier in pairs(config.notify or {}) do notifier.name = name end
end

return M
