-- Environments that are templates: for each branch of the repository that matches `branches` there is a place. Its
-- target and other texts may hold {place}, the place's name, and {branch}, what tells it from the others there.
--
-- The configuration is checked with a stand-in for the branch, as long as any may be; a place is a copy of what came of
-- it, with the branch's label instead.
local hash, json = require "hash", require "json"

local M = {}

M.LONGEST = 30 -- bytes of a label
local STAND_IN <const> = "b" .. ("0"):rep(M.LONGEST - 2) .. "b"

local function is_template(environment)
  return type(environment) == "table" and rawget(environment, "branches") ~= nil
end

-- A copy with every text passed through fn; what has a metatable (a secret, not a list of JSON) stays itself.
local function mapped(value, fn, seen)
  if type(value) == "string" then return fn(value) end
  if type(value) ~= "table" or getmetatable(value) and not json.is_array(value) then return value end
  seen = seen or {} -- a table of a configuration in Lua may be in it twice, or in itself
  if seen[value] then return seen[value] end
  local copy = json.is_array(value) and json.array {} or {}
  seen[value] = copy
  for k, v in next, value do copy[fn(k)] = mapped(v, fn, seen) end
  return copy
end

local function texts(fn)
  return function(value) return type(value) == "string" and fn(value) or value end
end

---A decoded configuration with the stand-in in its templates.
---@param value any
---@return any value
function M.prepare(value)
  local apps = type(value) == "table" and rawget(value, "apps")
  for _, app in next, type(apps) == "table" and apps or {} do
    local environments = type(app) == "table" and rawget(app, "environments")
    for name, environment in next, type(environments) == "table" and environments or {} do
      if is_template(environment) and type(name) == "string" then
        local branches = environment.branches
        local place = name .. "-" .. STAND_IN
        environments[name] = mapped(environment, texts(function(text)
          return (text:gsub("{place}", place):gsub("{branch}", STAND_IN))
        end))
        environments[name].branches = branches
      end
    end
  end
  return value
end

---What a template is called while it is checked: as its longest place would be.
---@param environment EnvironmentConfig
---@param name string
---@return string
function M.name(environment, name) return environment.branches and name .. "-" .. STAND_IN or name end

---The name of a template in the configuration.
---@param environment EnvironmentConfig
---@return string
function M.template(environment) return (environment.name:sub(1, -#STAND_IN - 2)) end

---Whether a text of a template differs from place to place.
---@param text? string
---@return boolean
function M.differs(text) return text ~= nil and text:find(STAND_IN, 1, true) ~= nil end

local function check(environment, at)
  local targets = environment.targets or { { target = environment.target } }
  for i, part in ipairs(targets) do
    local target, here = part.target or {}, environment.targets and at:child("targets"):child(i) or at:child("target")
    if target.kind and not require("targets").destroys(target.kind) then
      here:child("kind"):fault(("a target of kind %s cannot be taken down when a branch is gone"):format(target.kind))
    elseif target.kind == "command" and not target.destroy then
      here:child("destroy"):fault("is missing: what takes a place down when its branch is gone")
    elseif target.kind == "kubernetes" and not target.manifests then
      here:child("manifests"):fault("is missing: only what manifests made can be taken down when a branch is gone")
    elseif #(target.ports or {}) > 0 then
      here:child("ports"):fault("every branch would publish the same ports", "let a network lead to the containers")
    elseif target.workload and not M.differs((target.namespace or "") .. target.workload) then
      here:child("workload"):fault("every branch would replace the same workload",
        "name it, or its namespace, with {place} or {branch}")
    end
  end
  if environment.host and not M.differs(environment.host) then
    at:child("host"):fault("every branch would be found at the same host", 'for example "{branch}.preview.example.com"')
  end
end

---Takes the templates out of an app's environments, when all of it is checked.
---@param app AppConfig
---@param at Cursor Of its environments.
function M.settle(app, at)
  local templates, list = {}, {}
  for _, environment in ipairs(app.environment_list) do
    if environment.branches then
      local name = M.template(environment)
      check(environment, at:child(name))
      app.environments[name], environment.template = nil, name
      environment.protected = false
      templates[#templates + 1] = environment
    else
      list[#list + 1] = environment
    end
  end
  app.environment_list = list
  if #templates > 0 then app.templates = templates end
end

---A label of a branch: lower-case letters, digits and single dashes.
---@param branch string
---@return string label
function M.label(branch)
  local label = branch:lower():gsub("[^a-z0-9]+", "-"):gsub("^%-", ""):sub(1, M.LONGEST):gsub("%-$", "")
  return label ~= "" and label or hash.sha256(branch):sub(1, 7)
end

---Another one, for a branch whose label is taken.
---@param branch string
---@return string label
function M.other_label(branch)
  return (M.label(branch):sub(1, M.LONGEST - 8):gsub("%-$", "")) .. "-" .. hash.sha256(branch):sub(1, 7)
end

---The place of a branch.
---@param template EnvironmentConfig
---@param label string
---@param branch string
---@return EnvironmentConfig environment
function M.place(template, label, branch)
  local environment = mapped(template, texts(function(text) return (text:gsub(STAND_IN, label)) end))
  environment.branches, environment.branch, environment.label = nil, branch, label
  return environment
end

---A text of a place's target that is read when it is used, such as the YAML of pods.
---@param text string
---@param environment EnvironmentConfig
---@return string
function M.fill(text, environment)
  return (text:gsub("{place}", environment.name):gsub("{branch}", assert(environment.label)))
end

---A template of an app.
---@param app AppConfig
---@param name string
---@return EnvironmentConfig?
function M.template_of(app, name)
  for _, template in ipairs(app.templates or {}) do
    if template.template == name then return template end
  end
end

---Takes the places of branches out of an app's environments.
---@param app AppConfig
function M.clear(app)
  for i = #app.environment_list, 1, -1 do
    local environment = app.environment_list[i]
    if environment.branch then
      table.remove(app.environment_list, i)
      app.environments[environment.name] = nil
    end
  end
end

---Makes the place of a branch an environment of its app.
---@param app AppConfig
---@param template EnvironmentConfig
---@param preview {label: string, branch: string, gone_at?: Wall}
function M.come(app, template, preview)
  local environment = M.place(template, preview.label, preview.branch)
  environment.gone_at = preview.gone_at
  app.environments[environment.name] = environment
  app.environment_list[#app.environment_list + 1] = environment
end

return M
