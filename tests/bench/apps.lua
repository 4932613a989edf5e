-- A configuration of many apps whose repositories are the benchmark server, with a policy that only looks.
local lab = require "lab"

local POLICY = [[
return policy {
  watch = function(place)
    place:head()
    return nil, "nothing is wanted here"
  end,
  run = function() end,
}
]]

local CONFIG = [[
local apps = {}
for i = 1, %d do
  local name = ("app%%05d"):format(i)
  apps[name] = {
    source = "http://127.0.0.1:%d/" .. name .. ".git", branch = "main", image = "127.0.0.1:1/bench/" .. name,
    environments = {
      staging = { policy = "look", rollback = false, target = { kind = "command", apply = { "/bin/true" } } },
    },
  }
end
return { poll = "60s", state = "state", scripts = "scripts", listen = "127.0.0.1:%d", apps = apps }
]]

local M = {}

---@param count integer
---@param port integer of the server
---@param policy? string Instead of the one that only looks.
---@return string path of the configuration
function M.config(count, port, policy)
  local dir = lab.dir("apps")
  lab.write(dir .. "/scripts/look.lua", policy or POLICY)
  return lab.write(dir .. "/moontide.lua", CONFIG:format(count, port, lab.port()))
end

return M
