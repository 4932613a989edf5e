-- Our labels on containers, and annotations on objects of a cluster: one prefix for all.
--
-- Earlier releases wrote "moontide." and "moontide/". What they wrote is still read; nothing is written so any more.
local M = {}

M.PREFIX = "moontide.dev/"
local OLD <const> = { "moontide.", "moontide/" }
local ALL <const> = { M.PREFIX, table.unpack(OLD) }

---The full name under which a value stands. Where both an earlier release and this one wrote, the last one counts: what
---is written is written whole, with the time (`at`).
---@param map any Labels or annotations.
---@param key string
---@return string name Ours when there is none.
function M.name(map, key)
  local found, last
  for _, prefix in ipairs(type(map) == "table" and ALL or {}) do
    local at = map[prefix .. "at"]
    if type(at) == "string" and (not last or at > last) then found, last = prefix, at end
  end
  for _, prefix in ipairs(found and {} or type(map) == "table" and ALL or {}) do
    if not found and map[prefix .. key] ~= nil then found = prefix end
  end
  return (found or M.PREFIX) .. key
end

---A label or an annotation of ours.
---@param map any
---@param key string
---@return any value
function M.get(map, key)
  if type(map) == "table" then return map[M.name(map, key)] end
end

---Writes values; what earlier releases wrote under their keys goes.
---@param map table
---@param values table<string, any>
function M.put(map, values)
  for key, value in pairs(values) do
    for _, name in ipairs(M.outdated(map, key)) do map[name] = nil end
    map[M.PREFIX .. key] = value
  end
end

---What earlier releases wrote under a key, by its full names: for who writes the map anew.
---@param map any
---@param key string
---@return string[] names
function M.outdated(map, key)
  local names = {}
  for _, prefix in ipairs(OLD) do
    if type(map) == "table" and map[prefix .. key] ~= nil then names[#names + 1] = prefix .. key end
  end
  return names
end

-- Places where no container of an earlier release is left.
local upgraded = setmetatable({}, { __mode = "k" }) ---@type table<table, table<string, true>>

---The containers of a place, whoever labelled them: an engine cannot be asked for either of two labels. Those of
---earlier releases are asked for until there are none.
---@async
---@param owner table For whose life that is remembered.
---@param place string
---@param list fun(prefix: string): table[]?, Err?
---@return table[]? containers
---@return Err? err
---@return_overload nil, Err
function M.containers(owner, place, list)
  local found, err = list(M.PREFIX)
  local known = upgraded[owner] or {}
  upgraded[owner] = known
  if not found or known[place] then return found, err end
  local older
  older, err = list(OLD[1])
  if not older then return nil, err end
  if #older == 0 then known[place] = true end
  local seen = {}
  for _, container in ipairs(found) do seen[container.Id] = true end
  for _, container in ipairs(older) do
    if not seen[container.Id] then found[#found + 1] = container end
  end
  return found
end

return M
