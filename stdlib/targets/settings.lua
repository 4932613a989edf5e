-- The settings that a release went out with, to find later which of them the configuration has changed since.
--
-- Of each only a short hash is kept: values may be long, and secrets are known by their names alone.
local hash, json = require "hash", require "json"

local M = {}

-- How we wait for a target is no part of what runs there.
local OURS <const> = { timeout = true, patience = true, stop_timeout = true }

local function comparable(value)
  if type(value) ~= "table" then return value end
  if getmetatable(value) then return tostring(value) end
  local copy = {}
  for k, v in pairs(value) do copy[tostring(k)] = comparable(v) end
  return copy
end

local known = setmetatable({}, { __mode = "k" }) ---@type table<TargetConfig, table<string, string>>

local function hashes(target)
  local of = known[target]
  if of then return of end
  of = {}
  for name, value in pairs(target) do
    if type(name) == "string" and not OURS[name] then
      of[name] = hash.sha256(assert(json.encode { comparable(value) })):sub(1, 16)
    end
  end
  known[target] = of
  return of
end

-- Of an environment with several targets each setting has its part's name before it.
local function all(environment)
  local parts = require("targets").parts(environment)
  if not parts[1].part then return hashes(parts[1].target) end
  local together = {}
  for _, part in ipairs(parts) do
    for name, value in pairs(hashes(part.target)) do together[part.part .. " " .. name] = value end
  end
  return together
end

---@param environment EnvironmentConfig
---@return string settings
function M.of(environment) return (assert(json.encode(all(environment)))) end

---The names of the settings that are others than those of a release.
---@param settings? string Nil: not known.
---@param environment EnvironmentConfig
---@return string[] names
function M.changed(settings, environment)
  local before = settings and json.decode(settings)
  if type(before) ~= "table" then return {} end
  local names, now = {}, all(environment)
  for name, value in pairs(now) do
    if before[name] ~= value then names[#names + 1] = name end
  end
  for name in pairs(before) do
    if now[name] == nil then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

return M
