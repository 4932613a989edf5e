-- The charts of an app's repository, published at a commit: each version is built once, and its number always grows.
local errors, log = require "errors", require "log"
local oci, package = require "extensions.charts.oci", require "extensions.charts.package"
local may_be_missing = require("images.registry").may_be_missing

local M = {}

---@class PublishRequest: PackageRequest
---@field world World

-- ---- the next version of a branch ----

-- The number of a version made after the template; nil when it is another's.
local function number_of(template, text)
  local before, after = template:match("^(.-){count}(.*)$")
  if text:sub(1, #before) ~= before or #text <= #before + #after then return nil end
  if after ~= "" and text:sub(-#after) ~= after then return nil end
  local digits = text:sub(#before + 1, #text - #after)
  return digits:find("^%d+$") and #digits < 16 and math.tointeger(tonumber(digits)) or nil
end

-- The highest version of one chart that was made after the template, and the app's version in it.
local function newest(repo, name, template)
  local list, err = repo:versions(name, { max_age = 0 })
  if not list then
    local missing = errors.is(err, "not_found") or repo.kind == "oci" and may_be_missing(err)
    if missing then return { number = 0 } end -- a version that is there all the same is never written over
    return nil, err
  end
  local best = { number = 0 }
  for _, entry in ipairs(list) do
    local number = number_of(template, entry.version)
    if number and number > best.number then best = { number = number, entry = entry } end
  end
  if best.entry and repo.kind == "oci" then
    best.app_version, err = oci.app_version(repo, name, best.entry)
    if err then return nil, err end
  else
    best.app_version = best.entry and best.entry.app_version
  end
  return best
end

---The version that the charts of a commit on the branch get: the number of commits that lead to it, but always above
---what was published before, so that a branch that was reset goes out as something new. A commit whose charts are the
---newest ones already keeps their version, also when only some of them were pushed before something failed.
---@async
---@param request PublishRequest
---@return string? version
---@return Err? err
---@return_overload nil, Err
function M.version(request)
  local publish = assert(request.app.publish)
  local repo = request.world.charts(publish.to)
  local count, err = request.repo:count(request.commit)
  if not count then return nil, err end
  local highest, same = 0, false
  for _, path in ipairs(publish.charts) do
    local name, best
    name, err = package.name { repo = request.repo, commit = request.commit, path = path }
    if not name then return nil, err end
    best, err = newest(repo, name, publish.version)
    if not best then return nil, err end
    local ours = best.app_version == request.app_version
    if best.number > highest then
      highest, same = best.number, ours
    elseif best.number == highest then
      same = same and ours
    end
  end
  local number = same and highest or math.max(count, highest + 1)
  return (publish.version:gsub("{count}", tostring(number), 1))
end

-- ---- one chart ----

---Packages and pushes one chart at one version; what is there already is found.
---@async
---@param request PublishRequest
---@return PushedChart?
---@return Err? err
---@return_overload nil, Err
function M.chart(request)
  local repo = request.world.charts(assert(request.app.publish).to)
  local pushed, err = repo:publish(request)
  if not pushed then return nil, err end
  log.info(pushed.found and "a chart was there already" or "a chart was pushed",
    { chart = pushed.name, version = pushed.version, to = repo.url, digest = pushed.digest })
  return pushed
end

---The chart's version that a tag stands for.
---@param tag string "v1.2.0"
---@return string? version
---@return Err? err
---@return_overload nil, Err
function M.of_tag(tag)
  local parsed, err = require("semver").tag(tag)
  return parsed and parsed.text, err
end

return M
