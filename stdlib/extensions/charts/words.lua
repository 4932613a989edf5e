-- Words of policies: place:charts, place:bundle, run:chart, run:publish.
local known_options = require("policy.options").check

local M = { place = {}, run = {} }

local function raise(value, err)
  if value == nil then error(err, 0) end
  return value
end

---The charts that the app follows, each with what runs of it and the versions that may or may not follow.
---@async
---@param place Place
---@return FollowedChart[]
function M.place.charts(place) return raise(require("extensions.charts.follow").all(place)) end

---Makes one thing of some charts and their versions, to be released together.
---@param parts ChartPart[]
---@return Bundle
function M.place.bundle(_, parts) return raise(require("extensions.charts.bundle").make(parts)) end

---The request behind a word of a run.
---@param run Run
---@param commit string
---@param options {path?: string, version?: string, app_version?: string}
---@return any
function M.request_of(run, commit, options)
  local place = run.place
  if not place.app_config.publish then
    error(require("errors").new("invalid", place.app .. " publishes no charts: name them in its `publish`",
      { op = "charts" }), 0)
  end
  return {
    app = place.app_config, cfg = run.world.config, repo = run.world.repository(place.app_config), world = run.world,
    commit = commit, path = options.path, version = options.version, app_version = options.app_version,
    work = place.state .. "/work", hooks = run.hooks,
  }
end

local function check(commit, usage)
  if type(commit) ~= "string" or not commit:find("^%x+$") then error("usage: " .. usage, 3) end
end

---Packages and pushes one chart of the repository at a commit; what was pushed before is found.
---@async
---@param run Run
---@param path string The chart's folder in the checkout.
---@param options {commit: string, version: string, app_version?: string}
---@return PushedChart
function M.run.chart(run, path, options)
  local usage = "run:chart(path, {commit=, version= [, app_version=]})"
  if type(path) ~= "string" or type(options) ~= "table" then error("usage: " .. usage, 2) end
  check(options.commit, usage)
  known_options(run, "run:chart", options, { "commit", "version", "app_version" }, 2)
  local asked = { path = path, commit = options.commit, version = options.version, app_version = options.app_version }
  return run.steps:perform("chart", asked, function()
    local request = M.request_of(run, options.commit, asked)
    local _ <close> = require("task").lock(run.world, ("chart %s %s %s"):format(run.app, path, options.version))
    return raise(require("extensions.charts.publish").chart(request))
  end)
end

---Packages and pushes the charts that the app's `publish` names; does nothing when there is none. With a tag they get
---its version, else the next one of the branch. What they say of the app is its image's tag.
---@async
---@param run Run
---@param commit string
---@param options? {version?: string} The tag's name.
---@return PushedChart[] charts
function M.run.publish(run, commit, options)
  check(commit, "run:publish(commit [, {version=}])")
  known_options(run, "run:publish", options, { "version" }, 2)
  local publish, tag = run.place.app_config.publish, options and options.version
  local charts = {}
  -- Whether there are any is recorded: after a crash the configuration may be another one.
  local paths = run.steps:value("charts", {}, function() return publish and publish.charts or {} end)
  if #paths == 0 then return charts end
  local app_version = tag or "sha-" .. commit
  local version = run.steps:perform("chart version", { commit = commit, tag = tag }, function()
    local publisher = require "extensions.charts.publish"
    if tag then return raise(publisher.of_tag(tag)) end
    return raise(publisher.version(M.request_of(run, commit, { app_version = app_version })))
  end)
  for i, path in ipairs(paths) do
    charts[i] = M.run.chart(run, path, { commit = commit, version = version, app_version = app_version })
  end
  return charts
end

return M
