-- Removes images of ours from the store that podman and buildah share, with the layers that only they had. Nothing is
-- forced: what a container uses stays.
local errors, json, proc = require "errors", require "json", require "proc"
local listed = require "images.removal.listed"

local M = {}

local TIMEOUT <const> = 300
local INHERIT <const> = {
  "HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS",
}

---@class ImageStore
---@field program string[] The command and its first arguments.
---@field kind "podman"|"buildah"
---@field env? table<string, string>

local function run(store, ...)
  local argv = table.move({ ... }, 1, select("#", ...), #store.program + 1, { table.unpack(store.program) })
  argv.env, argv.inherit, argv.stdin, argv.timeout, argv.max_output = store.env, INHERIT, false, TIMEOUT, 32 << 20
  local result, err = proc.run(argv)
  if not result then return nil, err end
  if result.ok then return result.stdout end
  return errors.fail("failed", ("%s: %s"):format(store.kind, require("targets").last_words(result.stderr, 2)),
    { op = store.kind })
end

local function strings(list)
  local out = {}
  for _, text in ipairs(type(list) == "table" and list or {}) do
    if type(text) == "string" then out[#out + 1] = text end
  end
  return out
end

-- An image as it is judged; `names` are what it is removed by. Both programs list in JSON, each in its own.
local function read(item)
  local tags, digests = {}, {}
  for _, name in ipairs(strings(item.Names or item.names)) do
    local list = name:find("@", 1, true) and digests or tags
    list[#list + 1] = name
  end
  local names = table.move(tags, 1, #tags, 1, {})
  for _, name in ipairs(strings(item.RepoDigests)) do digests[#digests + 1] = name end
  if #names == 0 then names[1] = item.Id or item.id end
  return {
    tags = tags, digests = digests, labels = type(item.Labels) == "table" and item.Labels or {}, names = names,
  }
end

local function list(store, ...)
  local argv = store.kind == "podman" and { "images", "--format", "json" } or { "images", "--json" }
  local text, err = run(store, table.unpack(table.move({ ... }, 1, select("#", ...), #argv + 1, argv)))
  if not text then return nil, err end
  if not text:find("%S") then return {} end
  local decoded = json.decode(text)
  if type(decoded) == "table" then return decoded end
  return errors.fail("protocol", store.kind .. " gave no JSON", { op = store.kind })
end

-- Removes by these names; what is in use stays.
local function remove(store, names)
  local ok = true
  for _, name in ipairs(names) do ok = ok and run(store, "rmi", name) ~= nil end
  return ok and 1 or 0
end

---Removes images that may go.
---@async
---@param store ImageStore
---@param kept KeptImages
---@return integer? removed
---@return Err? err
---@return_overload nil, Err
function M.images(store, kept)
  local images, err = list(store)
  if not images then return nil, err end
  local removed = 0
  for _, item in ipairs(images) do
    local image = read(item)
    local named = #image.tags + #image.digests > 0
    if named and listed.removable(image, kept) then removed = removed + remove(store, image.names) end
  end
  -- What builds of ours left without a name: asked for by label, because only podman lists labels.
  for _, ours in pairs(kept.repositories) do
    for source in pairs(ours.sources) do
      images, err = list(store, "--filter", "dangling=true", "--filter",
        "label=org.opencontainers.image.source=" .. source)
      if not images then return nil, err end
      for _, item in ipairs(images) do
        local image = read(item)
        if #image.tags == 0 then removed = removed + remove(store, image.names) end
      end
    end
  end
  return removed
end

return M
