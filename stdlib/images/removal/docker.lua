-- Removes images and build cache of ours from a Docker Engine. Nothing is forced: what a container uses, running or
-- stopped, stays, and so does what has a foreign name.
--
-- Build cache has no owner's mark: ours is what was made while we were building (removal.builds), and of that what the
-- last build of each image did not use.
local api, errors, http, json, log, time = require "containers.api", require "errors", require "http", require "json",
  require "log", require "time"
local builds, listed = require "images.removal.builds", require "images.removal.listed"

local M = {}

local TIMEOUT <const> = 300
local AT_ONCE <const> = 50 -- cache entries that one call names

local function call(engine, method, path, since)
  local answer, err = engine:send {
    method = method, path = path, since = since, timeout = TIMEOUT, max_body = 64 << 20,
  }
  if not answer then return nil, err end
  if answer.status < 300 then return answer:json() end
  return nil, api.failure(answer, path)
end

-- The names of a list that are names.
local function names(list, none)
  local out = {}
  for _, name in ipairs(type(list) == "table" and list or {}) do
    if type(name) == "string" and not name:find(none, 1, true) then out[#out + 1] = name end
  end
  return out
end

---Removes images that may go.
---@async
---@param engine DockerEngine
---@param kept KeptImages
---@return integer? removed
---@return Err? err
---@return_overload nil, Err
function M.images(engine, kept)
  local list, err = call(engine, "GET", "/images/json")
  if not list then return nil, err end
  local removed = 0
  for _, item in ipairs(list) do
    local image = {
      tags = names(item.RepoTags, "<none>"), digests = names(item.RepoDigests, "<none>"),
      labels = type(item.Labels) == "table" and item.Labels or {},
    }
    if listed.removable(image, kept) then
      local references = table.move(image.digests, 1, #image.digests, #image.tags + 1, { table.unpack(image.tags) })
      if #references == 0 then references[1] = item.Id end
      local gone, problem
      for _, reference in ipairs(references) do
        gone, problem = call(engine, "DELETE", "/images/" .. reference)
        if not gone and not errors.is(problem, "not_found") then break end -- in use
      end
      if gone or errors.is(problem, "not_found") then
        removed = removed + 1
      elseif not errors.is(problem, "conflict") then
        return nil, problem
      end
    end
  end
  return removed
end

---Removes build cache that may go.
---@async
---@param engine DockerEngine
---@param state string The state folder.
---@return integer? bytes
---@return Err? err
---@return_overload nil, Err
function M.cache(engine, state)
  local ours = builds.load(state)
  if ours:empty() then return 0 end
  local usage, err = call(engine, "GET", "/system/df?type=build-cache", "1.42")
  if not usage then return nil, err end
  local ids = {}
  for _, entry in ipairs(type(usage.BuildCache) == "table" and usage.BuildCache or {}) do
    local id = type(entry.ID) == "string" and entry.ID:match("^%w+$")
    local made = time.parse_iso(tostring(entry.CreatedAt))
    local used = type(entry.LastUsedAt) == "string" and time.parse_iso(entry.LastUsedAt) or made
    if id and made and used and not entry.InUse and ours:made(made) and not ours:last_used(used) then
      ids[#ids + 1] = id
    end
  end
  local bytes = 0
  for at = 1, #ids, AT_ONCE do
    local filter = ("^(%s)$"):format(table.concat(ids, "|", at, math.min(at + AT_ONCE - 1, #ids)))
    local done
    done, err = call(engine, "POST", "/build/prune?all=1&filters="
      .. http.escape(json.encode { id = json.array { filter } }))
    if not done then return nil, err end
    bytes = bytes + (math.tointeger(done.SpaceReclaimed) or 0)
  end
  if #ids > 0 then log.debug("build cache removed", { entries = #ids, bytes = bytes }) end
  return bytes
end

return M
