-- What publishing charts would do: which version they get, and whether that is in the repository already. Nothing is
-- packaged: what a chart's contents are, only the run tells.
local errors, short, unknown = require "errors", require("base.text").short, require "policy.unknown"

local M = {}

local function must(value, err)
  if value == nil then error(err, 0) end
  return value
end

local function request_of(...) return require("extensions.charts.words").request_of(...) end

---The planner of the step in which a version is chosen.
---@async
---@param run Run
---@param args {commit: string, tag?: string}
---@return nil
---@return string version
function M.version(run, args)
  local publisher = require "extensions.charts.publish"
  if args.tag then return nil, must(publisher.of_tag(args.tag)) end
  return nil, must(publisher.version(request_of(run, args.commit, { app_version = "sha-" .. args.commit })))
end

-- What the repository has of a chart under a version; nil when it has none.
local function there(repo, name, version)
  local list, err = repo:versions(name, { max_age = 0 })
  if not list then
    local missing = errors.is(err, "not_found") or repo.kind == "oci" and require("images.registry").may_be_missing(err)
    if missing then return nil end
    error(err, 0)
  end
  for _, entry in ipairs(list) do
    if entry.version == version then return entry end
  end
end

---The planner of the step in which a chart is packaged and pushed.
---@async
---@param run Run
---@param args {path: string, commit: string, version: string}
---@return Planned
---@return PushedChart
function M.chart(run, args)
  local request = request_of(run, args.commit, args)
  local name = must(require("extensions.charts.package").name(request))
  local repo = run.world.charts(assert(request.app.publish).to)
  local found = there(repo, name, args.version)
  local words = found and "chart %s %s is in %s already" or "chart %s %s would be packaged from %s and pushed to %s"
  local said = {
    action = found and "none" or "create", chart = name, version = args.version, digest = found and found.digest,
    text = found and words:format(name, args.version, repo.url)
      or words:format(name, args.version, short(args.commit), repo.url),
  }
  return said, { name = name, version = args.version, digest = found and found.digest or unknown.UNBUILT,
    found = found ~= nil }
end

return M
