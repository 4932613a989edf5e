-- Which builder `auto` means: chosen once, logged, and kept in the state folder.
--
-- An engine that is down for a while is no reason to switch to another one, which has another cache and storage.
local errors, fs, log = require "errors", require "fs", require "log"

local extensions = require "extensions"

local M = {}

-- Asked in this order.
local KINDS <const> = { "docker", "buildah", "podman" }

local chosen = setmetatable({}, { __mode = "k" }) ---@type table<table, string> by the configuration's `builder`

local function file_of(cfg) return cfg.state and cfg.state .. "/builder" or nil end

-- What was chosen before; nil when nothing was.
local function remembered(cfg)
  if chosen[cfg.builder] then return chosen[cfg.builder] end
  local text = file_of(cfg) and fs.read(file_of(cfg), { max = 64 })
  local word = text and text:match("^%s*(%a+)%s*$")
  for _, kind in ipairs(KINDS) do
    if word == kind then return kind end
  end
end

---The kind of builder in use; nil when `auto` has chosen none yet.
---@param cfg Config
---@return string? kind
function M.known(cfg)
  if cfg.builder.kind ~= "auto" then return cfg.builder.kind end
  return remembered(cfg)
end

-- The first kind that can be used here; nil without an error when there is none.
local function usable(world)
  for _, candidate in ipairs(KINDS) do
    local there, err = assert(extensions.get("builder", candidate)).available(world.config, world)
    if there == nil then return nil, err end
    if there then return candidate end
  end
end

local function none()
  return errors.fail("not_found", "there is no builder: start docker, or install buildah or podman, or name"
    .. " one in the configuration", { op = "image.build" })
end

---The kind of builder that would be used; chooses none.
---@async
---@param world World
---@return string? kind
---@return Err? err
---@return_overload nil, Err
function M.which(world)
  local kind, err = M.known(world.config), nil
  if not kind then kind, err = usable(world) end
  if kind then return kind end
  if err then return nil, err end
  return none()
end

---The kind of builder to use.
---@async
---@param world World
---@param hooks BuildHooks
---@return string? kind
---@return Err? err
---@return_overload nil, Err
function M.kind(world, hooks)
  local cfg = world.config
  if cfg.builder.kind ~= "auto" then return cfg.builder.kind end
  local kind = remembered(cfg)
  if kind then
    chosen[cfg.builder] = kind
    return kind
  end
  local candidate, err = usable(world)
  if err then return nil, err end
  if not candidate then return none() end
  local file = file_of(cfg)
  if file then
    local ok, problem = fs.write(file, candidate .. "\n")
    if not ok then return nil, problem end
  end
  chosen[cfg.builder] = candidate
  local words = ("builder.kind is auto: from now on images are built with %s%s"):format(candidate,
    file and " (kept in " .. file .. ")" or "")
  hooks.output("stdout", words)
  log.info(words)
  return candidate
end

return M
