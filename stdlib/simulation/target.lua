-- Simulated targets, and the checks of what runs there.
local bundle, errors = require "extensions.charts.bundle", require "errors"

local M = {}

---Where an environment's releases run: "web/production", a part of it "web/production:canary".
---@param environment EnvironmentConfig
---@return string
function M.place(environment)
  local part = environment.part
  return ("%s/%s%s"):format(environment.app, environment.name, part and ":" .. part or "")
end

-- What is wrong with a release: with its commit, or with one of its charts.
local function trouble_of(state, release)
  if release.commit then return state.troubles[release.commit] end
  for name, version in pairs(bundle.versions(release.version or "") or {}) do
    local trouble = state.troubles[name .. "=" .. version]
    if trouble then return trouble end
  end
end

---A target, with the methods of a real one (targets), whatever its kind.
---@param outside Outside
---@param life SimulatedLife
---@param environment EnvironmentConfig
---@return Target
function M.open(outside, life, environment)
  local at, target = M.place(environment), {}
  local part = "target " .. at
  function target.current()
    local up, err = outside:reach(part)
    if not up then return nil, err end
    local state = outside:look()
    local runs = state.targets[at]
    if not runs then return nil end
    local now = {}
    for name, value in pairs(runs) do now[name] = value end
    now.healthy, now.state = not runs.sick and trouble_of(state, runs) ~= "later", runs.sick or "running"
    return now
  end
  function target.apply(_, request)
    local up, err = outside:reach(part)
    if not up then return nil, err end
    local runs = outside:look().targets[at]
    if runs and (runs.generation or 0) > (request.generation or 0) then
      return errors.fail("conflict", ("%s released here in generation %d"):format(runs.host, runs.generation),
        { generation = runs.generation, op = "target.apply" })
    end
    local versions = bundle.versions(request.image or "") -- of charts
    local function put(state)
      state.targets[at] = {
        digest = request.digest, commit = request.commit, version = request.version, image = request.image,
        versions = versions, release = request.release, generation = request.generation, host = request.host,
      }
    end
    if not runs or runs.digest ~= request.digest then
      local what = versions and request.version or outside:called(request.commit)
      return outside:effect(life, ("roll out %s %s"):format(at, what), put)
    end
    outside:change(put)
    return true
  end
  function target.wait(_, request)
    local up, err = outside:reach(part)
    if not up then return nil, err end
    local runs = outside:look().targets[at]
    if runs and runs.digest == request.digest and not runs.sick then return true end
    return errors.fail("unhealthy", runs and runs.sick or "it is gone: somebody removed it",
      { op = "target.wait", target = at })
  end
  function target.settle()
    return outside:reach(part)
  end
  function target.destroy()
    local up, err = outside:reach(part)
    if not up then return nil, err end
    if not outside:look().targets[at] then return true end
    return outside:effect(life, "take down " .. at, function(state) state.targets[at] = nil end)
  end
  return target --[[@as Target]]
end

-- Kinds of checks that the troubles of an image stand for; any other is performed, in this world.
local STAND_FOR <const> = { http = true, command = true, job = true }

---Performs the checks of a release.
---@param outside Outside
---@param list VerifyConfig[]
---@param request VerifyRequest
---@param world World
---@return true? ok
---@return Err? err
function M.verify(outside, list, request, world)
  local trouble = trouble_of(outside:look(), request)
  local here = request.part and trouble == "check in " .. request.part
  if trouble == "check" or here or trouble == "later" and request.within then
    return errors.fail("unhealthy", "the check got status 500", { op = "verify" })
  end
  local others = {}
  for _, check in ipairs(list) do
    local way = require("config.checks").way(check)
    if not (way and STAND_FOR[way.name]) then others[#others + 1] = check end
  end
  if #others == 0 then return true end
  return require("engine.world").real().verify(others, request, world)
end

return M
