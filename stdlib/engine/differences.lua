-- What a reload changes, in words. What stayed the same keeps its tables in the new configuration.
local extensions, tables = require "extensions", require "base.tables"

local M = {}

local MOST <const> = 20 -- that one line names

---Whether two parts of configurations say the same; a secret is known by where it is found.
---@param a any
---@param b any
---@return boolean
local function same(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  if getmetatable(a) or getmetatable(b) then return tostring(a) == tostring(b) end
  for key, value in next, a do
    if not same(value, b[key]) then return false end
  end
  for key in next, b do
    if a[key] == nil then return false end
  end
  return true
end
M.same = same

-- The keys whose values differ.
local function different(a, b, but)
  local names = {}
  for key in next, a do
    if not but[key] and not same(a[key], b[key]) then names[tostring(key)] = true end
  end
  for key in next, b do
    if not but[key] and a[key] == nil then names[tostring(key)] = true end
  end
  return tables.keys(names)
end

local OF_ENVIRONMENTS <const> = { environments = true, environment_list = true }

local function app_words(words, name, before, now)
  local keys = different(before, now, OF_ENVIRONMENTS)
  if #keys > 0 then words[#words + 1] = ("app %s changed: %s"):format(name, table.concat(keys, ", ")) end
  for _, environment in ipairs(now.environment_list) do
    local old = before.environments[environment.name]
    if not old then
      words[#words + 1] = ("app %s: new environment %s"):format(name, environment.name)
    elseif not same(old, environment) then
      words[#words + 1] = ("app %s %s changed: %s"):format(name, environment.name,
        table.concat(different(old, environment, {}), ", "))
    end
  end
  for _, environment in ipairs(before.environment_list) do
    if not now.environments[environment.name] then
      words[#words + 1] = ("app %s: environment %s is gone"):format(name, environment.name)
    end
  end
end

-- Apps of the file; those that were found while the host runs are not of a reload.
local function compare_apps(self, config, found)
  local words, before, fresh = found.words, {}, 0
  for i, app in ipairs(self.config.app_list) do before[i] = app end -- which may change meanwhile
  for _, app in ipairs(before) do
    local now = config.apps[app.name]
    if not app.found and not now then
      words[#words + 1] = ("app %s is gone"):format(app.name)
      found.touched[#found.touched + 1] = app
    elseif not app.found and same(app, now) then
      config.apps[app.name] = app
    elseif not app.found then
      app_words(words, app.name, app, now)
      found.touched[#found.touched + 1] = app
    end
  end
  for i, app in ipairs(config.app_list) do
    config.app_list[i] = config.apps[app.name]
    local old = self.config.apps[app.name]
    if not old or old.found then
      words[#words + 1] = ("new app %s"):format(app.name)
      fresh = fresh + 1
    end
  end
  if #found.touched + fresh > 0 then found.config = true end
end

-- Everything else; what is not of apps decides how the world is opened.
local function compare_rest(self, config, found)
  local but = { apps = true, app_list = true, loaded = true }
  local keys = different(self.config, config, but)
  for key, value in next, config do
    if not but[key] and same(self.config[key], value) then config[key] = self.config[key] end
  end
  if #keys == 0 then return end
  found.config, found.outside = true, true
  for _, key in ipairs(keys) do found.words[#found.words + 1] = ("`%s` changed"):format(key) end
end

local function compare_policies(self, policies, found)
  for name, policy in pairs(policies) do
    local old = self.policies[name]
    if not old then
      found.words[#found.words + 1] = ("policy %s is new"):format(name)
    elseif old.hash ~= policy.hash or old.file ~= policy.file then
      local own = policy.file ~= old.file and ", it is now " .. policy.file or ""
      found.words[#found.words + 1] = ("policy %s changed%s"):format(name, own)
    end
  end
end

---@class Differences
---@field words string[] For people, in order.
---@field config boolean Whether the configuration changed at all.
---@field outside boolean Whether something changed in it that is not of apps.
---@field touched AppConfig[] The apps that changed or are gone, as they were.

---Compares what a host has with what was read. An app that stayed the same is the same table afterwards.
---@param self table The engine.
---@param config Config
---@param policies table<string, Policy>
---@return Differences
function M.find(self, config, policies)
  local found = { words = {}, touched = {}, config = false, outside = false }
  compare_rest(self, config, found)
  for _, words in ipairs(extensions.changes()) do
    found.words[#found.words + 1], found.config, found.outside = words, true, true
  end
  compare_apps(self, config, found)
  compare_policies(self, policies, found)
  table.sort(found.words)
  return found
end

---What changed in one line.
---@param words string[]
---@return string
function M.line(words)
  if #words == 0 then return "nothing changed" end
  local shown = table.move(words, 1, math.min(#words, MOST), 1, {})
  if #words > MOST then shown[#shown + 1] = ("and %d more"):format(#words - MOST) end
  return table.concat(shown, "; ")
end

return M
