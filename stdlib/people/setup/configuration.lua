-- The text of a first configuration, made of a few answers.
local M = {}

---@class SetupAnswers
---@field app string
---@field source string
---@field image string
---@field target string
---@field port integer The app's own; the environments' on this machine follow from it.
---@field environments string[]
---@field state? string

local function key(name) return name:find("^[%a_][%w_]*$") and name or ("[%q]"):format(name) end

-- Where an environment is reached on this machine: production at the app's own port, each other at one of its own.
local function port_of(answers, environment)
  if environment == "production" then return answers.port end
  local port = answers.port
  for _, name in ipairs(answers.environments) do
    if name ~= "production" then port = port + 1 end
    if name == environment then return port end
  end
  return port
end

-- What a target of each kind needs.
local TARGETS <const> = {
  docker = function(answers, environment)
    return ('{ kind = "docker", ports = { "127.0.0.1:%d:%d" } }'):format(port_of(answers, environment), answers.port)
  end,
  podman = function(_, environment) return ('{ kind = "podman", yaml = %q }'):format(M.pod_file(environment)) end,
  command = function() return '{ kind = "command", apply = { "/usr/local/bin/put-out" } } -- a program of yours' end,
  kubernetes = function(answers, environment)
    return ('{ kind = "kubernetes", namespace = %q, workload = %q }'):format(environment, "deployment/" .. answers.app)
  end,
}

---The kinds of targets that there is a beginning for.
M.TARGETS = { "docker", "podman", "command", "kubernetes" }

local OF_PROGRAM <const> = { staging = true, production = true }

local function environment_text(answers, name)
  local lines = { ("        %s = {"):format(key(name)) }
  if not OF_PROGRAM[name] then
    lines[#lines + 1] = '          policy = "staging", -- follows the branch; `moontide help policies` has others'
  end
  local target, comment = TARGETS[answers.target](answers, name):match("^(.-)( %-%- .*)$")
  target = target or TARGETS[answers.target](answers, name)
  lines[#lines + 1] = ("          target = %s,%s"):format(target, comment or "")
  if answers.target == "docker" or answers.target == "podman" then
    lines[#lines + 1] = ('          verify = { { http = "http://127.0.0.1:%d/", within = "30s" } },')
      :format(port_of(answers, name))
  end
  lines[#lines + 1] = "        },"
  return table.concat(lines, "\n")
end

---The configuration.
---@param answers SetupAnswers
---@return string lua
function M.text(answers)
  local environments = {}
  for i, name in ipairs(answers.environments) do environments[i] = environment_text(answers, name) end
  return ([[
-- What Moontide delivers, and where. `moontide help config` tells of every key, `moontide check` judges this file.
return {
  poll = "30s",
  scripts = "scripts", -- policies of your own: `moontide help policies`
%s  apps = {
    %s = {
      source = %q,
      image = %q,
      environments = {
%s
      },
    },
  },
}
]]):format(answers.state and ("  state = %q,\n"):format(answers.state) or "", key(answers.app), answers.source,
    answers.image, table.concat(environments, "\n"))
end

---Where the pod of an environment is described.
---@param environment string
---@return string file
function M.pod_file(environment) return environment .. ".yaml" end

---A pod for podman.
---@param answers SetupAnswers
---@param environment string
---@return string yaml
function M.pod(answers, environment)
  return (assert(require("yaml").encode {
    apiVersion = "v1", kind = "Pod", metadata = { name = answers.app .. "-" .. environment },
    spec = { containers = { {
      name = answers.app, image = answers.image,
      ports = { { containerPort = answers.port, hostPort = port_of(answers, environment), hostIP = "127.0.0.1" } },
    } } },
  }))
end

return M
