-- The id of this host's state folder, by which hosts of one cluster know each other.
--
-- Hosts that share a state folder are one: they number their releases together. The id is made once, at random.
local errors, fs, hash, sys = require "errors", require "fs", require "hash", require "base.sys"

local M = {}

local known = {} ---@type table<string, string>

---The id of a state folder, made when there is none.
---@async
---@param state string
---@return string? id
---@return Err? err
---@return_overload nil, Err
function M.of(state)
  if known[state] then return known[state] end
  local path = state .. "/identity"
  local text, err = fs.read(path, { max = 256 })
  if not text and not errors.is(err, "not_found") then return nil, err end
  local id = text and text:match("^(%x+)\n$")
  if not id then
    id = hash.hex(hash.random(8))
    local ok
    ok, err = fs.mkdir(state, { parents = true, mode = 448 }) -- 0700
    if not ok then return nil, err end
    ok, err = fs.write(path, id .. "\n")
    if not ok then return nil, err end
  end
  known[state] = id
  return id
end

---The name of this machine, for people.
---@return string
function M.host() return sys.hostname() end

return M
